"""What a sample says of a probability or a mean: bounds that hold for every sample size."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from rse_tf.utils.checks import argument_error


def clopper_pearson(
    successes: Any, trials: Any, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The exact two-sided interval of a probability (Clopper & Pearson, 1934).

    Each end errs with probability `(1 - confidence) / 2` at most.

    Args:
        successes: whole numbers from 0 to `trials`, of any shape.
        trials: how many independent trials there were, at least 1; broadcast to `successes`.
        confidence: probability with which the interval holds, above 0 and below 1. Default 0.95.

    Returns:
        Lowest and highest probability, float64, both of the shape of `successes` and `trials`.
        Without a success the lowest is 0, without a failure the highest is 1.

    Raises:
        ValueError: if an argument is not one of the above.
    """
    if not 0 < confidence < 1:
        expected = "a probability above 0 and below 1"
        raise argument_error("clopper_pearson", "confidence", expected, confidence)
    successes, trials = _checked_counts("clopper_pearson", successes, trials)
    error = (1.0 - confidence) / 2.0
    return _lowest(successes, trials, error), 1.0 - _lowest(trials - successes, trials, error)


def lower_bound(successes: Any, trials: Any, alpha: float) -> np.ndarray:
    """The exact one-sided lower bound of a probability (Clopper & Pearson, 1934).

    It exceeds the probability in a share `alpha` of all samples at most.

    Args:
        successes: whole numbers from 0 to `trials`, of any shape.
        trials: how many independent trials there were, at least 1; broadcast to `successes`.
        alpha: probability with which the bound may fail, above 0 and below 1.

    Returns:
        float64, of the shape of `successes` and `trials`.

    Raises:
        ValueError: if an argument is not one of the above.
    """
    _check_alpha("lower_bound", alpha)
    return _lowest(*_checked_counts("lower_bound", successes, trials), alpha)


def hoeffding_lower_bound(mean: Any, trials: Any, alpha: float) -> np.ndarray:
    """A lower bound of the mean of numbers in [0, 1] (Hoeffding, 1963).

    It is `mean - sqrt(log(1 / alpha) / (2 trials))`, and at least 0.

    Args:
        mean: of `trials` independent numbers in [0, 1], of any shape.
        trials: at least 1.
        alpha: probability with which the bound may fail, above 0 and below 1.

    Raises:
        ValueError: if an argument is not one of the above.
    """
    _check_alpha("hoeffding_lower_bound", alpha)
    mean, trials = _checked_means("hoeffding_lower_bound", mean, trials, smallest=1)
    return np.maximum(mean - np.sqrt(np.log(1.0 / alpha) / (2.0 * trials)), 0.0)


def bernstein_lower_bound(mean: Any, variance: Any, trials: Any, alpha: float) -> np.ndarray:
    """A lower bound of the mean of numbers in [0, 1] that vary little.

    The empirical Bernstein bound of Maurer & Pontil (2009), theorem 4:
    `mean - sqrt(2 variance log(2 / alpha) / trials) - 7 log(2 / alpha) / (3 (trials - 1))`, and at
    least 0. It is tighter than Hoeffding's where the variance is well below 1/4.

    Args:
        mean: of `trials` independent numbers in [0, 1], of any shape.
        variance: of the sample, its sum of squares divided by `trials - 1`.
        trials: at least 2.
        alpha: probability with which the bound may fail, above 0 and below 1.

    Raises:
        ValueError: if an argument is not one of the above.
    """
    _check_alpha("bernstein_lower_bound", alpha)
    mean, trials = _checked_means("bernstein_lower_bound", mean, trials, smallest=2)
    variance = np.asarray(variance, np.float64)
    if not (variance >= 0).all():
        raise argument_error("bernstein_lower_bound", "variance", "at least 0", variance)
    log_term = np.log(2.0 / alpha)
    deviation = np.sqrt(2.0 * variance * log_term / trials) + 7.0 * log_term / (3 * (trials - 1))
    return np.maximum(mean - deviation, 0.0)


def _lowest(successes: np.ndarray, trials: np.ndarray, alpha: float) -> np.ndarray:
    # The p at which so many successes, or more, have probability alpha. That probability is a
    # regularised incomplete beta function of p; without any success it is 1 at every p.
    failures = trials - successes
    found = stats.beta.ppf(alpha, np.maximum(successes, 1), failures + 1)
    return np.where(successes == 0, 0.0, found)


def _checked_counts(caller: str, successes: Any, trials: Any) -> tuple[np.ndarray, np.ndarray]:
    successes, trials = np.broadcast_arrays(successes, trials)
    for name, counts in (("successes", successes), ("trials", trials)):
        if counts.dtype.kind not in "iu":
            raise argument_error(caller, name, "whole numbers", counts)
    successes, trials = successes.astype(np.int64), trials.astype(np.int64)
    if not (trials >= 1).all():
        raise argument_error(caller, "trials", "at least 1", trials)
    if not ((0 <= successes) & (successes <= trials)).all():
        raise argument_error(caller, "successes", "from 0 to the number of trials", successes)
    return successes, trials


def _checked_means(
    caller: str, mean: Any, trials: Any, smallest: int
) -> tuple[np.ndarray, np.ndarray]:
    mean, trials = np.asarray(mean, np.float64), np.asarray(trials)
    if not ((0 <= mean) & (mean <= 1)).all():
        raise argument_error(caller, "mean", "from 0 to 1", mean)
    if trials.dtype.kind not in "iu" or not (trials >= smallest).all():
        raise argument_error(caller, "trials", f"whole numbers of at least {smallest}", trials)
    return mean, trials.astype(np.float64)


def _check_alpha(caller: str, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise argument_error(caller, "alpha", "a probability above 0 and below 1", alpha)
