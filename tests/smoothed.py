"""Classifiers whose probabilities under noise are known in closed form."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.evaluation import Certificate
from rse_tf.layers import NoiseLayer

# f(x) = sign(w.x + b) on images of 2 x 2 pixels, ||w|| = 5.
WEIGHTS = np.array([3.0, 0.0, -4.0, 0.0])
NORM = 5.0


def two_classes(z: Any, scale: float = 1e6) -> Any:
    """Logits of classes 0 and 1 of a number, far apart: class 1 if it is above 0."""
    return keras.layers.Lambda(lambda z: scale * tf.concat([-z, z], axis=1))(z)


def linear(
    own_noise: float = 0.0, inner_noise: float = 0.0, scale: float = 1e6, **noise: Any
) -> keras.Model:
    """The sign of w.x - 0.5 sum(w), so that the decision is at the grey image.

    Args:
        own_noise: on the pixels.
        inner_noise: on the logit.
        scale: of the logits.
        **noise: further arguments of both noise layers.
    """
    x = images = keras.Input((2, 2, 1))
    if own_noise:
        x = NoiseLayer(own_noise, **noise)(x)
    dense = keras.layers.Dense(1)
    z = dense(keras.layers.Flatten()(x))
    if inner_noise:
        z = NoiseLayer(inner_noise, **noise)(z)
    model = keras.Model(images, two_classes(z, scale))
    dense.set_weights([WEIGHTS[:, None], np.array([-0.5 * WEIGHTS.sum()])])
    return model


def at_distances(distances: np.ndarray) -> np.ndarray:
    """Images at so large L2 distances from the decision, on the side of class 1."""
    direction = WEIGHTS / NORM
    images = 0.5 + np.asarray(distances)[:, None] * direction
    return images.reshape(-1, 2, 2, 1).astype(np.float32)


def without_time(certificates: list[Certificate]) -> list[Certificate]:
    """Certificates with all that repeats when they are made again."""
    return [dataclasses.replace(one, seconds=0.0) for one in certificates]
