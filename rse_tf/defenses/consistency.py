"""RSE whose predictions are to agree between draws of the noise.

Reference: Jeong and Shin (2020), arXiv:2006.04062, and the code that they published.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from rse_tf.defenses.base import Defense
from rse_tf.models import NetworkSpec
from rse_tf.training import Objective, Trainer
from rse_tf.utils.options import option
from rse_tf.utils.rules import NOT_NEGATIVE

_DRAWS = 2


@dataclasses.dataclass(frozen=True)
class Consistency(Objective):
    """`mean_i J(p_i) + consistency_weight mean_i KL(p || p_i) + entropy_weight H(p)`.

    `p_1` and `p_2` are a noisy network's probabilities for the same image in two draws, `p` their
    mean, `J` the cross-entropy with the label, and `H` the entropy.

    Attributes:
        consistency_weight: the more, the closer the draws are to their mean.
        entropy_weight: the more, the surer the mean is.
    """

    consistency_weight: float
    entropy_weight: float

    save_best_only: ClassVar[bool] = False

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        # One batch: every image of a batch has noise of its own, and so has every copy.
        logits = tf.cast(model(tf.concat([images] * _DRAWS, axis=0), training=True), tf.float32)
        each = tf.nn.log_softmax(tf.stack(tf.split(logits, _DRAWS)))  # [draws, batch, classes]
        # Through logarithms, so that a probability that rounds to zero has a gradient.
        mean = tf.reduce_logsumexp(each, axis=0) - tf.math.log(float(_DRAWS))
        share = tf.exp(mean)
        cross_entropy = -tf.gather(tf.reduce_mean(each, axis=0), labels, batch_dims=1)
        divergence = tf.reduce_sum(share * (mean - tf.reduce_mean(each, axis=0)), axis=-1)
        entropy = -tf.reduce_sum(share * mean, axis=-1)
        return cross_entropy + self.consistency_weight * divergence + self.entropy_weight * entropy


@dataclasses.dataclass(frozen=True)
class ConsistentRSE(Defense):
    """RSE, and a loss that also asks two noisy copies of each image for the same answer.

    An epoch takes about twice the time of one of RSE.

    Attributes:
        consistency_weight: weight of the distance between the draws and their mean. Default 10,
            that of the published code, whose runs take 5, 10 or 20, by data set and noise.
        entropy_weight: weight of the mean's entropy. Default 0.5, that of the published code.
    """

    consistency_weight: float = option(
        10.0, rule=NOT_NEGATIVE, help="weight of the distance between two draws"
    )
    entropy_weight: float = option(
        0.5, rule=NOT_NEGATIVE, help="weight of the entropy of the draws' mean"
    )

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        return trainer.fit(spec, Consistency(self.consistency_weight, self.entropy_weight))
