"""Suites of attacks against closed forms."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from noisy_models import noisy_coin
from scipy import stats
from suite_models import APGD, PGD, WEIGHTS, inner_pixels, linear

from rse_tf.evaluation import Scorer, evaluate_suite, suite_verdict
from rse_tf.evaluation.metrics import interval
from rse_tf.evaluation.suite_budget import Budget
from rse_tf.evaluation.suite_rows import suite_rows
from rse_tf.evaluation.suites import Step, suite_steps


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_linear_model_has_its_exact_accuracy(norm: str, dual: int) -> None:
    images = inner_pixels(60)
    score = images.reshape(60, 4) @ WEIGHTS - 1.2
    labels = (score > 0).astype(int)
    labels[:5] = 1 - labels[:5]  # wrong without an attack
    # An image is safe while its distance from the plane, |score| / ||weights||_dual, is larger.
    distance = np.abs(score) / np.linalg.norm(WEIGHTS, dual)
    epsilons = np.quantile(distance, [0.3, 0.6])
    network = linear(WEIGHTS, -1.2)
    model = network if norm == "linf" else (lambda x: network(x))  # any callable will do
    outcome = evaluate_suite(model, images, labels, epsilons=epsilons[::-1], norm=norm)
    assert outcome.kind == "deterministic"
    clean = np.arange(60) >= 5
    np.testing.assert_array_equal(outcome.clean.correct[0], clean)
    for cell, epsilon in zip(outcome.cells, epsilons, strict=True):
        assert cell.epsilon == epsilon
        np.testing.assert_array_equal(cell.answers.correct[0], clean & (distance > epsilon))
        assert cell.score.accuracy == cell.score.average == cell.score.worst_of_10
        ord_ = np.inf if norm == "linf" else 2
        moved = np.linalg.norm((cell.adversarial - images).reshape(60, 4), ord_, axis=1)
        assert moved.max() <= epsilon * (1 + 1e-5)
        assert (cell.source[:5] == "clean").all()
    assert outcome.cells[0].raw_violations is None and outcome.cells[1].raw_violations == 0


@pytest.mark.parametrize("num_draws", [1, 5])
def test_a_noisy_model_has_the_accuracies_of_its_law(num_draws: int) -> None:
    # With noise of 0.5 and pixel 0.8 - 0.2 under attack, a draw is correct with probability
    # Phi(0.6 / 0.5) = 0.885, whatever else the attack does.
    number, epsilon = 300, 0.2
    images, labels = np.full((number, 1, 1, 1), 0.8, np.float32), np.ones(number, int)
    (cell,) = evaluate_suite(
        noisy_coin(0.5), images, labels, epsilons=[epsilon], steps=[PGD, APGD], num_draws=num_draws
    ).cells
    single = float(stats.norm.cdf(0.6 / 0.5))
    vote = float(stats.binom.sf(num_draws // 2, num_draws, single))
    for found, p, trials in (
        (cell.score.accuracy, vote, 3 * number),
        (cell.score.average, single, 3 * number),
        (cell.score.worst_of_10, vote**10, number),
    ):
        assert abs(found - p) < 5 * np.sqrt(p * (1 - p) / trials)
    # Noise chooses among the images; what it misses costs less than a point.
    assert cell.adversarial.min() > 0.6 - 1e-5
    assert stats.norm.cdf(cell.adversarial / 0.5).mean() < single + 0.01


def test_at_distance_0_a_suite_says_what_it_says_without_an_attack() -> None:
    # A single draw answers, correct with probability p = 0.9. The images do not move, so every
    # step is as good as none.
    number, p = 500, 0.9
    pixel = 0.5 * stats.norm.ppf(p)
    images, labels = np.full((number, 1, 1, 1), pixel, np.float32), np.ones(number, int)
    model = noisy_coin(0.5)
    outcome = evaluate_suite(model, images, labels, epsilons=[0.0], steps=[PGD] * 3, num_draws=1)
    (cell,) = outcome.cells
    low, high = interval(p, number)
    assert low <= cell.score.accuracy <= high
    assert abs(cell.score.accuracy - outcome.clean.correct.mean()) < 0.05
    np.testing.assert_array_equal(cell.adversarial, images)
    # Where one wrong draw decides, as in AutoAttack's "rand", clean images are already broken: it
    # looks once without an attack, and once after each of its two. That leaves p^3 = 0.729.
    scorer = Scorer(model, num_draws=1, eval_seeds=1)
    left = np.all([scorer.correct(images, labels, i)[0] for i in range(3)], axis=0).mean()
    assert abs(left - p**3) < 5 * np.sqrt(p**3 * (1 - p**3) / number)
    assert not low <= left <= high


def test_candidates_of_smaller_distances_are_candidates_at_larger_ones() -> None:
    images = inner_pixels(20)
    score = images.reshape(20, 4) @ WEIGHTS - 1.2
    labels = (score > 0).astype(int)
    # One step of a fixed length from a random start: at the larger distance it does not reach far.
    strong, weak = 0.09, 0.35
    step = Step("pgd", "pgd", "model", 1, (("steps", 1), ("step_size", 0.12)), everyone=True)
    cells = evaluate_suite(
        linear(WEIGHTS, -1.2), images, labels, epsilons=[strong, weak], steps=[step]
    ).cells
    broken = [~cell.answers.correct[0] for cell in cells]
    assert broken[0].any() and not (broken[0] & ~broken[1]).any()
    raw = [~cell.steps[0].correct[0] for cell in cells]
    assert cells[1].raw_violations == np.sum(raw[0] & ~raw[1]) > 0
    carried = cells[1].source == f"linf {strong:g}"
    np.testing.assert_array_equal(cells[1].adversarial[carried], cells[0].adversarial[carried])
    assert carried.any()


def test_a_budget_is_shared_by_the_distances_and_leaves_out_what_does_not_fit() -> None:
    budget = Budget(minutes=2, distances=2, devices=2)  # 240 seconds of attacks, 120 for each
    budget.begin_distance()
    assert budget.allows(1e9)  # nothing is known yet
    budget.spend(passes=100, seconds=20)  # 100 seconds are left, or 500 passes
    assert budget.allows(500) and not budget.allows(501)
    budget.begin_distance()  # which has what the first did not need: 220 seconds
    assert budget.allows(1100) and not budget.allows(1101)
    unlimited = Budget(None, 1)
    unlimited.begin_distance()
    unlimited.spend(1, 1e9)
    assert unlimited.allows(1e9)


def test_attacks_without_time_are_named_and_cost_a_warning() -> None:
    images = inner_pixels(30)
    labels = (images.reshape(30, 4) @ WEIGHTS > 1.2).astype(int)
    model, epsilons = linear(WEIGHTS, -1.2), [0.01, 0.02]
    short = evaluate_suite(model, images, labels, epsilons=epsilons, budget_minutes=1e-6)
    first, second = short.cells
    names = [step.name for step in suite_steps("deterministic", "linf", "small", 3)]
    # Without anything known of the model, the first attack runs.
    assert [one.step.name for one in first.steps] == names[:1] and not second.steps
    assert first.left_out == tuple(names[1:]) and second.left_out == tuple(names)
    assert second.raw_violations is None
    np.testing.assert_array_equal(second.adversarial, first.adversarial)  # carried over
    row = suite_verdict(short, images).row("C7")
    assert row.verdict == "WARN" and "square" in row.reason
    told = [facts["parameters"].get("left_out") for facts in suite_rows(short)]
    assert told == [",".join(names[1:]), None, ",".join(names)]

    (whole,) = evaluate_suite(model, images, labels, epsilons=[0.01], budget_minutes=60).cells
    assert [one.step.name for one in whole.steps] == names and not whole.left_out
    with pytest.raises(ValueError, match="budget_minutes"):
        evaluate_suite(model, images, labels, epsilons=[0.01], budget_minutes=0)


def test_a_substitute_breaks_what_has_no_gradient(tmp_path: pathlib.Path) -> None:
    # The model's pixels pass through steps of a staircase: its gradient is 0 everywhere, while its
    # classes are those of the network that the images are transferred from.
    images = inner_pixels(40)
    score = images.reshape(40, 4) @ WEIGHTS - 1.2
    labels, epsilon = (score > 0).astype(int), 0.02
    network = linear(WEIGHTS, -1.2)
    twin = linear(WEIGHTS, -1.2)
    steps = [
        Step("pgd", "pgd", "model", 1, (("steps", 5), ("random_start", False))),
        Step("substitute", "apgd", "substitute", 1, (("steps", 20),)),
    ]

    def staircase(x: tf.Tensor) -> tf.Tensor:
        return network(tf.round(x * 1e4) / 1e4 + 0 * x)

    def accuracy(substitute: keras.Model | None, steps: list[Step]) -> np.ndarray:
        (cell,) = evaluate_suite(
            staircase,
            images,
            labels,
            epsilons=[epsilon],
            steps=steps,
            substitute=substitute,
            directory=tmp_path,
        ).cells
        return cell.answers.correct[0]

    np.testing.assert_array_equal(accuracy(twin, steps[:1]), True)
    sure = np.abs(np.abs(score) - epsilon * np.abs(WEIGHTS).sum()) > 1e-3
    safe = np.abs(score) > epsilon * np.abs(WEIGHTS).sum()
    np.testing.assert_array_equal(accuracy(twin, steps)[sure], safe[sure])
    assert not safe.all()
    # The batches of another substitute are others.
    np.testing.assert_array_equal(accuracy(linear(-WEIGHTS), steps), True)
    names = [s.name for s in suite_steps("deterministic", "linf", "small", 3, has_substitute=True)]
    assert names[:2] == ["fgsm", "substitute"]
