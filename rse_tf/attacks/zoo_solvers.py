"""Steps of ZOO's two solvers, coordinate by coordinate."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_BETA_1, _BETA_2, _ADAM_EPSILON = 0.9, 0.999, 1e-8
# Newton: what stands in for a curvature that is not positive, and the smallest one there is.
_NO_CURVATURE, _SMALLEST_CURVATURE = 1.0, 0.1


class Moments(NamedTuple):
    """Adam's memory, `[batch, size]` each."""

    mean: tf.Tensor
    variance: tf.Tensor
    visits: tf.Tensor  # how often each coordinate has been moved


def no_moments(modifier: tf.Tensor) -> Moments:
    """The memory before the first step, for a modifier `[batch, size]`."""
    return Moments(*[tf.zeros_like(modifier)] * 3)


def adam_step(
    moments: Moments, picked: tf.Tensor, slope: tf.Tensor, *, unit: float
) -> tuple[tf.Tensor, Moments]:
    """One step of Adam on the picked coordinates, each with a step counter of its own.

    Args:
        moments: the memory of all coordinates.
        picked: int32 `[batch, number]`, different ones in each row.
        slope: the derivatives there, `[batch, number]`.
        unit: what the derivatives count in: 1 for pixels in [0, 1].

    Returns:
        The step to subtract for a learning rate of 1, `[batch, number]`, and the new memory.
    """
    mean, variance, visits = (tf.gather(all_, picked, batch_dims=1) for all_ in moments)
    mean = _BETA_1 * mean + (1 - _BETA_1) * slope
    variance = _BETA_2 * variance + (1 - _BETA_2) * tf.square(slope)
    visits = visits + 1
    rate = tf.sqrt(1 - _BETA_2**visits) / (1 - _BETA_1**visits)
    new = (mean, variance, visits)
    moments = Moments(*(put(all_, picked, some) for all_, some in zip(moments, new)))
    return rate * mean / (tf.sqrt(variance) + _ADAM_EPSILON * unit), moments


def newton_step(slope: tf.Tensor, curvature: tf.Tensor, *, unit: float) -> tf.Tensor:
    """The step of Newton's method; where the curvature is not positive, that of descent.

    Args:
        slope: the first derivatives.
        curvature: the second ones, 0 where they are unknown.
        unit: what the second ones count in: 1 for pixels of any range, for of the squared
            distance it is 2 there.
    """
    curvature = tf.where(curvature > 0, curvature, _NO_CURVATURE * unit)
    return slope / tf.maximum(curvature, _SMALLEST_CURVATURE * unit)


def put(all_: tf.Tensor, picked: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`all_` `[batch, size]` with the values `[batch, number]` at the picked coordinates."""
    rows = tf.broadcast_to(tf.range(tf.shape(picked)[0])[:, None], tf.shape(picked))
    return tf.tensor_scatter_nd_update(all_, tf.stack([rows, picked], axis=2), values)
