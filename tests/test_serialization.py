"""The contract of everything registered: files, SavedModels and checkpoints keep the noise."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.layers import (
    BReLU,
    Dropout,
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
    Case(Dropout, (6, 6, 1), lambda: around((6, 6, 1), NoiseLayer(0.3), Dropout(0.5))),
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
NETWORKS = tuple(MODELS.values())

# Tracing is slow in the two large networks, whose layers are those of the others.
LARGE = (MODELS["resnext29"], MODELS["vgg16"])
MOST = [
    pytest.param(case, id=name, marks=[pytest.mark.long] if case.kind in LARGE else [])
    for case, name in zip(CASES, IDS)
]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A case's model, and its output in the two calls that follow a state of its noise."""

    case: Case
    model: keras.Model
    images: tf.Tensor
    state: np.ndarray
    outputs: tuple[np.ndarray, np.ndarray]


def scrambled(case: Case, images: tf.Tensor) -> keras.Model:
    """The case's model with weights that no initialiser gives, its noise under way."""
    model = case.build()
    model(images)
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(-0.01, 0.01, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def reference(request: pytest.FixtureRequest) -> Reference:
    keras.utils.set_random_seed(0)
    case = request.param
    images = tf.random.stateless_uniform((2, *case.input_shape), (1, 2))
    model = scrambled(case, images)
    state = noise_state(model)
    outputs = model(images).numpy(), model(images).numpy()
    assert np.any(outputs[0] != outputs[1])
    return Reference(case, model, images, state, outputs)


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
    assert set(NETWORKS) <= registered


def test_configuration_holds_every_argument(reference: Reference) -> None:
    # Otherwise a file would lose it, and two configurations without it would still be equal.
    kind = reference.case.kind
    parameters = inspect.signature(kind.__init__).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    arguments = {one.name for one in parameters if one.kind not in variadic} - {"self"}
    parts = reference.model._flatten_layers()
    (config, *_) = (part.get_config() for part in parts if isinstance(part, kind))
    assert arguments <= set(config)


def test_keras_file_keeps_settings_weights_and_noise(reference: Reference, tmp_path: Path) -> None:
    model = reference.model
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    # As JSON, since a file makes lists of the tuples in Keras' own configurations.
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    assert len(loaded.get_weights()) == len(model.get_weights())
    for ours, theirs in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    settings = [layer.get_config() for layer in noise_layers(model)]
    assert [layer.get_config() for layer in noise_layers(loaded)] == settings
    # Such a file does not hold the streams; from the same state they go on alike.
    set_noise_state(loaded, reference.state)
    for expected in reference.outputs:
        assert_same(loaded(reference.images), expected)


def serve_saved_model(model: keras.Model, path: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    tf.saved_model.save(model, str(path))
    loaded = tf.saved_model.load(str(path))
    (argument,) = loaded.signatures["serving_default"].structured_input_signature[1]

    def serve(images: tf.Tensor) -> tf.Tensor:
        (output,) = loaded.signatures["serving_default"](**{argument: images}).values()
        return output

    return serve


def serve_export(model: keras.Model, path: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    model.export(str(path), verbose=False)
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images)  # holds `loaded`, which holds the variables


def check_served(reference: Reference, serve: Callable) -> None:
    # The file holds the streams as they were: the loaded function goes on where they stood, and
    # so its noise is alive, as the two outputs of the reference differ.
    for expected in reference.outputs:
        assert_same(serve(reference.images), expected)


@pytest.mark.parametrize("reference", MOST, indirect=True)
def test_saved_model_keeps_weights_and_live_noise(reference: Reference, tmp_path: Path) -> None:
    set_noise_state(reference.model, reference.state)
    check_served(reference, serve_saved_model(reference.model, tmp_path))


EXPORTED = [pytest.param(case, id=name) for case, name in zip(CASES, IDS) if case.kind not in LARGE]


# Our models seed themselves anew; what Keras exports of others goes on with the streams.
OURS = (*NETWORKS, rse_tf.SelfEnsemble, rse_tf.AveragedEnsemble)


@pytest.mark.parametrize("reference", EXPORTED, indirect=True)
def test_export_keeps_weights_and_live_noise(reference: Reference, tmp_path: Path) -> None:
    set_noise_state(reference.model, reference.state)
    serve = serve_export(reference.model, tmp_path)
    if not isinstance(reference.model, OURS):
        return check_served(reference, serve)
    again = tf.saved_model.load(str(tmp_path))
    outputs = [one(reference.images).numpy() for one in (serve, serve, again.serve)]
    outputs.append(reference.outputs[0])
    for one, other in itertools.combinations(outputs, 2):
        assert np.any(one != other)


@pytest.mark.parametrize("reference", MOST, indirect=True)
def test_checkpoint_restores_weights_and_noise(reference: Reference, tmp_path: Path) -> None:
    set_noise_state(reference.model, reference.state)
    path = tf.train.Checkpoint(model=reference.model).write(str(tmp_path / "checkpoint"))
    other = reference.case.build()
    other(reference.images)
    set_noise_state(other, reference.state + 5)
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(noise_state(other), reference.state)
    for expected in reference.outputs:
        assert_same(other(reference.images), expected)


def silent(config: Any) -> Any:
    """A configuration with no noise in any of its layers."""
    if isinstance(config, dict):
        noise = ("stddev", "init_noise", "inner_noise")
        return {key: 0.0 if key in noise else silent(value) for key, value in config.items()}
    return [silent(item) for item in config] if isinstance(config, (list, tuple)) else config


SMALL = [case for case in CASES if case.kind not in NETWORKS] + [network("mnist_cnn", (28, 28, 1))]


@pytest.mark.parametrize("writer", [serve_saved_model, serve_export])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.kind.__name__)
def test_silent_model_is_served_without_any_noise(
    case: Case, writer: Callable, tmp_path: Path
) -> None:
    images = tf.random.stateless_uniform((2, *case.input_shape), (3, 4))
    model = type(case.build()).from_config(silent(case.build().get_config()))
    model(images)
    assert not any(layer.stddev for layer in noise_layers(model))
    serve = writer(model, tmp_path)
    expected = model(images)
    for _ in range(2):
        assert_same(serve(images), expected)


def test_export_of_an_ensemble_takes_any_batch(tmp_path: Path) -> None:
    config = rse_tf.SelfEnsemble(member(), 3, max_rows=4).get_config()
    ensemble = rse_tf.SelfEnsemble.from_config(silent(config))
    serve = serve_export(ensemble, tmp_path)
    for rows in (1, 5):
        images = tf.random.stateless_uniform((rows, 6, 6, 1), (3, 4))
        assert_same(serve(images), ensemble(images))
