"""Rows E1 to E5: do the images and numbers that are reported hold?

Masks say which images were correct, as in `settings_rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from rse_tf.attacks.norms import rounding_of
from rse_tf.evaluation.confidence import clopper_pearson
from rse_tf.evaluation.sanity.counting import ROUNDING, paired_shares, shares
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, WARN, Rule, SanityRow
from rse_tf.evaluation.scoring import ANSWERS
from rse_tf.utils.checks import argument_error, checked_number

E1 = Rule(
    "E1",
    "Do the adversarial images keep to the ball and the bounds?",
    "length at most epsilon (1 + 1e-5), within the bounds, finite; else FAIL",
)
E2 = Rule(
    "E2",
    "Do they survive being stored in 8 bits?",
    "accuracy changes by up to 1 point PASS, else WARN",
)
E3 = Rule(
    "E3",
    "Is no image fooled inside its certified radius?",
    "as many as the certificate may fail at PASS or WARN, more FAIL",
)
E4 = Rule(
    "E4",
    "Are there enough images?",
    "half-width of the 95 % interval up to 5 points, spread over seeds up to twice that of a "
    "binomial; else WARN",
)
E5 = Rule(
    "E5",
    "Does it hold against an attacker who tries again?",
    "majority minus worst of the evaluations up to 10 points PASS, else WARN",
)


def e1_constraints(
    images: Any,
    adversarial: Any,
    epsilon: float,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
) -> SanityRow:
    """Whether adversarial images lie in the ball and within the bounds, and are finite.

    The rounding of float32 pixels is forgiven beside the share of epsilon: for a small epsilon it
    is the larger one.

    Args:
        images: the originals, `[number, height, width, channels]`.
        adversarial: likewise.
        epsilon: radius, in pixel units.
        norm: `"linf"` or `"l2"`.
        bounds: smallest and largest pixel value.

    Raises:
        ValueError: if the shapes differ, or `norm` is neither.
    """
    if norm not in ("linf", "l2"):
        raise argument_error("e1_constraints", "norm", "'linf' or 'l2'", norm)
    images, adversarial = np.asarray(images), np.asarray(adversarial)
    if images.shape != adversarial.shape or not images.size:
        expected = f"shaped like the images, {images.shape}"
        raise argument_error("e1_constraints", "adversarial", expected, adversarial.shape)
    epsilon = checked_number("e1_constraints", "epsilon", epsilon)
    moved = (adversarial.astype(np.float64) - images).reshape(len(images), -1)
    length = np.abs(moved).max(axis=1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    rounding = rounding_of(norm, bounds, moved.shape[1])
    finite = np.isfinite(moved).all(axis=1)
    outside = (adversarial < bounds[0]) | (adversarial > bounds[1])
    far = ~(length <= epsilon * (1 + 1e-5) + rounding)
    bad = ~finite | far | outside.reshape(len(images), -1).any(axis=1)
    figure = float(length.max())
    reason = f"longest {figure:.6g} of {epsilon:.6g}"
    if bad.any():
        return E1.row(FAIL, figure, f"{reason}; {bad.sum()} of {len(bad)} images break the rule")
    return E1.row(PASS, figure, reason)


def in_8_bits(images: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Images at the nearest of 256 levels between the bounds, float32."""
    low, high = bounds
    levels = np.round((images.astype(np.float64) - low) * (255 / (high - low)))
    return (low + levels * ((high - low) / 255)).astype(np.float32)


def e2_rounding(correct: Any, correct_rounded: Any) -> SanityRow:
    """Whether the accuracy is that of adversarial images in 8 bits, too.

    Args:
        correct: mask of the adversarial images.
        correct_rounded: mask of the same images after `in_8_bits`.

    Raises:
        ValueError: if they are no masks of the same images.
    """
    exact, rounded = paired_shares("e2_rounding", correct=correct, correct_rounded=correct_rounded)
    change = float(rounded.mean() - exact.mean())
    reason = f"accuracy {exact.mean():.1%}, in 8 bits {rounded.mean():.1%}"
    return E2.row(PASS if abs(change) <= 0.01 + ROUNDING else WARN, change, reason)


def e3_certificate(radius: Any, distance: Any, fooled: Any, alpha: float = 0.001) -> SanityRow:
    """Whether an attack and a certificate of the same classifier contradict each other.

    A certificate of randomised smoothing may be wrong for a share `alpha` of images. The row
    fails if so many are fooled inside their radius that this has a chance below 1 %: then there is
    a bug in one of the two.

    Args:
        radius: certified L2 radius of each image, `[number]`; 0 where none is certified.
        distance: L2 distance of its adversarial image, likewise.
        fooled: bool `[number]`: whether that image changes the certified class, as the voter of
            the certificate predicts.
        alpha: probability with which a certificate may be wrong. Default 0.001 (Cohen et al.,
            2019).

    Raises:
        ValueError: if the three are not of the same images, or `alpha` is no probability.
    """
    if not 0 <= alpha < 1:
        raise argument_error("e3_certificate", "alpha", "a probability below 1", alpha)
    radius, distance, fooled = (np.asarray(a) for a in (radius, distance, fooled))
    if not radius.shape == distance.shape == fooled.shape or radius.ndim != 1 or not len(radius):
        found = (radius.shape, distance.shape, fooled.shape)
        expected = "and distance and fooled [number], of the same images"
        raise argument_error("e3_certificate", "radius", expected, found)
    certified = radius > 0
    number, inside = int(certified.sum()), int(np.sum(certified & fooled & (distance < radius)))
    if not number:
        return E3.not_run("no image is certified")
    reason = f"{inside} of {number} certified images are fooled inside their radius"
    chance = float(stats.binom.sf(inside - 1, number, alpha))
    verdict = PASS if not inside else WARN if chance >= 0.01 else FAIL
    return E3.row(verdict, inside, f"{reason} (chance {chance:.2g} at alpha {alpha:g})")


def e4_resolution(correct: Any) -> SanityRow:
    """Whether there are images enough for the accuracy to mean something.

    Args:
        correct: mask of what is reported.

    Raises:
        ValueError: if it is no mask.
    """
    share = shares("e4_resolution", "correct", correct)
    number, accuracy = len(share), float(share.mean())
    low, high = clopper_pearson(int(np.sum(share > 0.5)), number)
    half = float(high - low) / 2
    reason = f"{number} images: 95 % interval of {half:.1%} to either side"
    seeds = np.atleast_2d(np.asarray(correct)).mean(axis=1)
    if len(seeds) > 1:
        spread, binomial = seeds.std(ddof=1), np.sqrt(accuracy * (1 - accuracy) / number)
        reason += f"; over seeds {spread:.1%}"
        if spread > 2 * binomial:
            return E4.row(WARN, half, reason + f", a binomial has {binomial:.1%}")
    return E4.row(PASS if half <= 0.05 else WARN, half, reason)


def e5_resubmission(correct: Any, worst: Any = None) -> SanityRow:
    """Whether the same images, handed in again, get through.

    Args:
        correct: bool `[evaluations, number]`: which images the deployed prediction got right, at
            each of at least two evaluations of the same images under fresh noise. Ten in DiffHammer
            (2024), whose Wor.Rob the worst is.
        worst: bool `[number]`: which images ten evaluations got right, where `correct` has not so
            many. Default: those that all evaluations of `correct` did.

    Raises:
        ValueError: if they are no such masks.
    """
    share = shares("e5_resubmission", "correct", correct)
    evaluations = np.asarray(correct)
    if evaluations.ndim != 2 or len(evaluations) < 2:
        expected = "bool [evaluations, number] of at least two evaluations"
        raise argument_error("e5_resubmission", "correct", expected, evaluations.shape)
    always, number = share == 1, len(evaluations)
    if worst is not None:
        _, always = paired_shares("e5_resubmission", correct=correct, worst=worst)
        number = max(number, ANSWERS)
    majority, least = float(np.mean(share > 0.5)), float(always.mean())
    gap = majority - least
    reason = f"majority {majority:.1%}, correct in all {number} {least:.1%}"
    if gap > 0.10 + ROUNDING:
        return E5.row(WARN, gap, reason + ": a persistent attacker gets through")
    return E5.row(PASS, gap, reason)
