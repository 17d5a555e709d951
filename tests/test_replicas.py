"""Layers on two replicas: the statistics of one device, and random numbers of their own."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.layers import Dropout, FusedBatchNormalization
from rse_tf.models import MODELS
from rse_tf.training import make_strategy


def on_two_replicas(
    build: Callable[[], keras.layers.Layer], call: Callable, batch: np.ndarray
) -> tuple[keras.layers.Layer, list[np.ndarray]]:
    """The layer, and what `call(layer, half of the batch)` returns on each replica."""
    strategy = make_strategy("mirrored")
    half = len(batch) // 2
    with strategy.scope():
        layer = build()
        layer.build((None, *batch.shape[1:]))
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(batch[half * context.replica_id_in_sync_group :][:half])
    )
    run = tf.function(lambda x: strategy.run(lambda part: call(layer, part), args=(x,)))
    found = strategy.experimental_local_results(run(parts))
    return layer, [np.asarray(one) for one in found]


@pytest.mark.parametrize("mean", [0.0, 100.0, -3000.0])
def test_batch_statistics_are_those_of_one_device_at_any_mean(mean: float) -> None:
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((16, 8, 8, 3)).astype(np.float32)
    batch[8:] += 0.5  # the replicas' own means differ
    batch = (mean + batch).astype(np.float32)
    weight = tf.constant(rng.standard_normal((8, 8, 3)), tf.float32)

    def output_and_gradient(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(weight * y**2)
        return tf.stack([y, tape.gradient(loss, x)])

    def build() -> keras.layers.Layer:
        return FusedBatchNormalization(momentum=0.5)

    layer, found = on_two_replicas(build, output_and_gradient, batch)
    exact = batch.astype(np.float64)
    center, variance = exact.mean(axis=(0, 1, 2)), exact.var(axis=(0, 1, 2))
    # Float32 rounds pixels at the mean to mean * 2^-24, and the sums of a replica not much worse.
    rounding = 1e-5 + 8 * abs(mean) * 2.0**-24
    normalised = (exact - center) / np.sqrt(variance + layer.epsilon)
    outputs = np.concatenate([one[0] for one in found])
    np.testing.assert_allclose(outputs, normalised, rtol=rounding, atol=rounding)
    moving = 0.5 + 0.5 * variance * 1024 / 1023
    np.testing.assert_allclose(layer.moving_variance, moving, rtol=1e-5 + rounding)
    alone = FusedBatchNormalization(momentum=0.5)
    alone.build((None, 8, 8, 3))
    gradient = output_and_gradient(alone, tf.constant(batch))[1]
    gradients = np.concatenate([one[1] for one in found])
    np.testing.assert_allclose(gradients, gradient, rtol=1e-3, atol=1e-3 + 10 * rounding)


def test_dropout_is_that_of_keras_with_a_mask_for_each_replica() -> None:
    ones = np.ones((2, 100, 100), np.float32)
    _, (first, second) = on_two_replicas(
        lambda: Dropout(0.25), lambda layer, x: layer(x, training=True), ones
    )
    for mask in (first, second):
        assert set(np.unique(mask)) == {0.0, np.float32(1 / 0.75)}
        # Binomial: 10,000 units, kept with probability 3/4.
        assert abs((mask > 0).mean() - 0.75) <= 5 * np.sqrt(0.75 * 0.25 / 10_000)
    agree = ((first > 0) == (second > 0)).mean()
    expected = 0.75**2 + 0.25**2
    assert abs(agree - expected) <= 5 * np.sqrt(expected * (1 - expected) / 10_000)


def test_dropout_keeps_to_its_noise_shape_and_is_silent_at_inference() -> None:
    x = np.ones((4, 5, 6), np.float32)
    layer = Dropout(0.5, noise_shape=(None, 1, None))
    kept = np.asarray(layer(x, training=True)) > 0
    assert (kept == kept[:, :1]).all() and kept.any() and not kept.all()
    np.testing.assert_array_equal(layer(x, training=False), x)
    np.testing.assert_array_equal(Dropout(1.0)(x, training=True), 0 * x)


@pytest.mark.parametrize("name", MODELS)
def test_every_random_layer_of_a_network_draws_its_own_numbers(name: str) -> None:
    # All that is random in a network is one of ours, which fold the replica into their seeds.
    side = max(MODELS[name].smallest, 8)
    model = rse_tf.models.build(name, input_shape=(side, side, 3), init_noise=0.1, inner_noise=0.1)
    layers = [one for one in model._flatten_layers() if hasattr(one, "seed_generator")]
    assert layers
    assert all(type(one).__module__.startswith("rse_tf.layers") for one in layers)
