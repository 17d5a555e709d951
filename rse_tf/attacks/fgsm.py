"""The fast gradient sign method."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from rse_tf.attacks.gradient_sign import GradientSign, Scalars
from rse_tf.attacks.losses import Logits, loss_direction
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class FGSM(GradientSign):
    """One step of size epsilon along the sign of the loss gradient.

    `x + epsilon * sign(grad J(x, label))`, or `x - epsilon * sign(grad J(x, target))`. The sign is
    that of the exact gradient, also where float32 rounds the gradient of the loss to zero.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance, in pixel units. Strauss et al. (2017) use 0.3 on MNIST
            and 0.03 on CIFAR-10.

    Raises:
        ValueError: if `epsilon` is negative or not finite.

    Reference:
        Goodfellow, Shlens and Szegedy (2014), arXiv:1412.6572.
    """

    epsilon: float = option(
        sweep=True,
        by_dataset="single_step_epsilon",
        is_length=True,
        help="one row for each distance",
    )
    scalars: ClassVar[tuple[str, ...]] = ("epsilon",)
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")

    def _step_length(self, scalars: Scalars) -> tf.Tensor:
        return scalars["epsilon"]


def fast_gradient_sign(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    epsilon: float | tf.Tensor,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tf.Tensor:
    """The images after one step of FGSM, for use inside a graph such as a training step.

    Args:
        logits: callable from images to logits `[batch, classes]`, or to stacked logits
            `[members, batch, classes]`, of which the mean cross-entropy counts.
        images: float32 `[batch, height, width, channels]`.
        labels: integer `[batch]`: the classes to leave, or to reach with a negative epsilon.
        epsilon: L-infinity distance, in pixel units: a number or a scalar tensor.
        bounds: smallest and largest pixel value. Default (0, 1).

    Returns:
        The perturbed images within `bounds`, constants to whoever differentiates them.

    Raises:
        ValueError: if the logits have no gradient, or the labels are not `[batch]`.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank != 1:
        raise ValueError(
            f"fast_gradient_sign: labels must be integer [batch]. Received: shape {labels.shape}"
        )
    gradient = loss_direction(logits, images, labels)
    if gradient is None:
        raise ValueError(
            "fast_gradient_sign: logits must be differentiable in TensorFlow. "
            "Received: logits without a gradient"
        )
    moved = images + tf.cast(epsilon, images.dtype) * tf.sign(gradient)
    return tf.stop_gradient(tf.clip_by_value(moved, *bounds))
