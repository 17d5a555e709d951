"""Adversarial retraining by FGSM.

Reference: Kurakin, Goodfellow and Bengio (2016), arXiv:1611.01236, as Liu et al. (2018),
section 4, compare with it.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from rse_tf.defenses.adversarial_training import fgsm_images
from rse_tf.defenses.settings import DefenseSettings
from rse_tf.models import NetworkSpec
from rse_tf.training import Objective, Trainer


@dataclasses.dataclass(frozen=True)
class AdversarialRetraining(Objective):
    """Cross-entropy of a batch that is clean or, with probability 1/2, its FGSM version.

    Attributes:
        smallest, largest: the L-infinity distance of each FGSM batch is drawn uniformly from
            between them, in pixel units.
    """

    smallest: float
    largest: float

    save_best_only: ClassVar[bool] = False
    revision: ClassVar[int] = 1  # FGSM by the log odds

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        coin, share = tf.unstack(tf.random.stateless_uniform([2], seed=key))
        epsilon = self.smallest + share * (self.largest - self.smallest)
        images = tf.cond(
            coin < 0.5, lambda: fgsm_images(model, images, labels, epsilon), lambda: images
        )
        logits = model(images, training=True)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def train(spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> keras.Model:
    """Trains the plain network, and goes on from there with FGSM batches among the clean."""
    spec = spec.without_noise()
    plain = trainer.fit(spec)
    longer = dataclasses.replace(trainer.settings, epochs=settings.retraining_epochs)
    trainer = dataclasses.replace(trainer, settings=longer)
    return trainer.fit(spec, AdversarialRetraining(*settings.retraining_epsilon), start=plain)
