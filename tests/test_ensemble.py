"""Tests of the self-ensemble and the averaged ensemble."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.layers import NoiseLayer, noise_layers, noise_state, set_noise_state

FEATURES, CLASSES = 6, 3


class RowCounter(keras.layers.Layer):
    """Passes its input on and keeps the largest batch it has seen, and the sum of all."""

    def build(self, input_shape: tuple) -> None:
        counter = {"shape": (), "dtype": "int32", "initializer": "zeros", "trainable": False}
        self.largest = self.add_weight(**counter)
        self.total = self.add_weight(**counter)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(inputs)[0]
        self.largest.assign(tf.maximum(self.largest, rows))
        self.total.assign(self.total + rows)
        return inputs


def linear(kernel: np.ndarray, *before: keras.layers.Layer) -> keras.Model:
    dense = keras.layers.Dense(kernel.shape[1], use_bias=False)
    model = keras.Sequential([keras.Input((kernel.shape[0],)), *before, dense])
    dense.set_weights([kernel])
    return model


def noisy_model(*before: keras.layers.Layer, stddev: float = 1.0) -> keras.Model:
    kernel = np.random.default_rng(0).normal(size=(FEATURES, CLASSES))
    return linear(kernel, *before, NoiseLayer(stddev))


def batch(rows: int = 4) -> tf.Tensor:
    return tf.random.stateless_normal((rows, FEATURES), (1, 2))


def softmax(logits: Any) -> np.ndarray:
    return tf.nn.softmax(tf.cast(logits, tf.float64)).numpy()


@pytest.mark.parametrize(
    "num_draws, max_rows, rounds",
    [
        (5, 4, [1, 1, 1, 1, 1]),  # a batch of 4 fills a round
        (5, 1, [1, 1, 1, 1, 1]),  # a batch above the bound goes in parts
        (6, 11, [2, 2, 2]),
        (6, 8, [2, 2, 2]),
        (5, 8, [1, 1, 1, 1, 1]),  # rounds are of one size: two do not divide five
        (5, 512, [5]),
        (1, 512, [1]),
    ],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_self_ensemble_is_the_log_of_the_mean_softmax_over_its_draws(
    num_draws: int, max_rows: int, rounds: list[int], compiled: bool
) -> None:
    model, images = noisy_model(), batch()
    ensemble = rse_tf.SelfEnsemble(model, num_draws, max_rows)
    call = tf.function(ensemble, autograph=False) if compiled else ensemble
    state = noise_state(model)
    actual = call(images)
    # The same draws by hand: a round of r draws is one call on the images tiled r times.
    set_noise_state(model, state)
    expected = []
    for start in range(0, 4, max_rows):
        part = images[start : start + max_rows]
        draws = [softmax(model(tf.tile(part, (r, 1)))) for r in rounds]
        draws = [each.reshape(-1, len(part), CLASSES) for each in draws]
        expected.append(np.log(np.concatenate(draws).mean(axis=0)))
    np.testing.assert_allclose(actual, np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert actual.dtype == tf.float32
    assert sum(rounds) == num_draws


def test_self_ensemble_draws_anew_in_every_call_and_is_exact_without_noise() -> None:
    images = batch()
    noisy = rse_tf.SelfEnsemble(noisy_model(), 3)
    assert np.all(noisy(images) != noisy(images))
    silent = noisy_model(stddev=0.0)
    ensemble = rse_tf.SelfEnsemble(silent, 7, max_rows=8)
    np.testing.assert_allclose(ensemble(images), tf.nn.log_softmax(silent(images)), atol=1e-5)


@pytest.mark.parametrize("num_draws", [1, 4, 16])
def test_variance_of_the_ensemble_falls_as_one_over_the_draws(num_draws: int) -> None:
    # Logits (x, 0) at x ~ N(0, s^2): p = sigmoid(x) = 1/2 + x/4 - x^3/48, so for s = 0.1
    # Var p = s^2 / 16 to within s^2 / 2 = 0.5 %, and a mean over n draws has 1/n of it.
    stddev, rows = 0.1, 3000
    model = linear(np.array([[1.0, 0.0]]), NoiseLayer(stddev, seed=3))
    ensemble = rse_tf.SelfEnsemble(model, num_draws, max_rows=4 * rows)
    probability = softmax(ensemble(tf.zeros((rows, 1))))[:, 0]
    # (N - 1) S^2 / sigma^2 is chi-square with N - 1 degrees of freedom: relative standard
    # deviation sqrt(2 / (N - 1)) = 2.6 %.
    ratio = probability.var(ddof=1) * num_draws / (stddev**2 / 16)
    assert abs(ratio - 1) <= 5 * math.sqrt(2 / (rows - 1)) + stddev**2 / 2


@pytest.mark.parametrize("rows, max_rows", [(1, 7), (3, 7), (4, 8), (5, 2), (8, 8)])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_inner_model_never_sees_more_rows_than_the_bound(
    rows: int, max_rows: int, compiled: bool
) -> None:
    counter = RowCounter()
    ensemble = rse_tf.SelfEnsemble(noisy_model(counter), 10, max_rows)
    (tf.function(ensemble, autograph=False) if compiled else ensemble)(batch(rows))
    # Parts of one size; the last one is filled up.
    parts = math.ceil(rows / max_rows)
    assert 10 * rows <= int(counter.total) == 10 * parts * math.ceil(rows / parts)
    # As parallel as the bound and ten draws in rounds of one size allow.
    at_once = max(d for d in (1, 2, 5, 10) if d == 1 or d * rows <= max_rows)
    assert int(counter.largest) == at_once * math.ceil(rows / parts) <= max_rows


def test_one_trace_serves_every_batch_size() -> None:
    ensemble = rse_tf.SelfEnsemble(noisy_model(), 3, max_rows=8)
    spec = tf.TensorSpec([None, FEATURES])
    call = tf.function(ensemble, input_signature=[spec], autograph=False)
    for rows in (1, 4, 9, 0):
        total = softmax(call(batch(rows))).sum(axis=1)
        np.testing.assert_allclose(total, np.ones(rows), atol=1e-6)
    assert call.experimental_get_tracing_count() == 1


def test_softmax_of_an_ensemble_is_its_probability() -> None:
    model = noisy_model(stddev=3.0)
    for ensemble in (rse_tf.SelfEnsemble(model, 5), rse_tf.AveragedEnsemble([model, model])):
        np.testing.assert_allclose(np.exp(ensemble(batch())).sum(axis=1), 1.0, atol=1e-5)


def test_self_ensemble_gradient_is_that_of_the_log_mean_softmax() -> None:
    model, images = noisy_model(), batch()
    ensemble = rse_tf.SelfEnsemble(model, 3, max_rows=4)
    state = noise_state(model)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(ensemble(images)[:, 0])
    actual = tape.gradient(loss, images)
    set_noise_state(model, state)
    with tf.GradientTape() as tape:
        tape.watch(images)
        draws = [tf.nn.softmax(model(images)) for _ in range(3)]
        loss = tf.reduce_sum(tf.math.log(tf.add_n(draws) / 3)[:, 0])
    expected = tape.gradient(loss, images)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert np.all(actual != 0)


@pytest.mark.parametrize("kind", ["self", "averaged"])
def test_gradients_stay_finite_and_alive_where_a_probability_underflows(kind: str) -> None:
    # Logits (500 x, 0) at x = 1: the second probability is exp(-500), 0 in float32; its log is
    # -500 x, with derivative -500.
    model = linear(np.array([[500.0, 0.0]]), NoiseLayer(0.0))
    ensemble = rse_tf.SelfEnsemble(model, 4, max_rows=2)
    if kind == "averaged":
        ensemble = rse_tf.AveragedEnsemble([model, model])
    x = tf.ones((2, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_probs = ensemble(x)
        loss = tf.reduce_sum(log_probs[:, 1])
    np.testing.assert_allclose(log_probs, [[0.0, -500.0]] * 2, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, x), [[-500.0]] * 2, rtol=1e-4)


@pytest.mark.parametrize("kind", ["self", "averaged"])
def test_members_run_in_inference_mode_even_inside_a_model_in_training(kind: str) -> None:
    member = noisy_model(keras.layers.Dropout(0.5), stddev=0.0)
    ensemble = rse_tf.AveragedEnsemble([member])
    if kind == "self":
        ensemble = rse_tf.SelfEnsemble(member, 2)
    outer = keras.Sequential([keras.Input((FEATURES,)), ensemble])
    images = batch()
    expected = tf.nn.log_softmax(member(images))
    np.testing.assert_allclose(outer(images, training=True), expected, atol=1e-5)
    assert np.any(tf.nn.log_softmax(member(images, training=True)) != expected)


def test_ensembles_give_float32_for_low_precision_models() -> None:
    dense = keras.layers.Dense(CLASSES, dtype="bfloat16")
    model = keras.Sequential([keras.Input((FEATURES,)), NoiseLayer(0.1), dense])
    for ensemble in (rse_tf.SelfEnsemble(model, 3), rse_tf.AveragedEnsemble([model, model])):
        outputs = ensemble(batch())
        assert outputs.dtype == tf.float32
        # In bfloat16 the sum would be off by about 2^-9.
        np.testing.assert_allclose(np.exp(outputs).sum(axis=1), 1.0, atol=1e-5)


def test_noise_of_the_inner_models_is_reached_through_the_ensemble() -> None:
    first, second = noisy_model(), noisy_model()
    nested = rse_tf.AveragedEnsemble([rse_tf.SelfEnsemble(first, 2), second])
    inner = noise_layers(first) + noise_layers(second)
    assert sorted(map(id, noise_layers(nested))) == sorted(map(id, inner))


def test_averaged_ensemble_is_the_log_of_its_members_mean_probability() -> None:
    # At x = (1, 0): logits (ln 3, 0) give (3/4, 1/4), logits (0, ln 4) give (1/5, 4/5); the mean
    # is (0.475, 0.525). At x = 0 both give 1/2.
    first = linear(np.array([[math.log(3.0), 0.0], [7.0, 1.0]]))
    second = linear(np.array([[0.0, math.log(4.0)], [2.0, 2.0]]))
    ensemble = rse_tf.AveragedEnsemble([first, second])
    outputs = ensemble(tf.constant([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(np.exp(outputs), [[0.475, 0.525], [0.5, 0.5]], rtol=1e-5)
    assert np.argmax(first(tf.constant([[1.0, 0.0]]))) == 0  # and the mean decides for class 1


def test_stacked_logits_are_those_of_every_member_and_of_every_draw() -> None:
    model, other, images = noisy_model(), noisy_model(stddev=0.0), batch()
    state = noise_state(model)
    draws = rse_tf.SelfEnsemble(model, 3, max_rows=4).stacked_logits(images)
    set_noise_state(model, state)
    # All draws are one call, whatever max_rows is.
    expected = tf.reshape(model(tf.tile(images, (3, 1))), [3, 4, CLASSES])
    np.testing.assert_allclose(draws, expected, atol=1e-6)
    assert np.all(draws[0] != draws[1])
    set_noise_state(model, state)
    members = rse_tf.AveragedEnsemble([other, model]).stacked_logits(images)
    set_noise_state(model, state)
    np.testing.assert_allclose(members, [other(images), model(images)], atol=1e-6)


def test_the_mean_probability_of_stacked_logits_is_the_ensembles() -> None:
    members = [linear(np.random.default_rng(seed).normal(size=(6, 3))) for seed in range(3)]
    ensemble, images = rse_tf.AveragedEnsemble(members), batch()
    mean = softmax(ensemble.stacked_logits(images)).mean(axis=0)
    np.testing.assert_allclose(softmax(ensemble(images)), mean, atol=1e-6)


def test_ensemble_of_one_member_is_that_member() -> None:
    member = linear(np.array([[1.0, 2.0], [3.0, -1.0]]))
    x = tf.constant([[0.3, 0.7]])
    outputs = rse_tf.AveragedEnsemble([member])(x)
    np.testing.assert_allclose(outputs, tf.nn.log_softmax(member(x)), atol=1e-6)


@pytest.mark.parametrize("members", [[], [3], [None], ["vgg16"], [lambda images: images]])
def test_averaged_ensemble_refuses_what_is_no_list_of_models(members: list) -> None:
    with pytest.raises(ValueError, match="members must be .*Received: members="):
        rse_tf.AveragedEnsemble(members)


@pytest.mark.parametrize("name", ["num_draws", "max_rows"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_self_ensemble_refuses_a_bad_count(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*Received: {name}="):
        rse_tf.SelfEnsemble(noisy_model(), **{name: value})


class Subclassed(keras.Model):
    """A model that Keras knows nothing of but its call."""

    def __init__(self) -> None:
        super().__init__()
        self.noise, self.dense = NoiseLayer(0.5), keras.layers.Dense(CLASSES)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.dense(self.noise(inputs))


def test_ensembles_take_subclassed_models() -> None:
    model, inputs = Subclassed(), np.ones((5, FEATURES), np.float32)
    state = noise_state(model)
    first = tf.nn.log_softmax(model(inputs))
    for ensemble in (rse_tf.SelfEnsemble(model, 1), rse_tf.AveragedEnsemble([model])):
        set_noise_state(model, state)
        np.testing.assert_allclose(ensemble(inputs), first, atol=1e-6)
        assert ensemble.compute_output_shape((None, FEATURES)) == (None, CLASSES)
