"""The sanity rows that judge figures: what passes, what fails, and what is too little to tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import PGD
from rse_tf.evaluation.sanity import RULES, SanityRow, Verdict
from rse_tf.evaluation.sanity.comparison_rows import (
    d1_iterative,
    d2_larger_epsilon,
    d3_unbounded,
    d4_black_box,
    d5_transfer,
    d6_frozen_noise,
)
from rse_tf.evaluation.sanity.counting import is_more_often
from rse_tf.evaluation.sanity.report_rows import (
    e1_constraints,
    e2_rounding,
    e3_certificate,
    e4_resolution,
    e5_resubmission,
    in_8_bits,
)
from rse_tf.evaluation.sanity.settings_rows import (
    c1_control,
    c2_draws,
    c3_steps,
    c4_restarts,
    c5_convergence,
    c6_silent_success,
)


def mask(number: int, broken: int, start: int = 0) -> np.ndarray:
    """All correct but for so many from a place on."""
    correct = np.ones(number, bool)
    correct[start : start + broken] = False
    return correct


def test_every_rule_has_an_id_of_its_own() -> None:
    assert [rule.id for rule in RULES] == [
        "A1",
        "A2",
        "A3",
        "A4",
        "A5",
        "B1",
        "B2",
        "B3",
        "C1",
        "C2",
        "C3",
        "C4",
        "C5",
        "C6",
        "C7",
        "D1",
        "D2",
        "D3",
        "D4",
        "D5",
        "D6",
        "D7",
        "E1",
        "E2",
        "E3",
        "E4",
        "E5",
    ]
    assert all(rule.question.endswith("?") and rule.rule for rule in RULES)


# How the accuracies of two masks compare: row, its arguments, the verdict.
FALLS: list[tuple[Callable[..., SanityRow], tuple[Any, ...], str]] = [
    # McNemar's exact p is 2 / 2^8 = 0.008 for 8 images lost and none regained, 0.016 for 7.
    (c1_control, (mask(1000, 500), mask(1000, 508)), "FAIL"),
    (c1_control, (mask(1000, 500), mask(1000, 507)), "PASS"),
    (c1_control, (mask(100, 30), mask(100, 30, start=10)), "PASS"),  # 10 lost, 10 regained
    # Of 100 clean images all correct, 94.8 % is the lower end of the 99 % interval.
    (c1_control, (mask(100, 0), mask(100, 6)), "FAIL"),
    (c3_steps, (mask(100, 50), mask(100, 51)), "PASS"),
    (c3_steps, (mask(100, 50), mask(100, 53)), "WARN"),
    # 4 images lost and none regained have p = 1/16 in a sign test, 5 have 1/32.
    (c3_steps, (mask(100, 50), mask(100, 54)), "WARN"),
    (c3_steps, (mask(100, 50), mask(100, 55)), "FAIL"),
    (c3_steps, (mask(100, 55), mask(100, 50)), "PASS"),
    (c4_restarts, (mask(100, 50), mask(100, 51)), "PASS"),
    (c4_restarts, (mask(100, 50), mask(100, 60)), "FAIL"),
    (c2_draws, ({1: mask(100, 0), 20: mask(100, 60), 50: mask(100, 61)},), "PASS"),
    (c2_draws, ({1: mask(100, 0), 20: mask(100, 50), 50: mask(100, 60)},), "FAIL"),
    (c2_draws, ({20: mask(100, 60), 50: mask(100, 50)},), "FAIL"),
    (d1_iterative, (mask(100, 40), mask(100, 60)), "PASS"),
    (d1_iterative, (mask(100, 1), mask(100, 60, start=1)), "PASS"),  # one image by one step alone
    (d1_iterative, (mask(100, 60), mask(100, 40)), "FAIL"),
    (d2_larger_epsilon, ({0.1: mask(100, 20), 0.2: mask(100, 60), 0.4: mask(100, 99)},), "PASS"),
    (d2_larger_epsilon, ({0.2: mask(100, 3), 0.4: mask(100, 60, start=3)},), "WARN"),
    (d2_larger_epsilon, ({0.2: mask(100, 60), 0.4: mask(100, 40)},), "FAIL"),
    # Of 10 images one is above 5 %, but 1 % of all would do that in a sample of ten.
    (d2_larger_epsilon, ({0.2: mask(10, 1), 0.4: mask(10, 0)},), "WARN"),
    (d2_larger_epsilon, ({0.2: mask(10, 2), 0.4: mask(10, 0)},), "FAIL"),
    (d3_unbounded, (mask(32, 32),), "PASS"),
    (d3_unbounded, (mask(32, 31),), "WARN"),
    (d3_unbounded, (mask(32, 30),), "FAIL"),
    (d3_unbounded, (mask(1000, 990),), "WARN"),
    (d4_black_box, (mask(64, 10), mask(64, 20)), "PASS"),
    (d4_black_box, (mask(64, 1), mask(64, 20, start=1)), "WARN"),
    (d4_black_box, (mask(64, 2), mask(64, 20, start=2)), "FAIL"),
    (d4_black_box, (mask(1000, 5), mask(1000, 20, start=5)), "WARN"),
    (d5_transfer, (mask(64, 20), mask(64, 20)), "PASS"),
    (d5_transfer, (mask(64, 21), mask(64, 10)), "FAIL"),
    (d6_frozen_noise, (mask(64, 40), mask(64, 20)), "PASS"),
    (d6_frozen_noise, (mask(64, 20), mask(64, 21)), "PASS"),
    (d6_frozen_noise, (mask(64, 20), mask(64, 23)), "WARN"),
    (d6_frozen_noise, (mask(64, 20), mask(64, 40)), "FAIL"),
    (c6_silent_success, (~mask(100, 40), mask(100, 40)), "PASS"),
    (c6_silent_success, (~mask(100, 41), mask(100, 40)), "WARN"),
    (c6_silent_success, (~mask(100, 60), mask(100, 40)), "FAIL"),
    (e2_rounding, (mask(100, 40), mask(100, 39)), "PASS"),
    (e2_rounding, (mask(100, 40), mask(100, 30)), "WARN"),
    (e4_resolution, (mask(1000, 500),), "PASS"),
    (e4_resolution, (mask(100, 50),), "WARN"),
]


@pytest.mark.parametrize(("row", "masks", "expected"), FALLS)
def test_masks_are_judged(
    row: Callable[..., SanityRow], masks: tuple[Any, ...], expected: str
) -> None:
    assert row(*masks).verdict == expected


def test_an_image_that_noise_decides_is_no_proof() -> None:
    # The gradient attack has each image wrong in one seed of three, the search in two.
    one = np.zeros((3, 64), bool)
    one[0] = True
    two = ~one
    assert d4_black_box(one, two).figure == 0
    assert d2_larger_epsilon({0.1: one, 0.2: two}).figure == 0


def test_a_row_fails_by_chance_no_more_often_than_it_says() -> None:
    # At the limit of what passes, 1 %, of 10 images: the share of samples that fail.
    rng = np.random.default_rng(0)
    samples = 2000
    failed = 0
    for lost in rng.binomial(10, 0.01, samples):
        failed += d2_larger_epsilon({0.1: mask(10, lost), 0.2: mask(10, 0)}).verdict == "FAIL"
    # Not above 5 %, with three standard errors of that share on top.
    assert failed / samples <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / samples)


def test_the_sign_test_is_exact() -> None:
    assert not is_more_often(0, 0) and not is_more_often(4, 0) and is_more_often(5, 0)
    # Of 10, 9 or more have probability 11 / 1024, 8 or more 56 / 1024 = 0.055.
    assert is_more_often(9, 1) and not is_more_often(8, 2)


# Convergence.


def path(*points: float, number: int = 20) -> np.ndarray:
    """The same path for all images."""
    return np.repeat(np.array(points)[:, None], number, axis=1)


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        (path(*np.minimum(np.linspace(-10, 0, 41), -4.0)), "PASS"),  # stands since the 24th step
        (path(*np.linspace(-10, -1, 41)), "FAIL"),  # goes on: 4 of 40 steps are a tenth
        (path(*np.linspace(-10, 1, 41)), "PASS"),  # wins
        (path(*[-3.0] * 41), "FAIL"),  # never moves
        (path(-10.0, -5.0), "FAIL"),  # a single step
        (path(-3.0, *[-4.0, -5.0] * 20), "FAIL"),  # never above its start
        (path(-10.0, *[-4.0, -5.0] * 20), "PASS"),  # goes round at its best
    ],
)
def test_a_survivor_that_still_gains_or_never_did_has_not_converged(
    margins: np.ndarray, expected: str
) -> None:
    assert c5_convergence(margins).verdict == expected
    assert c5_convergence(1e-3 * margins).verdict == expected  # whatever the scale of the logits


def test_convergence_is_of_the_survivors() -> None:
    margins = np.concatenate(
        [
            path(*np.linspace(-10, 5, 41), number=90),  # won, and still gains
            path(*np.minimum(np.linspace(-10, 0, 41), -4.0), number=8),
            path(*np.linspace(-10, -1, 41), number=2),
        ],
        axis=1,
    )
    row = c5_convergence(margins)
    assert row.figure == pytest.approx(0.2) and row.verdict == "WARN"


# The images and numbers that are reported.


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_package_s_own_images_keep_to_ball_and_bounds(
    norm: str, bounds: tuple[float, float]
) -> None:
    low, high = bounds
    images = np.random.default_rng(0).uniform(low, high, (50, 6, 6, 3)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal((108, 3)).astype(np.float32)
    for epsilon in (1e-4 * (high - low), 0.1 * (high - low)):
        attack = PGD(_linear(weights), epsilon, norm=norm, bounds=bounds, steps=5)
        adversarial = attack(images, np.zeros(50, np.int64)).adversarial
        assert e1_constraints(images, adversarial, epsilon, norm, bounds).verdict == "PASS"
        # Any of the three faults in a single pixel, of a single image; the pixel lies at a bound.
        images[7, 2, 3, 1] = high
        for value in (np.nan, high + 0.5 * epsilon, high - 1.1 * epsilon):
            spoilt = images.copy()
            spoilt[7, 2, 3, 1] = value
            row = e1_constraints(images, spoilt, epsilon, norm, bounds)
            assert row.verdict == "FAIL" and "1 of 50" in row.reason


def _linear(weights: np.ndarray) -> Any:
    return lambda x: tf.reshape(x, [-1, len(weights)]) @ weights


def test_eight_bits_are_256_levels_between_the_bounds() -> None:
    images = np.linspace(-1, 1, 1001, dtype=np.float32).reshape(1, 7, 11, 13)
    stored = in_8_bits(images, (-1.0, 1.0))
    assert len(np.unique(stored)) == 256 and stored.min() == -1 and stored.max() == 1
    # Half a level, and the rounding of float32.
    assert np.abs(stored - images).max() <= 1 / 255 + 1e-6
    np.testing.assert_array_equal(in_8_bits(stored, (-1.0, 1.0)), stored)


def test_attack_and_certificate_may_not_contradict_each_other() -> None:
    radius, distance = np.full(500, 0.5), np.full(500, 0.4)
    fooled = ~mask(500, 0)
    assert e3_certificate(radius, distance, fooled).verdict == "PASS"
    fooled[:2] = True
    # At alpha 0.001, of 500: two or more have probability 0.09; six or more 1e-5.
    assert e3_certificate(radius, distance, fooled).verdict == "WARN"
    fooled[:6] = True
    assert e3_certificate(radius, distance, fooled).verdict == "FAIL"
    # Beyond the radius, or where nothing is certified, an attack may fool it.
    assert e3_certificate(radius, distance + 0.2, fooled).verdict == "PASS"
    assert e3_certificate(0 * radius, distance, fooled).verdict == "NOT_RUN"


def test_resubmission_compares_the_majority_with_the_worst() -> None:
    correct = np.ones((10, 100), bool)
    correct[0, :30] = False  # one of ten fails
    row = e5_resubmission(correct)
    assert row.figure == pytest.approx(0.3) and row.verdict == "WARN"
    correct[:, :30] = False  # always wrong
    assert e5_resubmission(correct).figure == 0


def test_seeds_that_spread_too_far_warn() -> None:
    correct = np.zeros((4, 1000), bool)
    for seed, number in enumerate((300, 500, 500, 700)):  # a binomial spreads by 1.6 points
        correct[seed, :number] = True
    assert e4_resolution(correct).verdict == "WARN"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c3_steps(mask(9, 0), mask(8, 0)), "c3_steps: correct and correct_doubled"),
        (lambda: c3_steps([1, 0], [1, 0]), "c3_steps: correct must be bool"),
        (lambda: c2_draws({10: mask(9, 0)}), "c2_draws: correct must be masks of two"),
        (lambda: d2_larger_epsilon({}), "d2_larger_epsilon: correct must be masks of two"),
        (lambda: c5_convergence(np.zeros([3])), "c5_convergence: margins must be finite"),
        (lambda: c5_convergence(np.full([3, 2], np.nan)), "c5_convergence: margins must be finite"),
        (lambda: e1_constraints(np.zeros([2, 3]), np.zeros([3]), 0.1), "e1_constraints: adversari"),
        (lambda: e1_constraints(np.zeros([2]), np.zeros([2]), 0.1, "l1"), "e1_constraints: norm"),
        (lambda: e3_certificate([0.1], [0.1, 0.2], [True]), "e3_certificate: radius"),
        (lambda: e5_resubmission(mask(9, 0)), "e5_resubmission: correct must be bool"),
        (lambda: SanityRow("A1", "?", 1.0, "", "GOOD", ""), "SanityRow: verdict must be one of"),
        (lambda: SanityRow("A1", "?", None, "", "PASS", ""), "SanityRow: figure must be a number"),
    ],
)
def test_mistakes_are_told(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# The verdict.


def rows(*verdicts: str) -> tuple[SanityRow, ...]:
    return tuple(
        RULES[i].not_run("why not") if v == "NOT_RUN" else RULES[i].row(v, 0.5, "found")
        for i, v in enumerate(verdicts)
    )


def test_one_failed_row_makes_the_headline_an_upper_bound() -> None:
    good = Verdict(rows("PASS", "WARN", "NOT_RUN"), 0.42, (0.3, 0.5))
    bad = Verdict(rows("PASS", "FAIL", "WARN"), 0.42, (0.3, 0.5))
    assert good.overall == "WARN" and not good.headline_is_upper_bound
    assert bad.overall == "FAIL" and bad.headline_is_upper_bound
    assert "UPPER BOUND ONLY, for A2 failed" in bad.format()
    assert "UPPER" not in good.format() and "42.0%" in good.format()
    assert Verdict(rows("NOT_RUN")).overall == Verdict(()).overall == "NOT_RUN"
    assert "No robust accuracy" in Verdict(rows("FAIL")).format()


def test_rows_that_did_not_run_share_a_line_for_their_reason() -> None:
    silent = (RULES[3].not_run("no images"),)
    lines = Verdict(rows("PASS", "NOT_RUN", "NOT_RUN") + silent).format().splitlines()
    assert lines[-2:] == ["NOT_RUN A2, A3: why not", "NOT_RUN A4: no images"]
    every = Verdict(rows(*["NOT_RUN"] * len(RULES)))
    assert max(map(len, every.format().splitlines())) <= 130
    assert all(rule.id in every.format() for rule in RULES)


def test_a_verdict_goes_through_json_and_fits_a_terminal() -> None:
    verdict = Verdict(rows("PASS", "FAIL", "NOT_RUN"), 0.42, (0.3, 0.5))
    odd = Verdict((RULES[0].row("FAIL", float("nan"), "found"),))
    told = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert told == verdict.as_dict() and json.dumps(odd.as_dict(), allow_nan=False)
    assert told["headline_is_upper_bound"] and told["rows"][1]["verdict"] == "FAIL"
    assert max(map(len, verdict.format().splitlines())) <= 130
    assert verdict.row("A2").verdict == "FAIL"
    with pytest.raises(ValueError, match="Verdict: id must be one of"):
        verdict.row("Z9")
