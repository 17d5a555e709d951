"""Tests of the noise layer and the bounded rectifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from rse_tf.layers import BReLU, NoiseLayer

ROOT2, ROOT3 = math.sqrt(2.0), math.sqrt(3.0)
# The laws of standard deviation 1: Var(uniform on an interval of width w) = w^2 / 12, and
# Var(Laplace of scale b) = 2 b^2. With each its kurtosis.
LAWS = {
    "gaussian": (scipy.stats.norm(), 3.0),
    "uniform": (scipy.stats.uniform(-ROOT3, 2 * ROOT3), 1.8),
    "laplace": (scipy.stats.laplace(scale=1 / ROOT2), 6.0),
}
STRATEGY_DEVICES = ["CPU:0", "CPU:1"]


def noise_of(layer: NoiseLayer, shape: tuple[int, ...] = (4, 50), **call: Any) -> np.ndarray:
    """What the layer adds to a zero image, float64."""
    return tf.cast(layer(tf.zeros(shape), **call), tf.float64).numpy()


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("distribution", LAWS)
def test_noise_follows_the_stated_law(distribution: str, dtype: str) -> None:
    stddev, count = 0.4, 200_000
    layer = NoiseLayer(stddev, distribution, seed=1, dtype=dtype)
    law, kurtosis = LAWS[distribution]
    scaled = noise_of(layer, (count,)) / stddev
    # The mean of N draws has standard deviation 1 / sqrt(N), and the sample's standard
    # deviation sqrt((kurtosis - 1) / (4 N)).
    assert abs(scaled.mean()) <= 5 / math.sqrt(count)
    assert abs(scaled.std() - 1) <= 5 * math.sqrt((kurtosis - 1) / (4 * count))
    # P(D > 2 / sqrt(N)) = 2 exp(-8) < 0.001. Rounding to bfloat16 moves a draw x by at most
    # 2^-8 |x|, and so the distribution function by 2^-8 max |x| f(x) <= 2^-9 in these laws.
    rounding = 2.0**-9 if dtype == "mixed_bfloat16" else 0.0
    distance = scipy.stats.kstest(scaled, law.cdf).statistic
    assert distance <= 2 / math.sqrt(count) + rounding


def test_laws_are_told_apart_by_the_distance_used_above() -> None:
    draws = noise_of(NoiseLayer(1.0, "laplace", seed=1), (200_000,))
    assert scipy.stats.kstest(draws, LAWS["gaussian"][0].cdf).statistic > 0.03


@pytest.mark.parametrize("distribution", LAWS)
def test_noise_is_added_to_the_input_in_the_compute_dtype(distribution: str) -> None:
    images = tf.random.stateless_uniform((2, 6), (1, 2))
    layer = NoiseLayer(0.5, distribution, seed=3)
    noise = noise_of(NoiseLayer(0.5, distribution, seed=3), (2, 6))
    np.testing.assert_allclose(layer(images), images + noise, atol=1e-6)
    assert NoiseLayer(0.5, distribution, dtype="mixed_bfloat16")(images).dtype == tf.bfloat16


@pytest.mark.parametrize("training", [False, True, None])
@pytest.mark.parametrize("active", ["always", "training", "inference"])
def test_noise_is_alive_only_where_the_layer_says(active: str, training: bool | None) -> None:
    alive = active == "always" or (active == "training") == bool(training)
    images = tf.ones((2, 8))
    layer = NoiseLayer(0.3, active=active)
    inner = keras.Sequential([keras.Input((8,)), NoiseLayer(0.3, active=active)])
    outer = keras.Sequential([keras.Input((8,)), inner])
    compiled = tf.function(lambda images: outer(images, training=training), autograph=False)
    calls: dict[str, Callable] = {
        "layer": lambda: layer(images, training=training),
        "model": lambda: inner(images, training=training),
        "nested model": lambda: outer(images, training=training),
        "compiled model": lambda: compiled(images),
    }
    for name, call in calls.items():
        assert np.any(call() != images) == alive, name


def test_noise_is_alive_in_predict_and_fit_as_the_layer_says() -> None:
    images, alive = np.ones((4, 8), np.float32), {}
    for active in ("always", "training", "inference"):
        model = keras.Sequential([keras.Input((8,)), NoiseLayer(0.3, active=active)])
        model.compile("sgd", "mse")
        in_fit = model.fit(images, images, verbose=0).history["loss"][0]
        in_predict = np.abs(model.predict(images, verbose=0) - images).max()
        alive[active] = (in_fit > 0, in_predict > 0)
    assert alive == {
        "always": (True, True),
        "training": (True, False),
        "inference": (False, True),
    }


@pytest.mark.parametrize("distribution", LAWS)
def test_zero_stddev_is_exactly_the_identity(distribution: str) -> None:
    images = tf.random.stateless_normal((3, 7), (0, 1))
    layer = NoiseLayer(0, distribution)
    np.testing.assert_array_equal(layer(images), images)
    np.testing.assert_array_equal(layer(images, training=True), images)
    assert layer.seed_generator.state.numpy()[1] == 0  # and it spends no time on drawing


@pytest.mark.parametrize(
    "arguments",
    [
        {"stddev": -0.1},
        {"stddev": math.nan},
        {"stddev": math.inf},
        {"distribution": "cauchy"},
        {"active": "never"},
        {"sampler": "fast"},
        {"active": True},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": 1.5},
        {"seed": True},
    ],
)
def test_bad_noise_argument_is_refused_by_name_and_value(arguments: dict[str, Any]) -> None:
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=rf"{name} must be .*Received: {name}=.*"):
        NoiseLayer(**{"stddev": 0.1, **arguments})


def test_integer_input_is_refused() -> None:
    with pytest.raises(ValueError, match="floating-point.*Received: dtype=int32"):
        NoiseLayer(0.1)(tf.zeros((2, 3), tf.int32))


def test_numpy_integer_is_a_seed() -> None:
    layer = NoiseLayer(0.1, seed=np.int64(4))
    np.testing.assert_array_equal(noise_of(layer), noise_of(NoiseLayer(0.1, seed=4)))


def largest_correlation(rows: np.ndarray) -> float:
    rows = rows.reshape(len(rows), -1)
    return float(np.abs(np.corrcoef(rows) - np.eye(len(rows))).max())


# Independent samples of size N correlate by 1 / sqrt(N) at one standard deviation.
SIZE, TOLERANCE = 10_000, 5 / math.sqrt(10_000)


def test_layers_without_a_seed_draw_independent_noise() -> None:
    rows = np.stack([noise_of(NoiseLayer(1.0), (1, SIZE)) for _ in range(4)])
    assert largest_correlation(rows) <= TOLERANCE


def test_calls_draw_independent_noise() -> None:
    layer = NoiseLayer(1.0, seed=1)
    rows = np.stack([noise_of(layer, (1, SIZE)) for _ in range(4)])
    assert largest_correlation(rows) <= TOLERANCE


def test_examples_of_a_batch_get_independent_noise() -> None:
    assert largest_correlation(noise_of(NoiseLayer(1.0), (4, SIZE))) <= TOLERANCE


def test_elements_of_an_example_get_independent_noise() -> None:
    image = noise_of(NoiseLayer(1.0), (1, 4, SIZE))[0]
    assert largest_correlation(image) <= TOLERANCE


def test_the_same_seed_replays_the_noise_call_by_call() -> None:
    first, second, other = NoiseLayer(1.0, seed=7), NoiseLayer(1.0, seed=7), NoiseLayer(1.0, seed=8)
    for _ in range(3):
        expected = noise_of(first)
        np.testing.assert_array_equal(expected, noise_of(second))
        assert np.all(expected != noise_of(other))


def test_unseeded_noise_repeats_after_the_global_seed_is_set() -> None:
    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(11)
        draws.append([noise_of(NoiseLayer(1.0)), noise_of(NoiseLayer(1.0))])
    np.testing.assert_array_equal(draws[0], draws[1])


def test_every_iteration_of_a_while_loop_draws_anew() -> None:
    layer = NoiseLayer(1.0)

    @tf.function(autograph=False)
    def loop() -> tf.Tensor:
        def body(index: tf.Tensor, rows: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return index + 1, rows.write(index, layer(tf.zeros((SIZE,))))

        rows = tf.TensorArray(tf.float32, 5)
        return tf.while_loop(lambda index, _: index < 5, body, (0, rows))[1].stack()

    assert largest_correlation(np.concatenate([loop(), loop()])) <= TOLERANCE


def test_noise_keeps_its_law_under_xla() -> None:
    # Not the same numbers: TensorFlow picks another generator there.
    compiled = tf.function(NoiseLayer(1.0, "laplace", seed=5), jit_compile=True)
    rows = np.stack([compiled(tf.zeros((SIZE,))) for _ in range(2)])
    assert largest_correlation(rows) <= TOLERANCE
    law = LAWS["laplace"][0]
    assert scipy.stats.kstest(rows.ravel(), law.cdf).statistic <= 2 / math.sqrt(rows.size)


def replica_noise() -> np.ndarray:
    """The noise of two steps on two replicas, `[4, SIZE]`."""
    strategy = tf.distribute.MirroredStrategy(STRATEGY_DEVICES)
    with strategy.scope():
        layer = NoiseLayer(1.0, seed=1)

    def replica_step() -> tf.Tensor:
        return layer(tf.zeros((SIZE,)))

    @tf.function(autograph=False)
    def step() -> Any:
        return strategy.run(replica_step)

    draws = [strategy.experimental_local_results(step()) for _ in range(2)]
    return np.concatenate(draws)


def test_replicas_draw_independent_noise() -> None:
    assert largest_correlation(replica_noise()) <= TOLERANCE


def test_replicas_would_draw_the_same_noise_without_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The control of the test above: it would notice.
    monkeypatch.setattr(tf.random, "fold_in", lambda seed, data: seed)
    first, second = replica_noise()[:2]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("layer", [NoiseLayer(1e-3), BReLU(2.0)], ids=["noise", "brelu"])
def test_masks_pass_through(layer: keras.layers.Layer) -> None:
    layers = [keras.layers.Masking(), layer, keras.layers.GlobalAveragePooling1D()]
    outputs = keras.Sequential(layers)(np.array([[[1.0], [0.0]]], np.float32))
    # The mean over the one step that is not masked; 0.5 if the mask were lost.
    assert abs(float(outputs[0, 0]) - 1.0) < 0.01


@pytest.mark.parametrize("max_value", [1.0, 0.5, 6])
def test_brelu_clips_values_and_passes_gradients_only_between_its_bounds(max_value: float) -> None:
    x = tf.constant([-2.0, -1e-3, 0.25 * max_value, 0.75 * max_value, 1.001 * max_value, 1e6])
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = BReLU(max_value)(x)
    np.testing.assert_allclose(outputs, np.array([0, 0, 0.25, 0.75, 1, 1]) * max_value, rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(outputs, x), [0, 0, 1, 1, 0, 0])


def test_brelu_is_bounded_by_one_unless_told_otherwise() -> None:
    np.testing.assert_array_equal(BReLU()(tf.constant([0.5, 3.0])), [0.5, 1.0])


@pytest.mark.parametrize("max_value", [0.0, -1.0, math.nan, math.inf])
def test_brelu_refuses_a_bad_bound(max_value: float) -> None:
    with pytest.raises(ValueError, match="max_value must be .*Received: max_value="):
        BReLU(max_value)
