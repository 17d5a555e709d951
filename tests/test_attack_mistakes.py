"""What every attack refuses: bad arguments, bad models, bad numbers on the way."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from test_attacks import EXAMPLES, IMAGES, LABELS3, MODEL3, SHAPE

from rse_tf.attacks import BIM, FGSM

BAD_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "integer images": ({"images": np.zeros((12, *SHAPE), np.uint8)}, "floating-point"),
    "a data set of batches": ({"images": [object()]}, "batch by batch"),
    "images beyond the bounds": ({"images": IMAGES * 255}, "within bounds"),
    "NaN": ({"images": np.full_like(IMAGES, np.nan)}, "NaN"),
    "no images": ({"images": IMAGES[:0], "labels": LABELS3[:0]}, "at least one image"),
    "too few labels": ({"labels": LABELS3[:5]}, r"integer \[12\]"),
    "float labels": ({"labels": LABELS3.astype(float)}, "integer"),
    "classes that do not exist": ({"labels": LABELS3 + 3}, "classes from 0 to 2"),
    "rows that are no classes": ({"labels": np.full((12, 3), 1)}, "one-hot"),
    "a bad target": ({"targets": LABELS3 - 5}, "targets"),
}


@pytest.mark.parametrize("changes, message", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    call = {"images": IMAGES, "labels": LABELS3, **changes}
    with pytest.raises(ValueError, match=message) as error:
        EXAMPLES["fgsm"](**call)
    assert "Received" in str(error.value)


def test_rounding_beyond_the_bounds_is_forgiven() -> None:
    images = np.clip(IMAGES, 0, 1)
    images[0, 0, 0, 0] = -3e-8
    result = EXAMPLES["fgsm"](images, LABELS3)
    assert result.adversarial.min() >= 0


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda x: tf.nn.softmax(MODEL3(x)), "not probabilities"),
        (lambda x: MODEL3(x) * np.nan, "finite"),
        (lambda x: tf.reduce_sum(MODEL3(x), axis=1), "logits"),
        (lambda x: MODEL3(x)[:1], "logits"),
    ],
)
def test_a_model_without_proper_logits_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FGSM(model, epsilon=0.1)(IMAGES, LABELS3)


def test_log_probabilities_are_welcome() -> None:
    result = FGSM(lambda x: tf.nn.log_softmax(MODEL3(x)), epsilon=0.1)(IMAGES, LABELS3)
    expected = EXAMPLES["fgsm"](IMAGES, LABELS3)
    np.testing.assert_allclose(result.adversarial, expected.adversarial, atol=1e-6)


def test_a_nan_that_comes_later_is_no_result() -> None:
    def sometimes(x: tf.Tensor) -> tf.Tensor:
        first = tf.reshape(tf.range(tf.shape(x)[0]) == 9, [-1, 1])
        return tf.where(first, np.nan, MODEL3(x))

    attack = dataclasses.replace(EXAMPLES["carlini_wagner"], model=sometimes, _graphs={})
    with pytest.raises(ValueError, match="finite logits"):
        attack(IMAGES, LABELS3)


@pytest.mark.parametrize("name", ["carlini_wagner", "zoo"])
@pytest.mark.parametrize("settings", [{"iterate": "best"}, {"const": None}])
def test_a_nan_on_the_way_is_no_failure(name: str, settings: dict[str, Any]) -> None:
    def off_the_image(x: tf.Tensor) -> tf.Tensor:
        moved = tf.reduce_any(tf.abs(x - IMAGES[0]) > 1e-3, axis=[1, 2, 3], keepdims=True)[:, 0, 0]
        return tf.where(moved, np.nan, MODEL3(x))

    fast = {"learning_rate": 0.05, "steps": 20}
    attack = dataclasses.replace(
        EXAMPLES[name], model=off_the_image, _graphs={}, **fast, **settings
    )
    with pytest.raises(ValueError, match="finite logits"):
        attack(IMAGES[:1], LABELS3[:1])


def test_a_model_without_a_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="FGSM: model must be differentiable"):
        FGSM(lambda x: tf.stop_gradient(MODEL3(x)), epsilon=0.1)(IMAGES, LABELS3)


def test_whole_numbers_of_any_kind_are_whole_numbers() -> None:
    expected = BIM(MODEL3, epsilon=0.1, step_size=0.03, steps=5)(IMAGES, LABELS3)
    for steps in (5.0, np.int64(5)):
        settings: dict[str, Any] = {"steps": steps, "bounds": [0, 1]}
        attack = BIM(MODEL3, epsilon=0.1, step_size=0.03, **settings)
        np.testing.assert_array_equal(attack(IMAGES, LABELS3).adversarial, expected.adversarial)


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": -1},
        {"epsilon": np.nan},
        {"epsilon": 0.1, "bounds": (1, 0)},
        {"epsilon": 0.1, "batch_size": 0},
    ],
)
def test_bad_hyperparameters_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        FGSM(MODEL3, **settings)
