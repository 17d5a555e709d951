"""Adversarial retraining by FGSM.

Reference: Kurakin, Goodfellow and Bengio (2016), arXiv:1611.01236, as Liu et al. (2018),
section 4, compare with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from rse_tf.defenses.adversarial_training import fgsm_images
from rse_tf.defenses.base import Defense
from rse_tf.models import NetworkSpec
from rse_tf.training import Objective, Trainer
from rse_tf.utils.checks import argument_error
from rse_tf.utils.options import option
from rse_tf.utils.rules import AT_LEAST_1, NOT_NEGATIVE


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
    passes: ClassVar[float] = 4.5

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


@dataclasses.dataclass(frozen=True)
class FGSMRetraining(Defense):
    """The plain network, trained on from there with FGSM batches among the clean ones.

    Attributes:
        retraining_epsilon: smallest and largest L-infinity distance of the FGSM batches, in pixel
            units. Default 0.1 and 0.3 (the published scripts of Liu et al.).
        retraining_epochs: epochs after those of the plain network. Default half as many again as
            these: 300 after 200 in Liu et al.

    Raises:
        ValueError: if an option breaks its rule, or the smallest distance is not the first.
    """

    retraining_epsilon: tuple[float, float] = option(
        (0.1, 0.3),
        rule=NOT_NEGATIVE,
        is_length=True,
        help="smallest and largest distance of FGSM",
    )
    retraining_epochs: int | None = option(
        None, rule=AT_LEAST_1, help="its epochs; default half as many again"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        distances = self.retraining_epsilon
        if len(distances) != 2 or distances[0] > distances[1]:
            expected = "two numbers, the smaller one first"
            raise argument_error(type(self).__name__, "retraining_epsilon", expected, distances)

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        spec = spec.without_noise()
        plain = trainer.fit(spec)
        epochs = self.retraining_epochs or _more_epochs(trainer.settings.epochs)
        longer = dataclasses.replace(trainer.settings, epochs=epochs)
        trainer = dataclasses.replace(trainer, settings=longer)
        return trainer.fit(spec, AdversarialRetraining(*self.retraining_epsilon), start=plain)

    @classmethod
    def run_defaults(cls, of_dataset: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        defaults = super().run_defaults(of_dataset, epochs)
        return defaults | {"retraining_epochs": _more_epochs(epochs)}


def _more_epochs(epochs: int) -> int:
    return math.ceil(1.5 * epochs)
