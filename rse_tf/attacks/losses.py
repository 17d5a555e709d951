"""What attacks read from a model: one opinion per image, or several stacked ones."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Logits = Callable[[tf.Tensor], tf.Tensor]


def cross_entropy(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Every image's cross-entropy `[batch]`; of stacked logits, the mean of the opinions' own.

    Args:
        logits: `[batch, classes]`, or `[opinions, batch, classes]`.
        classes: integer `[batch]`.
    """
    logits = tf.cast(logits, tf.float32)
    if logits.shape.rank != 3:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    each = tf.broadcast_to(classes, tf.shape(logits)[:2])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(each, logits), axis=0)


def joint_logits(logits: tf.Tensor) -> tf.Tensor:
    """Logits `[batch, classes]`; of stacked ones, the log of the opinions' mean probability."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape.rank != 3:
        return logits
    opinions = tf.cast(tf.shape(logits)[0], tf.float32)
    return tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(opinions)


def loss_gradient(model: Logits, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor | None:
    """Gradient of every image's cross-entropy with respect to that image; `None` without one."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = cross_entropy(model(images), classes)
    return tape.gradient(loss, images)
