"""DeepFool: closed forms on linear logits, also of digits with pixels at the bounds, and the
paper's algorithm in NumPy on a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from victims import TEST_DIGITS, digit_network

from rse_tf.attacks import DeepFool

RNG = np.random.default_rng(2)
WEIGHTS = RNG.normal(size=(16, 5)).astype(np.float32)
HIDDEN = RNG.normal(size=(16, 8)).astype(np.float32)
LAST = RNG.normal(size=(8, 5)).astype(np.float32)
IMAGES = RNG.uniform(0.35, 0.65, size=(12, 4, 4, 1)).astype(np.float32)

# How far each step of the authors' code goes beyond the boundary.
BEYOND = 1e-4


def linear(x: Any) -> tf.Tensor:
    return tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, WEIGHTS)


def network(x: Any) -> tf.Tensor:
    return tf.matmul(tf.tanh(3 * tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, HIDDEN)), LAST)


def network_in_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[5]` and their gradients `[5, 16]` of one image."""
    h = np.tanh(3 * (x.reshape(16) - 0.5) @ HIDDEN)
    return h @ LAST, (3 * HIDDEN * (1 - h**2) @ LAST).T


def nearest_boundary(z: np.ndarray, gradients: np.ndarray, label: int) -> np.ndarray:
    others = [k for k in range(len(z)) if k != label]
    gaps = {k: z[label] - z[k] for k in others}
    normals = {k: gradients[k] - gradients[label] for k in others}
    distance, k = min((gaps[k] / np.linalg.norm(normals[k]), k) for k in others)
    return (distance + BEYOND) * normals[k] / np.linalg.norm(normals[k])


def predictions(model: Any, images: np.ndarray) -> np.ndarray:
    return np.argmax(model(images), axis=1)


LABELS = predictions(linear, IMAGES)


@pytest.mark.parametrize("overshoot", [0.02, 0.5])
def test_on_linear_logits_one_step_crosses_the_nearest_boundary(overshoot: float) -> None:
    result = DeepFool(linear, overshoot=overshoot)(IMAGES, LABELS)
    z = linear(IMAGES).numpy()
    steps = np.array([nearest_boundary(z[i], WEIGHTS.T, LABELS[i]) for i in range(12)])
    expected = IMAGES + (1 + overshoot) * steps.reshape(IMAGES.shape)
    np.testing.assert_allclose(result.adversarial, expected, atol=1e-5)
    # |margin| / ||w1 - w0|| and 1e-4 beyond, and the overshoot.
    length = np.linalg.norm(steps, axis=1) * (1 + overshoot)
    np.testing.assert_allclose(result.distortion, length, rtol=1e-4)
    assert result.success.all()
    # One look before the step, one after it, and that of the end.
    assert np.all(result.iterations == 1) and np.all(result.queries == 3)


def test_on_a_network_it_is_the_algorithm_of_the_paper() -> None:
    labels = predictions(network, IMAGES)
    result = DeepFool(network)(IMAGES, labels)
    for i, image in enumerate(IMAGES.astype(float)):
        x, total, steps = image.reshape(16), np.zeros(16), 0
        while np.argmax(network_in_numpy(x)[0]) == labels[i]:
            total += nearest_boundary(*network_in_numpy(x), labels[i])
            x, steps = np.clip(image.reshape(16) + 1.02 * total, 0, 1), steps + 1
        np.testing.assert_allclose(result.adversarial[i].reshape(16), x, atol=1e-4)
        assert result.iterations[i] == steps
    assert result.success.all() and len(set(result.iterations)) > 1


def exact_distance(images: np.ndarray, gap: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Of images `[batch, pixels]` to the plane `normal . r = gap`, within the bounds 0 and 1.

    The optimum of min ||r||^2 is r = clip(t * normal, -x, 1 - x) with the t that meets the plane,
    found by halving.
    """
    low, high = np.zeros(len(images)), np.full(len(images), 1e4)
    for _ in range(100):
        t = (low + high) / 2
        r = np.clip(t[:, None] * normal, -images, 1 - images)
        short = r @ normal < gap
        low, high = np.where(short, t, low), np.where(short, high, t)
    return np.linalg.norm(r, axis=1)


@pytest.mark.parametrize("lowest, highest", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_of_digits_to_a_plane_it_is_the_distance_within_the_bounds(
    lowest: float, highest: float
) -> None:
    # Real digits: four of five pixels are at a bound. The plane is of a mean digit 3 and 8.
    images, labels = TEST_DIGITS
    threes, eights = (images[labels == digit] for digit in (3, 8))
    x = threes.reshape(len(threes), -1).astype(float)
    normal = (eights.mean(axis=0) - threes.mean(axis=0)).ravel()
    offset = (x @ normal).max() + 1  # all are of class 0
    span = highest - lowest

    def model(pixels: tf.Tensor) -> tf.Tensor:
        unit = (tf.reshape(pixels, [-1, 784]) - lowest) / span
        score = tf.linalg.matvec(unit, normal.astype(np.float32)) - np.float32(offset)
        return tf.stack([-score / 2, score / 2], axis=1)

    attack = DeepFool(model, bounds=(lowest, highest))
    result = attack(lowest + span * threes, np.zeros(len(threes), int))
    exact = exact_distance(x, offset - x @ normal, normal)
    assert len(x) > 20 and result.success.all()
    # The overshoot is of the last step only; each step goes a little beyond. The rest is the
    # rounding of the logits, 1e-5 of at most their largest, by a slope.
    share = result.distortion / span / exact
    assert share.min() > 1 - 1e-5 and share.max() < 1.02 * (1 + 20 * BEYOND / exact.min())


@pytest.mark.parametrize("lowest, highest", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_all_digits_are_fooled_by_more_than_rounding(lowest: float, highest: float) -> None:
    network, (images, labels) = digit_network(), TEST_DIGITS
    span = highest - lowest
    correct = predictions(network, images) == labels
    images, labels = images[correct], labels[correct]
    attack = DeepFool(lambda x: network((x - lowest) / span), bounds=(lowest, highest))
    result = attack(lowest + span * images, labels)
    assert correct.mean() > 0.8 and result.success.all() and result.iterations.max() < 20
    unit = (result.adversarial - lowest) / span
    logits = network(unit).numpy()
    rows = np.arange(len(labels))
    own = logits[rows, labels].copy()
    logits[rows, labels] = -np.inf
    lead = logits.max(axis=1) - own
    assert (lead > 1e-6 * np.abs(own)).all()
    # The last twentieth of the way is needed by nearly all: the boundary is just behind.
    before = predictions(network, images + 0.95 * (unit - images))
    assert (before == labels).mean() > 0.9


def test_a_gap_of_zero_is_no_win() -> None:
    # Both logits are the same on every grey image; the first class is what argmax says.
    def tied(x: tf.Tensor) -> tf.Tensor:
        gap = tf.nn.relu(0.5 - tf.reduce_mean(x, axis=[1, 2, 3]))
        return tf.stack([gap, -gap + tf.nn.relu(tf.reduce_mean(x, axis=[1, 2, 3]) - 0.5)], axis=1)

    images = np.full((1, 4, 4, 1), 0.3, np.float32)
    result = DeepFool(tied, overshoot=0.0)(images, [0])
    assert result.success.all()
    # 0.2 in each of 16 pixels, and a step or two of 1e-4.
    np.testing.assert_allclose(result.distortion, 0.8, atol=3e-4)


def test_tiny_and_missing_gradients() -> None:
    expected = DeepFool(linear)(IMAGES, LABELS)
    # Squares of 1e-25 are no float32.
    tiny = DeepFool(lambda x: linear(x) * 1e-25)(IMAGES, LABELS)
    np.testing.assert_allclose(tiny.adversarial, expected.adversarial, atol=1e-5)
    flat = DeepFool(lambda x: 0 * linear(x) + [2.0, 0, 0, 0, 0])(IMAGES, np.zeros(12, int))
    assert not flat.success.any()
    np.testing.assert_array_equal(flat.adversarial, IMAGES)


def test_fewer_candidates_leave_out_the_low_logits() -> None:
    two = DeepFool(linear, candidates=2)(IMAGES, LABELS)
    z = linear(IMAGES).numpy()
    rows, second = np.arange(12), np.argsort(z, axis=1)[:, -2]
    normals = WEIGHTS.T[LABELS] - WEIGHTS.T[second]
    distance = (z[rows, LABELS] - z[rows, second]) / np.linalg.norm(normals, axis=1)
    np.testing.assert_allclose(two.distortion, 1.02 * (distance + BEYOND), rtol=1e-4)
    assert np.any(two.distortion > 1.01 * DeepFool(linear)(IMAGES, LABELS).distortion)


def test_wrong_from_the_start_means_unchanged() -> None:
    labels = LABELS.copy()
    labels[3] = (labels[3] + 1) % 5
    result = DeepFool(linear)(IMAGES, labels)
    np.testing.assert_array_equal(result.adversarial[3], IMAGES[3])
    assert result.success[3] and result.distortion[3] == 0
    assert result.iterations[3] == 0 and result.queries[3] == 2
    assert np.all(np.delete(result.distortion, 3) > 0)


def test_what_it_does_not_fool_is_unchanged() -> None:
    def far(x: tf.Tensor) -> tf.Tensor:  # no image within the bounds is of another class
        return linear(x) + [100.0, 0, 0, 0, 0]

    result = DeepFool(far, steps=4)(IMAGES, np.zeros(12, int))
    np.testing.assert_array_equal(result.adversarial, IMAGES)
    assert not result.success.any() and np.all(result.iterations == 4)


def test_the_last_step_counts() -> None:
    labels = predictions(network, IMAGES)
    full = DeepFool(network)(IMAGES, labels)
    needed = int(full.iterations.max())
    exact, short = (DeepFool(network, steps=s)(IMAGES, labels) for s in (needed, needed - 1))
    np.testing.assert_allclose(exact.adversarial, full.adversarial, atol=1e-6)
    np.testing.assert_array_equal(short.success, full.iterations < needed)


def test_logits_and_gradients_are_of_the_same_draw() -> None:
    # Noise that scales all logits moves no boundary, unless it differs between the two.
    def noisy(x: tf.Tensor) -> tf.Tensor:
        return linear(x) * tf.exp(tf.random.normal([tf.shape(x)[0], 1], stddev=2.0))

    expected = DeepFool(linear)(IMAGES, LABELS)
    result = DeepFool(noisy)(IMAGES, LABELS)
    np.testing.assert_allclose(result.adversarial, expected.adversarial, atol=1e-5)


def test_nan_is_no_result() -> None:
    def breaks(x: tf.Tensor) -> tf.Tensor:  # in order on the grey image, and only there
        moved = tf.reduce_any(x != 0.5, axis=(1, 2, 3))
        return tf.where(moved[:, None], np.nan, linear(x) + [0.1, 0, 0, 0, 0])

    with pytest.raises(ValueError, match="finite"):
        DeepFool(breaks)(np.full_like(IMAGES, 0.5), np.zeros(12, int))


def test_there_are_no_targets() -> None:
    with pytest.raises(ValueError, match="targets must be None.*Received"):
        DeepFool(linear)(IMAGES, LABELS, (LABELS + 1) % 5)


@pytest.mark.parametrize("name, value", [("steps", 0), ("overshoot", -0.1), ("candidates", 1)])
def test_bad_hyperparameters_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be"):
        DeepFool(linear, **settings)
