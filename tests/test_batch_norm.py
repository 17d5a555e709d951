"""Tests of the fused batch normalisation against the one of Keras."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rse_tf.layers import FusedBatchNormalization

SHAPE = (4, 3, 5, 6)
COUNT = 4 * 3 * 5  # values behind each channel's statistics


def pair(**settings: Any) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """The fused layer and Keras' own with the same weights, none of them at its default."""
    layers = []
    for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = kind(**{"momentum": 0.7, "epsilon": 1e-4, **settings})
        layer.build(SHAPE)
        weights = np.random.default_rng(0)
        layer.set_weights([weights.uniform(0.5, 1.5, w.shape) for w in layer.weights])
        layers.append(layer)
    return layers[0], layers[1]


def images(seed: int = 0) -> tf.Tensor:
    """Activations with another mean and spread in each channel."""
    channel = tf.range(1.0, 7.0)
    return tf.random.stateless_normal(SHAPE, (seed, 1)) * channel + channel - 2.0


def output_and_gradients(layer: keras.layers.Layer, x: tf.Tensor) -> list[np.ndarray]:
    weight = tf.random.stateless_normal(SHAPE, (5, 5))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(weight * tf.cast(y, tf.float32))
    variables = [variable.value for variable in layer.trainable_variables]
    gradients = tape.gradient(loss, [x, *variables])
    return [tf.cast(value, tf.float32).numpy() for value in (y, *gradients)]


SETTINGS = [{}, {"scale": False}, {"center": False}, {"scale": False, "center": False}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_training_output_and_gradients_are_those_of_keras(settings: dict[str, bool]) -> None:
    fused, reference = pair(**settings)
    actual = output_and_gradients(fused, images())
    expected = output_and_gradients(reference, images())
    assert len(actual) == len(expected) == 4 - len(settings)
    for ours, theirs in zip(actual, expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_inference_output_is_that_of_keras(settings: dict[str, bool]) -> None:
    fused, reference = pair(**settings)
    for call in ({}, {"training": False}):
        expected = reference(images(), **call)
        np.testing.assert_allclose(fused(images(), **call), expected, rtol=1e-5, atol=1e-5)


def test_moving_mean_is_that_of_keras_and_moving_variance_the_unbiased_one() -> None:
    fused, reference = pair()
    start = reference.moving_variance.numpy()
    x = images()
    for layer in (fused, reference):
        layer(x, training=True)
    np.testing.assert_allclose(fused.moving_mean, reference.moving_mean, rtol=1e-5, atol=1e-6)
    # Keras: v' = 0.7 v + 0.3 s2 with s2 = sum (x - mean)^2 / n; here s2 n / (n - 1).
    biased = np.var(x.numpy(), axis=(0, 1, 2))
    np.testing.assert_allclose(reference.moving_variance, 0.7 * start + 0.3 * biased, rtol=1e-5)
    unbiased = biased * COUNT / (COUNT - 1)
    np.testing.assert_allclose(fused.moving_variance, 0.7 * start + 0.3 * unbiased, rtol=1e-5)


def test_inference_after_training_uses_the_moving_statistics() -> None:
    fused, _ = pair(scale=False, center=False)
    for seed in range(3):
        fused(images(seed), training=True)
    x = images(9)
    mean, variance = fused.moving_mean.numpy(), fused.moving_variance.numpy()
    np.testing.assert_allclose(fused(x), (x - mean) / np.sqrt(variance + 1e-4), rtol=1e-4)


def test_frozen_layer_normalises_by_its_moving_statistics_and_keeps_them() -> None:
    fused, reference = pair()
    fused.trainable = reference.trainable = False
    before = [np.array(weight) for weight in fused.get_weights()]
    outputs = fused(images(), training=True)
    expected = reference(images(), training=True)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs, fused(images(), training=False), rtol=1e-6)
    for old, new in zip(before, fused.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_low_precision_costs_one_rounding_of_the_output(dtype: str, training: bool) -> None:
    fused, _ = pair(dtype=f"mixed_{dtype}")
    _, reference = pair()
    x = tf.cast(tf.cast(images(), dtype), tf.float32)  # so that the input is not rounded again
    actual = fused(x, training=training)
    assert actual.dtype == dtype
    expected = reference(x, training=training).numpy()
    # Half a unit in the last place is 2^-9 of the value in bfloat16 and 2^-12 in float16; twice
    # that leaves room for the one before the offset is added. Outputs are below 8 here.
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    np.testing.assert_allclose(tf.cast(actual, tf.float32), expected, rtol=unit, atol=4 * unit)
    assert all(weight.dtype == "float32" for weight in fused.weights)
    # The statistics are taken in float32 from the same values: no rounding at all.
    np.testing.assert_allclose(fused.moving_mean, reference.moving_mean, rtol=1e-5, atol=1e-5)
    x_grad = output_and_gradients(fused, x)[1]
    expected_grad = output_and_gradients(reference, x)[1]
    np.testing.assert_allclose(x_grad, expected_grad, rtol=4 * unit, atol=8 * unit)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6), (2, 3, 4, 5, 6)])
def test_input_that_is_not_a_batch_of_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="inputs must be .*Received: shape"):
        FusedBatchNormalization()(tf.zeros(shape))


UNKNOWN = [{"axis": 1}, {"synchronized": True}]
if "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters:
    UNKNOWN.append({"renorm": True})


@pytest.mark.parametrize("settings", UNKNOWN, ids=str)
def test_setting_that_the_kernel_does_not_know_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received: "):
        FusedBatchNormalization(**settings)(tf.zeros(SHAPE))
