"""Rows A1 to A4: is the model what the evaluation takes it for?"""

from __future__ import annotations

import numpy as np

from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, Rule, SanityRow

# The smallest difference of two logits vectors, made unit vectors, that is no rounding: the
# threshold of AutoAttack's check for randomness (Croce & Hein, 2020, `checks.py`).
_ROUNDING = 1e-4
# Float32 logits of the same pass differ by less, those of another draw by more.
_ALIVE = 1e-6
# Passes that look for randomness: as many as AutoAttack's check makes.
_PASSES = 5

A1 = Rule("A1", "Are the outputs logits, not probabilities?", "FAIL if they are probabilities")
A2 = Rule(
    "A2",
    "Is the model random exactly if it says so?",
    f"FAIL if {_PASSES} passes differ without a noise layer, or agree in spite of one",
)
A3 = Rule(
    "A3",
    "Is the noise fresh for every image and call, and can it be replayed?",
    "FAIL if less than 99 % of images differ in another call, seed or row, or the same seed "
    "gives other logits",
)
A4 = Rule(
    "A4",
    "Does an image's prediction leave its batch mates out?",
    f"FAIL if other batch mates change its unit logits by more than {_ROUNDING:g}",
)


def a1_logits(subject: Subject) -> SanityRow:
    """Whether the model returns logits.

    A softmax in front of the loss lets float32 round gradients to zero. `Classifier` refuses a
    model of probabilities when the subject is made; `a1_probabilities` makes a row of its error.
    This row looks at all images, where that looks at eight. The log of probabilities is no
    fault: their softmax gives the probabilities back, and no gradient is lost.
    """
    subject.seed(0)
    outputs = subject.logits(subject.images).astype(np.float64)
    gap = float(np.abs(outputs.sum(axis=1) - 1).max())
    inside = outputs.min() >= -1e-5 and outputs.max() <= 1 + 1e-5
    if inside and gap < 1e-3:  # the thresholds of AutoAttack's check, its sum for half precision
        return A1.row(FAIL, gap, "rows from 0 to 1 that sum to 1")
    reason = f"outputs from {outputs.min():.3g} to {outputs.max():.3g}"
    if np.abs(np.logaddexp.reduce(outputs, axis=1)).max() < 1e-3:
        reason += "; they are logs of probabilities, which will do"
    return A1.row(PASS, gap, reason)


def a1_probabilities(error: ValueError) -> SanityRow:
    """The row of a model that `Classifier` refuses for its probabilities."""
    return A1.row(FAIL, 0.0, str(error).partition("Received")[2].strip(" :") or str(error))


def a2_randomness(subject: Subject) -> SanityRow:
    """Whether randomness that is declared is there, and the other way round.

    A model that is random by other means than noise layers is scored by one pass as if it were
    deterministic, and its attack meets other draws than its score.
    """
    subject.seed(1)
    passes = [subject.logits(subject.images) for _ in range(_PASSES)]
    change = max(float(_change(passes[0], other).max()) for other in passes[1:])
    classes = [np.argmax(one, axis=1) for one in passes]
    random = change > _ROUNDING or any((one != classes[0]).any() for one in classes)
    told = "noise layers" if subject.declares_noise else "no noise layers"
    found = f"{told}; {_PASSES} passes differ by {change:.2g} (unit logits)"
    return A2.row(PASS if random == subject.declares_noise else FAIL, change, found)


def a3_noise(subject: Subject) -> SanityRow:
    """Whether noise is fresh from call to call, seed to seed and row to row, and replayable.

    Frozen noise hides behind a random look: the same vector each time is a deterministic model.
    The notion of "other row" is added to that of other seeds: a `SelfEnsemble` has its draws side
    by side in one batch, so noise that all rows share would make them all the same.
    """
    if not subject.declares_noise:
        return A3.not_run("the model has no noise layers")
    images = subject.images
    subject.seed(2)
    first, second = subject.logits(images), subject.logits(images)
    subject.seed(2)
    again = subject.logits(images)
    subject.seed(3)
    other = subject.logits(images)
    twins = subject.logits(np.repeat(images, 2, axis=0))
    fresh = {
        "another call": _change(first, second),
        "another seed": _change(first, other),
        "another row": _change(twins[::2], twins[1::2]),
    }
    changed = {name: float(np.mean(gap > _ALIVE)) for name, gap in fresh.items()}
    worst = min(changed, key=lambda name: changed[name])
    replayed = float(_change(first, again).max())
    if changed[worst] < 0.99:
        found = f"{worst} changes the logits of {changed[worst]:.0%} of images only: frozen noise"
        return A3.row(FAIL, changed[worst], found)
    if replayed > _ROUNDING:
        found = f"the same seed gives logits that differ by {replayed:.2g}"
        return A3.row(FAIL, changed[worst], found)
    return A3.row(PASS, changed[worst], "another call, seed or row is another draw")


def a4_batch_coupling(subject: Subject) -> SanityRow:
    """Whether the other images of a batch change an image's logits.

    The image keeps its row and the batch its size, and only the mates change: to compare an image
    alone with itself in a batch would compare two draws, for the noise of a row depends on the
    shape of the batch. A model that always answers the same is asked alone as well.
    """
    images = subject.images[: subject.batch_size]
    if len(images) < 2:
        return A4.not_run("a single image has no batch mates")
    subject.seed(4)
    together = subject.logits(images)
    subject.seed(4)
    again = subject.logits(images)
    unseeded = subject.logits(images)
    if _change(together, again).max() > _ROUNDING:
        return A4.not_run("the model's randomness cannot be replayed, so draws would be compared")
    low, high = subject.bounds
    change = 0.0
    for start in (0, 1):  # every other image stays, first the even ones
        mixed = low + high - images
        mixed[start::2] = images[start::2]
        subject.seed(4)
        gap = _change(together[start::2], subject.logits(mixed)[start::2])
        change = max(change, float(gap.max()))
    random = _change(together, unseeded).max() > _ROUNDING
    if not random and not subject.declares_noise:
        alone = np.concatenate([subject.logits(image[None]) for image in images[:8]])
        change = max(change, float(_change(together[:8], alone).max()))
    found = f"unit logits change by {change:.2g} at most"
    return A4.by_limits(change, _ROUNDING, _ROUNDING, found)


def _change(logits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """L2 distances `[number]` of logits that are made unit vectors, float64."""
    units = []
    for one in (logits.astype(np.float64), others.astype(np.float64)):
        size = np.linalg.norm(one, axis=1, keepdims=True)
        units.append(one / np.where(size == 0, 1.0, size))
    return np.linalg.norm(units[0] - units[1], axis=1)
