"""Decoupled direction and norm."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from rse_tf.attacks.losses import log_loss
from rse_tf.attacks.minimal_distance import MinimalDistance


@dataclasses.dataclass(frozen=True)
class DDN(MinimalDistance):
    """Looks for the nearest adversarial image in L2, along the cross-entropy.

    See `MinimalDistance` for the loop, for what differs from the paper, and for randomised
    models. All lengths are relative, so the attack is the same at any bounds.

    Args:
        model: callable from images to logits.
        steps: gradient steps. Default 100 (Rony et al. use 100, 300 and 1,000).
        gamma: by which part the radius shrinks or grows at first; a cosine takes it to 0.001.
            Default 0.1. The paper keeps 0.05 throughout.
        relative_step: length of the first step, in radii; a cosine takes it to a hundredth of
            that. Default 2. The paper has 1 pixel range, whatever the radius.
        selection_draws: draws whose mean probability decides whether an image is adversarial,
            on a randomised model. Default 10. Each costs a forward pass per step.
        levels: number of values a pixel can have, to which every step rounds; the authors' code
            has 256. Default `None`: no rounding.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger, Decoupling Direction and Norm
        for Efficient Gradient-Based L2 Adversarial Attacks and Defenses (2019),
        arXiv:1811.09600.
    """

    @property
    def _norm(self) -> str:
        return "l2"

    def _loss(
        self, logits: tf.Tensor, classes: tf.Tensor, targeted: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        log = log_loss(logits, classes)
        # The loss is softplus(a), a about the margin. Its logarithm, which has a gradient where
        # the loss has none, rises with a by (1 - exp(-loss)) / loss.
        loss = tf.exp(tf.stop_gradient(log))
        slope = tf.where(loss > 1e-6, -tf.math.expm1(-loss) / tf.maximum(loss, 1e-6), 1.0)
        return (-log if targeted else log), slope
