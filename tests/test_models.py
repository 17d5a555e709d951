"""Tests of the networks, their registry, and where their noise sits."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rse_tf import models
from rse_tf.layers import BReLU, NoiseLayer, noise_layers, noise_state, set_noise_state
from rse_tf.models import MODELS, Network, NetworkSpec, NoiseSettings

# Input shape, number of convolutions (a grouped one counts once), trainable parameters for 10
# classes. Of ResNeXt-29 2x64d it is the published figure. A convolution has k k c c' + c'.
# VGG16: the original's convolutions 14,714,688 + normalisation 2 * 4,224 + dense 5,130.
# Model A: 896 + 18,496 + 73,856 + 147,584 + 295,168 + 590,080 + dense 256 * 10 + 10.
# MnistCNN: 320 + 9,248 + dense (12 * 12 * 32 + 1) * 128 + 1,290.
# CifarCNN: 896 + 9,248 + 18,496 + 36,928 + 73,856 + 147,584 + (4 * 4 * 128 + 1) * 512 + 5,130.
NETWORKS = {
    "vgg16": ((32, 32, 3), 13, 14_728_266),
    "resnext29": ((32, 32, 3), 31, 9_128_778),
    "model_a": ((96, 96, 3), 6, 1_128_650),
    "mnist_cnn": ((28, 28, 1), 2, 600_810),
    "cifar_cnn": ((32, 32, 3), 6, 1_341_226),
}
SETTINGS = {"init_noise": 0.4, "inner_noise": 0.1}


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    """Every network with noise; the tests leave them as they are."""
    keras.utils.set_random_seed(0)
    return {
        name: models.build(name, input_shape=shape, **SETTINGS)
        for name, (shape, _, _) in NETWORKS.items()
    }


def producer(tensor: Any) -> keras.layers.Layer:
    return tensor._keras_history.operation


def noise_before(convolution: keras.layers.Layer) -> keras.layers.Layer:
    """The layer in front of a convolution, or of the slice that it is given."""
    before = producer(convolution.input)
    return producer(before.input) if type(before).__name__ == "GetItem" else before


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def test_table_of_this_file_has_every_network() -> None:
    assert sorted(NETWORKS) == sorted(MODELS)


@pytest.mark.parametrize("name", NETWORKS)
def test_noise_precedes_every_convolution(networks: dict[str, Network], name: str) -> None:
    before = [noise_before(layer) for layer in convolutions(networks[name])]
    assert all(isinstance(layer, NoiseLayer) for layer in before)
    assert {id(layer) for layer in before} == {id(n) for n in noise_layers(networks[name])}
    assert len(noise_layers(networks[name])) == NETWORKS[name][1]


@pytest.mark.parametrize("name", NETWORKS)
def test_init_noise_is_on_the_images_and_inner_noise_everywhere_else(
    networks: dict[str, Network], name: str
) -> None:
    for layer in noise_layers(networks[name]):
        on_images = isinstance(producer(layer.input), keras.layers.InputLayer)
        assert layer.stddev == (0.4 if on_images else 0.1)
    assert sum(layer.stddev == 0.4 for layer in noise_layers(networks[name])) == 1


@pytest.mark.parametrize("name", ["mnist_cnn", "vgg16"])
def test_init_noise_can_sit_before_the_second_convolution(name: str) -> None:
    shape, count, _ = NETWORKS[name]
    model = models.build(name, input_shape=shape, init_noise_at="second_conv", **SETTINGS)
    first, *_ = convolutions(model)
    assert isinstance(producer(noise_before(first).input), keras.layers.InputLayer)
    assert noise_before(first).stddev == 0.1
    # Walk down from the first convolution to the noise that comes next: it is the initial one.
    layer = first
    while not isinstance(layer, NoiseLayer):
        layer = layer._outbound_nodes[0].operation
    assert layer.stddev == 0.4
    stddevs = [noise.stddev for noise in noise_layers(model)]
    assert sorted(stddevs) == [0.1] * (count - 1) + [0.4]


@pytest.mark.parametrize("name", NETWORKS)
def test_number_of_trainable_parameters(networks: dict[str, Network], name: str) -> None:
    shapes = [variable.shape for variable in networks[name].trainable_variables]
    assert sum(int(np.prod(shape)) for shape in shapes) == NETWORKS[name][2]


@pytest.mark.parametrize("name", NETWORKS)
def test_noise_reaches_the_logits_of_each_example(networks: dict[str, Network], name: str) -> None:
    images = tf.fill((2, *NETWORKS[name][0]), 0.5)
    state = noise_state(networks[name])
    first = networks[name](images).numpy()
    assert np.all(first != networks[name](images))
    assert np.all(first[0] != first[1])  # though the images are the same
    set_noise_state(networks[name], state)
    np.testing.assert_allclose(networks[name](images), first, atol=1e-6)


@pytest.mark.parametrize("name", ["mnist_cnn", "resnext29"])
def test_logits_are_float32_and_the_rest_low_precision_under_a_mixed_policy(name: str) -> None:
    model = models.build(name, input_shape=(8, 8, 1), dtype="mixed_bfloat16", **SETTINGS)
    assert model(tf.ones((1, 8, 8, 1))).dtype == tf.float32
    hidden = [layer for layer in model.layers[1:-1] if isinstance(layer, keras.layers.Layer)]
    assert {layer.compute_dtype for layer in hidden} == {"bfloat16"}
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


def test_logits_of_a_mixed_policy_are_those_of_float32_to_its_precision() -> None:
    quiet = [
        models.build("mnist_cnn", input_shape=(28, 28, 1), dtype=dtype)
        for dtype in ("float32", "mixed_bfloat16")
    ]
    quiet[1].set_weights(quiet[0].get_weights())
    images = tf.random.stateless_uniform((4, 28, 28, 1), (1, 2))
    expected, actual = (network(images).numpy() for network in quiet)
    # Each of the four layers rounds its input and output to 2^-9 of their values.
    assert np.abs(actual - expected).max() <= 8 * 2.0**-9 * np.abs(expected).max()
    assert np.any(actual != expected)


def test_split_convolution_of_resnext_is_a_grouped_convolution(
    networks: dict[str, Network],
) -> None:
    joins = [x for x in networks["resnext29"].layers if isinstance(x, keras.layers.Concatenate)]
    assert len(joins) == 9
    strides = []
    for join in (joins[0], joins[3]):
        parts = [producer(tensor) for tensor in join.input]
        noise = noise_before(parts[0])
        split = keras.Model(noise.output, join.output)
        grouped = keras.layers.Conv2D(
            join.output.shape[-1],
            3,
            groups=2,
            padding="same",
            use_bias=False,
            strides=parts[0].strides,
        )
        grouped.build(noise.output.shape)
        grouped.set_weights([np.concatenate([part.get_weights()[0] for part in parts], axis=-1)])
        x = tf.random.stateless_normal((2, *noise.output.shape[1:]), (1, 2))
        np.testing.assert_allclose(split(x), grouped(x), rtol=1e-4, atol=1e-5)
        strides.append(parts[0].strides)
    assert strides == [(1, 1), (2, 2)]


def hidden_outputs(activation: str) -> list[np.ndarray]:
    kinds = (BReLU, keras.layers.Activation)
    model = models.build("cifar_cnn", input_shape=(8, 8, 3), activation=activation)
    outputs = [layer.output for layer in model.layers if isinstance(layer, kinds)]
    images = 50 * tf.random.stateless_uniform((2, 8, 8, 3), (1, 2))
    return [np.array(x) for x in keras.Model(model.inputs, outputs)(images)]


def test_brelu_bounds_every_activation_of_a_network_and_relu_does_not() -> None:
    bounded, unbounded = hidden_outputs("brelu"), hidden_outputs("relu")
    assert len(bounded) == len(unbounded) == 7
    assert min(x.min() for x in bounded) == min(x.min() for x in unbounded) == 0
    assert max(x.max() for x in bounded) == 1
    assert unbounded[0].max() > 1


def arguments_of_network() -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(Network.__init__).parameters)
    del parameters["self"]
    return parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_every_documented_argument_is_accepted_and_kept(name: str) -> None:
    text = Network.__doc__.split("Args:")[1].split("Attributes:")[0]
    settings = {
        "input_shape": (MODELS[name].smallest, MODELS[name].smallest + 1, 2),
        "num_classes": 3,
        "activation": "elu",
        "extra_filters": 2,
        "extra_convolution": 4,
        "dtype": "mixed_bfloat16",
        "name": "mine",
    }
    noise = NoiseSettings(0.2, 0.05, "laplace", "exact", "second_conv", "inference")
    arguments = list(arguments_of_network())
    assert re.findall(r"^ {8}(\**\w+):", text, re.M) == [*settings, "**noise"]
    assert arguments == [*settings, "noise"]
    model = MODELS[name](**settings, **dataclasses.asdict(noise))
    assert model.get_config() == {**settings, **dataclasses.asdict(noise)}
    assert model.noise == noise
    assert model.output.shape == (None, 3)
    assert all(layer.distribution == "laplace" for layer in noise_layers(model))
    assert all(layer.active == "inference" for layer in noise_layers(model))
    assert all(layer.sampler == "exact" for layer in noise_layers(model))


def test_build_passes_every_argument_on() -> None:
    settings = {**SETTINGS, "num_classes": 4, "activation": "brelu"}
    config = models.build("mnist_cnn", input_shape=(10, 12, 2), **settings).get_config()
    assert config == {**config, **settings, "input_shape": (10, 12, 2)}


def test_network_spec_has_the_arguments_of_network_and_builds_it() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(NetworkSpec)}
    arguments = arguments_of_network()
    assert set(fields) - {"name"} == set(arguments) - {"dtype", "name"}
    for name in set(fields) - {"name", "input_shape", "num_classes", "noise"}:
        assert fields[name] == arguments[name].default
    noise = NoiseSettings(0.3, 0.2, "uniform", "exact", "second_conv", "training")
    spec = NetworkSpec("mnist_cnn", (8, 8, 1), 5, noise, "brelu", 3, 2)
    model = spec.build("mixed_bfloat16")
    settings = {**spec.facts(), "dtype": "mixed_bfloat16"}
    assert dataclasses.asdict(noise).items() <= settings.items()
    del settings["name"]
    assert model.get_config() == {**settings, "name": model.name}
    quiet = spec.without_noise().build()
    assert [layer.stddev for layer in noise_layers(quiet)] == [0, 0, 0]
    kept = ("input_shape", "num_classes", "activation", "extra_filters", "extra_convolution")
    assert {n: quiet.get_config()[n] for n in kept} == {n: settings[n] for n in kept}


@pytest.mark.parametrize("name", NETWORKS)
def test_extra_filters_widen_the_first_convolution_and_no_other(name: str) -> None:
    (height, width, channels), _, _ = NETWORKS[name]
    plain, wide = (
        models.build(name, input_shape=(height, width, channels), extra_filters=extra)
        for extra in (0, 8)
    )
    found = [[c.filters for c in convolutions(model)] for model in (plain, wide)]
    assert found[1] == [found[0][0] + 8, *found[0][1:]]
    assert wide(np.zeros((1, height, width, channels), np.float32)).shape == (1, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_extra_convolution_is_the_first_one_and_takes_the_init_noise(name: str) -> None:
    shape, number, _ = NETWORKS[name]
    plain = models.build(name, input_shape=shape)
    deep = models.build(name, input_shape=shape, extra_convolution=8, **SETTINGS)
    first, second, *others = convolutions(deep)
    assert (first.filters, first.kernel_size, first.padding) == (8, (3, 3), "same")
    # Behind it is the network as it was.
    assert [c.filters for c in (second, *others)] == [c.filters for c in convolutions(plain)]
    stddevs = [layer.stddev for layer in noise_layers(deep)]
    assert stddevs == [0.4] + [0.1] * number and noise_before(first).stddev == 0.4


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="mnist_cnn.*Received: name='vgg17'"):
        models.build("vgg17", input_shape=(32, 32, 3))


@pytest.mark.parametrize("name", NETWORKS)
def test_unknown_argument_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="noise_at"):
        models.build(name, input_shape=NETWORKS[name][0], noise_at="first_conv")


@pytest.mark.parametrize(
    "settings",
    [
        {"input_shape": (32, 32)},
        {"input_shape": (2, 32, 3)},
        {"num_classes": 1},
        {"num_classes": 2.5},
        {"init_noise": -0.1},
        {"inner_noise": float("nan")},
        {"distribution": "cauchy"},
        {"active": "never"},
        {"init_noise_at": "third_conv"},
        {"extra_filters": -1},
        {"extra_convolution": 2.5},
    ],
    ids=str,
)
def test_bad_argument_is_refused_with_its_value(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received: "):
        models.build("mnist_cnn", **{"input_shape": (28, 28, 1), **settings})


@pytest.mark.parametrize("name", NETWORKS)
def test_image_below_the_smallest_size_is_refused(name: str) -> None:
    smallest = MODELS[name].smallest  # the size itself is accepted, see above
    with pytest.raises(ValueError, match=f"at least {smallest} x {smallest} .*Received: "):
        models.build(name, input_shape=(smallest, smallest - 1, 1))


@pytest.mark.parametrize("shape", [(None, 32, 32, 3), (32, 32), (32, 32, 0), (32, None, 3)])
def test_an_input_shape_that_is_none_is_named(shape: Any) -> None:
    with pytest.raises(ValueError, match="without the batch. Received: input_shape="):
        models.build("vgg16", input_shape=shape)
