"""The fast minimum-norm attack."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from rse_tf.attacks.facts import GRADIENTS_OF_ONE
from rse_tf.attacks.losses import joint_logits
from rse_tf.attacks.margin import margin_of
from rse_tf.attacks.minimal_distance import MinimalDistance
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class FMN(MinimalDistance):
    """Looks for the nearest adversarial image in L-infinity or L2, along the margin.

    See `MinimalDistance` for the loop, for what differs from the paper, and for randomised
    models. The `distortion` of a result is the L2 distance in either norm.

    Args:
        model: callable from images to logits.
        norm: `"linf"` or `"l2"`, of the distance.
        steps, gamma, relative_step, selection_draws, levels: as of `DDN`. The paper's gamma
            begins at 0.05, and its steps go along the gradient in every norm.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Pintor, Roli, Brendel and Biggio, Fast Minimum-norm Adversarial Attacks through Adaptive
        Norm Constraints (2021), arXiv:2102.12827.
    """

    norm: str = option("linf", choices=("linf", "l2"), help="norm of the distance")
    gradients: ClassVar[tuple[str, ...]] = GRADIENTS_OF_ONE

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("norm")

    @property
    def _norm(self) -> str:
        return self.norm

    def _loss(
        self, logits: tf.Tensor, classes: tf.Tensor, targeted: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        margin = margin_of(joint_logits(logits), classes, targeted)
        return margin, tf.ones_like(margin)
