"""Suites of attacks: against closed forms, and what keeps their number honest."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from noisy_models import noisy_coin
from scipy import stats

import rse_tf
from rse_tf import data, flags, reporting
from rse_tf.attacks import ATTACKS
from rse_tf.config import Config, ConfigError
from rse_tf.evaluation import (
    Evaluator,
    Scorer,
    attacking,
    evaluate_suite,
    scoring,
    suite_verdict,
)
from rse_tf.evaluation.candidates import Candidates, Selection, Selector
from rse_tf.evaluation.metrics import interval
from rse_tf.evaluation.suite_attacks import SuiteAttacks
from rse_tf.evaluation.suite_budget import Budget
from rse_tf.evaluation.suite_rows import is_single_attack, suite_rows
from rse_tf.evaluation.suites import SCALES, Step, suite_steps
from rse_tf.layers import FrozenNoise, NoiseLayer, NoiseOff
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils import seeds

# Two that take no time.
PGD = Step("pgd", "pgd", "mean_loss", 4, (("steps", 5),), everyone=True)
APGD = Step("apgd", "apgd", "mean_probability", 4, (("steps", 8),))
KINDS = ("randomised", "ensemble", "deterministic")


def linear(weights: np.ndarray, offset: float = 0.0, noise: float = 0.0) -> keras.Model:
    """Three classes of four pixels: class 1 where `weights @ pixels + offset > 0`, else 0."""
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), NoiseLayer(noise), keras.layers.Dense(3)]
    )
    kernel = np.stack([-weights, weights, 0 * weights], axis=1)
    model.layers[-1].set_weights([kernel, np.array([-offset, offset, -100.0])])
    return model


def inner_pixels(number: int) -> np.ndarray:
    """Images that no bound holds at the distances below."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.4, 0.6, (number, 2, 2, 1)).astype(np.float32)


WEIGHTS = np.array([3.0, -2.0, 1.0, 0.5], np.float32)


# What it comes to.


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


# What keeps it honest.


def test_attacks_selection_and_scoring_never_share_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, set[tuple[int, ...]]] = {"attacks": set(), "scorer": set()}
    for module, name in ((attacking, "attacks"), (scoring, "scorer")):
        original = module.seed_noise  # type: ignore[attr-defined]

        def recorded(model: Any, *seed: int, name: str = name, original: Any = original) -> None:
            used[name].add(seed)
            original(model, *seed)

        monkeypatch.setattr(module, "seed_noise", recorded)
    images, labels = np.full((6, 1, 1, 1), 0.5, np.float32), np.ones(6, int)
    evaluate_suite(noisy_coin(0.5), images, labels, epsilons=[0.0, 0.1], steps=[PGD], num_draws=2)
    assert {seed[0] for seed in used["attacks"]} == {seeds.ATTACK}
    streams = {seed[0] for seed in used["scorer"]}
    assert streams == {seeds.SELECTION, seeds.SCORING, seeds.SINGLE_DRAWS}


def test_lucky_blocks_break_no_image() -> None:
    # The vote of 50 draws of a coin that is almost fair is wrong about every other time: one block
    # would break half of the images, two a quarter. The rest of the suite would never see them.
    images, labels = np.full((400, 1, 1, 1), 0.0, np.float32), np.ones(400, int)
    selector = Selector(Scorer(noisy_coin(1.0), 50, 1), labels, 0)
    found = selector.judge(images, np.arange(400))
    assert found.correct.shape == (1, 400)
    # A tie is class 0, the wrong one.
    p = 0.5 * (1 + stats.binom.pmf(25, 50, 0.5))
    assert found.broken.sum() < stats.binom.ppf(1 - 1e-6, 400, p**10)
    # Where 31 % of the draws are correct, hardly an answer is.
    found = selector.judge(images - 0.5, np.arange(400))
    wrong = stats.binom.cdf(25, 50, stats.norm.cdf(-0.5))
    assert found.broken.mean() > wrong**10 - 5 * np.sqrt(0.25 / 400)
    # With fewer draws an answer, a block has more answers, and all of them must be wrong.
    selector = Selector(Scorer(noisy_coin(1.0), 1, 1), labels, 0)
    found = selector.judge(images, np.arange(400))
    assert found.correct.shape == (50, 400) and not found.broken.any()
    assert abs(found.key.mean() - 0.5) < 5 * 0.5 / np.sqrt(50 * 400)


def test_a_margin_that_is_clear_takes_no_further_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = Selector._block

    def counted(self: Selector, images: np.ndarray, *rest: Any) -> Any:
        looks.append(len(images))
        return look(self, images, *rest)

    monkeypatch.setattr(Selector, "_block", counted)
    # Always correct, always wrong, and wrong in 62 % of the draws.
    images = np.array([5.0, -5.0, -0.3], np.float32).reshape(3, 1, 1, 1)
    found = Selector(Scorer(noisy_coin(1.0), 50, 1), np.ones(3, int), 0).judge(images, np.arange(3))
    assert not found.broken[0] and found.broken[1]
    assert looks[:2] == [3, 2] and set(looks[2:]) == {1}


def selection(keys: list[float]) -> Selection:
    key = np.array(keys)
    return Selection(key[None] > 0.5, key, key, key < 0.1)


def test_the_worst_candidate_of_each_image_is_kept() -> None:
    images = np.zeros((3, 1, 1, 1), np.float32)
    selector = Selector(Scorer(noisy_coin(0.0), 1, 1), np.ones(3, int), 0)
    found = Candidates(selector, images, selection([1.0, 1.0, 0.05]))
    rows = np.arange(3)
    found.add("first", images + 1, rows, selection([0.6, 1.0, 0.2]))
    found.add("second", images[:2] + 2, rows[:2], selection([0.7, 0.0]))
    chosen, names = found.choose()
    assert chosen[:, 0, 0, 0].tolist() == [1, 2, 0]
    assert names.tolist() == ["first", "second", "clean"]
    assert found.broken.tolist() == [False, True, True]
    assert found.correct.tolist() == [[True, False, False]]


def test_among_the_worst_candidates_further_noise_decides() -> None:
    # Draws are correct for the first candidate with probability 1/2, for the second 0.31; the
    # first block had it the other way round.
    images, labels = np.zeros((50, 1, 1, 1), np.float32), np.ones(50, int)
    selector = Selector(Scorer(noisy_coin(1.0), 1, 1), labels, 0)
    rows = np.arange(50)
    found = Candidates(
        selector, images + 5, dataclasses.replace(selection([1.0] * 50), margin=np.full(50, 0.9))
    )
    found.add("fair", images, rows, selection([0.3] * 50))
    found.add("worse", images - 0.5, rows, selection([0.31] * 50))
    _, names = found.choose()
    # 350 draws of each: the difference of 0.19 is five standard errors of 0.037.
    assert (names == "worse").mean() > 0.95


# Running it.


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_attack_of_a_suite_can_be_built(
    kind: str, norm: str, scale: str, tmp_path: pathlib.Path
) -> None:
    is_random = kind == "randomised"
    network = linear(WEIGHTS, noise=0.1 * is_random)
    model = rse_tf.AveragedEnsemble([network, network]) if kind == "ensemble" else network
    attacks = SuiteAttacks(model, is_random, tmp_path, 0, 256, (0.0, 1.0), DevicePool())
    steps = suite_steps(kind, norm, scale, 10, has_members=is_random)
    assert len({step.name for step in steps}) == len(steps)
    assert any(step.everyone for step in steps)
    for step in steps:
        attack = attacks._attack(step, norm, 0.1, model)
        assert isinstance(attack, ATTACKS[step.attack]) and step.passes >= 1
        assert getattr(attack, "norm", norm) == norm
    few = suite_steps(kind, norm, scale, 2)  # some losses need more classes
    assert {dict(step.options).get("loss") for step in few} == {None}


def test_an_attack_on_mean_logits_succeeds_where_the_ensemble_is_wrong(
    tmp_path: pathlib.Path,
) -> None:
    # One member is sure of everything: its logits decide the mean of the logits, and have half a
    # say in the mean probability.
    rng = np.random.default_rng(0)
    members = []
    for size in (30.0, 1.0, 1.0):
        inputs = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
        members.append(keras.Sequential(inputs))
        members[-1].layers[-1].set_weights([size * rng.normal(size=(4, 4)), np.zeros(4)])
    model, images = rse_tf.AveragedEnsemble(members), inner_pixels(40)
    labels = np.asarray(model(images)).argmax(axis=1)
    attacks = SuiteAttacks(model, False, tmp_path, 0, 256, (0.0, 1.0), DevicePool())
    for name in ("apgd_dlr", "apgd_targeted"):
        (step,) = [s for s in suite_steps("ensemble", "linf", "small", 4) if s.name == name]
        found = attacks._attack(step, "linf", 0.1, model)(images, labels)
        wrong = np.asarray(model(found.adversarial)).argmax(axis=1) != labels
        np.testing.assert_array_equal(found.success, wrong)
        by_logits = np.asarray(tf.reduce_mean(model.stacked_logits(found.adversarial), axis=0))
        assert (wrong != (by_logits.argmax(axis=1) != labels)).any()


def test_settings_that_are_no_flags_have_folders_of_their_own(tmp_path: pathlib.Path) -> None:
    images = inner_pixels(4)
    labels = (images.reshape(4, 4) @ WEIGHTS > 1.2).astype(int)
    moved = []
    for random_start in (True, False):
        options = (("steps", 1), ("step_size", 0.01), ("random_start", random_start))
        step = Step("pgd", "pgd", "model", 1, options, everyone=True)
        (cell,) = evaluate_suite(
            linear(WEIGHTS, -1.2), images, labels, epsilons=[0.05], steps=[step], directory=tmp_path
        ).cells
        moved.append(np.abs(cell.steps[0].adversarial - images).max())
    assert moved[0] > 0.02 and moved[1] == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize("number", [1, 6])
def test_noise_that_is_frozen_by_rows_is_refused(number: int) -> None:
    # An attack would meet other noise than the scoring, and the images count as robust.
    model = linear(WEIGHTS, -1.2, noise=0.1)
    images, labels = inner_pixels(number), np.zeros(number, int)
    with pytest.raises(ValueError, match="noise that belongs to a row"):
        evaluate_suite(FrozenNoise(model), images, labels, epsilons=[0.1])
    evaluate_suite(NoiseOff(model), images, labels, epsilons=[0.1], steps=[])


def test_batch_statistics_at_inference_are_refused() -> None:
    inputs = keras.Input((2, 2, 1))
    centred = keras.layers.Lambda(lambda x: x - tf.reduce_mean(x, axis=0))
    x = centred(keras.layers.Flatten()(inputs))
    for noise in (0.0, 0.1):
        model = keras.Model(inputs, keras.layers.Dense(3)(NoiseLayer(noise)(x)))
        with pytest.raises(ValueError, match="logits that change with the others"):
            evaluate_suite(model, inner_pixels(6), np.zeros(6, int), epsilons=[0.1])


def test_a_random_ensemble_may_have_members_without_noise() -> None:
    noisy = linear(WEIGHTS, -1.2, noise=0.1)
    plain = keras.Sequential([keras.Input((2, 2, 1)), noisy.layers[0], noisy.layers[-1]])
    model = rse_tf.AveragedEnsemble([noisy, plain])
    images = inner_pixels(10)
    labels = (images.reshape(10, 4) @ WEIGHTS > 1.2).astype(int)
    step = Step("member", "apgd", "member", 4, (("steps", 4),))
    (cell,) = evaluate_suite(model, images, labels, epsilons=[0.5], steps=[step]).cells
    assert cell.steps[0].attacked.all() and cell.score.accuracy < 0.5


def test_a_self_ensemble_that_stops_early_is_scored_so() -> None:
    images, labels = np.full((60, 1, 1, 1), 0.1, np.float32), np.ones(60, int)
    model = noisy_coin(1.0)
    ensemble = rse_tf.SelfEnsemble(model, 40, stop_error=0.2)
    outcome = evaluate_suite(ensemble, images, labels, epsilons=[0.0], steps=[PGD])
    early, whole = (
        Scorer(model, 40, 3, stop_error=error).answers(images, labels, 0, 0).correct
        for error in (0.2, None)
    )
    np.testing.assert_array_equal(outcome.clean.correct, early)
    assert (early != whole).any()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("ensemble", ("member", "apgd_dlr", "reweighted_0.5", "fmn")),
        ("randomised", ("noise_off", "frozen", "member", "apgd_mean_probability", "square")),
    ],
)
def test_attacks_on_parts_of_an_ensemble_leave_what_a_judge_needs(
    kind: str, names: tuple[str, ...]
) -> None:
    noise = 0.05 * (kind == "randomised")
    members = [linear(WEIGHTS + shift, -1.2, noise) for shift in (0.0, 0.3)]
    images = inner_pixels(8)
    labels = (images.reshape(8, 4) @ WEIGHTS > 1.2).astype(int)
    every = {step.name: step for step in suite_steps(kind, "linf", "small", 3, bool(noise))}
    (cell,) = (
        outcome := evaluate_suite(
            rse_tf.AveragedEnsemble(members),
            images,
            labels,
            epsilons=[0.01],
            num_draws=4,
            eval_seeds=1,
            steps=[every[name] for name in names],
        )
    ).cells
    assert outcome.kind == kind and [one.step.name for one in cell.steps] == list(names)
    assert cell.score.accuracy <= outcome.clean.correct.mean()
    for one in cell.steps:
        assert one.correct.shape[1] == 8 and one.adversarial.shape[0] == one.attacked.sum()
        np.testing.assert_array_equal(np.isnan(one.margin), ~one.attacked)
        assert (np.abs(one.adversarial - images[one.attacked]) <= 0.01 + 1e-6).all()


@pytest.mark.long
def test_a_suite_goes_on_where_it_was_killed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = np.full((6, 1, 1, 1), 0.5, np.float32), np.ones(6, int)

    def run(folder: pathlib.Path) -> np.ndarray:
        outcome = evaluate_suite(
            noisy_coin(0.5),
            images,
            labels,
            epsilons=[0.1],
            num_draws=3,
            steps=[PGD, APGD],
            max_rows=8,
            directory=folder,
        )
        return outcome.cells[0].adversarial

    whole = run(tmp_path / "whole")
    attacked: list[str] = []
    original = ATTACKS["apgd"].__call__

    def dies(self: Any, *arguments: Any) -> Any:
        attacked.append("apgd")
        if len(attacked) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(ATTACKS["apgd"], "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(ATTACKS["pgd"], "__call__", None)  # is done, and not called again
    np.testing.assert_array_equal(run(tmp_path / "killed"), whole)
    assert len(attacked) == 2 + 2  # three batches of two images, of which one was done


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilons": []}, "epsilons must be one or several distances of at least 0"),
        ({"epsilons": [0.1, 0.1]}, "each of them once"),
        ({"epsilons": [-0.1]}, "at least 0"),
        ({"norm": "l1"}, "norm must be one of linf, l2"),
        ({"scale": "tiny"}, "scale must be one of small, full"),
        ({"labels": np.ones(3, int)}, "labels must be integer"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    arguments = {"images": inner_pixels(2), "labels": np.ones(2, int), "epsilons": [0.1], **changes}
    with pytest.raises(ValueError, match=message):
        evaluate_suite(linear(WEIGHTS), **arguments)


@pytest.fixture
def tiny_run(tmp_path: pathlib.Path) -> tuple[Any, list[Any]]:
    """An evaluator of a run with a suite, and its rows."""
    images, labels = inner_pixels(6), np.array([0, 1] * 3)
    split = data.Split(images, labels)
    dataset = data.Dataset("tiny", split, split[:0], split, ("a", "b", "c"))
    config = Config(
        suite="adaptive",
        epsilon=(0.01, 0.02),
        num_images=5,
        eval_seeds=2,
        workdir=str(tmp_path),
        defense=("none",),
    )
    evaluator = Evaluator(config.evaluation_settings(), "none", linear(WEIGHTS, -1.2), dataset)
    return evaluator, evaluator.rows()


def test_a_run_has_rows_of_the_suite_and_keeps_what_is_behind_them(
    tiny_run: tuple[Any, list[Any]], tmp_path: pathlib.Path
) -> None:
    evaluator, rows = tiny_run
    names = [step.attack for step in suite_steps("deterministic", "linf", "small", 3)]
    assert [row.attack for row in rows] == ["none", *2 * ["adaptive", *names]]
    assert [cell.epsilon for cell in evaluator.suite.cells] == [0.01, 0.02]
    for row in rows[1:]:
        assert row.strength[0] == "epsilon" and row.parameters["norm"] == "linf"
        assert row.num_images == 5 and is_single_attack(row) == (row.attack != "adaptive")
    worst, *single = rows[1 : 2 + len(names)]
    assert worst.score.accuracy == min(row.score.accuracy for row in single)
    assert worst.score.accuracy == evaluator.suite.cells[0].answers.correct.mean()
    (gallery,) = evaluator.galleries()
    assert np.isin(gallery.adversarial, evaluator.suite.cells[-1].adversarial).all()
    assert worst.seconds == pytest.approx(sum(row.seconds for row in single))
    # They survive the files, and the terminal says what they are.
    reporting.write_json(rows, tmp_path / "r.json", flags={}, versions={})
    assert reporting.read_json(tmp_path / "r.json").rows == rows
    reporting.write_csv(rows, tmp_path / "r.csv")
    assert "adaptive" in (tmp_path / "r.csv").read_text()
    assert "adaptive: of each image, the worst" in reporting.format_table(rows)


def test_flags_of_a_suite(tmp_path: pathlib.Path) -> None:
    config = Config(suite="adaptive", norms=("linf", "l2"), epsilon=(0.1, 0.2), l2_epsilon=(1.5,))
    assert config.attacks == () and config.evaluation_settings().attacks == {}
    assert config.evaluation_settings().suite_epsilons == {"linf": (0.1, 0.2), "l2": (1.5,)}
    assert config.workdir == "runs/mnist_5k-mnist_cnn-adaptive"
    assert Config().evaluation_settings().suite_epsilons == {}
    both = Config(suite="full", epsilon=(0.1,), attack=("carlini_wagner",))
    assert both.attacks == ("carlini_wagner",) and both.suite_epsilons == {"linf": (0.1,)}
    assert str(both.workdir).endswith("carlini_wagner+adaptive")
    for one in (config, both):
        again = flags.parse(["program", *one.as_flags()], "A program.")
        assert again == one


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_draws": (1, 50)}, "--num_draws must be one number for --suite=adaptive"),
        ({"epsilon": (1.5,)}, "--epsilon must be at most 1"),
        (
            {"epsilon": (0.1,), "norms": ("l2",), "l2_epsilon": (1.0,)},
            "--epsilon does not apply to --norms=l2",
        ),
        ({"l2_epsilon": (0.1,)}, "--l2_epsilon must be left out but for --norms=l2"),
        ({"norms": ("l2",)}, "--l2_epsilon must be given for --norms=l2"),
        ({"l2_epsilon": (-0.1,), "norms": ("l2",)}, "--l2_epsilon must be 0 or greater"),
        ({"substitute": "none"}, "--substitute does not apply to --suite=adaptive"),
        ({"targeted": True}, "--targeted does not apply"),
        ({"suite_scale": "tiny"}, "--suite_scale must be one of small, full"),
        ({"norms": ("l1",)}, "--norms must be one of linf, l2"),
    ],
)
def test_flags_of_a_suite_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(suite="adaptive", **given)


def test_a_model_that_is_random_in_another_way_is_refused() -> None:
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), Secret(), keras.layers.Dense(3)]
    )
    with pytest.raises(ValueError, match="random by NoiseLayers only.*calls that differ"):
        evaluate_suite(model, inner_pixels(2), np.ones(2, int), epsilons=[0.1])


class Secret(keras.layers.Layer):
    """Noise that no layer of this package adds."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.random.normal(tf.shape(inputs))
