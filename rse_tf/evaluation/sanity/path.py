"""What an attack sees on its way: the margins of every point that it asks the model about."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rse_tf.attacks.losses import Logits, joint_logits
from rse_tf.utils.classifier import Classifier


class PathRecorder:
    """A logits function that keeps what passes through it, for any attack that asks it.

    Only calls with all images in their order make a path. An attack that leaves finished images
    out of its batch has none from there on.

    Args:
        logits: what the attack differentiates.
        caller: what stands in front of errors.
    """

    def __init__(self, logits: Logits, caller: str) -> None:
        self.logits = Classifier(logits, caller, stacked=True)
        self.start(np.zeros([0], np.int32))

    def start(self, labels: np.ndarray) -> None:
        """Forgets the last path; the next one is of as many images as there are labels.

        Args:
            labels: the true classes, integer `[number]`.
        """
        self._labels = labels
        self._margins: list[np.ndarray] = []
        self._best = np.full(len(labels), -np.inf)
        self._images: np.ndarray | None = None
        self.is_whole = True

    @property
    def margins(self) -> np.ndarray:
        """By how much the best other logit exceeds the true class' own, `[calls, number]`."""
        return np.array(self._margins).reshape(len(self._margins), len(self._labels))

    @property
    def best(self) -> np.ndarray | None:
        """For each image the point of the largest margin so far; `None` before any."""
        return self._images

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits of the function, unchanged."""
        logits = self.logits(images)
        kept = tf.numpy_function(self._keep, [images, joint_logits(logits)], tf.bool)
        with tf.control_dependencies([kept]):
            return tf.identity(logits)

    def _keep(self, images: np.ndarray, logits: np.ndarray) -> np.bool_:
        if len(images) != len(self._labels):
            self.is_whole = False
            return np.False_
        margins = margins_of(logits, self._labels)
        self._margins.append(margins)
        if self._images is None:
            self._images = images.copy()
        better = margins > self._best
        self._images[better], self._best[better] = images[better], margins[better]
        return np.True_


def margins_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By how much the best other logit exceeds the true class' own, float64 `[number]`.

    Args:
        logits: `[number, classes]`.
        labels: integer `[number]`.
    """
    logits = logits.astype(np.float64)
    rows = np.arange(len(labels))
    own = logits[rows, labels]
    logits[rows, labels] = -np.inf
    return logits.max(axis=1) - own
