"""What robustify refuses, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from test_robustify import functional_in_sequential, sequential

import rse_tf


class Subclassed(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(2, 3)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.convolution(images)


class Block(layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(2, 3)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.convolution(images)


def after_a_convolution(layer: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(2, 3), layer])


def test_model_whose_convolutions_cannot_be_found_is_refused() -> None:
    subclassed = Subclassed()
    subclassed(tf.zeros((1, 8, 8, 2)))
    hidden = layers.TimeDistributed(keras.Sequential([layers.Conv1D(2, 3)]))
    cases = [
        subclassed,
        after_a_convolution(Subclassed()),
        after_a_convolution(Block()),
        keras.Sequential([keras.Input((2, 8, 8)), hidden]),
    ]
    for model in cases:
        with pytest.raises(ValueError, match="must be Functional or Sequential.*Received: "):
            rse_tf.robustify(model, 0.4, 0.1)


def test_unbuilt_model_is_refused() -> None:
    with pytest.raises(ValueError, match="must be built.*Received: "):
        rse_tf.robustify(keras.Sequential([layers.Conv2D(2, 3)]), 0.4, 0.1)


def test_model_without_a_convolution_is_refused() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="must contain a convolution.*Received: "):
        rse_tf.robustify(model, 0.4, 0.1)


def test_noisy_model_is_refused() -> None:
    noisy = rse_tf.robustify(functional_in_sequential(), 0.4, 0.1)
    with pytest.raises(ValueError, match="must not have noise layers yet.*Received: .*has 2"):
        rse_tf.robustify(noisy, 0.4, 0.1)


def test_bad_noise_is_refused_before_anything_is_built() -> None:
    for settings in ((0.1, 0.1, "cauchy"), (0.1, 0.1, "gaussian", "never")):
        with pytest.raises(ValueError, match="Received: "):
            rse_tf.robustify(sequential(), *settings)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, None, True, "0.1", (0.1, 0.2)])
def test_standard_deviation_that_is_none_is_refused_by_its_name(value: Any) -> None:
    for name, settings in (("init_noise", (value, 0.1)), ("inner_noise", (0.1, value))):
        with pytest.raises(ValueError, match=f"robustify: {name} must be .*Received: {name}="):
            rse_tf.robustify(sequential(), *settings)


@pytest.mark.parametrize(
    "model, hint",
    [
        (keras.Sequential, "not the class"),
        ("m.keras", "load_model"),
        (Path("m"), "load_model"),
        (sequential, "build or load"),
        (None, "build or load"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_do(model: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=f"must be a Keras model. Received: .*{hint}"):
        rse_tf.robustify(model, 0.1, 0.1)


def test_a_model_of_probabilities_is_copied_with_a_warning() -> None:
    layers = [keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    with pytest.warns(UserWarning, match="ends in a softmax.* take logits"):
        noisy = rse_tf.robustify(model, 0.1, 0.1)
    assert noisy.output_shape == (None, 3)
