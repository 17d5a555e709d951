"""DeepFool: a short way over the nearest decision boundary."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import tensorflow as tf

from rse_tf.attacks.active_rows import step_active, while_active
from rse_tf.attacks.base import Attack, per_image
from rse_tf.attacks.facts import GRADIENTS_OF_ONE
from rse_tf.utils.options import option

# Each step goes this far beyond the boundary, in units of the pixel range; the authors' code: 1e-4.
# A share of the gap alone leads nowhere once the gap is down to the rounding of the logits.
_BEYOND = 1e-4
# Of the way to the boundary, what each step goes at least, however many pixels a bound holds. The
# whole way at once ends up to a tenth further from digits: the model is less linear than that.
_LEAST_SHARE = 0.5
# A win by less than this part of the logits' spread is rounding: in another batch it may be none.
_ROUNDING = 1e-5

Scalars = dict[str, tf.Tensor]


class _Walk(NamedTuple):
    """One image per row, on its way to a boundary."""

    x: tf.Tensor  # [batch, height, width, channels]
    steps: tf.Tensor  # int32 [batch]
    running: tf.Tensor  # whether it still has its label, bool [batch]


@dataclasses.dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest boundary of the linearised model until the class changes.

    Each step goes from the current point to the boundary with the class k that minimises
    `|Z_k - Z_label| / ||grad Z_k - grad Z_label||_2`, further by 1e-4 of the pixel range (as in
    the authors' code), and longer by `overshoot`. Where no pixel meets a bound it is the
    algorithm of the paper. Pixels at a bound do not move beyond it, and the norm leaves them
    out. The others go as far as in the paper, but half of the way to the boundary at least.

    An image that the model does not give its label stays as it is; so does one whose class has
    not changed after all steps. On a randomised model, one draw per step decides on both. The
    attack is untargeted and has no strength to set: its distortion is the result.

    Args:
        model: callable from images to logits.
        steps: largest number of steps. Default 50 (the authors' code).
        overshoot: by what part each step is made longer, to reach over the boundary. Default
            0.02 (Moosavi-Dezfooli et al.).
        candidates: of how many classes the gradients are looked at, those of the highest
            logits at the current point, the label's own among them. Default 10 (the authors'
            code, which chooses them at the image). Each costs a backward pass per step.

    Raises:
        ValueError: if an argument is out of its range, or if the call has `targets`.

    Reference:
        Moosavi-Dezfooli, Fawzi and Frossard (2016), arXiv:1511.04599, algorithm 2.
    """

    steps: int = option(50, flag="attack_steps", help="number of steps")
    overshoot: float = option(0.02, quiet=True, help="by what part each step is made longer")
    candidates: int = 10
    scalars: ClassVar[tuple[str, ...]] = ("steps", "overshoot")
    has_targets: ClassVar[bool] = False
    gradients: ClassVar[tuple[str, ...]] = GRADIENTS_OF_ONE
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("steps", 1)
        self._check_number("overshoot")
        self._check_integer("candidates", 2)

    @property
    def supports_jit(self) -> bool:
        return False

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def step(i: tf.Tensor, state: _Walk) -> tuple[tf.Tensor, _Walk]:
            return i + 1, step_active(functools.partial(self._step, i, scalars), state, classes)

        state = _Walk(images, tf.zeros_like(classes), classes >= 0)
        # The round after the last step only looks.
        end = while_active(step, state, 0, scalars["steps"] + 1)
        x = tf.where(per_image(end.running, images), images, end.x)
        return x, end.steps, end.steps + 1

    def _step(self, i: tf.Tensor, scalars: Scalars, walk: _Walk, labels: tf.Tensor) -> _Walk:
        # An image that has moved must win by more than rounding.
        handicap = tf.where(i > 0, _ROUNDING, 0.0)
        order, logits, gradients = self._linearise(walk.x, labels, handicap)
        # NaN counts as the end, so that the caller sees it.
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        unfooled = (order[:, 0] == labels) & finite
        moving = unfooled & (i < scalars["steps"])
        # An image that still has its label has it as the top class.
        over = (1 + scalars["overshoot"]) * self._over_the_boundary(walk.x, logits, gradients)
        ahead = tf.clip_by_value(walk.x + over, *self.bounds)
        return _Walk(
            x=tf.where(per_image(moving, ahead), ahead, walk.x),
            steps=walk.steps + tf.cast(moving, tf.int32),
            running=unfooled,
        )

    def _linearise(
        self, images: tf.Tensor, labels: tf.Tensor, handicap: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The candidate classes, highest logit first, their logits `[batch, candidates]` and
        gradients `[batch, candidates, pixels]`.

        The label's logit is made larger by `handicap` times what the highest is above the mean.
        One forward pass for all: on a randomised model they belong to the same draw.
        """
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            logits = self._logits(images)
            spread = tf.reduce_max(logits, axis=1) - tf.reduce_mean(logits, axis=1)
            extra = handicap * tf.stop_gradient(spread)
            logits += extra[:, None] * tf.one_hot(labels, logits.shape[-1])
            top, order = tf.math.top_k(logits, min(self.candidates, logits.shape[-1]))
            columns = tf.unstack(top, axis=1)
        gradients = [self._checked_gradient(tape.gradient(z, images)) for z in columns]
        flat = [tf.reshape(g, [tf.shape(images)[0], -1]) for g in gradients]
        return order, top, tf.stack(flat, axis=1)

    def _over_the_boundary(
        self, images: tf.Tensor, logits: tf.Tensor, gradients: tf.Tensor
    ) -> tf.Tensor:
        """The step, like the images, from the first candidate to the nearest of the others."""
        low, high = self.bounds
        pixels = tf.reshape(images, [tf.shape(images)[0], 1, -1])
        normal = gradients[:, 1:] - gradients[:, :1]
        # First to a largest entry of 1: the squares of tiny gradients would vanish.
        largest = tf.reduce_max(tf.abs(normal), axis=2)
        normal = tf.math.divide_no_nan(normal, largest[:, :, None])
        free = tf.where(tf.where(normal < 0, pixels > low, pixels < high), normal, 0.0)
        norm = tf.norm(free, axis=2)
        gap, slope = logits[:, :1] - logits[:, 1:], largest * norm
        # No two images are further from each other than opposite corners.
        corner = (high - low) * tf.sqrt(tf.cast(tf.shape(pixels)[2], tf.float32))
        distance = tf.where(slope > 0, tf.minimum(gap / slope, corner), float("inf"))
        nearest = tf.argmin(distance, axis=1)
        distance, norm, free, normal = (
            tf.gather(t, nearest, batch_dims=1) for t in (distance, norm, free, normal)
        )
        share = tf.math.divide_no_nan(norm, tf.norm(normal, axis=1)) ** 2
        length = tf.maximum(share, _LEAST_SHARE) * distance + _BEYOND * (high - low)
        # Without a slope anywhere, there is no way to go.
        length = tf.where(norm > 0, length, 0.0)
        step = tf.math.divide_no_nan(length, norm)[:, None] * free
        return tf.reshape(step, tf.shape(images))
