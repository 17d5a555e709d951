"""The verdict on a whole model: honest ones pass, and planted defects are told."""

from __future__ import annotations

import dataclasses
from typing import Any

import defects
import keras
import numpy as np
import pytest
import tensorflow as tf
from noisy_models import noisy_coin
from scipy import stats
from victims import TEST_DIGITS, digit_network

import rse_tf
from rse_tf.attacks import APGD, PGD, CarliniWagnerL2
from rse_tf.attacks.losses import loss_gradient
from rse_tf.evaluation import Verdict
from rse_tf.evaluation.sanity.binarisation import d7_binarisation, hidden_features
from rse_tf.evaluation.sanity.settings_rows import c1_control
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.suite import Suite
from rse_tf.layers import noise_layers, noise_state

TASK = defects.LinearTask()
EPSILON = 0.03


def audited(model: Any, number: int = 64, **options: Any) -> Verdict:
    """The verdict on a model of the linear task, or of other images."""
    images, labels = TASK.images[:number], TASK.labels[:number]
    return rse_tf.audit(model, images, labels, **{"epsilon": EPSILON, **options})


def failed(verdict: Verdict) -> set[str]:
    return {row.id for row in verdict.rows if row.verdict == "FAIL"}


def within(verdict: Verdict, exact: float) -> bool:
    assert verdict.interval is not None
    return verdict.interval[0] <= exact <= verdict.interval[1]


def test_an_honest_linear_model_passes_every_row_at_its_exact_robust_accuracy() -> None:
    verdict = audited(TASK.model(), number=len(TASK.images), substitute=TASK.model())
    exact = TASK.robust(EPSILON).mean()
    assert 0.4 < exact < 0.9  # far from both ends, or the next line says little
    assert verdict.headline == pytest.approx(exact, abs=1 / 400)  # one image, for rounding
    told = {row.id for row in verdict.rows if row.verdict == "NOT_RUN"}
    assert told == {"A3", "B3", "C2", "D6", "E3", "E5"}  # noise and certificate, of which is none
    assert all(row.verdict == "PASS" for row in verdict.rows if row.id not in told)


def test_an_honest_noisy_linear_model_has_the_robust_accuracy_of_its_mean() -> None:
    # The noise on the pixels has mean 0 and moves all logits by a Gaussian, so up to the
    # rounding of 50 draws the mean probability has the class of the logits without it.
    model = TASK.model(noise=0.05)
    before = noise_state(model)
    options = {"number": 200, "attacks": [PGD(model, EPSILON, steps=20)], "search_points": 10}
    verdict = audited(model, **options)
    assert failed(verdict) == set() and within(verdict, TASK.robust(EPSILON)[:200].mean())
    assert {row.id for row in verdict.rows if row.verdict == "NOT_RUN"} == {"E3"}
    # The same call gives the same verdict, and leaves the noise of the model where it was.
    model.layers[1].seed_generator.state.assign(before[0])
    assert audited(model, **options).as_dict() == verdict.as_dict()
    np.testing.assert_array_equal(noise_state(model), before)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_trained_network_and_its_random_self_ensemble_pass(noise: float) -> None:
    model = rse_tf.robustify(digit_network(), noise, noise / 2) if noise else digit_network()
    images, labels = (a[:40] for a in TEST_DIGITS)
    options = {"attacks": [PGD(model, 0.1, steps=20)], "search_points": 20}
    verdict = rse_tf.audit(
        model, images, labels, epsilon=0.1, num_draws=20, attack_draws=4, **options
    )
    assert failed(verdict) == set() and not verdict.headline_is_upper_bound
    assert verdict.headline is not None and verdict.headline < 0.6
    assert verdict.row("D7").verdict == "PASS"  # and random points do not find what is planted


# Planted defects.


def test_gradients_of_the_wrong_sign_are_told_by_differences_and_by_random_points() -> None:
    verdict = audited(defects.sign_flipped(TASK.model()), search_points=50)
    assert {"B2", "C5", "D3", "D4", "D7"} <= failed(verdict)
    assert verdict.headline_is_upper_bound and "UPPER BOUND" in verdict.format()


def test_one_step_is_too_few() -> None:
    model = TASK.model()
    attack = PGD(model, EPSILON, steps=1)
    verdict = audited(model, number=400, epsilon=2 * EPSILON, attacks=[attack])
    assert {"C3", "C5", "D1", "D4", "D7"} <= failed(verdict)


@dataclasses.dataclass(frozen=True)
class PlainPGD(PGD):
    """PGD on the cross-entropy itself, whose gradient float32 rounds to zero."""

    def _loss_direction(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        return self._checked_gradient(loss_gradient(self._stacked_logits, images, classes))


def test_logits_of_a_large_scale_blind_plain_cross_entropy_only() -> None:
    model = TASK.model()
    weights = [1000.0 * w for w in model.get_weights()]
    model.set_weights(weights)
    verdict = audited(model, attacks=[PlainPGD(model, EPSILON)], loss="cross_entropy")
    assert {"B1", "C5"} <= failed(verdict)
    assert verdict.headline_is_upper_bound


def test_a_single_draw_as_the_judge_fails_the_control() -> None:
    """AutoAttack's version for randomised models: correct in three single draws in a row."""
    model = TASK.model(noise=0.1)
    suite = Suite(Subject(model, TASK.images, TASK.labels))
    clean = suite.correct(TASK.images)
    draws = [
        np.argmax(suite.logits(TASK.images, model, 99, draw), axis=1) == TASK.labels
        for draw in range(3)
    ]
    row = c1_control(clean, np.all(draws, axis=0))
    # An image that is correct in a share p of its draws is kept with p^3.
    share = np.mean(
        [np.argmax(suite.logits(TASK.images, model, 98, d), 1) == TASK.labels for d in range(50)], 0
    )
    expected = np.mean(share**3) - np.mean(clean.mean(axis=0) > 0.5)
    assert row.figure == pytest.approx(expected, abs=3 * np.sqrt(0.25 / 400))
    assert row.verdict == "FAIL"
    assert c1_control(clean, suite.correct(TASK.images, stream=5)).verdict == "PASS"


@pytest.mark.parametrize("ending", ["layer", "function"])
def test_probabilities_fail_the_first_row_and_run_no_other(ending: str) -> None:
    model: Any = keras.Sequential([TASK.model(), keras.layers.Softmax()])
    if ending == "function":
        model = lambda x: tf.nn.softmax(TASK.model()(x))  # noqa: E731
    verdict = audited(model)
    assert failed(verdict) == {"A1"} and verdict.headline is None
    assert {row.verdict for row in verdict.rows[1:]} == {"NOT_RUN"}


def test_randomness_that_no_layer_declares_is_told() -> None:
    verdict = audited(defects.DropsOut(TASK.model()), number=32)
    assert "A2" in failed(verdict) and verdict.headline is not None


def test_a_black_box_is_searched_without_gradients() -> None:
    model = TASK.model()
    verdict = audited(lambda x: np.asarray(model(x)), search_points=30)
    assert failed(verdict) == {"B1"} and verdict.headline_is_upper_bound
    assert verdict.headline is not None and verdict.headline >= TASK.robust(EPSILON)[:64].mean()
    assert "no gradient" in verdict.row("C3").reason and verdict.row("E1").verdict == "PASS"


# The binarisation test.


def test_gradients_are_looked_at_inside_an_l2_ball() -> None:
    # Wrong near the images, and nowhere else: the ball of radius 0.4 moves all pixels by 0.1.
    network = TASK.model()

    def model(images: tf.Tensor) -> tf.Tensor:
        far = tf.abs(images - 0.5) > 0.4
        near = tf.logical_not(tf.reduce_any(far, axis=[1, 2, 3], keepdims=True))
        images = tf.where(near, 2 * tf.stop_gradient(images) - images, images)
        return network(images)

    attack = PGD(model, 0.4, steps=3, norm="l2")
    verdict = audited(model, number=16, epsilon=0.4, norm="l2", attacks=[attack])
    assert verdict.row("B1").verdict == "PASS" and "B2" in failed(verdict)


def test_an_image_stays_under_attack_until_ten_answers_are_wrong() -> None:
    # The vote of 50 draws of a fair coin is wrong in p = 0.56 of the answers.
    images, labels = np.zeros((200, 1, 1, 1), np.float32), np.ones(200, int)
    suite = Suite(Subject(noisy_coin(1.0), images, labels))
    p = 0.5 * (1 + stats.binom.pmf(25, 50, 0.5))
    left = suite.unbroken(images, 10)
    assert 200 - len(left) < stats.binom.ppf(1 - 1e-6, 200, p**10)
    several = suite.correct(images, seeds=10)
    np.testing.assert_array_equal(suite.unbroken(images, 1), np.flatnonzero(several[0]))


def test_an_attack_for_several_targets_can_stand_first() -> None:
    model = TASK.model()
    attack = APGD(model, EPSILON, loss="dlr_targeted", num_targets=2, steps=20)
    options = {"number": 16, "search_points": 1, "square_steps": 0}
    assert audited(model, attacks=[attack], **options).row("D7").verdict == "PASS"


def test_hidden_features_are_those_in_front_of_the_last_weights() -> None:
    inputs = keras.Input((4, 4, 1), name="images")
    hidden = keras.layers.Dense(5, "tanh")(keras.layers.Flatten()(inputs))
    dense = keras.layers.Dense(3)
    inner = keras.Model(inputs, dense(hidden))
    images = TASK.images[:6]
    expected = inner(images).numpy()
    wrapped = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Rescaling(1.0), inner, keras.layers.Rescaling(2.0)]
    )
    for model in (inner, wrapped):
        features = hidden_features(model)
        assert features is not None and features.output_shape == (None, 5)
        kernel, bias = dense.get_weights()
        np.testing.assert_allclose(features(images) @ kernel + bias, expected, atol=1e-5)
    assert hidden_features(defects.DropsOut(inner)) is None
    assert hidden_features(lambda x: x) is None


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [40, 1])
def test_what_is_planted_is_found_by_many_steps_and_not_by_one(norm: str, steps: int) -> None:
    # Features of as many directions as pixels: the read-out can ask for the very corner.
    subject = Subject(TASK.model(), TASK.images[:16], TASK.labels[:16])
    attack = PGD(subject.model, EPSILON, norm=norm, steps=steps)
    row = d7_binarisation(subject, attack, EPSILON, norm)
    assert row.verdict == ("PASS" if steps == 40 else "FAIL")
    assert "of 16; 200 random points find 0" in row.reason


def test_gradients_stopped_in_half_of_the_image_do_not_find_it() -> None:
    subject = Subject(defects.half_stopped(TASK.model()), TASK.images[:16], TASK.labels[:16])
    row = d7_binarisation(subject, PGD(subject.model, EPSILON), EPSILON)
    assert row.verdict == "FAIL" and "read-out is of the logits" in row.reason


# Other people's settings.


def test_another_norm_other_bounds_and_several_attacks() -> None:
    inner = TASK.model()

    def model(x: tf.Tensor) -> tf.Tensor:  # takes pixels from 0 to 255
        return inner(x / 255)

    images, labels = 255 * TASK.images[:64], TASK.labels[:64]
    bounds = (0.0, 255.0)
    attacks = [
        PGD(model, 1.0, 0.2, norm="l2", bounds=bounds),
        PGD(model, 1.0, norm="l2", bounds=bounds, random_start=False),
    ]
    verdict = rse_tf.audit(
        model, images, labels, epsilon=255 * 0.1, norm="l2", bounds=bounds, attacks=attacks
    )
    # Robust within a length: the logit's lead over the length of the difference of the weights.
    flat = TASK.images[:64].reshape(64, -1)
    logits = flat @ TASK.weights + TASK.bias
    leads = [
        min(
            (logits[i, y] - logits[i, j]) / np.linalg.norm(TASK.weights[:, y] - TASK.weights[:, j])
            for j in range(logits.shape[1])
            if j != y
        )
        for i, y in enumerate(labels)
    ]
    assert within(verdict, float(np.mean(np.array(leads) > 0.1)))
    assert failed(verdict) == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "audit: epsilon must be a finite number > 0"),
        ({"attacks": []}, "audit: attacks must be at least one"),
        ({"attacks": [CarliniWagnerL2(TASK.model())]}, "audit: attacks must be .* an epsilon"),
        ({"attacks": [PGD(TASK.model(), 0.1, norm="l2")]}, "audit: attacks must be .* norm='linf'"),
        ({"bounds": (0, 255), "attacks": [PGD(TASK.model(), 1.0)]}, "bounds=.0.0, 255.0"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"norm": "l1"}, "norm must be"),
        ({"search_points": 0}, "audit: search_points must be an integer of at least 1"),
        ({"labels": np.zeros(3, np.int64)}, "audit: labels must be"),
        ({"images": 255 * TASK.images}, "audit: images must be within bounds"),
        ({"images": TASK.images.reshape(-1, 16)}, "audit: images must be .number, height, width"),
    ],
)
def test_mistakes_are_told_at_once(options: dict[str, Any], message: str) -> None:
    given = {"images": TASK.images, "labels": TASK.labels, "epsilon": 0.1, **options}
    with pytest.raises(ValueError, match=message):
        rse_tf.audit(TASK.model(), given.pop("images"), given.pop("labels"), **given)


@pytest.mark.long
def test_a_known_network_with_its_preprocessing_inside() -> None:
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )
    images = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(axis=1)
    attack = PGD(model, 8.0, bounds=(0, 255), steps=10)
    verdict = rse_tf.audit(
        model, images, labels, epsilon=8.0, bounds=(0, 255), attacks=[attack], search_points=10
    )
    assert failed(verdict) == set() and verdict.headline is not None
    assert not noise_layers(model) and verdict.row("A3").verdict == "NOT_RUN"
