"""Networks that are no better than guessing."""

from __future__ import annotations

import keras
import numpy as np

from rse_tf.data import Dataset
from rse_tf.utils.log import log

# Images that tell a network from guessing.
_IMAGES = 200


def warn_of_chance(defense: str, model: keras.Model, dataset: Dataset) -> None:
    """Says if a network is no better than guessing: attacks on it would mean nothing."""
    split = dataset.validation if len(dataset.validation) else dataset.train
    chosen = np.random.default_rng(0).permutation(len(split))[:_IMAGES]
    images, labels = split.images[chosen], split.labels[chosen]
    # One pass, not compiled: for this question the noise of a single draw does not matter.
    correct = int(np.sum(np.argmax(model(images, training=False), axis=-1) == labels))
    guess = float(np.bincount(labels).max() / len(labels))  # the most frequent class, always
    if correct / len(labels) <= guess + 3 * np.sqrt(guess * (1 - guess) / len(labels)):
        log(
            f"warning: {defense} is correct on {correct} of {len(labels)} images, no more than "
            f"guessing ({guess:.0%}). Its numbers under attack mean nothing. Train it longer "
            "(--epochs), more carefully (--learning_rate), without --augmentation, or with less "
            "noise"
        )
