"""Shared by attacks on the logit margin: the margin, and the closest adversarial image so far."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import tensorflow as tf

from rse_tf.attacks.base import per_image

# Where the range is this wide, a c below this share of its square is one for pixels in [0, 1].
_WIDE, _ODD_CONST = 10.0, 0.01


class Descent(NamedTuple):
    """One image per row, as it goes down with its own constant."""

    modifier: tf.Tensor  # what is added in tanh space, [batch, height, width, channels]
    mean: tf.Tensor  # Adam's first moment
    variance: tf.Tensor  # Adam's second moment
    best: tf.Tensor  # the closest adversarial image of this descent
    best_l2: tf.Tensor  # its squared distance [batch], infinite before the first success
    loss: tf.Tensor  # the loss before the last step [batch]
    margin: tf.Tensor  # by how much the attack won then, negative while it had not [batch]
    steps: tf.Tensor  # int32 [batch]
    running: tf.Tensor  # bool [batch]


class Outcome(NamedTuple):
    """The end of a descent, one image per row."""

    last: tf.Tensor  # the last iterate, [batch, height, width, channels]
    best: tf.Tensor  # the closest adversarial image
    best_l2: tf.Tensor  # its squared distance [batch], infinite without a success
    steps: tf.Tensor  # int32 [batch]


def warn_of_a_const_for_unit_pixels(
    attack: str, const: float | None, bounds: tuple[float, float]
) -> None:
    """Warns of a `const` that is far too small for wide bounds, and says by how much to scale."""
    width = bounds[1] - bounds[0]
    if const and width >= _WIDE and const < _ODD_CONST * width**2:
        warnings.warn(
            f"{attack}: const={const} weighs logits against squared pixel units, and "
            f"bounds={bounds} are {width:g} wide. If it is a const for pixels in [0, 1], multiply "
            f"it by {width**2:g}",
            stacklevel=5,
        )


def margin_of(logits: tf.Tensor, classes: tf.Tensor, targeted: bool) -> tf.Tensor:
    """The attack's margin in logits `[batch]`: positive where it succeeds."""
    chosen = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
    other = tf.reduce_max(tf.where(chosen, -float("inf"), logits), axis=-1)
    own = tf.gather(logits, classes, batch_dims=1)
    return own - other if targeted else other - own


def closer(
    best: tf.Tensor,
    best_l2: tf.Tensor,
    images: tf.Tensor,
    l2: tf.Tensor,
    margin: tf.Tensor,
    confidence: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The closest adversarial images so far, and their squared distance `[batch]`.

    From a NaN among the logits on both are NaN, for the caller to see it.

    Args:
        best: those before, `[batch, height, width, channels]`.
        best_l2: their squared distance `[batch]`.
        images: the images to judge.
        l2: their squared distance `[batch]`.
        margin: by how much they win, in logits `[batch]`.
        confidence: by how much they must.
    """
    found = (margin > 0) & (margin >= confidence) & (l2 < best_l2)
    best, best_l2 = tf.where(per_image(found, images), images, best), tf.where(found, l2, best_l2)
    finite = tf.math.is_finite(margin) & tf.math.is_finite(l2)
    nan = tf.constant(float("nan"))
    return tf.where(per_image(finite, images), best, nan), tf.where(finite, best_l2, nan)
