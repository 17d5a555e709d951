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
# Rounds of whitening and of restoring the quantiles. Each divides the distance between the two by
# ten, until 0.0005 standard deviations (root mean square) are left.
_ROUNDS = 3


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
            million numbers of this distribution. Inside a block all numbers are uncorrelated,
            with mean 0 and variance 1 before scaling, exactly and not only on average over many
            pools, so a linear filter of any weights sees noise of the exact variance. Two blocks
            are independent. What the pool does not have: a number of a block takes one of 4,096
            values, and higher moments of two numbers of a block, such as the correlation of
            their squares, are those of 4,096 samples. The largest number stands for the rest of
            the tail: 4.9 for normal ones, which one in a million exceeds.
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
    # Every size here follows from the shape alone. XLA compiles that once for a shape; a slice
    # that begins at a random place it would compile anew at every call.
    size = tf.reduce_prod(shape)
    count = (size + BLOCK - 1) // BLOCK
    picked = tf.random.stateless_uniform([count], seed, None, None, tf.int32)
    numbers = tf.gather(blocks, tf.math.floormod(picked, POOL_SIZE // BLOCK))
    return tf.reshape(tf.reshape(numbers, [-1])[:size], shape)


# One for each standard deviation: a network has few, and to scale the noise anew in every layer is
# a third of the work.
@functools.lru_cache(maxsize=16)
def _pool(distribution: str, stddev: float, dtype: tf.DType) -> tf.Tensor:
    """Returns the pool, `[blocks, BLOCK]`."""
    # A value, and not a part of the graph: all layers share it, and an export has it once.
    with tf.init_scope():
        return tf.cast(tf.constant(stddev * unit_pool(distribution)), dtype)


@functools.lru_cache(maxsize=len(DISTRIBUTIONS))
def unit_pool(distribution: str) -> np.ndarray:
    """The pool of standard deviation 1, float64 `[blocks, BLOCK]`.

    Its columns have mean 0, variance 1 and no correlation, to float64 rounding. Each column has
    one number of each of 4,096 intervals of equal probability, to a hundredth of a standard
    deviation, and all of them together have the quantiles of the distribution.
    """
    # No sample of this size is closer to the distribution than the quantiles at equal steps of
    # probability. Neighbouring ones are spread over the columns, so that each column is such a
    # sample too: a pixel meets the numbers of one column, which must follow the law by themselves.
    quantiles = quantile(distribution, (np.arange(POOL_SIZE) + 0.5) / POOL_SIZE)
    rng = np.random.default_rng(0)
    samples = rng.permuted(quantiles.reshape(-1, BLOCK), axis=1)
    pool = rng.permuted(samples, axis=0)
    # Shuffled columns correlate by chance, up to 0.07 over 4,096 rows. Whitening takes that away
    # and moves the numbers a little off their samples; putting each back by its rank brings
    # little of the correlation back. The whitening has the last word.
    for _ in range(_ROUNDS):
        placed = np.empty_like(pool)
        np.put_along_axis(placed, np.argsort(pool, axis=0), samples, axis=0)
        pool = _whiten(placed)
    return pool


def _whiten(columns: np.ndarray) -> np.ndarray:
    """The nearest columns with mean 0, variance 1 and no correlation."""
    centered = columns - columns.mean(axis=0)
    variances, axes = np.linalg.eigh(centered.T @ centered / len(centered))
    return centered @ (axes / np.sqrt(variances)) @ axes.T


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
