"""Whether a model's answer for an image is its own, or also hangs on the rest of its batch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rse_tf.layers import seed_noise
from rse_tf.utils import seeds
from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import Classifier, unchanged

# Logits that differ by no more than this part of them are the same but for rounding.
_SAME = 1e-4
_IMAGES = 4


def check_batch_mates(
    caller: str, classifier: Classifier, images: np.ndarray, bounds: tuple[float, float]
) -> None:
    """Refuses a model whose answer for an image depends on its batch mates or on its row.

    Attacks, scoring and votes have an image in different batches: of such a model they would see
    different ones. Noise that is fresh in every call may follow from the row.

    Args:
        caller: what stands in front of the error.
        classifier: the model. A randomised one is looked at under the same noise each time; one
            whose noise cannot be repeated is not looked at.
        images: float32 `[number, ...]`, the first four are used.
        bounds: smallest and largest pixel value.

    Raises:
        ValueError: if the answer depends on more than the image.
    """
    rows = np.repeat(images[np.arange(_IMAGES) % len(images)], 2, axis=0)
    others = rows.copy()
    others[1::2] = bounds[0] + bounds[1] - rows[1::2]
    with unchanged(classifier.model):
        first, again, mates = (_replayed(classifier, x) for x in (rows, rows, others))
        fresh = np.asarray(classifier(tf.constant(rows)))
    if _differ(first, again):
        return
    frozen = not _differ(first, fresh) and _differ(first[::2], first[1::2])
    if frozen or _differ(first[::2], mates[::2]):
        found = "noise that belongs to a row" if frozen else "logits that change with the others"
        expected = (
            "one whose answer for an image depends on nothing else in the batch, unlike that of "
            "FrozenNoise or of batch statistics"
        )
        raise argument_error(caller, "model", expected, found)


def _replayed(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    seed_noise(classifier.model, seeds.SANITY, 0)
    return np.asarray(classifier(tf.constant(images)))


def _differ(logits: np.ndarray, others: np.ndarray) -> bool:
    # In every row: where precision is half, rounding alone may tell one of them apart.
    change = np.abs(logits - others).max(axis=1)
    return bool(change.min() > _SAME * np.abs(logits).max())
