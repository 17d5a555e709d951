"""Random self-ensemble, and the two halves it is made of.

Reference: Liu et al. (2018), arXiv:1712.00673; the halves are those of Figure 2.
"""

from __future__ import annotations

import dataclasses

import keras

from rse_tf.defenses.base import Defense
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer


@dataclasses.dataclass(frozen=True)
class RSE(Defense):
    """Noise in training and at inference: Algorithm 1."""

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        return trainer.fit(spec)


@dataclasses.dataclass(frozen=True)
class RSETrainNoiseOnly(Defense):
    """The network of `RSE`, silent at inference."""

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        silent = _noisy_only_in(spec, "training")
        return _with_weights(silent, trainer.fit(spec))


@dataclasses.dataclass(frozen=True)
class RSETestNoiseOnly(Defense):
    """The network without defense, noisy at inference."""

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        noisy = _noisy_only_in(spec, "inference")
        return _with_weights(noisy, trainer.fit(spec.without_noise()))


def _noisy_only_in(spec: NetworkSpec, phase: str) -> NetworkSpec:
    return dataclasses.replace(spec, noise=dataclasses.replace(spec.noise, active=phase))


def _with_weights(spec: NetworkSpec, trained: keras.Model) -> keras.Model:
    # The noise layers have no weights, so the networks differ in nothing but the noise.
    model = spec.build(dtype="float32")
    model.set_weights(trained.get_weights())
    return model
