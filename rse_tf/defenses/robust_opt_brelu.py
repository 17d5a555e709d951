"""Robust optimisation with bounded ReLUs.

Reference: Zantedeschi, Nicolae and Rawat (2017), arXiv:1707.06728, as Liu et al. (2018),
section 4, compare with it.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import keras

from rse_tf.defenses.base import Defense
from rse_tf.models import NetworkSpec, NoiseSettings
from rse_tf.training import Trainer
from rse_tf.utils.options import option
from rse_tf.utils.rules import NOT_NEGATIVE


@dataclasses.dataclass(frozen=True)
class RobustOptimisation(Defense):
    """The network with `min(max(x, 0), 1)` for ReLU, trained on images with Gaussian noise.

    Attributes:
        image_noise: standard deviation of the noise on the training images, in pixel units.
            Default 0.05 (Liu et al., after Zantedeschi et al.).
    """

    changes_network: ClassVar[bool] = True

    image_noise: float = option(0.05, rule=NOT_NEGATIVE, help="noise on training images")

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        # Before the first convolution: on the images.
        noise = NoiseSettings(
            init_noise=self.image_noise, active="training", sampler=spec.noise.sampler
        )
        return trainer.fit(dataclasses.replace(spec, noise=noise, activation="brelu"))
