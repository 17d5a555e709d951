"""Defenses by name. Each trains networks, or looks them up, and returns a classifier.

A classifier is a `keras.Model` from images `[batch, height, width, channels]` in [0, 1] to
logits `[batch, classes]`. Averaging over noise is the business of the scoring.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from rse_tf.defenses import none, rse
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer

DEFENSES: dict[str, Callable[[NetworkSpec, Trainer], keras.Model]] = {
    "none": none.train,
    "rse": rse.train,
    "rse_test_noise_only": rse.test_noise_only,
    "rse_train_noise_only": rse.train_noise_only,
}

__all__ = ["DEFENSES"]
