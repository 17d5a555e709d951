"""Random numbers that belong to an image, whatever batch it comes in."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# The same numbers on every device.
_GENERATOR = "philox"


def per_image_seeds(images: tf.Tensor, seed: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """One key per image for the functions below, made of the seed and the image's pixels.

    So an image's random numbers depend neither on the other images of the batch nor on the
    batch size; equal images have equal keys. Pixels count as rounded to 8 bits: rounding
    errors of an image's preprocessing do not change its key.

    Args:
        images: float32 `[batch, ...]`.
        seed: integer scalar.
        bounds: smallest and largest pixel value.

    Returns:
        int64 `[batch]`. Keys of one image for several draws are `keys + 0`, `keys + 1`, ...
    """
    low, high = bounds
    pixels = tf.round((images - low) * (255.0 / (high - low)))
    pixels = tf.reshape(pixels, [tf.shape(images)[0], -1])
    # A hash that is linear in the pixels, with random factors: images collide by chance only.
    # The last factor stands alone, lest a black image have the key 0 under every seed.
    factors = tf.random.stateless_uniform(
        [tf.shape(pixels)[1] + 1],
        seed=tf.stack([seed, 0]),
        minval=None,
        maxval=None,
        dtype=tf.int64,
        alg=_GENERATOR,
    )
    return tf.reduce_sum(tf.cast(pixels, tf.int64) * factors[:-1], axis=1) + factors[-1]


def signs(keys: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """The signs of standard normal numbers, shaped like the images."""
    shape = tf.shape(images)[1:]
    draws = _draw(lambda key: tf.random.stateless_normal(shape, key, alg=_GENERATOR), keys)
    return tf.sign(tf.reshape(draws, tf.shape(images)))


def uniform_linf(keys: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Uniform in the L-infinity ball of radius 1, shaped like the images."""
    shape = tf.shape(images)[1:]
    draws = _draw(
        lambda key: tf.random.stateless_uniform(shape, key, -1.0, 1.0, alg=_GENERATOR), keys
    )
    return tf.reshape(draws, tf.shape(images))


def uniform_l2(keys: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Uniform in the L2 ball of radius 1, shaped like the images."""
    # The first n coordinates of a random point of the unit sphere in n + 2 dimensions are
    # uniform in the ball of n dimensions (Archimedes).
    size = tf.reduce_prod(tf.shape(images)[1:])
    draws = _draw(lambda key: tf.random.stateless_normal([size + 2], key, alg=_GENERATOR), keys)
    on_sphere = draws / tf.norm(draws, axis=1, keepdims=True)
    return tf.reshape(on_sphere[:, :-2], tf.shape(images))


def _draw(draw: Callable[[tf.Tensor], tf.Tensor], keys: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(draw, tf.bitcast(keys, tf.int32), fn_output_signature=tf.float32)
