"""One run of Auto-PGD, from one start."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from rse_tf.attacks.base import per_image, squared_l2
from rse_tf.attacks.losses import joint_logits, log_loss
from rse_tf.attacks.margin import margin_of
from rse_tf.attacks.norms import shrink_to_l2, steepest
from rse_tf.attacks.randomness import uniform_l2, uniform_linf

_MOMENTUM = 0.75
# A period in which no more than this share of the steps raise the loss halves the step.
_ENOUGH_INCREASES = 0.75

Scalars = dict[str, tf.Tensor]


class Point(NamedTuple):
    """One point per image."""

    x: tf.Tensor  # [batch, height, width, channels]
    loss: tf.Tensor  # [batch]
    gradient: tf.Tensor  # as x
    success: tf.Tensor  # bool [batch]


class _Schedule(NamedTuple):
    """Where the steps of a run stand; but for the first two, one entry per image."""

    period: tf.Tensor  # steps of this period
    left: tf.Tensor  # steps until the next checkpoint
    step: tf.Tensor  # step size
    increases: tf.Tensor  # steps of this period that raised the loss
    last_best: tf.Tensor  # the highest loss at the last checkpoint
    halved: tf.Tensor  # whether the last checkpoint halved the step


class Run:
    """One run from one start, for one class to go for.

    Args:
        attack: the settings.
        targeted: whether `classes` are those to reach, or those to leave.
        judging_calls: of a randomised model, how many calls judge a point; 0 for a model that
            always returns the same.
        scalars: of the settings, as tensors.
    """

    def __init__(self, attack: Any, targeted: bool, judging_calls: int, scalars: Scalars) -> None:
        self._attack, self._targeted, self._judging_calls = attack, targeted, judging_calls
        self._epsilon, self._steps = scalars["epsilon"], scalars["steps"]

    def __call__(
        self, images: tf.Tensor, classes: tf.Tensor, others: tf.Tensor, keys: tf.Tensor
    ) -> tuple[Point, tf.Tensor]:
        """Returns the point to keep, and the queries spent on each image."""
        self._images, self._classes, self._others = images, classes, others
        x = self._evaluate(self._start(keys))
        first = tf.maximum(self._steps * 22 // 100, 1)
        zeros = tf.zeros_like(x.loss)
        schedule = _Schedule(first, first, zeros + 2 * self._epsilon, zeros, x.loss, zeros < 1)
        spent = tf.fill(tf.shape(classes), self._steps + 1)
        kept = _unjudged(x) if self._judging_calls else x
        *_, kept, _, queries = tf.while_loop(
            lambda i, *_: i < self._steps,
            self._step,
            (tf.constant(0), x, x.x, x, kept, schedule, spent),
            parallel_iterations=1,
        )
        return kept, queries

    def _step(self, i, x, before, best, kept, schedule, queries):  # type: ignore[no-untyped-def]
        """`best` has the highest loss, `kept` is what the run is for.

        Of a randomised model `best` has the highest loss of its period in its gradient's draw.
        """
        momentum = tf.where(i > 0, _MOMENTUM, 1.0)
        ahead = x.x + per_image(schedule.step, x.x) * steepest(x.gradient, self._attack.norm)[0]
        move = momentum * (self._project(ahead) - x.x) + (1 - momentum) * (x.x - before)
        new = self._evaluate(self._project(x.x + move))
        schedule = schedule._replace(
            left=schedule.left - 1,
            increases=schedule.increases + tf.cast(new.loss > x.loss, tf.float32),
        )
        best = _where(_is_higher(new, best), new, best)
        if not self._judging_calls:
            kept = better(new, kept)

        def checkpoint() -> tuple[Any, ...]:
            chosen, next_best, next_kept, spent = best, best, kept, queries
            if self._judging_calls:
                chosen = next_kept = self._judged(best, new, kept)
                next_best = _unjudged(best)
                spent = queries + 2 * self._judging_calls
            halve, after = self._next(schedule, chosen.loss)
            return _where(halve, chosen, new), next_best, next_kept, after, spent

        new, best, kept, schedule, queries = tf.cond(
            (schedule.left == 0) | (i + 1 == self._steps),
            checkpoint,
            lambda: (new, best, kept, schedule, queries),
        )
        return i + 1, new, x.x, best, kept, schedule, queries

    def _next(self, schedule: _Schedule, best: tf.Tensor) -> tuple[tf.Tensor, _Schedule]:
        """Which images halve their step at a checkpoint, and the schedule after it."""
        few = schedule.increases <= _ENOUGH_INCREASES * tf.cast(schedule.period, tf.float32)
        halve = few | (~schedule.halved & (best <= schedule.last_best))
        shorter, shortest = self._steps * 3 // 100, self._steps * 6 // 100
        period = tf.maximum(schedule.period - tf.maximum(shorter, 1), tf.maximum(shortest, 1))
        step = tf.where(halve, schedule.step / 2, schedule.step)
        return halve, _Schedule(period, period, step, tf.zeros_like(best), best, halve)

    def _start(self, keys: tf.Tensor) -> tf.Tensor:
        """A random point of the sphere, cut off at the bounds."""
        if self._attack.norm == "linf":
            away = uniform_linf(keys, self._images)
            pixels = tf.range(1, tf.rank(away))
            away /= tf.reduce_max(tf.abs(away), axis=pixels, keepdims=True)
        else:
            away = uniform_l2(keys, self._images)
            away /= per_image(tf.sqrt(squared_l2(away)), away)
        return self._project(self._images + self._epsilon * away)

    def _evaluate(self, x: tf.Tensor) -> Point:
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = self._attack._stacked_logits(x)
            loss = self._loss(logits)
        gradient = self._attack._checked_gradient(tape.gradient(loss, x))
        # A single draw of a randomised model says nothing.
        success = tf.zeros_like(self._classes, tf.bool)
        if not self._judging_calls:
            joint = joint_logits(logits)
            success = self._attack._success(joint, self._classes, self._targeted, {})
        return Point(x, loss, gradient, success)

    def _judged(self, best: Point, last: Point, kept: Point) -> Point:
        """The highest of three by its mean loss over draws of its own; `kept` has it already."""
        both = tf.concat([best.x, last.x], axis=0)
        logits = tf.map_fn(
            lambda _: self._attack._stacked_logits(both),
            tf.range(self._judging_calls),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        draws = tf.reshape(logits, [-1, tf.shape(both)[0], logits.shape[-1]])
        for point, own in zip((best, last), tf.split(draws, 2, axis=1)):
            kept = better(point._replace(loss=self._loss(own)), kept)
        return kept

    def _loss(self, logits: tf.Tensor) -> tf.Tensor:
        """What the attack raises `[batch]`: the logarithm of the cross-entropy, or the ratio."""
        if self._attack.loss == "cross_entropy":
            return log_loss(logits, self._classes) * (-1.0 if self._targeted else 1.0)
        if logits.shape.rank == 3:
            logits = tf.reduce_mean(logits, axis=0)
        top = tf.math.top_k(logits, min(4, logits.shape[-1])).values
        if self._attack.loss == "dlr":
            margin, third = margin_of(logits, self._classes, self._targeted), top[:, 2]
        else:
            third = (top[:, 2] + top[:, 3]) / 2
            if self._targeted:
                margin = margin_of(logits, self._classes, True)
            else:
                own, other = (
                    tf.gather(logits, c, batch_dims=1) for c in (self._classes, self._others)
                )
                margin = other - own
        return margin / (top[:, 0] - third + 1e-12)

    def _project(self, x: tf.Tensor) -> tf.Tensor:
        """Into the ball, and then into the bounds, as in the paper."""
        images, epsilon = self._images, self._epsilon
        if self._attack.norm == "linf":
            x = tf.clip_by_value(x, images - epsilon, images + epsilon)
        else:
            x = images + shrink_to_l2(x - images, epsilon)
        return tf.clip_by_value(x, *self._attack.bounds)


def _unjudged(point: Point) -> Point:
    return point._replace(loss=tf.fill(tf.shape(point.loss), -float("inf")))


def _where(chosen: tf.Tensor, one: Point, other: Point) -> Point:
    images = per_image(chosen, one.x)
    return Point(
        tf.where(images, one.x, other.x),
        tf.where(chosen, one.loss, other.loss),
        tf.where(images, one.gradient, other.gradient),
        tf.where(chosen, one.success, other.success),
    )


def _is_higher(new: Point, old: Point) -> tf.Tensor:
    """Whether the loss is higher. A NaN is kept, for the caller to see it."""
    return ~(new.loss <= old.loss) & ~tf.math.is_nan(old.loss)


def better(new: Point, old: Point) -> Point:
    """The one to keep: success before the loss."""
    higher = _is_higher(new, old) & (new.success == old.success)
    return _where((new.success & ~old.success) | higher, new, old)
