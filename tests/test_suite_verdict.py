"""The verdict on a suite: honest figures pass, and planted ones fail their row and no other."""

from __future__ import annotations

import dataclasses

import defects
import keras
import numpy as np
import pytest
from noisy_models import noisy_coin
from scipy import stats

from rse_tf.evaluation import SuiteOutcome, evaluate_suite, suite_verdict
from rse_tf.evaluation.suites import Step

TASK = defects.LinearTask(number=40)
STEPS = [
    Step("fgsm", "fgsm", "model", everyone=True),
    Step("pgd", "pgd", "model", options=(("steps", 20),), everyone=True),
    Step("square", "square", "model", options=(("steps", 20),)),
]


def changed(outcome: SuiteOutcome, name: str, correct: np.ndarray) -> SuiteOutcome:
    """The same outcome with other answers under one attack at the largest distance."""
    *cells, last = outcome.cells
    steps = tuple(
        dataclasses.replace(one, correct=correct) if one.step.name == name else one
        for one in last.steps
    )
    return dataclasses.replace(outcome, cells=(*cells, dataclasses.replace(last, steps=steps)))


def test_the_figures_of_a_suite_feed_the_rows() -> None:
    outcome = evaluate_suite(
        TASK.model(), TASK.images, TASK.labels, epsilons=[0.01, 0.03], steps=STEPS
    )
    verdict = suite_verdict(outcome, TASK.images)
    told = [row for row in verdict.rows if row.verdict != "NOT_RUN"]
    assert [row.id for row in told] == ["A5", "C7", "D1", "D2", "D4", "E1", "E4"]
    assert {row.verdict for row in told if row.id != "E4"} == {"PASS"}
    assert "--audit" in verdict.row("B1").reason
    assert verdict.headline == TASK.robust(0.03).mean() and not verdict.headline_is_upper_bound
    assert "40 images" in verdict.row("E4").reason

    everything, nothing = np.ones([1, 40], bool), np.zeros([1, 40], bool)
    for name, correct, expected in (
        ("square", nothing, {"D4"}),  # a search alone breaks what is left
        ("pgd", everything, {"D1", "D2"}),  # one step does, and so does a smaller distance
    ):
        found = suite_verdict(changed(outcome, name, correct), TASK.images)
        failed = {row.id for row in found.rows if row.verdict == "FAIL"}
        assert expected & failed and failed <= {"D1", "D2", "D4"} and found.headline_is_upper_bound
    moved = suite_verdict(outcome, TASK.images + 0.02)
    assert {row.id for row in moved.rows if row.verdict == "FAIL"} == {"E1"}


def test_whoever_tries_again_has_ten_answers() -> None:
    # Three are all correct for 73 % of the images, which a majority has for 97 %; ten for 35 %.
    number = 200
    images = np.full((number, 1, 1, 1), stats.norm.ppf(0.9), np.float32) / 2
    outcome = evaluate_suite(
        noisy_coin(0.5), images, np.ones(number, int), epsilons=[0.0], steps=[], num_draws=1
    )
    row = suite_verdict(outcome, images).row("E5")
    gap = stats.binom.sf(1, 3, 0.9) - 0.9**10
    assert row.verdict == "WARN" and "all 10" in row.reason
    assert abs((row.figure or 0.0) - gap) < 5 * np.sqrt(0.25 / number)
    answers = outcome.cells[0].answers
    assert row.figure == (answers.correct.sum(axis=0) > 1).mean() - np.mean(answers.worst)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pixels_up_to_255_keep_to_their_ball_and_bounds(norm: str) -> None:
    # Float32 pixels are 1.5e-5 apart there.
    images = np.random.default_rng(0).uniform(0, 255, (8, 4, 4, 1)).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
        + [keras.layers.Dense(4)]
    )
    labels = np.asarray(model(images)).argmax(axis=1)
    outcome = evaluate_suite(
        model, images, labels, epsilons=[0.05], norm=norm, steps=STEPS[1:2], bounds=(0, 255)
    )
    assert suite_verdict(outcome, images).row("E1").verdict == "PASS"
