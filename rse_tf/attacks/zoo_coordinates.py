"""Coordinates of ZOO: the space of the modifier, the choice of coordinates, the estimates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from rse_tf.attacks.base import per_image
from rse_tf.attacks.randomness import uniform_linf

# Importance sampling knows the picture as 8 x 8 regions per channel.
_REGIONS = 8
# Smallest weight of a coordinate, as a share of the largest. Without it, a region that the first
# iterations happen to miss would never be chosen.
_SMALLEST_WEIGHT = 0.01

# From the sides of some differences, each `[rows, height, width, channels]`, and the image that
# each row belongs to, int32 `[rows]`, to the hinge of every side, float32 `[rows]` each.
Hinge = Callable[[list[tf.Tensor], tf.Tensor], list[tf.Tensor]]


class Level(NamedTuple):
    """The effect of a flat modifier `[batch, size]` on the images, at one resolution."""

    origin: tf.Tensor  # what the modifier is added to, [batch, height, width, channels]
    center: tf.Tensor  # the images in pixels, from which the distance counts
    lower: tf.Tensor  # how low a coordinate may go, [batch, size]
    upper: tf.Tensor  # how high
    shape: tuple[int, ...]  # of the modifier, (height, width, channels)
    to_pixels: Callable[[tf.Tensor], tf.Tensor]

    def images(self, modifier: tf.Tensor) -> tf.Tensor:
        """The modified images, in pixels."""
        return self.to_pixels(self.origin + self.enlarged(modifier))

    def enlarged(self, modifier: tf.Tensor) -> tf.Tensor:
        """The modifier in the images' size, `[batch, height, width, channels]`."""
        return enlarge(modifier, self.shape, tuple(self.origin.shape[1:]))


def in_box(images: tf.Tensor, shape: tuple[int, ...], bounds: tuple[float, float]) -> Level:
    """The level of a modifier that is added to pixels, within their bounds."""
    low, high = bounds
    wide = tf.fill([tf.shape(images)[0], math.prod(shape)], high - low)
    lower, upper = -wide, wide
    if shape == tuple(images.shape[1:]):
        pixels = tf.reshape(images, [-1, math.prod(shape)])
        lower, upper = low - pixels, high - pixels
    clip = functools.partial(tf.clip_by_value, clip_value_min=low, clip_value_max=high)
    return Level(images, images, lower, upper, shape, clip)


def enlarge(modifier: tf.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> tf.Tensor:
    """The modifier `[batch, size]` from its old shape to `[batch, *new]`, bilinearly."""
    modifier = tf.reshape(modifier, [-1, *old])
    return modifier if old == new else tf.image.resize(modifier, new[:2])


def estimate(
    hinge: Hinge,
    level: Level,
    modifier: tf.Tensor,
    picked: tf.Tensor,
    *,
    h: float | tf.Tensor,
    const: tf.Tensor,
    current: tf.Tensor | None,
    max_rows: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Slope and curvature of `||x' - x||^2 + const * hinge(x')` along single coordinates.

    A side that would leave the limits stops at them, and the difference is divided by the
    distance that is left. The change of the distance is computed term by term and not as the
    difference of two norms, whose rounding is far larger than what a step of 1e-4 changes.

    Args:
        hinge: the black box, asked for two or three sides of the same rows at a time.
        level: where the modifier lives.
        modifier: float32 `[batch, size]`.
        picked: the coordinates to look at, int32 `[batch, number]`.
        h: how far to step to each side.
        const: the weight of the hinge, `[batch]`.
        current: the hinge at the modifier itself, `[batch]`; with `None` it is asked anew,
            as a third side, for every coordinate.
        max_rows: the most images per side that are made at a time.

    Returns:
        The first and the second derivative, float32 `[batch, number]` both. The second one is
        0, that is unknown, where the limits are nearer than `h`.
    """
    number, size = picked.shape[1], modifier.shape[1]
    total = tf.size(picked)
    reached = level.origin + level.enlarged(modifier)

    def some(chunk: tf.Tensor, slopes: tf.Tensor, curvatures: tf.Tensor) -> tuple:
        pairs = tf.range(chunk * max_rows, tf.minimum((chunk + 1) * max_rows, total))
        rows = pairs // number
        index = tf.gather(tf.reshape(picked, [-1]), pairs)
        here, lower, upper = (
            tf.gather_nd(values, tf.stack([rows, index], axis=1))
            for values in (modifier, level.lower, level.upper)
        )
        up, down = tf.minimum(h, upper - here), tf.maximum(-h, lower - here)
        shifts = [up, down] if current is not None else [up, down, tf.zeros_like(up)]
        base = tf.gather(reached, rows)
        direction = level.enlarged(tf.one_hot(index, size))
        sides = [level.to_pixels(base + per_image(shift, base) * direction) for shift in shifts]
        hinges = hinge(sides, rows)
        middle = hinges[2] if current is None else tf.gather(current, rows)

        now, twice = level.to_pixels(base), 2 * tf.gather(level.center, rows)
        weight = tf.gather(const, rows)
        rise, fall = (
            _sum((side - now) * (side + now - twice)) + weight * (value - middle)
            for side, value in zip(sides[:2], hinges)
        )
        curvature = tf.where((up >= h) & (down <= -h), (rise + fall) / tf.square(up), 0.0)
        slope = (rise - fall) / (up - down)
        return chunk + 1, slopes.write(chunk, slope), curvatures.write(chunk, curvature)

    chunks = (total + max_rows - 1) // max_rows
    arrays = [
        tf.TensorArray(tf.float32, chunks, infer_shape=False, element_shape=[None])
        for _ in range(2)
    ]
    # One after the other: it keeps the memory flat, and the model's noise in order.
    _, *found = tf.while_loop(
        lambda chunk, *_: chunk < chunks, some, [0, *arrays], parallel_iterations=1
    )
    slope, curvature = (tf.reshape(array.concat(), [-1, number]) for array in found)
    return slope, curvature


def pick_coordinates(weights: tf.Tensor, keys: tf.Tensor, number: int) -> tf.Tensor:
    """Draws different coordinates for every image, one after the other by their weights.

    Args:
        weights: positive, float32 `[batch, size]`.
        keys: int64 `[batch]`; the same key draws the same coordinates.
        number: how many to draw, `size` at most.

    Returns:
        int32 `[batch, number]`.
    """
    uniform = (uniform_linf(keys, weights) + 1) / 2
    # Exponential clocks: the next one to ring is each with a probability proportional to its
    # rate.
    rings = -tf.math.log(uniform) / weights
    return tf.math.top_k(-rings, number).indices


def importance(modifier: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Weights of the coordinates: the largest change so far in the region of each.

    Args:
        modifier: float32 `[batch, size]`.
        shape: of the modifier, (height, width, channels).

    Returns:
        float32 `[batch, size]`, within 0.01 to 1.01, the same for all of a modifier of 0.
    """
    height, width, channels = shape
    side = max(1, height // _REGIONS)
    down, across = -(-height // side), -(-width // side)
    change = tf.reshape(tf.abs(modifier), [-1, *shape])
    padding = [[0, 0], [0, down * side - height], [0, across * side - width], [0, 0]]
    regions = tf.reshape(tf.pad(change, padding), [-1, down, side, across, side, channels])
    largest = tf.reduce_max(regions, axis=[2, 4])
    spread = tf.repeat(tf.repeat(largest, side, axis=1), side, axis=2)[:, :height, :width]
    weights = tf.reshape(spread, [-1, height * width * channels])
    top = tf.reduce_max(weights, axis=1, keepdims=True)
    return tf.math.divide_no_nan(weights, top) + _SMALLEST_WEIGHT


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, axis=tf.range(1, tf.rank(values)))
