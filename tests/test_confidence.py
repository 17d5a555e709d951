"""Bounds of probabilities and means against the sums and integrals that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rse_tf.evaluation.confidence import (
    bernstein_lower_bound,
    clopper_pearson,
    hoeffding_lower_bound,
    lower_bound,
)


def tail(successes: int, trials: int, probability: float) -> float:
    """P(Binomial(trials, probability) >= successes), term by term."""
    return math.fsum(
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(successes, trials + 1)
    )


@pytest.mark.parametrize("trials", [1, 7, 40])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_at_the_lower_bound_the_successes_have_probability_alpha(trials: int, alpha: float) -> None:
    bounds = lower_bound(np.arange(trials + 1), trials, alpha)
    assert bounds[0] == 0 and (np.diff(bounds) > 0).all()
    for successes in range(1, trials + 1):
        assert tail(successes, trials, bounds[successes]) == pytest.approx(alpha, rel=1e-9)


def test_all_successes_have_a_bound_in_closed_form() -> None:
    # p^n = alpha.
    trials = np.array([10, 1_000, 100_000])
    found = lower_bound(trials, trials, 0.001)
    np.testing.assert_allclose(found, 0.001 ** (1 / trials), rtol=1e-12)


def test_no_success_has_an_interval_in_closed_form() -> None:
    # Of 100, with 95 %: (1 - p)^100 = 0.025.
    low, high = clopper_pearson(0, 100)
    assert low == 0 and high == pytest.approx(1 - 0.025**0.01, rel=1e-12)
    low, high = clopper_pearson(100, 100)
    assert low == pytest.approx(0.025**0.01, rel=1e-12) and high == 1


def test_the_interval_is_two_one_sided_bounds() -> None:
    successes = np.arange(31).reshape(1, 31)
    low, high = clopper_pearson(successes, [[30], [60]], confidence=0.9)
    assert low.shape == high.shape == (2, 31)
    np.testing.assert_allclose(low[1], lower_bound(successes[0], 60, 0.05), rtol=1e-12)
    np.testing.assert_allclose(high[0], 1 - low[0, ::-1], rtol=1e-12)


@pytest.mark.parametrize("probability", [0.02, 0.5, 0.93])
def test_the_interval_holds_as_often_as_it_says(probability: float) -> None:
    # Over all possible samples, each weighed by its probability: no sampling, no tolerance.
    trials = 50
    weights = np.array(
        [
            math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
            for k in range(trials + 1)
        ]
    )
    low, high = clopper_pearson(np.arange(trials + 1), trials, 0.95)
    assert weights[(low <= probability) & (probability <= high)].sum() >= 0.95
    bound = lower_bound(np.arange(trials + 1), trials, 0.01)
    assert weights[bound > probability].sum() <= 0.01


def test_mean_bounds_by_hand() -> None:
    # Hoeffding: 0.9 - sqrt(ln 1000 / 2000) = 0.9 - 0.058770.
    assert hoeffding_lower_bound(0.9, 1_000, 0.001) == pytest.approx(0.8412303, abs=1e-7)
    # ln 2000 = 7.600902; sqrt(2 * 0.01 * 7.600902 / 1000) + 7 * 7.600902 / (3 * 999)
    # = 0.0123296 + 0.0177531.
    assert bernstein_lower_bound(0.9, 0.01, 1_000, 0.001) == pytest.approx(0.8699173, abs=1e-6)
    assert hoeffding_lower_bound(0.01, 10, 0.001) == bernstein_lower_bound(0.01, 1, 10, 0.1) == 0
    assert hoeffding_lower_bound(np.full((2, 3), 0.5), 10, 0.1).shape == (2, 3)


def test_mean_bounds_fail_no_more_often_than_they_say() -> None:
    # Numbers 0 or 1 with mean 0.9, 60 of them: over all samples again.
    trials, probability, alpha = 60, 0.9, 0.05
    k = np.arange(trials + 1)
    weights = np.array([math.comb(trials, i) * 0.9**i * 0.1 ** (trials - i) for i in k])
    mean = k / trials
    variance = mean * (1 - mean) * trials / (trials - 1)
    for bound in (
        hoeffding_lower_bound(mean, trials, alpha),
        bernstein_lower_bound(mean, variance, trials, alpha),
    ):
        assert weights[bound > probability].sum() <= alpha
        assert bound.max() > 0.5  # it does say something


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lower_bound(3, 2, 0.1), "successes must be from 0 to the number of trials"),
        (lambda: lower_bound(-1, 2, 0.1), "successes must be from 0"),
        (lambda: lower_bound(0.5, 2, 0.1), "successes must be whole numbers"),
        (lambda: clopper_pearson(0, 0), "trials must be at least 1"),
        (lambda: clopper_pearson(1, 2, 95), "confidence must be a probability.*Received.*95"),
        (lambda: lower_bound(1, 2, 0.0), "alpha must be a probability"),
        (lambda: lower_bound(1, 2, float("nan")), "alpha must be a probability"),
        (lambda: hoeffding_lower_bound(1.5, 10, 0.1), "mean must be from 0 to 1"),
        (lambda: bernstein_lower_bound(0.5, 0.1, 1, 0.1), "trials must be .* at least 2"),
        (lambda: bernstein_lower_bound(0.5, -0.1, 9, 0.1), "variance must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
