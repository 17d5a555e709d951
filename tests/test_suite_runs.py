"""Suites as they are run: their attacks, files, refusals, flags and rows."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from noisy_models import noisy_coin
from suite_models import APGD, PGD, WEIGHTS, inner_pixels, linear

import rse_tf
from rse_tf import data, flags, reporting
from rse_tf.attacks import ATTACKS
from rse_tf.config import Config, ConfigError
from rse_tf.evaluation import (
    Evaluator,
    Scorer,
    evaluate_suite,
)
from rse_tf.evaluation.suite_attacks import SuiteAttacks
from rse_tf.evaluation.suite_rows import is_single_attack
from rse_tf.evaluation.suites import SCALES, Step, suite_steps
from rse_tf.layers import FrozenNoise, NoiseLayer, NoiseOff
from rse_tf.training.device_pool import DevicePool

KINDS = ("randomised", "ensemble", "deterministic")


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
