"""Training losses."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """Base class: a loss for every image, from the model and its batch.

    Attributes:
        save_best_only: whether the epoch with the best clean validation accuracy is kept, or the
            last one. A training that gives clean accuracy away for robustness must not be
            judged by the former.
        revision: part of the key of every training: raise it when the objective no longer
            gives the same weights.
        passes: what one image costs in a step, in passes through the network: a forward pass
            counts as 1, a pass back as 2.
    """

    save_best_only: ClassVar[bool] = True
    revision: ClassVar[int] = 0
    passes: ClassVar[float] = 3

    @abc.abstractmethod
    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns the loss of every image, float32 `[batch]`, within the training step's graph.

        Args:
            model: the network in training.
            images: float32 `[batch, height, width, channels]`.
            labels: int32 `[batch]`.
            key: int32 `[2]`, another one in every step and the same on every replica: the seed
                of whatever the objective draws.
        """

    def facts(self) -> dict[str, Any]:
        """The settings that determine the trained weights, as JSON: part of the cache key."""
        return {"name": type(self).__name__, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Objective):
    """Cross-entropy of the softmax at a temperature.

    Attributes:
        temperature: what logits are divided by. Default 1.
    """

    temperature: float = 1.0

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        logits = model(images, training=True) / self.temperature
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
