"""Batch normalisation by TensorFlow's fused kernel."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="rse_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` for images, on TensorFlow's fused kernel.

    Keras 3 computes batch statistics from separate operations, which is most of the training
    time of a small convolutional network on a CPU, and rounds them to the compute dtype; at
    inference it computes in float32 what is of lower precision before and after. The fused kernel
    takes one pass and keeps statistics alone in float32. Weights and configuration are those
    of the Keras layer; the moving variance is of the unbiased kind, as in the fused layers of
    other frameworks.

    On several replicas of a `tf.distribute` strategy the batch is all of theirs together, so that a
    training does not depend on their number.

    Call arguments:
        inputs: `[batch, height, width, channels]`.
        training: whether to normalise by the batch and update the moving statistics, or to
            normalise by those.

    Raises:
        ValueError: at build time, if the input is not four-dimensional, the layer's axis is not
            the last, `renorm` or `synchronized` is set, or the dtype is float64.
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
        if self.compute_dtype == "float64":
            raise ValueError(
                "FusedBatchNormalization: dtype must be float32, float16, bfloat16 or a mixed "
                "policy; the fused kernel knows no float64. Received: float64"
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False, mask: Any = None) -> tf.Tensor:
        by_batch = bool(training and self.trainable)
        channels = inputs.shape[-1]
        moving = (self.moving_mean, self.moving_variance)
        # In low precision the kernel wants float32 here, whatever the inputs are.
        scale = tf.cast(self.gamma, tf.float32) if self.scale else tf.ones([channels])
        offset = tf.cast(self.beta, tf.float32) if self.center else tf.zeros([channels])
        mean, variance = (None, None) if by_batch else (tf.cast(v, tf.float32) for v in moving)
        context = tf.distribute.get_replica_context()
        if by_batch and context is not None and context.num_replicas_in_sync > 1:
            outputs, *batch = self._by_whole_batch(inputs, scale, offset, context)
            self._move(batch)
            return outputs
        outputs, *batch = tf.compat.v1.nn.fused_batch_norm(
            inputs, scale, offset, mean, variance, epsilon=self.epsilon, is_training=by_batch
        )
        if by_batch:
            self._move(batch)
        return outputs

    def _by_whole_batch(
        self, inputs: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, context: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalises by the parts of the batch on all replicas, as one device would."""
        x = tf.cast(inputs, tf.float32)

        def mean_of_replicas(own: tf.Tensor) -> tf.Tensor:
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, own)

        # Two exchanges, for squares minus the square of the mean would cancel where the mean is
        # large. All replicas have parts of the same size.
        own_mean, own_variance = tf.nn.moments(x, axes=[0, 1, 2])
        mean = mean_of_replicas(own_mean)
        variance = mean_of_replicas(own_variance + tf.square(own_mean - mean))
        outputs = tf.nn.batch_normalization(x, mean, variance, offset, scale, self.epsilon)
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]) * context.num_replicas_in_sync, tf.float32)
        return tf.cast(outputs, inputs.dtype), mean, variance * count / (count - 1)

    def _move(self, batch: list[tf.Tensor]) -> None:
        for old, new in zip((self.moving_mean, self.moving_variance), batch):
            old.assign(old * self.momentum + new * (1.0 - self.momentum))
