"""Randomised models whose answers follow a law in closed form."""

from __future__ import annotations

import keras
import tensorflow as tf

from rse_tf.layers import NoiseLayer


def noisy_coin(stddev: float, active: str = "always") -> keras.Model:
    """Two classes by the sign of pixel + noise, with logits so far apart that they are votes."""
    return keras.Sequential(
        [
            keras.Input((1, 1, 1)),
            keras.layers.Flatten(),
            NoiseLayer(stddev, active=active),
            keras.layers.Lambda(lambda x: 1e4 * tf.concat([-x, x], axis=1)),
        ]
    )
