"""One run of Auto-PGD, from one start."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from rse_tf.attacks.base import per_image, squared_l2
from rse_tf.attacks.losses import joint_logits, log_loss
from rse_tf.attacks.randomness import uniform_l2, uniform_linf

# Rounding of the pixels must not carry an image out of the L2 ball.
_INSIDE = 1 - 1e-6
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
    """One run from one start, for one class to go for."""

    def __init__(self, attack: Any, targeted: bool, random: bool, scalars: Scalars) -> None:
        self._attack, self._targeted, self._random = attack, targeted, random
        self._epsilon, self._steps = scalars["epsilon"], scalars["steps"]

    def __call__(
        self, images: tf.Tensor, classes: tf.Tensor, others: tf.Tensor, keys: tf.Tensor
    ) -> tuple[Point, tf.Tensor]:
        """Returns the point to keep, and the queries spent on each image."""
        self._images, self._classes, self._others = images, classes, others
        x = self._evaluate(self._start(keys))
        unjudged = tf.fill(tf.shape(classes), -float("inf"))
        kept = x._replace(loss=unjudged) if self._random else x
        first = tf.maximum(self._steps * 22 // 100, 1)
        zeros = tf.zeros_like(x.loss)
        schedule = _Schedule(first, first, zeros + 2 * self._epsilon, zeros, x.loss, zeros < 1)
        spent = tf.fill(tf.shape(classes), self._steps + 1)
        _, _, _, _, kept, _, queries = tf.while_loop(
            lambda i, *_: i < self._steps,
            self._step,
            (tf.constant(0), x, x.x, x, kept, schedule, spent),
        )
        return kept, queries

    def _step(self, i, x, before, best, kept, schedule, queries):  # type: ignore[no-untyped-def]
        momentum = tf.where(i > 0, _MOMENTUM, 1.0)
        ahead = x.x + per_image(schedule.step, x.x) * self._direction(x.gradient)
        move = momentum * (self._project(ahead) - x.x) + (1 - momentum) * (x.x - before)
        new = self._evaluate(self._project(x.x + move))
        schedule = schedule._replace(
            left=schedule.left - 1,
            increases=schedule.increases + tf.cast(new.loss > x.loss, tf.float32),
        )
        # A NaN is kept, for the caller to see it.
        best = _where(~(new.loss <= best.loss), new, best)
        before = x.x
        if not self._random:
            kept = better(new, kept)
        check = (schedule.left == 0) | (i + 1 == self._steps)

        def checkpoint() -> tuple[Any, ...]:
            chosen, other, spent = best, kept, queries
            if self._random:
                chosen = other = better(self._judged(best), kept)
                spent = queries + self._attack.selection_draws
            halve, after = self._next(schedule, chosen.loss)
            return _where(halve, chosen, new), chosen, other, after, spent

        new, best, kept, schedule, queries = tf.cond(
            check, checkpoint, lambda: (new, best, kept, schedule, queries)
        )
        return i + 1, new, before, best, kept, schedule, queries

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
            opinions = self._attack._opinions(x)
            loss = self._loss(opinions)
        gradient = self._attack._checked_gradient(tape.gradient(loss, x))
        return Point(x, loss, gradient, self._won(opinions))

    def _judged(self, point: Point) -> Point:
        """The same point, with its mean loss over fresh draws."""
        total = tf.while_loop(
            lambda i, _: i < self._attack.selection_draws,
            lambda i, total: (i + 1, total + self._loss(self._attack._opinions(point.x), True)),
            (tf.constant(0), tf.zeros_like(point.loss)),
            parallel_iterations=1,
        )[1]
        return point._replace(loss=total / self._attack.selection_draws)

    def _won(self, opinions: tf.Tensor) -> tf.Tensor:
        """Whether a deterministic model is fooled; a single draw of a random one says nothing."""
        if self._random:
            return tf.zeros_like(self._classes, tf.bool)
        return self._attack._success(joint_logits(opinions), self._classes, self._targeted, {})

    def _loss(self, opinions: tf.Tensor, judging: bool = False) -> tf.Tensor:
        """What the attack raises `[batch]`."""
        sign = -1.0 if self._targeted else 1.0
        if self._attack.loss == "cross_entropy":
            loss = log_loss(opinions, self._classes)
            return sign * (tf.exp(loss) if judging else loss)
        logits = joint_logits(opinions)
        own = tf.gather(logits, self._classes, batch_dims=1)
        top = tf.math.top_k(logits, min(4, logits.shape[-1])).values
        if self._attack.loss == "dlr_targeted":
            other = tf.gather(logits, self._others, batch_dims=1)
            return (other - own) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)
        chosen = tf.one_hot(self._classes, logits.shape[-1], on_value=True, off_value=False)
        other = tf.reduce_max(tf.where(chosen, -float("inf"), logits), axis=-1)
        return sign * (other - own) / (top[:, 0] - top[:, 2] + 1e-12)

    def _direction(self, gradient: tf.Tensor) -> tf.Tensor:
        if self._attack.norm == "linf":
            return tf.sign(gradient)
        # First to a largest entry of 1: the squares of tiny gradients would vanish.
        pixels = tf.range(1, tf.rank(gradient))
        largest = tf.reduce_max(tf.abs(gradient), axis=pixels, keepdims=True)
        gradient = tf.math.divide_no_nan(gradient, largest)
        return tf.math.divide_no_nan(gradient, per_image(tf.sqrt(squared_l2(gradient)), gradient))

    def _project(self, x: tf.Tensor) -> tf.Tensor:
        """Into the ball, and then into the bounds, as in the paper."""
        if self._attack.norm == "linf":
            x = tf.clip_by_value(x, self._images - self._epsilon, self._images + self._epsilon)
            return tf.clip_by_value(x, *self._attack.bounds)
        away = x - self._images
        length = tf.sqrt(squared_l2(away))
        shrink = tf.minimum(tf.math.divide_no_nan(_INSIDE * self._epsilon, length), 1.0)
        return tf.clip_by_value(self._images + per_image(shrink, x) * away, *self._attack.bounds)


def _where(chosen: tf.Tensor, one: Point, other: Point) -> Point:
    images = per_image(chosen, one.x)
    return Point(
        tf.where(images, one.x, other.x),
        tf.where(chosen, one.loss, other.loss),
        tf.where(images, one.gradient, other.gradient),
        tf.where(chosen, one.success, other.success),
    )


def better(new: Point, old: Point) -> Point:
    """Success before the loss; from a NaN on the point stays one, for the caller to see it."""
    higher = ~(new.loss <= old.loss)
    return _where((new.success & ~old.success) | ((new.success == old.success) & higher), new, old)
