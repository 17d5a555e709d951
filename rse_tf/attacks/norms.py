"""Lengths, steepest steps and balls, in L2 and in L-infinity.

In all functions, `norm` is `"l2"` or `"linf"`, and images are `[batch, height, width, channels]`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rse_tf.attacks.base import per_image, squared_l2

NORMS = ("linf", "l2")

# Rounding of the pixels must not carry an image out of the L2 ball.
_INSIDE = 1 - 1e-6


def length_of(change: tf.Tensor, norm: str) -> tf.Tensor:
    """The norm of every image's change `[batch]`."""
    if norm == "l2":
        return tf.sqrt(squared_l2(change))
    return tf.reduce_max(tf.abs(change), axis=tf.range(1, tf.rank(change)))


def rounding_of(norm: str, bounds: tuple[float, float], pixels: int) -> float:
    """By how much the rounding of so many float32 pixels may lengthen a change."""
    rounding = float(np.spacing(np.float32(np.abs(bounds).max())))
    return rounding * float(np.sqrt(pixels)) if norm == "l2" else rounding


def free_part(slope: tf.Tensor, x: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """A gradient to ascend, but for the pixels at a bound that would have to leave it."""
    low, high = bounds
    return tf.where(tf.where(slope < 0, x > low, x < high), slope, 0.0)


def steepest(gradient: tf.Tensor, norm: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a step of length 1 leads up most, and by how much it does `[batch]`."""
    pixels = tf.range(1, tf.rank(gradient))
    if norm == "linf":
        return tf.sign(gradient), tf.reduce_sum(tf.abs(gradient), axis=pixels)
    # First to a largest entry of 1: the squares of tiny gradients would vanish.
    largest = tf.reduce_max(tf.abs(gradient), axis=pixels)
    gradient = tf.math.divide_no_nan(gradient, per_image(largest, gradient))
    l2 = tf.sqrt(squared_l2(gradient))
    return tf.math.divide_no_nan(gradient, per_image(l2, gradient)), largest * l2


def into_ball(
    x: tf.Tensor,
    images: tf.Tensor,
    epsilon: tf.Tensor,
    norm: str,
    bounds: tuple[float, float],
) -> tf.Tensor:
    """Into the bounds, and from there to the nearest point of the ball around `images`.

    The images lie within the bounds, so that the way back to them does too. In the other
    order, what a bound takes of a step would be missing from the length epsilon.
    """
    if norm == "linf":
        x = tf.clip_by_value(x, images - epsilon, images + epsilon)
        return tf.clip_by_value(x, *bounds)
    away = tf.clip_by_value(x, *bounds) - images
    # Again for the rounding of this sum.
    return tf.clip_by_value(images + shrink_to_l2(away, epsilon), *bounds)


def shrink_to_l2(away: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """The perturbations `[batch, ...]`, those longer than epsilon shortened to it."""
    shrink = tf.minimum(tf.math.divide_no_nan(_INSIDE * epsilon, length_of(away, "l2")), 1.0)
    return per_image(shrink, away) * away


def stretch_to_l2(away: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """The perturbations `[batch, ...]`, all of length epsilon but for those that are 0."""
    stretch = tf.math.divide_no_nan(_INSIDE * epsilon, length_of(away, "l2"))
    return per_image(stretch, away) * away
