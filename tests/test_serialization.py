"""The contract of everything registered: files, SavedModels and checkpoints keep the noise."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.layers import (
    BReLU,
    FusedBatchNormalization,
    NoiseLayer,
    noise_layers,
    noise_state,
    set_noise_state,
)
from rse_tf.models import MODELS


@dataclasses.dataclass(frozen=True)
class Case:
    """One registered class in a model, of its real input size."""

    kind: type
    input_shape: tuple[int, int, int]
    build: Callable[[], keras.Model]


def around(shape: tuple[int, ...], *layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def member() -> keras.Model:
    convolution = keras.layers.Conv2D(3, 3)
    return around((6, 6, 1), NoiseLayer(0.3), convolution, keras.layers.GlobalMaxPool2D())


def network(name: str, shape: tuple[int, int, int]) -> Case:
    # Settings that are no defaults, so that a forgotten one shows.
    def build() -> keras.Model:
        settings = {"num_classes": 4, "init_noise": 0.4, "inner_noise": 0.1}
        return MODELS[name](shape, distribution="uniform", activation="brelu", **settings)

    return Case(MODELS[name], shape, build)


CASES = [
    Case(NoiseLayer, (6, 6, 1), lambda: around((6, 6, 1), NoiseLayer(0.3, "laplace", seed=4))),
    Case(NoiseLayer, (6, 6, 1), lambda: around((6, 6, 1), NoiseLayer(0.3, active="inference"))),
    Case(BReLU, (6, 6, 1), lambda: around((6, 6, 1), NoiseLayer(0.3), BReLU(0.7))),
    Case(
        FusedBatchNormalization,
        (6, 6, 2),
        lambda: around((6, 6, 2), NoiseLayer(0.3), FusedBatchNormalization(epsilon=0.1)),
    ),
    Case(rse_tf.SelfEnsemble, (6, 6, 1), lambda: rse_tf.SelfEnsemble(member(), 3, max_rows=4)),
    Case(
        rse_tf.AveragedEnsemble,
        (6, 6, 1),
        lambda: rse_tf.AveragedEnsemble([member(), rse_tf.SelfEnsemble(member(), 2)]),
    ),
    network("mnist_cnn", (28, 28, 1)),
    network("cifar_cnn", (32, 32, 3)),
    network("model_a", (96, 96, 3)),
    network("resnext29", (32, 32, 3)),
    network("vgg16", (32, 32, 3)),
]
IDS = [f"{case.kind.__name__}-{index}" for index, case in enumerate(CASES)]
contract = pytest.mark.parametrize("case", CASES, ids=IDS)


def images_of(case: Case) -> tf.Tensor:
    return tf.random.stateless_uniform((2, *case.input_shape), (1, 2))


def scrambled(case: Case) -> keras.Model:
    """The case's model with weights that no initialiser gives, its noise under way."""
    model = case.build()
    model(images_of(case))
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(-0.01, 0.01, w.shape) for w in model.get_weights()])
    return model


def assert_same(actual: tf.Tensor, expected: tf.Tensor) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_everything_registered_is_in_the_table() -> None:
    for module in pkgutil.walk_packages(rse_tf.__path__, "rse_tf."):
        importlib.import_module(module.name)
    registered = {
        item
        for name, item in keras.saving.get_custom_objects().items()
        if name.startswith("rse_tf>")
    }
    assert {case.kind for case in CASES} == registered
    assert set(MODELS.values()) <= registered


@contract
def test_keras_file_keeps_settings_weights_and_noise(case: Case, tmp_path: Path) -> None:
    model, images = scrambled(case), images_of(case)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert len(loaded.get_weights()) == len(model.get_weights())
    for ours, theirs in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    settings = [layer.get_config() for layer in noise_layers(model)]
    assert [layer.get_config() for layer in noise_layers(loaded)] == settings
    set_noise_state(loaded, noise_state(model))
    first = loaded(images)
    assert_same(first, model(images))
    assert np.any(first != loaded(images))


@contract
@pytest.mark.parametrize("writer", ["tf.saved_model.save", "model.export"])
def test_saved_model_keeps_weights_and_live_noise(case: Case, writer: str, tmp_path: Path) -> None:
    model, images = scrambled(case), images_of(case)
    path = str(tmp_path / "saved")
    state = noise_state(model)
    if writer == "model.export":
        model.export(path, verbose=False)
        loaded = tf.saved_model.load(path)
        first, second = loaded.serve(images), loaded.serve(images)
    else:
        tf.saved_model.save(model, path)
        loaded = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]
        (argument,) = serve.structured_input_signature[1]
        first, second = (next(iter(serve(**{argument: images}).values())) for _ in range(2))
    # The file holds the streams as they were: the loaded function goes on where they stood.
    set_noise_state(model, state)
    assert_same(first, model(images))
    assert np.any(first != second)
    assert_same(second, model(images))


@contract
def test_checkpoint_restores_weights_and_noise(case: Case, tmp_path: Path) -> None:
    model, images = scrambled(case), images_of(case)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = case.build()
    other(images), other(images)
    assert np.any(noise_state(other) != noise_state(model))
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(noise_state(other), noise_state(model))
    assert_same(other(images), model(images))
    assert_same(other(images), model(images))


@contract
def test_silent_model_is_the_same_from_a_saved_model_on_any_batch(
    case: Case, tmp_path: Path
) -> None:
    if case.kind in MODELS.values():
        return  # the test of the SavedModel above compares their outputs already
    model = scrambled(case)
    for layer in noise_layers(model):
        layer.stddev = 0.0
    model.export(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    images = tf.random.stateless_uniform((5, *case.input_shape), (3, 4))
    assert_same(loaded.serve(images), model(images))
    assert_same(loaded.serve(images), loaded.serve(images))
