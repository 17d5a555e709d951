"""Keras layers of the defenses. They depend on nothing else in the package."""

from rse_tf.layers.batch_norm import FusedBatchNormalization
from rse_tf.layers.brelu import BReLU
from rse_tf.layers.common_noise import CommonNoise
from rse_tf.layers.dropout import Dropout
from rse_tf.layers.noise import NOISE_VERSION, NoiseLayer
from rse_tf.layers.noise_state import (
    FrozenNoise,
    NoiseOff,
    is_random,
    noise_layers,
    noise_replaced,
    noise_state,
    seed_noise,
    set_noise_state,
)

__all__ = [
    "BReLU",
    "CommonNoise",
    "Dropout",
    "FrozenNoise",
    "FusedBatchNormalization",
    "NOISE_VERSION",
    "NoiseLayer",
    "NoiseOff",
    "is_random",
    "noise_layers",
    "noise_replaced",
    "noise_state",
    "seed_noise",
    "set_noise_state",
]
