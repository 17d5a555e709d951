"""Batch normalisation by TensorFlow's fused kernel."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="rse_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` for images, on TensorFlow's fused kernel in training.

    Keras 3 computes batch statistics from separate operations, which is most of the training
    time of a small convolutional network on a CPU, and rounds them to the compute dtype. The
    fused kernel takes one pass and keeps them in float32. Weights and configuration are those
    of the Keras layer; the moving variance is of the unbiased kind, as in the fused layers of
    other frameworks.

    Call arguments:
        inputs: `[batch, height, width, channels]`.
        training: whether to normalise by the batch and update the moving statistics, or to
            normalise by those.

    Raises:
        ValueError: at build time, if the input is not four-dimensional, the layer's axis is not
            the last, or `renorm` or `synchronized` is set.
    """

    def build(self, input_shape: tuple) -> None:
        if len(input_shape) != 4 or self.axis not in (-1, 3):
            raise ValueError(
                "FusedBatchNormalization: inputs must be [batch, height, width, channels] with "
                f"axis=-1. Received: shape {input_shape}, axis={self.axis}"
            )
        for name in ("renorm", "synchronized"):
            if getattr(self, name, False):
                raise ValueError(
                    f"FusedBatchNormalization: the fused kernel knows no {name}. "
                    f"Received: {name}=True"
                )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False, mask: Any = None) -> tf.Tensor:
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        scale = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels])
        offset = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([channels])
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.cast(scale, tf.float32),
            tf.cast(offset, tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs
