"""The fast gradient sign method after a random step."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from rse_tf.attacks.gradient_sign import GradientSign, Scalars
from rse_tf.attacks.randomness import per_image_seeds, signs
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class RandFGSM(GradientSign):
    """R+FGSM: a random step off the data point, whose gradient may be masked, then FGSM.

    `x' = x + random_step * sign(N(0, I))`, within the bounds, then
    `x' + (epsilon - random_step) * sign(grad J(x', label))`: the gradient is that at `x'`.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance of both steps together, in pixel units. Tramèr et al. use
            0.3 on MNIST and 16/255 on ImageNet.
        random_step: length of the random step, at most epsilon. Default: half of epsilon.
        seed: of the random step. An image's step follows from the seed and its own pixels, so
            it is the same in every batch; equal images take equal steps.

    Raises:
        ValueError: if `epsilon` or `random_step` is negative or not finite, if `random_step`
            exceeds `epsilon`, or if `seed` is not an integer of at least 0.

    Reference:
        Tramèr et al., Ensemble Adversarial Training (2017), arXiv:1705.07204, section 4.1.
    """

    epsilon: float = option(
        sweep=True,
        by_dataset="single_step_epsilon",
        is_length=True,
        help="one row for each distance",
    )
    random_step: float | None = option(
        None, is_length=True, quiet=True, help="length of the random step; default epsilon / 2"
    )
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "random_step", "seed")
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        if self.random_step is not None:
            self._check_length("random_step")
            if self.random_step > self.epsilon:
                expected = f"at most epsilon, {self.epsilon}"
                raise self._error("random_step", expected, self.random_step)
        self._check_integer("seed", 0)

    def _start(self, images: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        keys = per_image_seeds(images, scalars["seed"], self.bounds)
        shifted = images + self._random_step(scalars) * signs(keys, images)
        return tf.clip_by_value(shifted, *self.bounds)

    def _step_length(self, scalars: Scalars) -> tf.Tensor:
        return scalars["epsilon"] - self._random_step(scalars)

    def _random_step(self, scalars: Scalars) -> tf.Tensor:
        return scalars.get("random_step", scalars["epsilon"] / 2)
