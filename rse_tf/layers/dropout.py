"""Dropout with a mask of its own on every replica."""

from __future__ import annotations

import keras
import tensorflow as tf

from rse_tf.layers.replicas import next_seed


@keras.saving.register_keras_serializable(package="rse_tf")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` whose replicas drop different units.

    Under a mirrored strategy the replicas of Keras' own layer share the state of its seed
    generator, and so drop the same units. On one device the two layers are alike.

    Arguments, input and output are those of the Keras layer.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return tf.zeros_like(inputs)
        shape = self.noise_shape
        if shape is not None:
            shape = [tf.shape(inputs)[i] if n is None else n for i, n in enumerate(shape)]
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, next_seed(self.seed_generator), noise_shape=shape
        )
