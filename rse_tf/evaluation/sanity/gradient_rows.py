"""Rows B1 to B3: are the gradients that an attack follows there, true, and more than noise?"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.attacks.losses import log_loss
from rse_tf.evaluation.sanity.counting import judge_share
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, WARN, Rule, SanityRow

_DIRECTIONS = 8
# Pixels are moved by this share of their range, or of epsilon where that is less: far above the
# rounding of float32 logits, far below the distances at which a network bends.
_STEP, _STEP_OF_EPSILON = 1e-3, 1 / 30
_MOST_IMAGES = 32
# The largest logit of B2, which scales them: as far apart as those of a trained network.
_SIZE = 10.0
# By how many of the smallest steps of float32 a pass through a network rounds its logits.
_ROUNDING_STEPS = 4

B1 = Rule(
    "B1",
    "Is there a gradient to follow?",
    "zero or not finite at an image or a random start: none PASS, up to 1 % WARN, else FAIL",
)
B2 = Rule(
    "B2",
    "Is the gradient that of the function?",
    "median error against central differences: up to 5 % PASS, above 20 % FAIL",
)
B3 = Rule(
    "B3",
    "Does averaging over the noise leave a direction?",
    "median cosine of two independent mean gradients: at least 0.3 PASS, below 0.1 FAIL",
)


def b1_gradients_exist(subject: Subject, epsilon: float, loss: str = "log_loss") -> SanityRow:
    """Whether gradients are zero or not finite, at the images and at a random start.

    Of the two losses the one that the attack follows decides. Where only plain cross-entropy
    underflows, as behind logits of a large scale, an attack on its logarithm is not blinded: the
    row warns, for figures of other attacks.

    Args:
        subject: the model and its images.
        epsilon: by how much each pixel of the random start may move.
        loss: what the attack follows, `"log_loss"` or `"cross_entropy"`.
    """
    points = [subject.images, subject.random_points(epsilon, 11)]
    dead: dict[str, int] = {}
    for name in {"log_loss", "cross_entropy"} | {loss}:
        dead[name] = 0
        for number, images in enumerate(points):
            subject.seed(11, number)
            gradient = subject.gradient(images, subject.labels, name)
            if gradient is None:
                return B1.row(FAIL, 1.0, "TensorFlow knows no gradient of the logits")
            flat = gradient.reshape(len(gradient), -1)
            dead[name] += int(np.sum(~np.isfinite(flat).all(axis=1) | ~flat.any(axis=1)))
    number = 2 * len(subject.images)
    row = judge_share(B1, dead[loss], number, 0.0, 0.01, f"gradients of {loss} are missing")
    if row.verdict == PASS and dead["cross_entropy"]:
        found = f"{dead['cross_entropy']} of {number} gradients of plain cross-entropy are zero; "
        return B1.row(WARN, dead["cross_entropy"] / number, found + "those of log_loss are there")
    return row


def b2_gradients_true(subject: Subject, epsilon: float) -> SanityRow:
    """Whether gradients agree with central differences under the same noise.

    A gradient that is masked, replaced (straight-through, BPDA) or wrong disagrees. The loss is
    `log_loss`, whose float32 differences stay exact where cross-entropy rounds to zero. The
    points are random starts inside the bounds: at images themselves, whole black areas sit at the
    kinks of a network and of clipping. Directions are random signs, whose slope is sqrt(pixels)
    times that of a random unit vector, so that rounding matters less. The error of an image is the
    norm of the difference over its directions, relative to the larger of both norms. Of two steps,
    the second a tenth of the first, the better one counts: the longer one crosses kinks of a deep
    network, the shorter one drowns in rounding where a network is flat, and a wrong gradient
    agrees with neither.

    Args:
        subject: the model and its images; the first 32 are used.
        epsilon: by how much each pixel of the random start may move.
    """
    if _computes_in_half_precision(subject.model):
        return B2.not_run("half precision rounds away what the pixels are moved by")
    low, high = subject.bounds
    step = min(_STEP * (high - low), epsilon * _STEP_OF_EPSILON)
    rng = np.random.default_rng(12)
    labels = subject.labels[:_MOST_IMAGES]
    images = np.clip(subject.random_points(epsilon, 12), low + step, high - step)
    images = images[:_MOST_IMAGES].astype(np.float32)
    first, second = (_replayed(subject, images) for _ in range(2))
    if not np.allclose(first, second, rtol=1e-3, atol=1e-6 * np.abs(first).max()):
        return B2.not_run("the model's randomness cannot be replayed, so draws would be compared")
    # Of logits far below 1 the loss would show their rounding only.
    scale = np.float32(_SIZE / max(float(np.abs(first).max()), 1e-30))
    subject.seed(12)
    gradient = subject.gradient(images, labels, scale=float(scale))
    if gradient is None:
        return B2.not_run("TensorFlow knows no gradient of the logits")
    signs = rng.choice(np.array([-1, 1], np.float32), [_DIRECTIONS, *images.shape])
    pixels = tuple(range(2, signs.ndim))
    slopes = np.asarray(np.sum(gradient * signs, axis=pixels, dtype=np.float64))

    def loss(moved: np.ndarray) -> np.ndarray:
        logits = tf.constant(scale * _replayed(subject, moved))
        return log_loss(logits, tf.constant(labels)).numpy().astype(np.float64)

    largest = np.maximum(scale * np.abs(first).max(axis=1), 1.0)
    errors = np.full(len(images), np.nan)
    for h in (step, step / 10):
        sides = [np.stack([loss(images + side * h * v) for v in signs]) for side in (1, -1)]
        rounding = np.asarray(_ROUNDING_STEPS * np.spacing(largest) / (2 * h))
        found = _errors(slopes, (sides[0] - sides[1]) / (2 * h), rounding)
        errors = np.fmin(errors, found)
    known = errors[np.isfinite(errors)]
    if 2 * len(known) < len(errors):
        return B2.not_run("around most images the logits change by little more than rounding")
    error = float(np.median(known))
    reason = f"median error {error:.1%}; {np.mean(known > 0.2):.0%} of images are off by over 20 %"
    return B2.by_limits(error, 0.05, 0.20, reason)


def _replayed(subject: Subject, images: np.ndarray) -> np.ndarray:
    subject.seed(12)
    return subject.logits(images)


def _errors(slopes: np.ndarray, differences: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """How far slopes `[directions, images]` are from differences, `[images]`.

    NaN where the `rounding` of the differences, `[images]`, would make an error of 5 % or more:
    there float32 does not show the function.
    """
    size = np.maximum(np.linalg.norm(slopes, axis=0), np.linalg.norm(differences, axis=0))
    steep = size > np.sqrt(len(slopes)) * rounding / 0.05
    error = np.linalg.norm(slopes - differences, axis=0)
    return np.where(steep, error / np.where(steep, size, 1.0), np.nan)


def b3_gradient_signal(subject: Subject) -> SanityRow:
    """Whether two independent mean gradients over the noise point the same way.

    With a signal of energy S and noise of energy N in one draw, the cosine is near S / (S + N / m)
    for m draws, from which the row tells the m at which it would be 0.5.

    Args:
        subject: the model and its images; the first 32 are used. Its `attack_draws` are the m.
    """
    if not subject.is_random:
        return B3.not_run("the model has no noise to average over")
    images, labels = subject.images[:_MOST_IMAGES], subject.labels[:_MOST_IMAGES]
    draws = subject.attack_draws
    means = []
    for half in range(2):
        subject.seed(13, half)
        found = subject.mean_gradient(images, labels)
        if found is None:
            return B3.not_run("TensorFlow knows no gradient of the logits")
        means.append(found.reshape(len(images), -1).astype(np.float64))
    sizes = [np.linalg.norm(mean, axis=1) for mean in means]
    product = sizes[0] * sizes[1]
    cosines = np.sum(means[0] * means[1], axis=1) / np.where(product == 0, 1.0, product)
    cosine = float(np.median(cosines))
    reason = f"cosine {cosine:.2f} at {draws} draws"
    if 0 < cosine < 1:
        reason += f"; 0.5 at about {max(1, round(draws * (1 / cosine - 1)))}"
    verdict = PASS if cosine >= 0.3 else FAIL if cosine < 0.1 else WARN
    return B3.row(verdict, cosine, reason)


def _computes_in_half_precision(model: Any) -> bool:
    layers = model._flatten_layers() if isinstance(model, keras.layers.Layer) else []
    return any(getattr(layer, "compute_dtype", "") in ("float16", "bfloat16") for layer in layers)
