"""CleverHans' own attacks on our models: an independent second opinion."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from rse_tf.attacks.base import Attack
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class _CleverHans(Attack):
    """Hands the batch to CleverHans in the L-infinity norm and keeps our bookkeeping.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance, in pixel units, greater than zero.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Papernot et al. (2016), arXiv:1610.00768.
    """

    epsilon: float = option(
        sweep=True,
        by_dataset="single_step_epsilon",
        is_length=True,
        help="one row for each distance",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon", positive=True)

    @property
    def supports_jit(self) -> bool:
        return False

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        low, high = self.bounds
        adversarial, steps = self._cleverhans(
            images,
            # Its sanity checks need eager tensors; ours have run.
            {
                "y": classes,
                "targeted": targeted,
                "clip_min": low,
                "clip_max": high,
                "norm": np.inf,
                "sanity_checks": False,
            },
        )
        spent = tf.fill(tf.shape(classes), steps)
        return adversarial, spent, spent

    @abc.abstractmethod
    def _cleverhans(self, images: tf.Tensor, common: dict[str, Any]) -> tuple[tf.Tensor, int]:
        """Runs the attack with the settings all three share; returns images and steps."""


@dataclasses.dataclass(frozen=True)
class CleverHansFGM(_CleverHans):
    """The fast gradient method of CleverHans: `FGSM`, where float32 has a gradient.

    Of a loss that underflows, as that of distilled networks, it moves nothing; `FGSM` does.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance, in pixel units, greater than zero.
    """

    def _cleverhans(self, images: tf.Tensor, common: dict[str, Any]) -> tuple[tf.Tensor, int]:
        from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

        return fast_gradient_method(self._logits, images, self.epsilon, **common), 1


@dataclasses.dataclass(frozen=True)
class _CleverHansIterative(_CleverHans):
    """The steps that CleverHans' iterative attacks share."""

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    step_size: float | None = option(None, is_length=True, help="length of a step")
    steps: int = option(8, flag="attack_steps", help="number of steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None:
            self._check_length("step_size", positive=True)
        self._check_integer("steps", 1)

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon * (1 / 8)}


@dataclasses.dataclass(frozen=True)
class CleverHansPGD(_CleverHansIterative):
    """Projected gradient descent of CleverHans from the image: `BIM`, where float32 has a gradient.

    Of a loss that underflows, as that of distilled networks, it moves nothing; `BIM` does.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance, in pixel units, greater than zero.
        step_size: length of a step, at most epsilon. Default epsilon / 8.
        steps: number of steps.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and self.step_size > self.epsilon:
            raise self._error("step_size", f"at most epsilon, {self.epsilon}", self.step_size)

    def _cleverhans(self, images: tf.Tensor, common: dict[str, Any]) -> tuple[tf.Tensor, int]:
        from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

        adversarial = projected_gradient_descent(
            self._logits,
            images,
            self.epsilon,
            self.hyperparameters()["step_size"],
            self.steps,
            rand_init=False,
            **common,
        )
        return adversarial, self.steps


@dataclasses.dataclass(frozen=True)
class CleverHansMIM(_CleverHansIterative):
    """The momentum iterative method of CleverHans, with its decay factor of 1.

    Args:
        model: callable from images to logits.
        epsilon: L-infinity distance, in pixel units, greater than zero.
        step_size: length of a step. Default epsilon / 8.
        steps: number of steps.
    """

    def _cleverhans(self, images: tf.Tensor, common: dict[str, Any]) -> tuple[tf.Tensor, int]:
        from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method

        adversarial = momentum_iterative_method(
            self._logits,
            images,
            self.epsilon,
            self.hyperparameters()["step_size"],
            self.steps,
            **common,
        )
        return adversarial, self.steps
