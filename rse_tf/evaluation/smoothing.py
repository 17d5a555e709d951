"""The votes of a classifier under exact Gaussian noise on its pixels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rse_tf.evaluation.input_noise import noise_on_pixels
from rse_tf.layers import NoiseLayer, noise_layers, noise_replaced, seed_noise
from rse_tf.layers.sampling import BLOCK as POOL_BLOCK
from rse_tf.layers.sampling import sample_noise
from rse_tf.utils import seeds
from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import Classifier

# So many votes on one image share a seed, each with numbers of its own. Part of what the numbers
# of a run follow from, as the batch size is not.
BLOCK = 25


class Voter:
    """Votes of a classifier f(x + eta), eta normal with standard deviation sigma.

    Every vote has noise of its own, on the pixels and inside the network, and nothing of it
    depends on another vote, on another image or on the size of a batch:

    - On the pixels it is one normal number for each pixel and vote, by `tf.random.stateless_normal`
      in float32, outside the network and before anything else. Noisy pixels are not clipped, as
      they are not in training. The network's own noise on the pixels is off.
    - Inside, every vote takes blocks of its own from the pool of a noise layer. The layer itself
      strings its blocks along the whole batch: where an example does not end with a block, the
      next one begins with the rest of it, and the two votes are not independent.

    Args:
        model: a `keras.Model` from images to logits, or any callable that is one.
        stddev: of the noise on the pixels, in their units.
        seed: all noise follows from it, the number of the image, the phase and that of the vote.
            From 0 to 2**32 - 1.
        batch_size: votes that go through the model at a time, rounded down to blocks of 25.

    Attributes:
        model: as above.
        stddev: as above.
        seed: as above.
    """

    def __init__(self, model: Any, stddev: float, seed: int, batch_size: int) -> None:
        if not 0 <= seed < 2**32:
            raise argument_error("certify", "seed", "an integer from 0 to 2**32 - 1", seed)
        self.model, self.stddev, self.seed = model, float(stddev), int(seed)
        self._blocks = max(batch_size // BLOCK, 1)
        self._classifier = Classifier(model, "certify")
        self._on_pixels = {id(layer) for layer in noise_on_pixels(model)}
        self._functions: dict[tuple[int, ...], Any] = {}

    def classes(self, images: np.ndarray) -> int:
        """How many classes the model has."""
        return self._classifier.look(images).num_classes

    def votes(
        self, images: np.ndarray, indices: Sequence[int] | np.ndarray, phase: int, number: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields the votes on some images, in one stream of batches of a fixed size.

        Args:
            images: float32 `[images, ...]`.
            indices: a number for each image, which its noise follows from.
            phase: keeps the noise of two rounds of votes on an image apart; 0 or 1.
            number: votes on each image.

        Yields:
            Positions in `images`, int `[votes]`; classes, int `[votes]`; probabilities of all
            classes, float32 `[votes, classes]`.

        Raises:
            ValueError: if the model returns NaN for a noisy image.
        """
        function = self._function(images)
        # Random layers of other kinds draw anew for every batch; a run can be repeated even so.
        seed_noise(self.model, seeds.CERTIFICATION, self.seed, int(indices[0]), phase)
        per_image = -(-number // BLOCK)
        total = per_image * len(images)
        for start in range(0, total, self._blocks):
            # The last batch is filled up with blocks that nobody counts.
            wanted = np.arange(start, start + self._blocks)
            position, block = np.divmod(np.minimum(wanted, total - 1), per_image)
            keys = self._keys(np.asarray(indices)[position], phase, block)
            classes, probabilities = (one.numpy() for one in function(images[position], keys))
            vote = block[:, None] * BLOCK + np.arange(BLOCK)
            counted = ((vote < number) & (wanted < total)[:, None]).ravel()
            if not np.isfinite(probabilities).all():
                raise argument_error("certify", "model", "finite under noise", "NaN or infinity")
            rows = np.repeat(position, BLOCK)[counted]
            yield rows, classes[counted], probabilities[counted]

    def _keys(self, indices: np.ndarray, phase: int, block: np.ndarray) -> np.ndarray:
        """Seeds of the noise on the pixels, int64 `[blocks, 2]`, no two of them alike."""
        first = np.full(len(block), (seeds.CERTIFICATION << 48) + self.seed, np.int64)
        return np.stack([first, (indices.astype(np.int64) << 32) + (phase << 31) + block], axis=1)

    def _function(self, images: np.ndarray) -> Any:
        shape = images.shape[1:]
        if shape not in self._functions:
            self._classifier.look(images)
            self._functions[shape] = tf.function(
                self._vote,
                input_signature=[
                    tf.TensorSpec([self._blocks, *shape], tf.float32),
                    tf.TensorSpec([self._blocks, 2], tf.int64),
                ],
                autograph=False,
            )
        return self._functions[shape]

    def _vote(self, images: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A block of votes on each of some images: classes and probabilities."""
        pixels = tf.repeat(images, BLOCK, axis=0)
        noisy = pixels + self.stddev * _by_block(_normal, keys, tf.shape(pixels))
        calls = itertools.count(1)  # of noise layers, in the order in which the model is traced
        waiting = {id(layer): layer.name for layer in noise_layers(self.model)}

        def inner_noise(layer: NoiseLayer, inputs: tf.Tensor) -> tf.Tensor:
            waiting.pop(id(layer), None)
            silent = layer.stddev == 0 or layer.active == "training"
            if silent or id(layer) in self._on_pixels:
                return inputs
            own_keys = keys + tf.constant([next(calls) << 32, 0], tf.int64)

            def draw(shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
                return _inner_noise(layer, shape, key)

            return inputs + tf.cast(_by_block(draw, own_keys, tf.shape(inputs)), inputs.dtype)

        with noise_replaced(noise_layers(self.model), inner_noise):
            logits = self._classifier(noisy)
        if waiting:
            raise argument_error(
                "certify",
                "model",
                "one that calls all its noise layers, for each vote to have "
                "noise of its own; a tf.function that was compiled before hides them",
                f"no call of {', '.join(waiting.values())}",
            )
        return tf.argmax(logits, axis=-1), tf.nn.softmax(logits)


def _normal(shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_normal(shape, key, alg="philox")  # the same on every device


def _inner_noise(layer: NoiseLayer, shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Float32 noise of a layer for `[votes, ...]`, by its own sampler but independent over votes.

    The numbers of one block of the pool depend on each other, so every vote begins with a new one.
    """
    count = tf.reduce_prod(shape[1:])
    whole = -(-count // POOL_BLOCK) * POOL_BLOCK
    of_votes = tf.stack([shape[0], whole])
    facts = layer.distribution, layer.sampler, layer.stddev
    noise = sample_noise(of_votes, *facts, key, tf.float32)
    return tf.reshape(noise[:, :count], shape)


def _by_block(
    draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], keys: tf.Tensor, shape: tf.Tensor
) -> tf.Tensor:
    """Random numbers of a shape `[votes, ...]`, each block of votes by a key of its own."""
    of_block = tf.concat([shape[:1] // keys.shape[0], shape[1:]], axis=0)
    draws = tf.map_fn(lambda key: draw(of_block, key), keys, fn_output_signature=tf.float32)
    return tf.reshape(draws, shape)
