"""Losses on logits of one model, or on stacked logits of several members or draws."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Logits = Callable[[tf.Tensor], tf.Tensor]


def cross_entropy(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Every image's cross-entropy `[batch]`; of stacked logits, the mean of the members' own.

    Args:
        logits: `[batch, classes]`, or `[members, batch, classes]`.
        classes: integer `[batch]`.
    """
    logits = tf.cast(logits, tf.float32)
    if logits.shape.rank != 3:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    each = tf.broadcast_to(classes, tf.shape(logits)[:2])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(each, logits), axis=0)


def joint_logits(logits: tf.Tensor) -> tf.Tensor:
    """Logits `[batch, classes]`; of stacked ones, the log of the members' mean probability."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape.rank != 3:
        return logits
    members = tf.cast(tf.shape(logits)[0], tf.float32)
    return tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(members)


def loss_gradient(model: Logits, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor | None:
    """Gradient of every image's cross-entropy with respect to that image; `None` without one."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = cross_entropy(model(images), classes)
    return tape.gradient(loss, images)


def log_loss(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Logarithm of every image's `cross_entropy` `[batch]`, however small that is.

    With p the probability of the class, the loss is softplus(a), a = log((1 - p) / p): far below
    zero the logarithm is a itself, which the logits give directly. Through the probabilities,
    float32 rounds the loss to zero where logits are 17 apart, and its gradient where they are 90
    apart, as defensive distillation leaves them.

    Args:
        logits: `[batch, classes]`, or `[members, batch, classes]`.
        classes: integer `[batch]`. A class that does not exist has NaN.
    """
    logits = tf.cast(logits, tf.float32)
    chosen = tf.one_hot(classes, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.reduce_logsumexp(tf.where(chosen, -float("inf"), logits), axis=-1)
    own = tf.reduce_sum(tf.where(chosen, logits, 0.0), axis=-1)
    odds = tf.where(tf.reduce_any(chosen, axis=-1), others - own, float("nan"))
    tiny = odds < -15
    each = tf.where(tiny, odds, tf.math.log(tf.math.softplus(tf.where(tiny, -15.0, odds))))
    if logits.shape.rank != 3:
        return each
    members = tf.cast(tf.shape(logits)[0], tf.float32)
    return tf.reduce_logsumexp(each, axis=0) - tf.math.log(members)


def loss_direction(model: Logits, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor | None:
    """Where every image's cross-entropy rises: its gradient, up to a positive factor per image.

    It is the gradient of the loss' logarithm, which is there where that of the loss underflows.

    Args:
        model: from images to logits `[batch, classes]` or `[members, batch, classes]`.
        images: float32 `[batch, height, width, channels]`.
        classes: integer `[batch]`.

    Returns:
        As the images; `None` if the logits have no gradient.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = log_loss(model(images), classes)
    return tape.gradient(loss, images)
