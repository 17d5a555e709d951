"""The fast gradient sign method."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from rse_tf.attacks.attack import Attack


@dataclasses.dataclass(frozen=True)
class FGSM(Attack):
    """One step of size epsilon along the sign of the loss gradient.

    `x + epsilon * sign(grad J(x, label))`, or `x - epsilon * sign(grad J(x, target))`.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance, in pixel units. Strauss et al. (2017) use 0.3 on MNIST
            and 0.03 on CIFAR-10.

    Raises:
        ValueError: if `epsilon` is negative or not finite.

    Reference:
        Goodfellow, Shlens and Szegedy (2014), arXiv:1412.6572.
    """

    epsilon: float
    scalars: ClassVar[tuple[str, ...]] = ("epsilon",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("epsilon")

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        direction = -1.0 if targeted else 1.0
        gradient = self._loss_gradient(images, classes)
        once = tf.ones_like(classes)
        return images + direction * scalars["epsilon"] * tf.sign(gradient), once, once
