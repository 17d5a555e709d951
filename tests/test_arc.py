"""ARC against all points of the ball, on linear members in two dimensions, and its rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import ARC, PGD
from rse_tf.attacks.arc import expected_accuracy

RNG = np.random.default_rng(4)
EPSILON = 0.1
IMAGES = RNG.uniform(0.2, 0.8, size=(80, 1, 2, 1)).astype(np.float32)
ZEROS = np.zeros(len(IMAGES), int)


def lines(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Members that are correct where w x + b is above 0; the lines pass close to the middle."""
    angles = RNG.uniform(0, 2 * np.pi, number)
    weights = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return weights, RNG.uniform(0, 0.1, number) - weights @ [0.5, 0.5]


def stacked(weights: np.ndarray, offsets: np.ndarray) -> Any:
    def logits(x: tf.Tensor) -> tf.Tensor:
        z = tf.reshape(x, [-1, 2]) @ weights.T.astype(np.float32) + offsets.astype(np.float32)
        return tf.transpose(tf.stack([z, 0 * z], axis=2), [1, 0, 2])

    return logits


def lowest(weights: np.ndarray, offsets: np.ndarray, norm: str) -> np.ndarray:
    """The lowest expected accuracy of a fine grid of points in each image's ball."""
    line = np.linspace(-EPSILON, EPSILON, 151)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 1, 2)
    if norm == "l2":
        points = points[np.linalg.norm(points, axis=2)[:, 0] <= EPSILON]
    z = (points + IMAGES.reshape(1, -1, 2)) @ weights.T + offsets
    return (z >= 0).mean(axis=2).min(axis=0)


# Of 160 images, how many may miss the best point. A single member has one boundary, and none does.
# With two, all signs of the gradients may be opposite: steps along a diagonal of the ball do not
# reach a narrow wedge beside it.
MISSES = {("l2", 1): 0, ("linf", 1): 0, ("l2", 2): 1, ("linf", 2): 8}


@pytest.mark.parametrize("norm, number", MISSES)
def test_it_finds_the_best_of_all_points_of_the_ball(norm: str, number: int) -> None:
    misses, gain, start = 0, 0.0, 0.0
    for _ in range(2):
        weights, offsets = lines(number)
        model = stacked(weights, offsets)
        found = ARC(model, epsilon=EPSILON, norm=norm)(IMAGES, ZEROS).adversarial
        reached, before = (expected_accuracy(model(x), ZEROS).numpy() for x in (found, IMAGES))
        best = lowest(weights, offsets, norm)
        misses += np.sum(reached > best + 1e-6)
        start += before.mean() - best.mean()
        mean_loss = PGD(model, epsilon=EPSILON, norm=norm)(IMAGES, ZEROS).adversarial
        gain += np.mean(expected_accuracy(model(mean_loss), ZEROS) - reached)
        assert (reached <= before).all()
        moved = (found - IMAGES).reshape(-1, 2)
        distance = np.linalg.norm(moved, axis=1) if norm == "l2" else np.abs(moved).max(axis=1)
        assert distance.max() <= EPSILON + 1e-6
    assert misses <= MISSES[norm, number]
    assert start > 0.1  # else it proves little
    # One member has one boundary, which the gradient of the loss finds as well.
    assert gain > 0.01 if number == 2 else gain > -1e-6


def test_members_of_opposite_gradients_are_fooled_one_after_the_other() -> None:
    # Two members with gradients along the first pixel that cancel out: the mean loss is flat at
    # the image, and no point fools both. One of them can be, and then half of the answers are.
    def model(x: tf.Tensor) -> tf.Tensor:
        z = 10 * (tf.reshape(x, [-1, 2])[:, 0] - 0.5)
        first, second = z + 0.5, 0.5 - z
        return tf.stack([tf.stack([one, 0 * z], axis=1) for one in (first, second)])

    image = np.full((1, 1, 2, 1), 0.5, np.float32)
    start = PGD(model, epsilon=EPSILON, random_start=False)(image, [0])
    assert expected_accuracy(model(start.adversarial), [0]).numpy() == 1
    found = ARC(model, epsilon=EPSILON)(image, [0])
    assert expected_accuracy(model(found.adversarial), [0]).numpy() == 0.5


def test_expected_accuracy_counts_members_and_keeps_nan() -> None:
    logits = tf.constant([[[1.0, 0], [1, 0]], [[0, 1], [1, 0]], [[1, 0], [np.nan, 0]]])
    np.testing.assert_allclose(expected_accuracy(logits, [0, 0]), [2 / 3, np.nan], rtol=1e-6)
    np.testing.assert_allclose(expected_accuracy(logits[1], [0, 1]), [0, 0])


def test_targets_and_a_nan_on_the_way_are_refused() -> None:
    model = stacked(*lines(2))
    with pytest.raises(ValueError, match="ARC: targets must be None"):
        ARC(model, epsilon=EPSILON)(IMAGES, ZEROS, ZEROS + 1)

    def off_the_image(x: tf.Tensor) -> tf.Tensor:
        away = tf.reduce_any(tf.abs(x - IMAGES[:1]) > 1e-3, axis=[1, 2, 3])
        z = tf.reduce_sum(x, axis=[1, 2, 3]) + tf.where(away, np.nan, 0.0)
        return tf.stack([tf.stack([z, 0 * z], axis=1)] * 2)

    with pytest.raises(ValueError, match="finite logits"):
        ARC(off_the_image, epsilon=EPSILON)(IMAGES[:1], ZEROS[:1])
