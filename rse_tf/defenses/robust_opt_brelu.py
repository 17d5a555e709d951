"""Robust optimisation with bounded ReLUs.

Reference: Zantedeschi, Nicolae and Rawat (2017), arXiv:1707.06728, as Liu et al. (2018),
section 4, compare with it.
"""

from __future__ import annotations

import dataclasses

import keras

from rse_tf.defenses.settings import DefenseSettings
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer


def train(spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> keras.Model:
    """Trains the network with `min(max(x, 0), 1)` for ReLU, on images with Gaussian noise."""
    bounded = dataclasses.replace(
        spec.without_noise(),
        activation="brelu",
        init_noise=settings.image_noise,  # before the first convolution: on the images
        active="training",
        sampler=spec.sampler,
    )
    return trainer.fit(bounded)
