"""Randomised smoothing: the L2 radius inside of which no attack changes a prediction.

References:
    Cohen, Rosenfeld and Kolter, Certified Adversarial Robustness via Randomized Smoothing (2019),
    arXiv:1902.02918. Salman et al., Provably Robust Deep Learning via Adversarially Trained
    Smoothed Classifiers (2019), arXiv:1906.04584.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
from scipy import stats

from rse_tf.attacks.losses import Logits
from rse_tf.evaluation.batch_mates import check_batch_mates
from rse_tf.evaluation.confidence import (
    bernstein_lower_bound,
    hoeffding_lower_bound,
    lower_bound,
)
from rse_tf.evaluation.input_noise import own_stddev
from rse_tf.evaluation.smoothing import Voter
from rse_tf.evaluation.tally import Tally, tally_in_batches
from rse_tf.models import SelfEnsemble
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.checks import (
    argument_error,
    checked_classes,
    checked_images,
    checked_integer,
    checked_number,
)
from rse_tf.utils.classifier import Classifier

ABSTAIN = -1
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is certain of one image, but for an error of probability `alpha`.

    Attributes:
        index: number of the image.
        label: its class.
        predicted: class of the smoothed classifier that votes, or `ABSTAIN`.
        radius: L2 distance below which that stays so; 0 for an abstention.
        mean_predicted: class of largest mean probability, or `ABSTAIN`.
        mean_radius: L2 distance below which that stays so; 0 for an abstention.
        seconds: time that its votes took.
        stddev: standard deviation of the noise that it holds for; `None` in files that were
            written before it was kept.
        alpha: probability with which it may fail, for each of the two radii.
    """

    index: int
    label: int
    predicted: int
    radius: float
    mean_predicted: int
    mean_radius: float
    seconds: float
    stddev: float | None = None
    alpha: float = 0.001

    @property
    def correct(self) -> bool:
        """Whether the votes predict the label; never at an abstention."""
        return self.predicted == self.label

    @property
    def mean_correct(self) -> bool:
        """Whether the mean probability predicts the label; never at an abstention."""
        return self.mean_predicted == self.label


def certify(
    model: keras.Model | Logits,
    images: np.ndarray,
    labels: np.ndarray,
    stddev: float | None = None,
    *,
    n0: int = 100,
    n: int = 100_000,
    alpha: float = 0.001,
    seed: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 500,
    directory: pathlib.Path | None = None,
    pool: DevicePool | None = None,
) -> list[Certificate]:
    """Certifies the predictions of a classifier under Gaussian noise on its pixels.

    **By votes** (Cohen et al., CERTIFY). With f the network, eta ~ N(0, sigma^2 I) and w the
    randomness inside the network, let p(x) = P(f(x + eta; w) = c). `n0` votes choose the class c,
    `n` other votes a lower bound b of p(x), at 1 - `alpha` (Clopper-Pearson). If b > 1/2, most
    votes are for c on all images nearer than sigma Phi^-1(b); else there is an abstention. Their
    Theorem 1 is of "any deterministic or random function" f: with q(z) = P(f(z; w) = c) in [0, 1],
    p(x) is the mean of q(x + eta), and the Neyman-Pearson lemma knows randomised tests. So noise
    inside the network keeps the certificate, if every vote has fresh noise, there as on the pixels.

    **By the mean probability**, as a self-ensemble predicts. Let q(z) in [0, 1] be the probability
    that the network gives c at z, averaged over w, and p(x) the mean of q(x + eta). Then
    Phi^-1(p(x)) changes by at most ||d|| / sigma from x to x + d (Salman et al., 2019): q is a
    test of N(x, sigma^2 I) against N(x + d, sigma^2 I) with level p(x). By the Neyman-Pearson
    lemma none with this level has less power than the half-space at a right angle to d, of power
    Phi(Phi^-1(p(x)) - ||d|| / sigma); exchange x and x + d for the other direction. Where the mean
    stays above 1/2, c stays the class of the largest mean. Its lower bound is the better one of
    Hoeffding's and of the empirical Bernstein bound, each at 1 - `alpha` / 2.
    This certificate is of the mean over all draws. A prediction from m draws adds a chance of its
    own: where the mean is p > 1/2, that of m draws falls to 1/2 with probability
    exp(-2 m (p - 1/2)^2) at most, which is small except close to the radius.

    Both are of the network with exact Gaussian noise on its pixels (see `Voter`), which is what
    to deploy: no certificate holds for the pool of a `NoiseLayer`, whose noise takes finitely many
    values. Float32 normal numbers are discrete as well, in much finer steps: the theorem is of real
    numbers, and a network built for it can exploit the difference (Voracek & Hein, 2023). Each
    image has an error of its own: of 1,000 certificates, 1,000 `alpha` are expected to be wrong at
    most; all k hold at once if `alpha` is divided by k.

    Args:
        model: a `keras.Model` from images to logits, or any callable that is one. Its noise layers
            count as part of it, but for one on the pixels, whose place the noise here takes. Other
            randomness in it must be fresh for every example.
        images: floating-point `[number, ...]`.
        labels: integer `[number]`, or one-hot `[number, classes]`.
        stddev: standard deviation sigma of the noise, in the units of the pixels. Default: that of
            the model's own noise on its pixels.
        n0: votes that choose the class. Default 100 (Cohen et al.).
        n: votes that bound its probability, at least 2. Default 100,000 (Cohen et al.).
        alpha: probability with which a certificate may fail. Default 0.001 (Cohen et al.).
        seed: all noise follows from it and an image's number.
        indices: the numbers of the images. Default: 0, 1, 2, ...
        bounds: smallest and largest pixel value. Noisy pixels are not clipped.
        batch_size: votes that go through the model at a time. No number follows from it, but for
            rounding.
        directory: where the votes are kept, so that a run that was killed goes on. It must belong
            to networks of one architecture; their weights and noise are told apart. Nothing tells
            callables apart that are no Keras models: for these there is none. Default: they are not
            kept.
        pool: who votes. Default: this process, on one device.

    Returns:
        One certificate for each image.

    Raises:
        ValueError: if an argument is not one of the above; if a callable that is no Keras model has
            a `directory`; if the model's answer for an image depends on the rest of a batch, whose
            votes are not independent; if `stddev` is not given and the model has no noise that a
            certificate can rest on, in which case the message says why.
    """
    if isinstance(model, SelfEnsemble):
        expected = "the network itself, whose single draws are counted; pass ensemble.model"
        raise argument_error("certify", "model", expected, model.name)
    sigma = own_stddev(model) if stddev is None else stddev
    sigma = checked_number("certify", "stddev", sigma, positive=True)
    n0, n = checked_integer("certify", "n0", n0), checked_integer("certify", "n", n, 2)
    if not 0 < alpha < 1:
        raise argument_error("certify", "alpha", "a probability above 0 and below 1", alpha)
    batch_size = checked_integer("certify", "batch_size", batch_size)
    images = checked_images("certify", images, bounds)
    numbers = _checked_indices(indices, len(images))
    pool = pool or DevicePool()
    copies = pool.replicas(model, images.shape[1:])
    voters = [Voter(copy, sigma, seed, batch_size) for copy in copies]
    labels = checked_classes("certify", "labels", labels, len(images), voters[0].classes(images))
    check_batch_mates("certify", Classifier(model, "certify"), images, bounds)
    tally = tally_in_batches(voters, images, numbers, n0, n, directory, pool)
    return _certificates(tally, numbers, labels, sigma, n, alpha)


def certified_accuracy(
    certificates: Sequence[Certificate], radius: float, *, by_mean: bool = False
) -> float:
    """Share of the images that are correct, and certain to stay so, up to an L2 distance.

    Args:
        certificates: at least one.
        radius: the distance. At 0 it is the share of correct predictions.
        by_mean: whether the prediction is that of the mean probability. Default: of the votes.
    """
    if by_mean:
        return float(np.mean([c.mean_correct and c.mean_radius >= radius for c in certificates]))
    return float(np.mean([c.correct and c.radius >= radius for c in certificates]))


def _certificates(
    tally: Tally, numbers: np.ndarray, labels: np.ndarray, sigma: float, n: int, alpha: float
) -> list[Certificate]:
    by_votes = lower_bound(tally.successes.astype(np.int64), n, alpha)
    by_mean = np.maximum(
        hoeffding_lower_bound(tally.mean, n, alpha / 2),
        bernstein_lower_bound(tally.mean, tally.variance, n, alpha / 2),
    )
    predicted, mean_predicted = (
        np.where(bound > 0.5, chosen, ABSTAIN)
        for bound, chosen in ((by_votes, tally.voted), (by_mean, tally.likely))
    )
    radius, mean_radius = (
        np.where(bound > 0.5, sigma * stats.norm.ppf(bound), 0.0) for bound in (by_votes, by_mean)
    )
    columns = zip(numbers, labels, predicted, radius, mean_predicted, mean_radius, tally.seconds)
    return [
        Certificate(int(i), int(y), int(c), float(r), int(mc), float(mr), float(t), sigma, alpha)
        for i, y, c, r, mc, mr, t in columns
    ]


def _checked_indices(indices: Sequence[int] | np.ndarray | None, number: int) -> np.ndarray:
    found = np.arange(number) if indices is None else np.asarray(indices)
    if found.shape != (number,) or found.dtype.kind not in "iu" or len(set(found)) < number:
        expected = f"[{number}] different whole numbers, one for each image"
        raise argument_error("certify", "indices", expected, indices)
    if found.min() < 0 or found.max() >= 2**31:
        raise argument_error("certify", "indices", "from 0 to 2**31 - 1", indices)
    return found.astype(np.int64)
