"""Defensive distillation.

Reference: Papernot et al. (2015), arXiv:1511.04508, as Liu et al. (2018) and Strauss et al.
(2017) compare with it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import keras
import tensorflow as tf

from rse_tf.defenses.base import Defense
from rse_tf.models import NetworkSpec
from rse_tf.training import CrossEntropy, Objective, Trainer, weights_digest
from rse_tf.utils.options import option
from rse_tf.utils.rules import POSITIVE


@dataclasses.dataclass(frozen=True)
class Distillation(Objective):
    """Cross-entropy with a teacher's probabilities, both softmaxes at a temperature.

    Attributes:
        teacher: the model to learn from.
        temperature: what both models' logits are divided by.
    """

    teacher: keras.Model
    temperature: float

    passes: ClassVar[float] = 4

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        # The images of this very batch, crops and flips included, and not the labels.
        soft_labels = tf.nn.softmax(self.teacher(images, training=False) / self.temperature)
        logits = model(images, training=True) / self.temperature
        return tf.nn.softmax_cross_entropy_with_logits(tf.stop_gradient(soft_labels), logits)

    def facts(self) -> dict[str, Any]:
        return {
            "name": type(self).__name__,
            "teacher": weights_digest(self.teacher),
            "temperature": self.temperature,
        }


@dataclasses.dataclass(frozen=True)
class DefensiveDistillation(Defense):
    """A teacher and its student, both trained at a temperature; the student is used at 1.

    Attributes:
        temperature: what the logits of both are divided by. 40 in Liu et al. (2018), Table 1; 10
            in Strauss et al. (2017), section 4.3. Default 40.
    """

    temperature: float = option(
        40.0, by_dataset="temperature", rule=POSITIVE, help="what logits are divided by"
    )

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        spec = spec.without_noise()
        teacher = trainer.fit(spec, CrossEntropy(self.temperature))
        return trainer.fit(spec, Distillation(teacher, self.temperature))
