"""Random self-ensemble, and the two halves it is made of.

Reference: Liu et al. (2018), arXiv:1712.00673; the halves are those of Figure 2.
"""

from __future__ import annotations

import dataclasses

import keras

from rse_tf.defenses.settings import DefenseSettings
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer


def train(spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> keras.Model:
    """Noise in training and at inference: Algorithm 1."""
    return trainer.fit(spec)


def train_noise_only(spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> keras.Model:
    """The network of `train`, silent at inference."""
    silent = dataclasses.replace(spec, active="training")
    return _with_weights(silent, trainer.fit(spec))


def test_noise_only(spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> keras.Model:
    """The network without defense, noisy at inference."""
    noisy = dataclasses.replace(spec, active="inference")
    return _with_weights(noisy, trainer.fit(spec.without_noise()))


def _with_weights(spec: NetworkSpec, trained: keras.Model) -> keras.Model:
    # The noise layers have no weights, so the networks differ in nothing but the noise.
    model = spec.build(dtype="float32")
    model.set_weights(trained.get_weights())
    return model
