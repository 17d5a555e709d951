"""Linear models whose robust accuracy is known, and attacks that take no time."""

from __future__ import annotations

import keras
import numpy as np

from rse_tf.evaluation.suites import Step
from rse_tf.layers import NoiseLayer

# Two that take no time.
PGD = Step("pgd", "pgd", "mean_loss", 4, (("steps", 5),), everyone=True)
APGD = Step("apgd", "apgd", "mean_probability", 4, (("steps", 8),))


def linear(weights: np.ndarray, offset: float = 0.0, noise: float = 0.0) -> keras.Model:
    """Three classes of four pixels: class 1 where `weights @ pixels + offset > 0`, else 0."""
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), NoiseLayer(noise), keras.layers.Dense(3)]
    )
    kernel = np.stack([-weights, weights, 0 * weights], axis=1)
    model.layers[-1].set_weights([kernel, np.array([-offset, offset, -100.0])])
    return model


def inner_pixels(number: int) -> np.ndarray:
    """Images that no bound holds at the distances below."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.4, 0.6, (number, 2, 2, 1)).astype(np.float32)


WEIGHTS = np.array([3.0, -2.0, 1.0, 0.5], np.float32)
