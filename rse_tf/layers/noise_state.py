"""Reading, setting and freezing the random streams of a whole model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from rse_tf.layers.noise import NoiseLayer
from rse_tf.utils import seeds
from rse_tf.utils.classifier import Classifier


def noise_layers(model: keras.layers.Layer) -> list[NoiseLayer]:
    """Lists the noise layers of a model, nested ones included, in a fixed order."""
    return [layer for layer in _flatten(model) if isinstance(layer, NoiseLayer)]


def is_random(model: keras.layers.Layer) -> bool:
    """Whether the noise layers of a model make its predictions differ from call to call."""
    return any(layer.stddev > 0 and layer.active != "training" for layer in noise_layers(model))


def noise_state(model: keras.layers.Layer) -> np.ndarray:
    """Returns the state of every noise stream, int64 `[noise layers, 2]`."""
    states = [layer.seed_generator.state.numpy() for layer in noise_layers(model)]
    return np.asarray(states, dtype=np.int64).reshape(len(states), 2)


def set_noise_state(model: keras.layers.Layer, state: np.ndarray) -> None:
    """Sets every noise stream, so that the calls that follow replay the same noise.

    It acts on variables, so it also reaches functions compiled earlier, and inside a
    `tf.function` it takes effect at that point of the graph.

    Args:
        model: the model whose noise is set.
        state: what `noise_state` returned for it, int64 `[noise layers, 2]`.

    Raises:
        ValueError: if `state` does not have one row for each noise layer.
    """
    layers = noise_layers(model)
    shape = tuple(np.shape(state))
    if shape != (len(layers), 2):
        raise ValueError(
            f"set_noise_state: state must have shape ({len(layers)}, 2), one row for each "
            f"noise layer of {model.name!r}; take it from noise_state(model). "
            f"Received: shape {shape}"
        )
    for layer, row in zip(layers, state):
        layer.seed_generator.state.assign(row)


def seed_noise(model: keras.layers.Layer, *seed: int) -> None:
    """Restarts every random stream of a model, each layer with a stream of its own.

    Dropout and Keras' own random layers are seeded along with the noise layers, so that
    everything random in the model follows from `seed`.

    Args:
        model: the model to seed.
        *seed: one or more non-negative integers, for example a run's seed and an epoch.
    """
    names = ("seed_generator", "generator")  # the latter in Keras' image augmentation
    found = [getattr(layer, name, None) for layer in _flatten(model) for name in names]
    generators = [item for item in found if isinstance(item, keras.random.SeedGenerator)]
    for index, generator in enumerate(generators):
        generator.state.assign(_first_state(*seed, index))


@contextlib.contextmanager
def noise_replaced(
    layers: Sequence[NoiseLayer], call: Callable[[NoiseLayer, tf.Tensor], tf.Tensor]
) -> Iterator[None]:
    """Has noise layers do something else while the block runs or traces a function.

    A function that is traced inside the block keeps what it saw there; one that was traced before
    does not change.

    Args:
        layers: the noise layers.
        call: takes a layer and its inputs and returns its outputs.
    """
    for layer in layers:
        layer.__dict__["call"] = _bound(call, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["call"]


def _bound(
    call: Callable[[NoiseLayer, tf.Tensor], tf.Tensor], layer: NoiseLayer
) -> Callable[..., tf.Tensor]:
    return lambda inputs, training=False: call(layer, inputs)


def _first_state(*seed: int) -> np.ndarray:
    # The state of a Keras SeedGenerator is a key and a counter of the draws made with it. NumPy
    # pads seeds with zeros: without their number in front, (7, 3) and (7, 3, 0) would be the same.
    key = np.random.SeedSequence([len(seed), *seed]).generate_state(1)[0]
    return np.array([key, 0], dtype=np.int64)


class FrozenNoise:
    """A model under one fixed draw of its noise: the same images give the same logits.

    A callable for whatever takes a logits function. Finite differences through it see common
    random numbers, and an attack on it measures what the randomness itself contributes. The
    draw belongs to the position in the batch: row i meets the same noise in every call with
    the same batch size.

    Args:
        model: a model with noise layers. Calling the frozen version restarts its streams.
        seed: integer that selects the draw.

    Raises:
        ValueError: if the model has no noise layer.
    """

    def __init__(self, model: keras.Model, seed: int = 0) -> None:
        layers = noise_layers(model)
        if not layers:
            raise ValueError(
                f"FrozenNoise: model must have at least one NoiseLayer. Received: {model.name!r} "
                "without any"
            )
        self.model = model
        self._classifier = Classifier(model, "FrozenNoise", stacked=True)
        self._state = np.stack([_first_state(seeds.FROZEN, seed, i) for i in range(len(layers))])

    def rewind(self) -> None:
        """Sets the model's streams to where the frozen draw begins."""
        set_noise_state(self.model, self._state)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the model's output for `images` `[batch, ...]` under the frozen draw."""
        self.rewind()
        return self._classifier(images)


class NoiseOff:
    """A model without its noise: the network that an attacker may train on instead.

    A callable for whatever takes a logits function. An attack on it shows what the noise protects
    from: its images are to be transferred to the noisy model.

    Args:
        model: a model with noise layers.

    Raises:
        ValueError: if the model has no noise layer.
    """

    def __init__(self, model: keras.Model) -> None:
        self._layers = noise_layers(model)
        if not self._layers:
            raise ValueError(
                f"NoiseOff: model must have at least one NoiseLayer. Received: {model.name!r} "
                "without any"
            )
        self.model = model
        self._classifier = Classifier(model, "NoiseOff", stacked=True)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the model's output for `images` `[batch, ...]` without noise."""
        with noise_replaced(self._layers, lambda layer, inputs: inputs):
            return self._classifier(images)


def _flatten(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    # Keras has no public way to list nested layers; this is what its own trainer uses. A function
    # around a model does not tell what is inside.
    return list(model._flatten_layers()) if isinstance(model, keras.layers.Layer) else []
