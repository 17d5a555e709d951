"""Measures how many draws early stopping saves, and how often it changes the class."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from rse_tf.layers import seed_noise
from rse_tf.models import SelfEnsemble
from rse_tf.models.stopping import looks
from rse_tf.utils import seeds
from rse_tf.utils.checks import checked_images
from rse_tf.utils.classifier import Classifier
from rse_tf.utils.log import progress_bar


@dataclasses.dataclass(frozen=True)
class Stopping:
    """A self-ensemble with early stopping against the same draws without.

    Attributes:
        mean_draws: mean over all images of the draws after which it stops.
        disagreement: share of the images whose class then is not that of all draws.
    """

    mean_draws: float
    disagreement: float


def measure_stopping(
    model: keras.Model,
    images: np.ndarray,
    num_draws: int = 50,
    stop_error: float = 0.05,
    seed: int = 0,
    batch_size: int = 128,
) -> Stopping:
    """Compares stopping early with taking all draws, on the very same draws.

    Args:
        model: a noisy model from images to logits.
        images: float `[number, height, width, channels]`, at least one.
        num_draws: draws of the full ensemble. Default 50 (Liu et al., 2018).
        stop_error: as in `SelfEnsemble`.
        seed: the draws follow from it.
        batch_size: images that are predicted at a time.

    Raises:
        ValueError: if there is no image, or as `SelfEnsemble`.
    """
    images = checked_images("measure_stopping", images)
    ensemble = SelfEnsemble(model, num_draws, stop_error=stop_error)
    classifier = Classifier(model, "measure_stopping")
    classifier.look(images)
    one_draw = tf.function(
        lambda x: tf.nn.softmax(classifier(x)),
        input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.float32)],
        autograph=False,
    )
    seed_noise(model, seeds.STOPPING, seed)
    draws, different = [], []
    starts = range(0, len(images), batch_size)
    for start in progress_bar(starts, len(starts), "stopping early"):
        part = tf.constant(images[start : start + batch_size], tf.float32)
        each = np.stack([one_draw(part).numpy() for _ in range(ensemble.num_draws)])
        taken, early = stop(each, stop_error)
        draws.append(taken)
        different.append(early != each.mean(axis=0).argmax(axis=-1))
    return Stopping(float(np.concatenate(draws).mean()), float(np.concatenate(different).mean()))


def stop(probabilities: np.ndarray, stop_error: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a self-ensemble stops, and its classes there: both integer `[batch]`.

    Args:
        probabilities: those of every draw, `[num_draws, batch, classes]`.
        stop_error: as in `SelfEnsemble`.
    """
    num_draws, batch, _ = probabilities.shape
    taken = np.full(batch, num_draws)
    for look in looks(num_draws, stop_error):
        largest = probabilities[: look.draws].mean(axis=0).max(axis=-1)
        sure = (2 * largest - 1 >= look.lead) & (taken == num_draws)
        taken[sure] = look.draws
    sums = probabilities.cumsum(axis=0)[taken - 1, np.arange(batch)]
    return taken, sums.argmax(axis=-1)
