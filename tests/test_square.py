"""Oracles of the Square Attack: its schedule, its windows in NumPy, linear worst cases."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from digits import some_digits
from victims import TEST_DIGITS, digit_network

from rse_tf.attacks import Square
from rse_tf.attacks.square import bump, tiles, window_side

PIXELS = some_digits(20)[0].astype(np.float32) / 255
RNG = np.random.default_rng(0)
NORMS = {"linf": 0.1, "l2": 1.5}
every_norm = pytest.mark.parametrize("norm", NORMS)


def without_gradient(model: Any) -> Any:
    @tf.custom_gradient
    def logits(x: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            raise AssertionError("a gradient was asked for")

        return model(x), gradient

    return logits


def black_box(x: tf.Tensor) -> np.ndarray:
    """A trained network that answers in NumPy, which knows no gradient."""
    return digit_network()(x).numpy()


def linear(weights: np.ndarray, lead: float) -> Any:
    """Two logits: class 0 leads by so much at the grey image."""
    size = len(weights)

    def logits(x: tf.Tensor) -> tf.Tensor:
        up = tf.linalg.matvec(tf.reshape(x - 0.5, [-1, size]), weights)
        return tf.stack([lead + 0 * up, up], axis=1)

    return logits


def norm_of(change: np.ndarray, norm: str) -> np.ndarray:
    flat = change.reshape(len(change), -1).astype(np.float64)
    return np.abs(flat).max(1) if norm == "linf" else np.sqrt((flat**2).sum(1))


def side_in_python(step: int, p_init: float, height: int, width: int, norm: str) -> int:
    """The table of the authors' code."""
    p = p_init
    for limit, divisor in (
        (10, 2),
        (50, 4),
        (200, 8),
        (500, 16),
        (1000, 32),
        (2000, 64),
        (4000, 128),
        (6000, 256),
        (8000, 512),
    ):
        if step > limit:
            p = p_init / divisor
    if norm == "linf":
        return max(round(math.sqrt(p * height * width)), 1)
    side = max(round(math.sqrt(p * height * width)), 3)
    return side + 1 if side % 2 == 0 else side


@every_norm
@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (96, 96), (30, 40)])
def test_the_squares_shrink_by_the_authors_table(norm: str, shape: tuple[int, int]) -> None:
    for p_init in (0.8, 0.3, 0.05):
        for step in (
            0,
            10,
            11,
            50,
            51,
            200,
            201,
            500,
            501,
            1000,
            1001,
            2000,
            2001,
            4000,
            4001,
            6000,
            6001,
            8000,
            8001,
            20000,
        ):
            side = window_side(tf.constant(step), tf.constant(p_init), shape, odd=norm == "l2")
            largest = min(shape) if norm == "linf" else (min(shape) - 1) // 2 * 2 + 1
            assert side == min(side_in_python(step, p_init, *shape, norm), largest), step


def test_a_square_is_no_larger_than_the_image() -> None:
    one, first = tf.constant(1.0), tf.constant(0)
    for side in range(3, 9):
        assert window_side(first, one, (side, side + 2), odd=False) <= side
        odd = int(window_side(first, one, (side, side + 2), odd=True))
        assert odd % 2 == 1 and odd <= side


def bump_in_numpy(side: int) -> np.ndarray:
    """Rectangle by rectangle, as the paper builds it."""

    def half(height: int) -> np.ndarray:
        picture = np.zeros((height, side))
        row, column = height // 2, side // 2
        for m in range(max(height, side) // 2 + 1):
            rows = slice(max(row - m, 0), min(row + m + 1, height))
            columns = slice(max(column - m, 0), min(column + m + 1, side))
            picture[rows, columns] += 1 / (m + 1) ** 2
        return picture / np.linalg.norm(picture)

    whole = np.concatenate([half(side // 2), -half(side - side // 2)])
    return whole / np.linalg.norm(whole)


@pytest.mark.parametrize("side", [2, 3, 5, 6, 9, 25])
def test_bumps_are_those_of_the_paper(side: int) -> None:
    row, column = np.mgrid[:40, :40].astype(np.int32)
    corners = np.array([[0, 0], [3, 11], [40 - side, 40 - side]], np.int32)
    down = row - corners[:, 0, None, None]
    across = column - corners[:, 1, None, None]
    found = bump(tf.constant(down), tf.constant(across), tf.constant(side)).numpy()
    for picture, (top, left) in zip(found, corners):
        expected = np.zeros((40, 40))
        expected[top : top + side, left : left + side] = bump_in_numpy(side)
        np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_the_first_perturbation_in_l2_is_a_grid_of_bumps() -> None:
    found = tiles(tf.range(3, dtype=tf.int64), tf.zeros([3, 28, 28, 2])).numpy()
    # Five by five tiles of 5 x 5, and one pixel around them.
    upright = bump_in_numpy(5)
    kinds = np.stack([upright, -upright, upright.T, -upright.T])
    seen = []
    for top in range(1, 26, 5):
        for left in range(1, 26, 5):
            for channel in range(2):
                part = found[:, top : top + 5, left : left + 5, channel]
                part = part / np.linalg.norm(part, axis=(1, 2), keepdims=True)
                away = np.abs(part[:, None] - kinds).max(axis=(2, 3))
                seen.append(away.argmin(axis=1))
                assert (away.min(axis=1) < 1e-5).all()
    assert not found[:, 0].any() and not found[:, :, 26:].any()
    # 150 draws of four kinds: 37.5 each, with a deviation of 5.3.
    assert (np.abs(np.bincount(np.ravel(seen), minlength=4) - 37.5) < 5 * 5.3).all()


def test_the_start_in_linf_is_stripes_at_the_edge_of_the_ball() -> None:
    # Of the images that win at once the attack changes nothing any more.
    grey = np.full((30, 8, 8, 3), 0.5, np.float32)
    always = Square(lambda x: tf.reshape(x, [-1, 192])[:, :2] * [0.0, 1.0], epsilon=0.1)
    result = always(grey, np.zeros(30, int))
    assert result.success.all() and (result.iterations == 0).all() and (result.queries == 2).all()
    np.testing.assert_allclose(np.abs(result.adversarial - 0.5), 0.1, atol=1e-6)
    assert (result.adversarial == result.adversarial[:, :1]).all()
    assert (result.adversarial[0] == result.adversarial[1]).all()  # equal images, equal squares


def test_it_finds_the_worst_case_of_a_linear_model_in_linf() -> None:
    weights = RNG.normal(size=192).astype(np.float32)
    grey = np.full((3, 8, 8, 3), 0.5, np.float32)
    attack = Square(without_gradient(linear(weights, 100)), epsilon=0.1, steps=4000)
    result = attack(grey, [0, 0, 0])
    moved = (result.adversarial - grey).reshape(3, -1) @ weights
    # It can come no further than epsilon times the L1 norm of the weights.
    worst = 0.1 * np.abs(weights).sum()
    assert (moved <= worst * (1 + 1e-5)).all() and (moved >= 0.95 * worst).all()
    assert (result.iterations == 4000).all() and (result.queries == 4002).all()
    assert not result.success.any()  # and still the best point is returned


def square_in_numpy(weights: np.ndarray, epsilon: float, steps: int, seed: int) -> float:
    """How far the paper's search in L2 comes along the weights, 16 x 16, from the grey image."""
    rng = np.random.default_rng(seed)

    def random_bump(side: int) -> np.ndarray:
        picture = bump_in_numpy(side) * rng.choice([-1, 1])
        return picture.T if rng.random() < 0.5 else picture

    away = np.zeros((16, 16))
    for top in range(0, 15, 3):
        for left in range(0, 15, 3):
            away[top : top + 3, left : left + 3] = random_bump(3)
    away *= epsilon / np.linalg.norm(away)
    for step in range(steps):
        side = min(side_in_python(step, 0.8, 16, 16, "l2"), 15)
        top, left, top2, left2 = rng.integers(0, 16 - side + 1, 4)
        first, second = np.zeros((2, 16, 16), bool)
        first[top : top + side, left : left + side] = True
        second[top2 : top2 + side, left2 : left2 + side] = True
        old = away[first].reshape(side, side)
        mix = random_bump(side) + old / max(np.linalg.norm(old), 1e-12)
        left_over = max(epsilon**2 - (away**2).sum(), 0) + (away[first | second] ** 2).sum()
        new = np.where(second, 0, away)
        new[first] = (mix / np.linalg.norm(mix) * np.sqrt(left_over)).ravel()
        new *= epsilon / np.linalg.norm(new)
        away = new if (new * weights).sum() > (away * weights).sum() else away
    return float((away * weights).sum())


def test_in_l2_it_comes_as_far_as_the_papers_search_in_numpy() -> None:
    wave = np.sin(np.arange(16) / 16 * 2 * np.pi)
    weights = np.outer(wave, wave).astype(np.float32)
    worst = 0.5 * np.linalg.norm(weights)
    grey = np.full((8, 16, 16, 1), 0.3, np.float32)
    grey += np.arange(8, dtype=np.float32)[:, None, None, None] / 20
    model = without_gradient(linear(weights.ravel(), 10))
    result = Square(model, epsilon=0.5, steps=1000, norm="l2")(grey, np.zeros(8, int))
    found = (result.adversarial - grey).reshape(8, -1) @ weights.ravel() / worst
    expected = [square_in_numpy(weights, 0.5, 1000, seed) / worst for seed in range(8)]
    # Both end at some 0.74 with a deviation of 0.02: the means of 8 differ by 0.01.
    assert abs(np.mean(found) - np.mean(expected)) < 5 * 0.01
    assert 0.65 < found.min() and found.max() <= 1
    np.testing.assert_allclose(result.distortion, 0.5, rtol=1e-4)
    assert not result.success.any()


@pytest.mark.parametrize("norm, targeted", [("linf", False), ("linf", True), ("l2", False)])
def test_it_stays_in_ball_and_bounds_and_stops_at_the_first_success(
    norm: str, targeted: bool
) -> None:
    images, labels = (part[:16] for part in TEST_DIGITS)
    targets = (labels + 1) % 10 if targeted else None
    attack = Square(black_box, epsilon=NORMS[norm], norm=norm, steps=100)
    result = attack(images, labels, targets)
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert norm_of(result.adversarial - images, norm).max() <= NORMS[norm] + 1e-7
    np.testing.assert_array_equal(result.queries, result.iterations + 2)
    assert (result.iterations[~result.success] == 100).all()
    late = result.success & (result.iterations > 0)
    assert late.any() and not result.success.all()
    # One step fewer, and they had not won.
    steps = int(result.iterations[late].max())
    before = dataclasses.replace(attack, steps=steps - 1)(images, labels, targets)
    last = late & (result.iterations == steps)
    assert last.any() and not before.success[last].any()
    again = dataclasses.replace(attack, steps=steps)(images, labels, targets)
    np.testing.assert_array_equal(again.adversarial[late], result.adversarial[late])


@every_norm
def test_an_image_meets_the_same_squares_in_every_batch(norm: str) -> None:
    images, labels = (part[:12] for part in TEST_DIGITS)
    attack = Square(digit_network(), epsilon=NORMS[norm] / 3, norm=norm, steps=30)
    together = attack(images, labels)
    assert len(set(together.iterations)) > 1  # some have left the batch
    for i in (0, 5):
        alone = attack(images[i : i + 1], labels[i : i + 1])
        np.testing.assert_allclose(alone.adversarial[0], together.adversarial[i], atol=1e-6)
        assert alone.queries[0] == together.queries[i]
    other = dataclasses.replace(attack, seed=1)(images, labels)
    assert np.abs(other.adversarial - together.adversarial).max(axis=(1, 2, 3)).min() > 0.01


@every_norm
@pytest.mark.parametrize("shape", [(2, 2, 1), (4, 5, 2), (9, 14, 3)])
def test_small_and_oblong_images_have_squares_too(norm: str, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    weights = RNG.normal(size=size).astype(np.float32)
    images = RNG.uniform(0.3, 0.7, size=(5, *shape)).astype(np.float32)
    model = linear(weights, 100)
    result = Square(model, epsilon=0.2, norm=norm, steps=200)(images, np.zeros(5, int))
    assert norm_of(result.adversarial - images, norm).max() <= 0.2 + 1e-7
    worst = 0.2 * (np.abs(weights).sum() if norm == "linf" else np.linalg.norm(weights))
    gain = (result.adversarial - images).reshape(5, -1) @ weights
    assert (gain > 0.1 * worst).all()


@every_norm
def test_at_no_distance_it_returns_the_image(norm: str) -> None:
    result = Square(digit_network(), epsilon=0, norm=norm, steps=3)(PIXELS, np.zeros(20, int))
    np.testing.assert_array_equal(result.adversarial, PIXELS)


def test_a_lucky_draw_of_a_random_model_decides_nothing() -> None:
    # One draw in two fools the model at once, by noise alone.
    weights = np.ones(64, np.float32)
    calls = []

    def noisy(x: tf.Tensor) -> tf.Tensor:
        calls.append(x)
        noise = tf.random.normal([tf.shape(x)[0], 2], stddev=2.0)
        return linear(weights, 0.0)(x) + noise

    grey = np.full((8, 8, 8, 1), 0.5, np.float32)
    attack = Square(noisy, epsilon=0.1, steps=60, selection_draws=100)
    result = attack(grey, np.zeros(8, int))
    assert (result.iterations == 60).all() and (result.queries == 61 * 100 + 1).all()
    # A mean of 100 margins is off by 2 * sqrt(2 / 100) = 0.28, and the worst case is 6.4. By single
    # draws a random walk is left, of which no image comes so far.
    gain = result.adversarial.reshape(8, -1).sum(axis=1) - 32
    assert gain.min() > 4.5
    traced = len(calls)
    dataclasses.replace(attack, epsilon=0.05, steps=2)(grey, np.zeros(8, int))
    assert len(calls) == traced  # one trace


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "l1"},
        {"steps": 0},
        {"p_init": 0},
        {"p_init": 1.5},
        {"selection_draws": 0},
        {"epsilon": -1},
        {"seed": -1},
    ],
)
def test_it_names_the_argument_that_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Square(digit_network(), **{"epsilon": 0.1, **change})
