"""The two norms of gradient attacks: which way a step goes, and how far it may lead."""

from __future__ import annotations

import tensorflow as tf

from rse_tf.attacks.base import per_image, squared_l2

NORMS = ("linf", "l2")
# Rounding of the pixels must not carry an image out of the L2 ball.
_INSIDE = 1 - 1e-6


def steepest(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """Where a step of length 1 in the norm raises the loss most; no step where it is flat."""
    if norm == "linf":
        return tf.sign(gradient)
    # First to a largest entry of 1: the squares of tiny gradients would vanish.
    pixels = tf.range(1, tf.rank(gradient))
    largest = tf.reduce_max(tf.abs(gradient), axis=pixels, keepdims=True)
    gradient = tf.math.divide_no_nan(gradient, largest)
    return tf.math.divide_no_nan(gradient, per_image(tf.sqrt(squared_l2(gradient)), gradient))


def shrink_to_l2(away: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """The perturbations `[batch, ...]`, those longer than epsilon shortened to it."""
    length = tf.sqrt(squared_l2(away))
    shrink = tf.minimum(tf.math.divide_no_nan(_INSIDE * epsilon, length), 1.0)
    return per_image(shrink, away) * away


def stretch_to_l2(away: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """The perturbations `[batch, ...]`, all of length epsilon but for those that are 0."""
    length = tf.sqrt(squared_l2(away))
    return per_image(tf.math.divide_no_nan(_INSIDE * epsilon, length), away) * away
