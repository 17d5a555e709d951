"""Auto-PGD: projected gradient descent that chooses its step sizes by itself."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from rse_tf.attacks.attack import Attack, per_image, squared_l2
from rse_tf.attacks.losses import joint_logits, log_loss
from rse_tf.attacks.randomness import image_keys, in_ball, in_cube

# Rounding of the pixels must not carry an image out of the L2 ball.
_INSIDE = 1 - 1e-6
_MOMENTUM = 0.75
# A period in which fewer of the steps than this share raise the loss halves the step.
_ENOUGH_INCREASES = 0.75
_LOSSES = {"cross_entropy": 2, "dlr": 3, "dlr_targeted": 4}  # classes that each needs

Scalars = dict[str, tf.Tensor]


class _Point(NamedTuple):
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


@dataclasses.dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: momentum, and steps that halve where the loss no longer rises.

    The steps are those of the paper. What is kept differs. A model that always returns the same
    leaves the misclassified point of the highest loss, or without any the point of the highest
    loss; the authors' code returns the original for images that survive. Of a randomised model
    a single draw decides nothing. At each checkpoint, and at the end, the point of the highest
    loss in its gradient's draw is judged by its mean loss over `selection_draws` other draws, and
    it replaces the point kept so far only if that is higher. No image leaves early there.

    Args:
        model: callable from images to logits. To average the gradients of a randomised model over
            draws, pass `SelfEnsemble(model, n).stacked_logits`.
        epsilon: radius of the ball, in pixel units of the norm.
        loss: `"cross_entropy"`, `"dlr"`, the difference of logits ratio, or `"dlr_targeted"`,
            which goes for several other classes, one after the other. The latter two need 3 and 4
            classes.
        norm: `"linf"` or `"l2"`.
        steps: number of steps of a run. Default 100, as in the paper.
        restarts: number of random starts, for each class of `"dlr_targeted"`. Default 1.
        num_targets: how many of the likeliest other classes `"dlr_targeted"` tries. Default 9;
            where there are fewer, all.
        selection_draws: calls of a randomised model that judge a point. Default 10.
        seed: of the random starts. An image's starts follow from the seed and its own pixels.

    Raises:
        ValueError: if an argument is out of its range, if the model has too few classes for the
            loss, or if `"dlr_targeted"` is called with targets.

    Reference:
        Croce and Hein (2020), arXiv:2003.01690.
    """

    epsilon: float
    loss: str = "cross_entropy"
    norm: str = "linf"
    steps: int = 100
    restarts: int = 1
    num_targets: int = 9
    selection_draws: int = 10
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "steps", "seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        for name in ("steps", "restarts", "num_targets", "selection_draws"):
            self._check_integer(name, 1)
        self._check_integer("seed", 0)
        if self.loss not in _LOSSES:
            raise self._error("loss", f"one of {sorted(_LOSSES)}", self.loss)
        if self.norm not in ("linf", "l2"):
            raise self._error("norm", "'linf' or 'l2'", self.norm)

    @property
    def supports_jit(self) -> bool:
        return self.restarts == 1 and self.loss != "dlr_targeted"

    def check_model(self, images: np.ndarray) -> int:
        """See `Attack`; it also looks whether the model is randomised."""
        num_classes = super().check_model(images)
        if num_classes < _LOSSES[self.loss]:
            expected = f"'cross_entropy' for a model of {num_classes} classes"
            raise self._error("loss", expected, self.loss)
        key = self._randomness_key(images.shape[1:])
        if key not in self._graphs:
            self._graphs[key] = self._classifier().is_random(images)
        return num_classes

    def _randomness_key(self, image_shape: Any) -> Any:
        return ("randomised", id(self.model), tuple(image_shape))

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if targeted and self.loss == "dlr_targeted":
            expected = "'cross_entropy' or 'dlr' where targets are given"
            raise self._error("loss", expected, self.loss)
        random = self._graphs[self._randomness_key(images.shape[1:])]
        keys = image_keys(images, scalars["seed"], self.bounds)
        run = _Run(self, targeted, random, scalars)
        others, number = classes[:, None], 1
        if self.loss == "dlr_targeted":
            logits = self._logits(images)
            own = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
            number = min(self.num_targets, logits.shape[-1] - 1)
            others = tf.math.top_k(tf.where(own, -float("inf"), logits), number).indices
        if self.supports_jit:
            best, spent = run(images, classes, others[:, 0], keys)
            tries = tf.ones_like(classes)
        else:
            best, spent, tries = self._several(run, images, classes, others, number, keys, random)
        gradients = tries * (scalars["steps"] + 1)
        return best.x, gradients, spent + int(self.loss == "dlr_targeted")

    def _several(
        self, run: Any, images: tf.Tensor, classes: tf.Tensor, others: tf.Tensor, number: int,
        keys: tf.Tensor, random: bool,
    ) -> tuple[_Point, tf.Tensor, tf.Tensor]:  # fmt: skip
        """All restarts and targets, for the images that are left."""

        def again(r, best, spent, tries):  # type: ignore[no-untyped-def]
            open_ = tf.ones_like(best.success) if random else ~best.success
            rows = tf.where(open_)[:, 0]
            some, own, other, key = (
                tf.gather(t, rows) for t in (images, classes, others[:, r % number], keys)
            )
            found, queries = run(some, own, other, key + tf.cast(r // number, tf.int64))
            before = _Point(*(tf.gather(t, rows) for t in best))
            found = _better(found, before)
            best = _Point(
                *(tf.tensor_scatter_nd_update(t, rows[:, None], f) for t, f in zip(best, found))
            )
            spent = tf.tensor_scatter_nd_add(spent, rows[:, None], queries)
            return r + 1, best, spent, tries + tf.cast(open_, tf.int32)

        none = tf.zeros_like(classes)
        lowest = tf.fill(tf.shape(classes), -float("inf"))
        best = _Point(images, lowest, tf.zeros_like(images), tf.zeros_like(classes, tf.bool))
        return tf.while_loop(
            lambda r, best, *_: (r < self.restarts * number) & ~tf.reduce_all(best.success),
            again,
            (tf.constant(0), best, none, none),
        )[1:]


class _Run:
    """One run from one start, for one class to go for."""

    def __init__(self, attack: APGD, targeted: bool, random: bool, scalars: Scalars) -> None:
        self._attack, self._targeted, self._random = attack, targeted, random
        self._epsilon, self._steps = scalars["epsilon"], scalars["steps"]

    def __call__(
        self, images: tf.Tensor, classes: tf.Tensor, others: tf.Tensor, keys: tf.Tensor
    ) -> tuple[_Point, tf.Tensor]:
        """Returns the point to keep, and the queries spent on each image."""
        self._images, self._classes, self._others = images, classes, others
        x = self._evaluate(self._start(keys))
        kept = x._replace(loss=tf.fill(tf.shape(classes), -float("inf")))
        first = tf.maximum(self._steps * 22 // 100, 1)
        zeros = tf.zeros_like(x.loss)
        schedule = _Schedule(
            first, first, zeros + 2 * self._epsilon, zeros, x.loss, zeros < 1
        )
        _, _, _, _, kept, _, queries = tf.while_loop(
            lambda i, *_: i < self._steps,
            self._step,
            (tf.constant(0), x, x.x, x, kept, schedule, tf.fill(tf.shape(classes), self._steps + 1)),
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
            kept = _better(new, _better(best, kept))
        check = (schedule.left == 0) | (i + 1 == self._steps)

        def checkpoint() -> tuple[Any, ...]:
            chosen, other, spent = best, kept, queries
            if self._random:
                chosen = other = _better(self._judged(best), kept)
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
            away = in_cube(keys, self._images)
            pixels = tf.range(1, tf.rank(away))
            away /= tf.reduce_max(tf.abs(away), axis=pixels, keepdims=True)
        else:
            away = in_ball(keys, self._images)
            away /= per_image(tf.sqrt(squared_l2(away)), away)
        return self._project(self._images + self._epsilon * away)

    def _evaluate(self, x: tf.Tensor) -> _Point:
        with tf.GradientTape() as tape:
            tape.watch(x)
            opinions = self._attack._opinions(x)
            loss = self._loss(opinions)
        gradient = self._attack._checked_gradient(tape.gradient(loss, x))
        return _Point(x, loss, gradient, self._won(opinions))

    def _judged(self, point: _Point) -> _Point:
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


def _where(chosen: tf.Tensor, one: _Point, other: _Point) -> _Point:
    images = per_image(chosen, one.x)
    return _Point(
        tf.where(images, one.x, other.x),
        tf.where(chosen, one.loss, other.loss),
        tf.where(images, one.gradient, other.gradient),
        tf.where(chosen, one.success, other.success),
    )


def _better(new: _Point, old: _Point) -> _Point:
    """Success before the loss; from a NaN on the point stays one, for the caller to see it."""
    higher = ~(new.loss <= old.loss)
    return _where((new.success & ~old.success) | ((new.success == old.success) & higher), new, old)
