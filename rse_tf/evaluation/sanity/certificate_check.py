"""Row E3: an attack on the classifier of a certificate, inside the certified radii."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from rse_tf.attacks import PGD
from rse_tf.attacks.losses import Logits
from rse_tf.evaluation.certification import Certificate
from rse_tf.evaluation.confidence import lower_bound
from rse_tf.evaluation.input_noise import own_stddev
from rse_tf.evaluation.sanity.report_rows import E3, e3_certificate
from rse_tf.evaluation.sanity.suite import Suite
from rse_tf.evaluation.sanity.verdict import SanityRow
from rse_tf.evaluation.smoothing import Voter
from rse_tf.layers import NoiseLayer, seed_noise
from rse_tf.models import SelfEnsemble
from rse_tf.utils import seeds
from rse_tf.utils.checks import argument_error

# An attack has one epsilon, and each image a radius: images of similar radii are attacked together.
_GROUPS = 4
# How far inside its radius an image is moved, for the rounding of float32.
_INSIDE = 0.999
# Votes on an attacked image, and the error with which these call it fooled.
_VOTES, _ERROR = 1000, 1e-5


def checked_certificate(
    caller: str, certificate: Sequence[Certificate], labels: np.ndarray
) -> None:
    """Checks that certificates are of some of the images.

    Raises:
        ValueError: if one is of no image or of another label, or if there are several of an image
            or of several standard deviations.
    """
    indices = [one.index for one in certificate]
    expected = "what certify returns for the same images and labels"
    if len(set(indices)) < len(indices) or not set(indices) <= set(range(len(labels))):
        raise argument_error(caller, "certificate", expected, f"of the images {indices}")
    for one in certificate:
        if one.label != labels[one.index]:
            found = f"label {one.label} of image {one.index}, which has {labels[one.index]}"
            raise argument_error(caller, "certificate", expected, found)
    stddevs = {one.stddev for one in certificate}
    if len(stddevs) > 1:
        raise argument_error(caller, "certificate", "of one stddev", sorted(map(str, stddevs)))


def attacked_certificate(suite: Suite, certificate: Sequence[Certificate]) -> SanityRow:
    """Row E3: no image may be fooled inside its radius, as the voter of the certificate sees it.

    The certificate by votes is attacked. PGD in L2 goes for each image at about its radius, on the
    mean loss of several draws, as for any randomised model. What it finds is brought to just inside
    the radius, and is not clipped: the certificate is of all real pixels. Then the network votes,
    under the noise of the certificate. An image counts as fooled if its certified class has
    less than half of the votes by more than chance: votes for a class of probability 1/2 or more
    do so with probability 1e-5 at most, which the row adds to the certificate's own error.

    Args:
        suite: of the model that is certified; attacks the images.
        certificate: of its images, as `checked_certificate` wants it.
    """
    subject = suite.subject
    certified = sorted((one for one in certificate if one.radius > 0), key=lambda one: one.radius)
    if not certified:
        return E3.not_run("no image is certified")
    stddev = certified[0].stddev
    if stddev is None:
        try:
            stddev = own_stddev(subject.model)
        except ValueError as error:
            return E3.not_run(f"the certificate does not say of what noise it is; {error}")
    rows = np.array([one.index for one in certified])
    radii = np.array([one.radius for one in certified])
    moved = _moved(suite, rows, radii, stddev)
    images = (subject.images[rows] + moved).astype(np.float32)
    fooled = _fooled(suite, images, [one.predicted for one in certified], rows, stddev)
    distance = np.linalg.norm(moved.reshape(len(moved), -1), axis=1)
    alpha = max(one.alpha for one in certified) + _ERROR
    return e3_certificate(radii, distance, fooled, alpha)


def _moved(suite: Suite, rows: np.ndarray, radii: np.ndarray, stddev: float) -> np.ndarray:
    """Perturbations just inside the radii, float64; `radii` are sorted."""
    subject, model = suite.subject, _noisy(suite, stddev)
    found = []
    for group in np.array_split(np.arange(len(rows)), min(_GROUPS, len(rows))):
        epsilon = float(np.median(radii[group]))
        attack = PGD(subject.model, epsilon, norm="l2", bounds=subject.bounds)
        run = suite.run(attack, epsilon, model, rows=rows[group])
        found.append(run.adversarial.astype(np.float64) - subject.images[rows[group]])
    moved = np.concatenate(found)
    lengths = np.linalg.norm(moved.reshape(len(moved), -1), axis=1)
    scale = _INSIDE * radii / np.where(lengths == 0, 1.0, lengths)
    return moved * scale[:, None, None, None]


def _noisy(suite: Suite, stddev: float) -> Logits:
    """What an attack on the smoothed classifier differentiates."""
    subject = suite.subject
    if subject.is_random or not isinstance(subject.model, keras.Model):
        return subject.attacked
    layers = [keras.Input(subject.images.shape[1:]), NoiseLayer(stddev), subject.model]
    noisy = keras.Sequential(layers)
    seed_noise(noisy, seeds.SANITY, suite.seed)
    return SelfEnsemble(noisy, subject.attack_draws).stacked_logits


def _fooled(
    suite: Suite, images: np.ndarray, certified: list[int], rows: np.ndarray, stddev: float
) -> np.ndarray:
    """Whether votes say that an image no longer has its certified class, bool `[number]`."""
    # Not the noise of a certificate of the same seed, whose luck would be the luck here.
    seed = (seeds.SANITY + suite.seed) % 2**32
    voter = Voter(suite.subject.model, stddev, seed, suite.subject.batch_size)
    others = np.zeros(len(images), np.int64)
    for positions, classes, _ in voter.votes(images, rows, 0, _VOTES):
        np.add.at(others, positions, classes != np.array(certified)[positions])
    return np.asarray(lower_bound(others, _VOTES, _ERROR) > 0.5)
