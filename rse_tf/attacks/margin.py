"""What the attacks on the margin between logits share: who wins, and the closest win so far."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from rse_tf.attacks.attack import per_image


class Outcome(NamedTuple):
    """What a descent came to, one image per row."""

    last: tf.Tensor  # the last iterate, [batch, height, width, channels]
    best: tf.Tensor  # the closest adversarial image
    best_l2: tf.Tensor  # its squared distance [batch], infinite without a success
    steps: tf.Tensor  # int32 [batch]


def advantage_of(logits: tf.Tensor, classes: tf.Tensor, targeted: bool) -> tf.Tensor:
    """By how much the attack wins, in logits `[batch]`; negative while it has not."""
    chosen = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
    other = tf.reduce_max(tf.where(chosen, -float("inf"), logits), axis=-1)
    own = tf.gather(logits, classes, batch_dims=1)
    return own - other if targeted else other - own


def closer(
    best: tf.Tensor,
    best_l2: tf.Tensor,
    images: tf.Tensor,
    l2: tf.Tensor,
    advantage: tf.Tensor,
    confidence: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The closest adversarial images so far, and their squared distance `[batch]`.

    From a NaN among the logits on both are NaN, for the caller to see it.

    Args:
        best: those before, `[batch, height, width, channels]`.
        best_l2: their squared distance `[batch]`.
        images: the images to judge.
        l2: their squared distance `[batch]`.
        advantage: by how much they win, in logits `[batch]`.
        confidence: by how much they must.
    """
    found = (advantage > 0) & (advantage >= confidence) & (l2 < best_l2)
    best, best_l2 = tf.where(per_image(found, images), images, best), tf.where(found, l2, best_l2)
    finite = tf.math.is_finite(advantage) & tf.math.is_finite(l2)
    nan = tf.constant(float("nan"))
    return tf.where(per_image(finite, images), best, nan), tf.where(finite, best_l2, nan)
