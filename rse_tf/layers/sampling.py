"""Fast and exact sources of noise with mean 0."""

from __future__ import annotations

import functools
import math

import numpy as np
import tensorflow as tf

DISTRIBUTIONS = ("gaussian", "uniform", "laplace")
SAMPLERS = ("pool", "exact")

# The pool holds this many numbers, and is picked from in blocks.
POOL_SIZE = 2**20
BLOCK = 256
# The first block is entered at a multiple of this, the smallest stretch that TensorFlow cuts off
# without copying in every dtype: 64 bytes.
_STRIDE = 32


def sample_noise(
    shape: tf.Tensor,
    distribution: str,
    sampler: str,
    stddev: float,
    seed: tf.Tensor,
    dtype: tf.DType,
) -> tf.Tensor:
    """Draws noise of mean 0.

    Args:
        shape: int32 tensor, the shape of the result.
        distribution: one of `DISTRIBUTIONS`.
        sampler: one of `SAMPLERS`. `"exact"` computes every number from random bits of its
            own; normal ones by the transform of Box and Muller. `"pool"` is much faster on
            a CPU: it strings together blocks, picked at random, of a pool that holds a
            million numbers of this distribution. The largest one stands for the rest of the tail:
            4.9 for normal numbers, which one in a million exceeds.
        stddev: standard deviation of the noise.
        seed: integer tensor `[2]`; the same seed gives the same noise.
        dtype: floating-point dtype of the result.
    """
    if sampler == "pool":
        return _from_pool(shape, _pool(distribution, stddev, dtype), seed)
    # Low precision is no place to draw in: a bfloat16 uniform has 128 values and a mean that is
    # visibly off.
    return tf.cast(stddev * _exact(shape, distribution, seed), dtype)


def _from_pool(shape: tf.Tensor, blocks: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    size = tf.reduce_prod(shape)
    # One more to fill the last block, and one to make up for the part that the first one lacks.
    bits = tf.random.stateless_uniform([size // BLOCK + 3], seed, None, None, tf.int32)
    picked = tf.gather(blocks, tf.math.floormod(bits[1:], POOL_SIZE // BLOCK))
    # Where the first block is entered decides which columns of the pool meet; without that two
    # neighbours would always be the same pair of columns.
    start = tf.math.floormod(bits[0], BLOCK // _STRIDE)
    stretches = tf.slice(
        tf.reshape(picked, [-1, _STRIDE]), [start, 0], [(size - 1) // _STRIDE + 1, _STRIDE]
    )
    return tf.reshape(tf.reshape(stretches, [-1])[:size], shape)


# One for each standard deviation: a network has few, and to scale the noise anew in every layer is
# a third of the work.
@functools.lru_cache(maxsize=16)
def _pool(distribution: str, stddev: float, dtype: tf.DType) -> tf.Tensor:
    """Returns the pool, `[blocks, BLOCK]`."""
    # A value, and not a part of the graph: all layers share it, and an export has it once.
    with tf.init_scope():
        # The quantiles at equal steps of probability: no sample of this size is closer to the
        # distribution. Neighbouring ones are spread over the columns, so that each column is such
        # a sample too: a pixel meets the numbers of few columns, and those must have no mean of
        # their own. Shuffled within rows and columns, neighbours are as good as independent.
        probability = (np.arange(POOL_SIZE) + 0.5) / POOL_SIZE
        strata = quantile(distribution, probability).reshape(-1, BLOCK)
        rng = np.random.default_rng(0)
        values = rng.permuted(rng.permuted(strata, axis=1), axis=0)
        return tf.cast(tf.constant(stddev * values), dtype)


def quantile(distribution: str, probability: np.ndarray) -> np.ndarray:
    """Quantiles of a distribution of mean 0 and standard deviation 1, float64.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        probability: above 0 and below 1.
    """
    if distribution == "gaussian":
        return tf.math.ndtri(tf.constant(probability, tf.float64)).numpy()
    centered = 2.0 * probability - 1.0
    if distribution == "uniform":
        return math.sqrt(3.0) * centered
    return -np.sign(centered) * np.log1p(-np.abs(centered)) / math.sqrt(2.0)


def _exact(shape: tf.Tensor, distribution: str, seed: tf.Tensor) -> tf.Tensor:
    """Float32 noise of standard deviation 1."""
    if distribution == "gaussian":
        return tf.random.stateless_normal(shape, seed)
    root3 = math.sqrt(3.0)
    uniform = tf.random.stateless_uniform(shape, seed, -root3, root3)
    if distribution == "uniform":
        return uniform
    # Inverse distribution function of the Laplace law with scale 1/sqrt(2); the bound keeps
    # the one endpoint of the uniform draw that would map to infinity finite.
    magnitude = tf.minimum(tf.abs(uniform) / root3, 1.0 - 2.0**-24)
    return -tf.sign(uniform) * tf.math.log1p(-magnitude) / math.sqrt(2.0)
