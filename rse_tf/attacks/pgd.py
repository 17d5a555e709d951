"""Projected gradient descent."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from rse_tf.attacks.attack import Attack, per_image, squared_l2
from rse_tf.attacks.losses import log_loss, joint_logits
from rse_tf.attacks.randomness import image_keys, in_ball, in_cube

# Rounding of the pixels must not carry an image out of the L2 ball.
_INSIDE = 1 - 1e-6

Scalars = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    """Ascends the loss from a random point of the ball, back into it after each step.

    Args:
        model: callable from images to logits.
        epsilon: radius of the ball, in pixel units of the norm. Madry et al. use 0.3 on MNIST
            and 8/255 on CIFAR-10, both L-infinity.
        step_size: length of a step in the norm; 0.01 and 2/255 there.
        steps: number of steps per restart. Default 40 (there on MNIST; 7 or 20 on CIFAR-10).
        restarts: number of random starts. An image keeps its first success; without any, the
            result of the highest loss. Images with a success sit out the restarts left.
            Default 1.
        norm: `"linf"`, steps along the sign of the gradient, or `"l2"`, along the gradient.
        random_start: whether to start at a point uniform in the ball, or else at the image.
        seed: of the random starts. An image's starts follow from the seed and its own pixels,
            so they are the same in every batch; equal images have equal starts.

    Raises:
        ValueError: if an argument is out of its range, or if there are several restarts
            without a random start.

    Reference:
        Madry et al. (2017), arXiv:1706.06083.
    """

    epsilon: float
    step_size: float
    steps: int = 40
    restarts: int = 1
    norm: str = "linf"
    random_start: bool = True
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "step_size", "steps", "seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("epsilon")
        self._check_number("step_size")
        self._check_integer("steps", 1)
        self._check_integer("restarts", 1)
        self._check_integer("seed", 0)
        if self.norm not in ("linf", "l2"):
            raise self._error("norm", "'linf' or 'l2'", self.norm)
        if not isinstance(self.random_start, bool):
            raise self._error("random_start", "True or False", self.random_start)
        if self.restarts > 1 and not self.random_start:
            raise self._error("restarts", "1 without a random start", self.restarts)

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        keys = image_keys(images, scalars["seed"], self.bounds)
        if self.restarts == 1:
            x = self._ascend(images, classes, keys, targeted, scalars)
            spent = tf.fill(tf.shape(classes), scalars["steps"])
            return x, spent, spent

        def restart(r, best, best_loss, tries, found):  # type: ignore[no-untyped-def]
            rows = tf.where(~found)[:, 0]
            some, labels, key = (tf.gather(t, rows) for t in (images, classes, keys))
            x = self._ascend(some, labels, key + tf.cast(r, tf.int64), targeted, scalars)
            logits = self._opinions(x)
            success = self._success(joint_logits(logits), labels, targeted, scalars)
            loss = log_loss(logits, labels) * (-1.0 if targeted else 1.0)
            # Written so that NaN is kept, for the caller to see it.
            better = success | ~(loss <= tf.gather(best_loss, rows))
            changed, at = rows[better], tf.where(better)
            return (
                r + 1,
                tf.tensor_scatter_nd_update(best, changed[:, None], tf.gather_nd(x, at)),
                tf.tensor_scatter_nd_update(best_loss, changed[:, None], loss[better]),
                tries + tf.cast(~found, tf.int32),
                tf.tensor_scatter_nd_update(found, rows[:, None], success),
            )

        lowest = tf.fill(tf.shape(classes), -float("inf"))
        state = [0, images, lowest, tf.zeros_like(classes), tf.zeros_like(classes, tf.bool)]
        _, best, _, tries, _ = tf.while_loop(
            lambda r, *state: (r < self.restarts) & ~tf.reduce_all(state[-1]), restart, state
        )
        return best, tries * scalars["steps"], tries * (scalars["steps"] + 1)

    def _ascend(
        self,
        images: tf.Tensor,
        classes: tf.Tensor,
        keys: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> tf.Tensor:
        """One run from one start."""
        epsilon = scalars["epsilon"]
        length = -scalars["step_size"] if targeted else scalars["step_size"]
        start = images
        if self.random_start:
            draw = in_cube if self.norm == "linf" else in_ball
            start = self._project(images + epsilon * draw(keys, images), images, epsilon)

        def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x = x + length * self._direction(self._loss_direction(x, classes))
            return i + 1, self._project(x, images, epsilon)

        return tf.while_loop(lambda i, _: i < scalars["steps"], step, [0, start])[1]

    def _direction(self, gradient: tf.Tensor) -> tf.Tensor:
        if self.norm == "linf":
            return tf.sign(gradient)
        # First to a largest entry of 1: the squares of tiny gradients would vanish.
        pixels = tf.range(1, tf.rank(gradient))
        largest = tf.reduce_max(tf.abs(gradient), axis=pixels, keepdims=True)
        gradient = tf.math.divide_no_nan(gradient, largest)
        return tf.math.divide_no_nan(gradient, per_image(tf.sqrt(squared_l2(gradient)), gradient))

    def _project(self, x: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """The nearest point of the ball, clipped to the bounds."""
        if self.norm == "linf":
            x = tf.clip_by_value(x, images - epsilon, images + epsilon)
        else:
            distance = tf.sqrt(squared_l2(x - images))
            shrink = tf.minimum(tf.math.divide_no_nan(_INSIDE * epsilon, distance), 1.0)
            x = images + per_image(shrink, images) * (x - images)
        # The images lie within the bounds: clipping brings x no further from them.
        return tf.clip_by_value(x, *self.bounds)
