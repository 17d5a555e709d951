"""Tests of reading, setting, seeding and freezing a model's noise."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from rse_tf.layers import (
    FrozenNoise,
    NoiseLayer,
    NoiseOff,
    noise_layers,
    noise_state,
    seed_noise,
    set_noise_state,
)

IMAGES = tf.zeros((3, 40))


def noisy_model() -> keras.Model:
    """Noise at the top and inside a nested model; zero images give the sum of all three."""
    inner = keras.Sequential(
        [keras.Input((40,)), NoiseLayer(1.0, name="b"), NoiseLayer(1.0, name="c")]
    )
    return keras.Sequential([keras.Input((40,)), NoiseLayer(1.0, name="a"), inner])


def stream(layer: keras.layers.Layer) -> np.ndarray:
    return layer(tf.zeros((1, 1000))).numpy()


def test_noise_layers_are_found_in_nested_models_in_the_same_order_in_every_copy() -> None:
    model = noisy_model()
    names = [layer.name for layer in noise_layers(model)]
    assert sorted(names) == ["a", "b", "c"]
    copy = keras.Sequential.from_config(model.get_config())
    assert [layer.name for layer in noise_layers(copy)] == names
    assert noise_layers(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])) == []


def test_noise_layers_are_found_in_subclassed_models() -> None:
    class Custom(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [NoiseLayer(0.1), keras.layers.Dense(2), NoiseLayer(0.2)]

    assert [layer.stddev for layer in noise_layers(Custom())] == [0.1, 0.2]


def test_set_noise_state_replays_the_whole_model() -> None:
    model = noisy_model()
    state = noise_state(model)
    first, second = model(IMAGES).numpy(), model(IMAGES).numpy()
    set_noise_state(model, state)
    np.testing.assert_array_equal(model(IMAGES), first)
    np.testing.assert_array_equal(model(IMAGES), second)
    assert np.all(first != second)


def test_set_noise_state_replays_an_already_compiled_function() -> None:
    model = noisy_model()
    compiled = tf.function(lambda images: model(images), autograph=False)
    compiled(IMAGES)
    state = noise_state(model)
    first = compiled(IMAGES).numpy()
    assert np.all(compiled(IMAGES) != first)
    set_noise_state(model, state)
    np.testing.assert_array_equal(compiled(IMAGES), first)
    assert compiled.experimental_get_tracing_count() == 1


def test_set_noise_state_acts_inside_a_compiled_function() -> None:
    model = noisy_model()
    state = noise_state(model)

    @tf.function(autograph=False)
    def twice(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        set_noise_state(model, state)
        first, fresh = model(images), model(images)
        set_noise_state(model, state)
        return first, fresh, model(images)

    first, fresh, replayed = twice(IMAGES)
    np.testing.assert_array_equal(first, replayed)
    assert np.all(first != fresh)


def test_noise_state_is_a_snapshot_that_later_calls_leave_alone() -> None:
    model = noisy_model()
    state = noise_state(model)
    before = state.copy()
    model(IMAGES)
    np.testing.assert_array_equal(state, before)
    assert np.all(noise_state(model)[:, 1] == before[:, 1] + 1)  # one draw for each layer


@pytest.mark.parametrize("shape", [(2, 2), (3, 1), (6,)])
def test_state_of_another_model_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2\).*Received: shape"):
        set_noise_state(noisy_model(), np.zeros(shape, np.int64))


def test_seed_noise_gives_every_layer_a_stream_of_its_own() -> None:
    model = noisy_model()
    seed_noise(model, 5)
    streams = np.concatenate([stream(layer) for layer in noise_layers(model)])
    correlations = np.corrcoef(streams) - np.eye(3)
    assert np.abs(correlations).max() <= 5 / np.sqrt(1000)  # one deviation is 1 / sqrt(N)


def test_seeds_of_other_lengths_are_other_seeds() -> None:
    seeds = [(7,), (7, 0), (7, 3), (7, 3, 0), (0, 7, 3), (7 + 3 * 2**32,), (7, 3, 0, 0)]
    model = keras.Sequential([keras.Input((2,)), NoiseLayer(0.1)])
    states = []
    for seed in seeds:
        seed_noise(model, *seed)
        states.append(tuple(noise_state(model).ravel()))
    assert len(set(states)) == len(seeds)


def test_seed_noise_replays_by_seed_in_any_copy_of_the_model() -> None:
    def draw(*seed: int) -> np.ndarray:
        model = noisy_model()
        model(IMAGES)
        seed_noise(model, *seed)
        return model(IMAGES).numpy()

    np.testing.assert_array_equal(draw(1, 2), draw(1, 2))
    draws = [draw(*seed) for seed in ((1,), (2,), (1, 2), (2, 1), (1, 0))]
    for index, left in enumerate(draws):
        for right in draws[index + 1 :]:
            assert np.all(left != right)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(0.5),
        keras.layers.RandomTranslation(0.3, 0.3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_seed_noise_seeds_the_random_layers_of_keras(layer: keras.layers.Layer) -> None:
    images = tf.random.stateless_uniform((8, 9, 9, 1), (1, 2))
    model = keras.Sequential([keras.Input((9, 9, 1)), NoiseLayer(0.1), layer])

    def draw(seed: int) -> np.ndarray:
        seed_noise(model, seed)
        return model(images, training=True).numpy()

    first = draw(1)
    assert np.any(model(images, training=True) != first)
    np.testing.assert_array_equal(draw(1), first)
    # Not by the noise alone: the layer's own draw differs as well.
    noise, layer_only = model.layers[0], model.layers[1]
    seed_noise(model, 1)
    one = layer_only(images, training=True).numpy()
    seed_noise(model, 2)
    assert np.any(layer_only(images, training=True) != one)
    assert noise.seed_generator.state.numpy()[1] == 0


def test_frozen_noise_is_the_same_in_every_call() -> None:
    model = noisy_model()
    frozen = FrozenNoise(model, seed=3)
    first = frozen(IMAGES).numpy()
    model(IMAGES)
    np.testing.assert_array_equal(frozen(IMAGES), first)
    np.testing.assert_array_equal(FrozenNoise(model, seed=3)(IMAGES), first)
    assert np.all(first != 0)
    assert np.all(first[0] != first[1])  # each row of the batch has a draw of its own


def test_frozen_noise_differs_for_other_seeds() -> None:
    model = noisy_model()
    assert np.all(FrozenNoise(model, seed=3)(IMAGES) != FrozenNoise(model, seed=4)(IMAGES))


def test_frozen_noise_holds_in_a_compiled_loop() -> None:
    frozen = FrozenNoise(noisy_model(), seed=3)

    @tf.function(autograph=False)
    def total(images: tf.Tensor) -> tf.Tensor:
        def body(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index + 1, total + frozen(images)

        return tf.while_loop(lambda i, _: i < 4, body, (0, tf.zeros_like(images)))[1]

    np.testing.assert_allclose(total(IMAGES), 4 * frozen(IMAGES).numpy(), rtol=1e-5, atol=1e-6)


def test_freezing_a_silent_model_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one NoiseLayer. Received: 'silent'"):
        FrozenNoise(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="silent"))


def test_a_model_with_its_noise_off_is_the_network_alone() -> None:
    network = keras.Sequential([keras.Input((4,)), NoiseLayer(1.0), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((5, 4), np.float32)
    alone = x @ network.layers[-1].get_weights()[0]
    off = NoiseOff(network)
    np.testing.assert_allclose(off(x), alone, rtol=1e-5, atol=1e-6)
    traced = tf.function(off, autograph=False)
    np.testing.assert_allclose(traced(x), alone, rtol=1e-5, atol=1e-6)
    assert np.abs(network(x) - alone).max() > 0.1  # and on again
    with pytest.raises(ValueError, match="at least one NoiseLayer"):
        NoiseOff(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
