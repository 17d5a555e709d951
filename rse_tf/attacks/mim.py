"""The momentum iterative method."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from rse_tf.attacks.base import Attack, per_image
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class MIM(Attack):
    """BIM along the sign of a running sum of gradients, each divided by its mean magnitude.

    The paper divides by the L1 norm, the authors' code by the mean magnitude. The two differ
    by the number of pixels alone, which no sign sees.

    Args:
        model: callable from images to logits.
        epsilon: largest L-infinity distance, in pixel units. Dong et al. use 16/255.
        step_size: length of a step. Default epsilon / 10: epsilon / steps there.
        steps: number of steps; 10 there.
        decay: what remains of the running sum at each step; 1.0 there. 0 gives BIM.

    Raises:
        ValueError: if `epsilon`, `step_size` or `decay` is negative or not finite, or `steps`
            is not a positive integer.

    Reference:
        Dong et al., Boosting Adversarial Attacks with Momentum (2018), arXiv:1710.06081.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    step_size: float | None = option(None, is_length=True, help="length of a step")
    steps: int = option(10, flag="attack_steps", help="number of steps")
    decay: float = option(1.0, quiet=True, help="what remains of the running sum at each step")
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "step_size", "steps", "decay")
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        if self.step_size is not None:
            self._check_length("step_size")
        self._check_integer("steps", 1)
        self._check_number("decay")

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon * (1 / 10)}

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        direction = -scalars["step_size"] if targeted else scalars["step_size"]
        low = tf.maximum(images - scalars["epsilon"], self.bounds[0])
        high = tf.minimum(images + scalars["epsilon"], self.bounds[1])
        pixels = tf.range(1, tf.rank(images))

        def step(i: tf.Tensor, x: tf.Tensor, momentum: tf.Tensor) -> tuple[tf.Tensor, ...]:
            gradient = self._loss_direction(x, classes)
            size = per_image(tf.reduce_mean(tf.abs(gradient), axis=pixels), images)
            momentum = scalars["decay"] * momentum + tf.math.divide_no_nan(gradient, size)
            return i + 1, tf.clip_by_value(x + direction * tf.sign(momentum), low, high), momentum

        _, x, _ = tf.while_loop(
            lambda i, *_: i < scalars["steps"], step, [0, images, tf.zeros_like(images)]
        )
        spent = tf.fill(tf.shape(classes), scalars["steps"])
        return x, spent, spent
