"""A trained network and real digits for attacks: most of their pixels are at the bounds."""

from __future__ import annotations

import functools

import keras

from rse_tf import data

_DIGITS = data.load("mnist_5k")
TEST_DIGITS = (_DIGITS.test.images[:300], _DIGITS.test.labels[:300])


@functools.cache
def digit_network() -> keras.Model:
    """From images of 28 x 28 pixels in [0, 1] to logits; some 90 % are correct."""
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(_DIGITS.train.images, _DIGITS.train.labels, epochs=3, verbose=0)
    return network
