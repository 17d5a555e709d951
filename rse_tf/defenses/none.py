"""No defense: the network without noise."""

from __future__ import annotations

import dataclasses

import keras

from rse_tf.defenses.base import Defense
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer


@dataclasses.dataclass(frozen=True)
class NoDefense(Defense):
    """The plain network."""

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        return trainer.fit(spec.without_noise())
