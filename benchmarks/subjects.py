"""The networks that are attacked, with their images, and the floor: the bare network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import rse_tf
from benchmarks.race import Done
from rse_tf.attacks.norms import length_of

SHAPES = {
    "mnist_cnn": (28, 28, 1),
    "cifar_cnn": (32, 32, 3),
    "vgg16": (32, 32, 3),
    "model_a": (96, 96, 3),
}
EPOCHS = 4
# Forward passes in training mode that settle the statistics of batch normalisation.
SETTLING = 20
_NOTE = f"mnist_cnn trained {EPOCHS} epochs on mnist_5k"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network, images and their labels.

    Attributes:
        model: from images to logits.
        images: float32 `[number, height, width, channels]` in [0, 1].
        labels: int64 `[number]`.
        note: where the weights and the images come from.
    """

    model: keras.Model
    images: np.ndarray
    labels: np.ndarray
    note: str

    def judge(self, adversarial: np.ndarray, norm: str = "l2") -> tuple[np.ndarray, np.ndarray]:
        """Success and distance of attacks on the first images, by a pass of their own."""
        number = len(adversarial)
        success = predicted(self.model, adversarial) != self.labels[:number]
        change = (adversarial - self.images[:number]).astype(np.float64)
        return success, length_of(tf.constant(change), norm).numpy()


def network(name: str, **settings: Any) -> keras.Model:
    """A network with fixed random weights; the settings are those of `rse_tf.models.build`."""
    keras.utils.set_random_seed(0)
    return rse_tf.models.build(name, input_shape=SHAPES[name], **settings)


def random_images(name: str, number: int) -> np.ndarray:
    """Random images for a network."""
    return np.random.default_rng(0).random((number, *SHAPES[name]), dtype=np.float32)


def predicted(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Predicted classes `[number]`."""
    forward = tf.function(
        lambda x: tf.argmax(model(x, training=False), axis=-1),
        input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.float32)],
    )
    parts = [images[i : i + 128] for i in range(0, len(images), 128)]
    return np.concatenate([forward(tf.constant(part)).numpy() for part in parts])


def subject(name: str, number: int) -> Subject:
    """The subject of a case: trained where there is data on every machine."""
    return digits(number) if name == "mnist_cnn" else untrained(name, number)


def digits(number: int) -> Subject:
    """`mnist_cnn`, trained on the embedded digits, and test images that it gets right."""
    model, test = _trained()
    correct = predicted(model, test.images) == test.labels
    # The test images may be sorted by class.
    order = np.random.default_rng(0).permutation(np.flatnonzero(correct))
    images, labels = test.images[order], test.labels[order]
    _check_number(number, len(images), "digits", "the test images that the network gets right")
    note = f"{_NOTE}, test images that it gets right"
    return Subject(model, images[:number], labels[:number], note)


def first_digits(number: int) -> Subject:
    """The same network and the first test images, those that it gets wrong among them."""
    model, test = _trained()
    _check_number(number, len(test.images), "first_digits", "the test images")
    return Subject(model, test.images[:number], test.labels[:number], f"{_NOTE}, first test images")


def _check_number(number: int, largest: int, caller: str, what: str) -> None:
    if number > largest:
        raise ValueError(
            f"{caller}: number must be at most {largest}, {what}. Received: number={number}"
        )


@functools.cache
def _trained() -> tuple[keras.Model, Any]:
    """The network, and the test set."""
    data, model = rse_tf.data.load("mnist_5k"), network("mnist_cnn")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(data.train.images, data.train.labels, batch_size=64, epochs=EPOCHS, verbose=0)
    return model, data.test


def untrained(name: str, number: int, **settings: Any) -> Subject:
    """A network with random weights, random images, and its own predictions as labels."""
    model, images = network(name, **settings), random_images(name, number)
    note = f"{name} with random weights, random images, its own predictions as labels"
    if any("normalization" in type(layer).__name__.lower() for layer in model.layers):
        settle = tf.function(lambda x: model(x, training=True))
        for _ in range(SETTLING):
            settle(tf.constant(images[:64]))
        note += ", batch statistics of these images"
    return Subject(model, images, predicted(model, images), note)


# The floor.


def bare_gradients(subject: Subject, steps: int) -> Callable[[], Done]:
    """Compiled gradients of the cross-entropy, the same batch over and over; warmed up."""
    images, labels = tf.constant(subject.images), tf.constant(subject.labels)

    @tf.function
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = subject.model(x, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tape.gradient(loss, x)

    def run() -> Done:
        for _ in range(steps):
            gradient(images).numpy()
        return Done(steps * len(subject.images))

    gradient(images)
    return run


def bare_forwards(model: Any, images: np.ndarray, calls: int = 1) -> Callable[[], Done]:
    """Compiled passes of the same batch; warmed up."""
    forward = tf.function(lambda x: model(x, training=False))
    batch = tf.constant(images)

    def run() -> Done:
        for _ in range(calls):
            forward(batch).numpy()
        return Done(calls * len(images))

    run()
    return run
