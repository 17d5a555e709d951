"""A model whose noise is drawn when its caller says so, and not at every call."""

from __future__ import annotations

import keras
import tensorflow as tf

from rse_tf.layers.noise_state import noise_layers, noise_state
from rse_tf.utils.classifier import Classifier


class CommonNoise:
    """A model under a noise draw that holds until the next `redraw()`.

    A callable for whatever takes a logits function. Finite differences whose two sides are
    taken between two redraws see common random numbers, and the noise cancels out of them;
    where `FrozenNoise` keeps one draw for good, this one gives every difference a draw of its
    own. The draw belongs to the position in the batch: row i meets the same noise in every
    call with the same batch size.

    The draws continue the model's own streams, so `seed_noise(model, ...)` replays them. Both
    methods act on variables: inside a `tf.function`, loops included, they take effect where
    they stand.

    Args:
        model: a model with noise layers. Calling the wrapper moves their streams.

    Raises:
        ValueError: if the model has no noise layer.
    """

    def __init__(self, model: keras.Model) -> None:
        layers = noise_layers(model)
        if not layers:
            raise ValueError(
                f"CommonNoise: model must have at least one NoiseLayer. Received: {model.name!r} "
                "without any"
            )
        self.model = model
        self._classifier = Classifier(model, "CommonNoise", stacked=True)
        self._streams = [layer.seed_generator.state for layer in layers]
        self._state = tf.Variable(noise_state(model), trainable=False, name="common_noise")

    def redraw(self) -> None:
        """Takes a new draw: what comes next in the model's streams."""
        self._state.assign(tf.stack([stream.value for stream in self._streams]))

    def rewind(self) -> None:
        """Sets the model's streams to where the draw that holds begins."""
        for stream, state in zip(self._streams, tf.unstack(self._state)):
            stream.assign(state)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the model's output for `images` `[batch, ...]` under the draw that holds."""
        self.rewind()
        return self._classifier(images)
