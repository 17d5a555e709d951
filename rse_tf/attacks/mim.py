"""The momentum iterative method."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from rse_tf.attacks.base import per_image
from rse_tf.attacks.gradient_sign import GradientSign, Scalars
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class MIM(GradientSign):
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
        self._check_step()
        self._check_number("decay")

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon * (1 / 10)}

    @property
    def _has_memory(self) -> bool:
        return True

    def _direction(
        self, gradient: tf.Tensor, x: tf.Tensor, memory: tf.Tensor, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor]:
        size = tf.reduce_mean(tf.abs(gradient), axis=tf.range(1, tf.rank(x)))
        gradient = tf.math.divide_no_nan(gradient, per_image(size, x))
        momentum = scalars["decay"] * memory + gradient
        return tf.sign(momentum), momentum
