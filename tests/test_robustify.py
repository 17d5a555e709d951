"""Tests of putting noise into any Keras model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import rse_tf
from rse_tf.layers import NoiseLayer, noise_layers, noise_state, set_noise_state
from rse_tf.models.robustify import CONVOLUTIONS


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Rescaling(2.0),
            layers.Conv2D(3, 3),
            layers.ReLU(),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def functional() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, padding="same")(inputs * 2.0)
    x = layers.Add()([x, layers.Conv2D(3, 1)(x)])
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x[..., :2]))


def functional_in_sequential() -> keras.Model:
    return keras.Sequential([functional_block(), layers.Conv2D(2, 3), layers.Flatten()])


def functional_block() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    return keras.Model(inputs, layers.ReLU()(layers.Conv2D(3, 3)(inputs)))


def sequential_in_functional() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    block = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(3, 3), layers.Conv2D(2, 3)])
    return keras.Model(inputs, layers.Flatten()(layers.Conv2D(2, 1)(block(inputs))))


def shared_convolution() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    shared = layers.Conv2D(2, 3, padding="same")
    return keras.Model(inputs, layers.Flatten()(shared(layers.ReLU()(shared(inputs)))))


def shared_inside_and_outside() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    shared = layers.Conv2D(2, 3, padding="same")
    inner_inputs = keras.Input((8, 8, 2))
    inner = keras.Model(inner_inputs, layers.ReLU()(shared(inner_inputs)))
    return keras.Model(inputs, layers.Flatten()(shared(inner(inputs))))


def branches_of_one_shape() -> keras.Model:
    # Noise makes one branch the deeper one, and with it Keras lists the layers in another order.
    inputs = keras.Input((8, 8, 2))
    long, short = layers.Dense(2)(inputs), layers.Dense(2)(inputs)
    long = layers.ReLU()(layers.ReLU()(long))
    short = layers.Conv2D(2, 1)(layers.ReLU()(short))
    return keras.Model(inputs, layers.Add()([long, short]))


def time_distributed() -> keras.Model:
    return keras.Sequential(
        [keras.Input((3, 8, 8, 2)), layers.TimeDistributed(layers.Conv2D(2, 3)), layers.Flatten()]
    )


def single(rank: int, layer: Callable[..., keras.layers.Layer], *args: Any) -> Callable:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((6,) * rank + (2,)), layer(*args), layers.Flatten()])

    return build


# A model and the number of calls of convolutions in it.
MODELS: dict[str, tuple[Callable[[], keras.Model], int]] = {
    "sequential": (sequential, 2),
    "functional": (functional, 2),
    "functional in sequential": (functional_in_sequential, 2),
    "sequential in functional": (sequential_in_functional, 3),
    "shared convolution": (shared_convolution, 2),
    "shared inside and outside": (shared_inside_and_outside, 2),
    "branches of one shape": (branches_of_one_shape, 1),
    "time distributed": (time_distributed, 1),
    "Conv1D": (single(1, layers.Conv1D, 3, 2), 1),
    "Conv3D": (single(3, layers.Conv3D, 3, 2), 1),
    "Conv1DTranspose": (single(1, layers.Conv1DTranspose, 3, 2), 1),
    "Conv2DTranspose": (single(2, layers.Conv2DTranspose, 3, 2), 1),
    "Conv3DTranspose": (single(3, layers.Conv3DTranspose, 3, 2), 1),
    "DepthwiseConv1D": (single(1, layers.DepthwiseConv1D, 2), 1),
    "DepthwiseConv2D": (single(2, layers.DepthwiseConv2D, 2), 1),
    "SeparableConv1D": (single(1, layers.SeparableConv1D, 3, 2), 1),
    "SeparableConv2D": (single(2, layers.SeparableConv2D, 3, 2), 1),
}
APPLICATIONS = {
    "MobileNetV2": (keras.applications.MobileNetV2, 52),
}


def application(name: str) -> keras.Model:
    return APPLICATIONS[name][0](
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )


def scramble(model: keras.Model) -> keras.Model:
    """Gives every weight a value of its own, so that none can stand in for another."""
    rng = np.random.default_rng(0)
    weights = [w * rng.uniform(0.8, 1.2, w.shape) for w in model.get_weights()]
    model.set_weights([w + rng.uniform(-0.02, 0.02, w.shape) for w in weights])
    return model


def images_for(model: keras.Model, rows: int = 2) -> tf.Tensor:
    return tf.random.stateless_uniform((rows, *model.input_shape[1:]), (3, 4))


def calls_of_convolutions(model: keras.Model) -> list[Any]:
    """The nodes of the graphs in which a convolution is called."""
    found = [
        layer
        for layer in model._flatten_layers()
        if isinstance(getattr(layer, "layer", layer), CONVOLUTIONS)
    ]
    return [node for layer in found for node in layer._inbound_nodes]


def weight_bytes(model: keras.Model) -> list[bytes]:
    # Sorted, as the noise may change the order in which a model lists its layers.
    return sorted(weight.tobytes() for weight in model.get_weights())


def check(model: keras.Model, count: int) -> None:
    """The whole contract of `robustify` on one model with `count` calls of convolutions."""
    images = images_for(scramble(model))
    weights, expected = model.get_weights(), model(images).numpy()
    config = model.get_config()

    silent = rse_tf.robustify(model, 0.0, 0.0)
    np.testing.assert_allclose(silent(images), expected, rtol=1e-5, atol=1e-5)
    assert silent.count_params() == model.count_params()
    assert weight_bytes(silent) == weight_bytes(model)

    noisy = rse_tf.robustify(model, 0.4, 0.1, "uniform", "always")
    assert np.any(noisy(images) != noisy(images))
    noises = noise_layers(noisy)
    assert sorted(noise.stddev for noise in noises) == [0.1] * (count - 1) + [0.4]
    assert {noise.distribution for noise in noises} == {"uniform"}
    calls = calls_of_convolutions(noisy)
    assert len(calls) >= count  # a Sequential model calls its layers again as it grows
    for node in calls:
        assert isinstance(node.input_tensors[0]._keras_history.operation, NoiseLayer)

    # The original is untouched, and the copy shares nothing with it.
    noisy.set_weights([np.zeros_like(w) for w in noisy.get_weights()])
    assert noise_layers(model) == [] and model.get_config() == config
    for old, new in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model(images), expected)


@pytest.mark.parametrize("name", MODELS)
def test_copy_has_noise_before_every_convolution_and_is_else_the_same(name: str) -> None:
    build, count = MODELS[name]
    check(build(), count)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_known_network_has_noise_before_every_convolution_and_is_else_the_same(name: str) -> None:
    check(application(name), APPLICATIONS[name][1])


@pytest.mark.parametrize("name", MODELS)
def test_first_convolution_in_call_order_gets_the_initial_noise(name: str) -> None:
    noisy = rse_tf.robustify(MODELS[name][0](), 0.4, 0.1)
    order: list[float] = []
    call = NoiseLayer.call

    def record(self: NoiseLayer, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        order.append(self.stddev)
        return call(self, inputs, training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NoiseLayer, "call", record)
        noisy(images_for(noisy))
    assert order == [0.4] + [0.1] * (MODELS[name][1] - 1)


def test_copies_of_a_shared_convolution_share_their_weights() -> None:
    for build in (shared_convolution, shared_inside_and_outside):
        noisy = rse_tf.robustify(build(), 0.4, 0.1)
        # Two calls of one convolution: 3 * 3 * 2 * 2 weights and 2 biases, once.
        assert len(noise_layers(noisy)) == 2
        assert noisy.count_params() == 38


@pytest.mark.parametrize(
    "name", ["functional", "functional in sequential", "shared convolution", "time distributed"]
)
def test_copy_survives_a_round_trip_through_a_file(name: str, tmp_path: Path) -> None:
    noisy = rse_tf.robustify(scramble(MODELS[name][0]()), 0.4, 0.1, "laplace", "inference")
    noisy.save(tmp_path / "noisy.keras")
    loaded = keras.saving.load_model(tmp_path / "noisy.keras")
    images = images_for(noisy)
    set_noise_state(loaded, noise_state(noisy))
    np.testing.assert_allclose(loaded(images), noisy(images), rtol=1e-5, atol=1e-6)
    assert np.any(loaded(images) != loaded(images))
    assert [n.get_config() for n in noise_layers(loaded)] == [
        n.get_config() for n in noise_layers(noisy)
    ]


def test_copy_keeps_dtype_policies_and_frozen_layers() -> None:
    frozen = layers.Conv2D(2, 3, dtype="mixed_bfloat16", trainable=False)
    model = keras.Sequential([keras.Input((8, 8, 2)), frozen, layers.Flatten()])
    noisy = rse_tf.robustify(model, 0.4, 0.1)
    assert noise_layers(noisy)[0].compute_dtype == "bfloat16"
    assert noisy.trainable_variables == []


def test_noise_takes_names_that_are_free() -> None:
    noises = [layers.GaussianNoise(0.1, name=name) for name in ("noise_0", "noise_0_", "noise_2")]
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), *noises, layers.Conv2D(2, 3), layers.Conv2D(2, 3)]
    )
    assert [layer.name for layer in noise_layers(rse_tf.robustify(model, 0.4, 0.1))] == [
        "noise_0__",
        "noise_1",
    ]


def test_a_convolution_called_by_keyword_gets_its_noise() -> None:
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Conv2D(2, 3)(inputs=inputs)
    noisy = rse_tf.robustify(keras.Model(inputs, outputs), 0.3, 0.1)
    assert [layer.stddev for layer in noise_layers(noisy)] == [0.3]
