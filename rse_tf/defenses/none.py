"""No defense: the network without noise."""

from __future__ import annotations

import keras

from rse_tf.defenses.settings import DefenseSettings
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer


def train(spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> keras.Model:
    """Trains the plain network."""
    return trainer.fit(spec.without_noise())
