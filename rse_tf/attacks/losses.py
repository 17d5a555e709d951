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


def loss_direction(model: Logits, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor | None:
    """Where every image's cross-entropy rises: its gradient, up to a positive factor per image.

    The gradient itself is lost where a network is sure of an image: its terms are probabilities,
    of which float32 rounds those near 1 and drops those below 1e-38. Logits that are 90 apart, as
    defensive distillation leaves them, have none. Divided by 1 - p it is the gradient of the log
    odds against the class, log((1 - p) / p), which the logits give directly. Of stacked logits,
    every opinion counts with its own 1 - p, relative to the largest.

    Args:
        model: from images to logits `[batch, classes]` or `[opinions, batch, classes]`.
        images: float32 `[batch, height, width, channels]`.
        classes: integer `[batch]`.

    Returns:
        As the images; `None` if the logits have no gradient.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = tf.cast(model(images), tf.float32)
        chosen = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
        others = tf.reduce_logsumexp(tf.where(chosen, -float("inf"), logits), axis=-1)
        against = others - tf.reduce_sum(tf.where(chosen, logits, 0.0), axis=-1)
        if logits.shape.rank == 3:
            share = tf.stop_gradient(tf.math.log_sigmoid(against))  # log(1 - p)
            share = tf.exp(share - tf.reduce_max(share, axis=0))
            against = tf.reduce_mean(share * against, axis=0)
    return tape.gradient(against, images)
