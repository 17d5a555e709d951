"""Which networks have noise on their pixels that a certificate can rest on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from smoothed import at_distances, linear

import rse_tf
from rse_tf.evaluation import certify
from rse_tf.evaluation.input_noise import noise_on_pixels, own_stddev
from rse_tf.layers import NoiseLayer, noise_layers
from rse_tf.models import MODELS, AveragedEnsemble

Build = Callable[[], Any]


def network(name: str = "mnist_cnn", **settings: Any) -> keras.Model:
    defaults = {"input_shape": (32, 32, 1), "init_noise": 0.3, "inner_noise": 0.1}
    return rse_tf.models.build(name, **{**defaults, **settings})  # type: ignore[arg-type]


def plain() -> keras.Sequential:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)]
    )


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.noise, self.inside = NoiseLayer(0.3), plain()

    def call(self, images: Any) -> Any:
        return self.inside(self.noise(images))


def beside() -> keras.Model:
    """The pixels go to the noise, and past it as well."""
    images = keras.Input((2, 2, 1))
    x = keras.layers.Add()([NoiseLayer(0.3)(images), images])
    return keras.Model(images, linear()(x))


def twice() -> keras.Model:
    """One noise layer on the pixels and inside."""
    noise, images = NoiseLayer(0.3), keras.Input((2, 2, 1))
    return keras.Model(images, linear()(noise(keras.layers.Rescaling(2.0)(noise(images)))))


def behind(layer: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((2, 2, 1)), layer, NoiseLayer(0.3), linear()])


@pytest.mark.parametrize("name", MODELS)
def test_the_noise_of_every_network_is_found(name: str) -> None:
    side = max(MODELS[name].smallest, 32)
    model = network(name, input_shape=(side, side, 3))
    assert own_stddev(model) == 0.3
    assert noise_on_pixels(model) == noise_layers(model)[:1]


@pytest.mark.parametrize(
    "build",
    [
        lambda: network(active="inference"),
        lambda: network(sampler="exact"),
        lambda: network(extra_convolution=4),
        lambda: rse_tf.robustify(plain(), 0.3, 0.1),
        lambda: keras.Sequential([keras.Input((32, 32, 1)), network()]),
        lambda: AveragedEnsemble([network(), network(inner_noise=0.2)]),
        lambda: linear(0.3),
    ],
)
def test_the_noise_of_other_networks_is_found(build: Build) -> None:
    model = build()
    assert own_stddev(model) == 0.3
    members = model.members if isinstance(model, AveragedEnsemble) else [model]
    found = noise_on_pixels(model)
    assert len(found) == len(members) and {layer.stddev for layer in found} == {0.3}
    assert len({id(layer) for layer in found}) == len(found)


def test_a_noise_layer_that_several_models_share_is_found_in_each() -> None:
    noise, dense = NoiseLayer(0.3), keras.layers.Dense(2)
    first = keras.Sequential([keras.Input((4,)), noise, dense])
    second = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(2.0), noise, dense])
    assert noise_on_pixels(first) == [noise] and noise_on_pixels(second) == []


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: network(init_noise=0.0, inner_noise=0.0),
            "must add noise to its pixels at inference",
        ),
        (
            lambda: network(active="training"),
            "must add noise to its pixels at inference.*active='train",
        ),
        (
            lambda: network(distribution="uniform"),
            "must be Gaussian.*Received: distribution='uniform'",
        ),
        (lambda: network(distribution="laplace"), "must be Gaussian"),
        (
            lambda: network("vgg16", init_noise_at="second_conv"),
            "init_noise must go before the first convolution.*'second_conv'",
        ),
        (
            lambda: network(dtype="mixed_bfloat16"),
            "float32: half precision.*Received: noise in bfloat16",
        ),
        (lambda: network(dtype="mixed_float16"), "half precision.*Received: noise in float16"),
        (lambda: network(init_noise=0.0), "before anything else touches them"),
        (lambda: behind(keras.layers.Rescaling(1 / 0.3)), "before anything else touches them"),
        (lambda: beside(), "before anything else touches them"),
        (lambda: twice(), "before anything else touches them"),
        (lambda: Subclassed(), "before anything else touches them.*cannot be found"),
        (lambda: plain(), "must add noise to its pixels"),
        (lambda: lambda images: images, "must add noise to its pixels"),
        (
            lambda: AveragedEnsemble([network(), network(init_noise=0.2)]),
            r"same noise on the pixels.*Received: standard deviations \[0.2, 0.3\]",
        ),
        (
            lambda: AveragedEnsemble([network(), network(distribution="uniform")]),
            "must be Gaussian",
        ),
    ],
)
def test_no_certificate_rests_on_other_noise(build: Build, message: str) -> None:
    model = build()
    with pytest.raises(ValueError, match=f"^certify: .*{message}") as caught:
        own_stddev(model)
    # Each says what to do.
    assert "give stddev" in str(caught.value) and "Received: " in str(caught.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: linear(0.7, distribution="laplace"),  # its place is taken
        lambda: linear(0.7, active="training"),
        lambda: linear(),
        lambda: keras.Sequential([keras.Input((2, 2, 1)), linear(0.7)]),
    ],
)
def test_noise_that_is_given_takes_the_place_of_any_other(build: Build) -> None:
    model = build()
    images = at_distances(np.array([0.2]))
    (found,) = certify(model, images, [1], stddev=0.25, n=300)
    (expected,) = certify(linear(), images, [1], stddev=0.25, n=300)
    assert found.radius == expected.radius > 0
    with pytest.raises(ValueError, match="certify: "):
        certify(linear(0.7, distribution="laplace"), images, [1])
