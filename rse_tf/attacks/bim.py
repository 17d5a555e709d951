"""The basic iterative method."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from rse_tf.attacks.base import Attack
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class BIM(Attack):
    """Repeated small FGSM steps, each clipped to the L-infinity ball and the bounds.

    Args:
        model: callable from images to logits.
        epsilon: largest L-infinity distance, in pixel units. Strauss et al. (2017) use 0.2 on
            MNIST and 0.02 on CIFAR-10.
        step_size: length of a step. Default epsilon / 8: 0.025 and 0.0025 there.
        steps: number of steps; 8 there.

    Raises:
        ValueError: if `epsilon` or `step_size` is negative or not finite, or `steps` is not a
            positive integer.

    Reference:
        Kurakin, Goodfellow and Bengio (2016), arXiv:1607.02533.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    step_size: float | None = option(None, is_length=True, help="length of a step")
    steps: int = option(8, flag="attack_steps", help="number of steps")
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "step_size", "steps")
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        if self.step_size is not None:
            self._check_length("step_size")
        self._check_integer("steps", 1)

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon * (1 / 8)}

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        direction = -scalars["step_size"] if targeted else scalars["step_size"]
        low = tf.maximum(images - scalars["epsilon"], self.bounds[0])
        high = tf.minimum(images + scalars["epsilon"], self.bounds[1])

        def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x = x + direction * tf.sign(self._loss_direction(x, classes))
            return i + 1, tf.clip_by_value(x, low, high)

        _, x = tf.while_loop(lambda i, _: i < scalars["steps"], step, [0, images])
        spent = tf.fill(tf.shape(classes), scalars["steps"])
        return x, spent, spent
