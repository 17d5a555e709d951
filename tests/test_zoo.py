"""ZOO against closed forms on linear logits, and the count of its queries."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import ZOO
from rse_tf.attacks.zoo_coordinates import Level, estimate, importance, pick_coordinates

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(16, 2)).astype(np.float32)
DIRECTION = WEIGHTS[:, 1] - WEIGHTS[:, 0]
SLOPE = float(np.linalg.norm(DIRECTION))
IMAGES = RNG.uniform(0.4, 0.6, size=(6, 4, 4, 1)).astype(np.float32)
ZEROS, ONES = np.zeros(6, int), np.ones(6, int)


def model(x: Any) -> tf.Tensor:
    """Two classes; every image is of class 0."""
    return tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, WEIGHTS) + [0.9, 0.0]


GAP = (model(IMAGES)[:, 0] - model(IMAGES)[:, 1]).numpy()


def pixel_level(images: np.ndarray) -> Level:
    flat = tf.reshape(images, [len(images), -1])
    clip = lambda x: tf.clip_by_value(x, 0.0, 1.0)  # noqa: E731
    return Level(images, images, -flat, 1 - flat, tuple(images.shape[1:]), clip)


def all_coordinates(count: int, size: int) -> tf.Tensor:
    return tf.tile(tf.range(size)[None], [count, 1])


# A small h leaves the rounding of float32 logits, 1e-7 / h; a second difference 1e-7 / h^2.
@pytest.mark.parametrize("h, error", [(1e-4, 5e-3), (1e-2, 1e-4)])
def test_the_estimate_is_the_gradient_coordinate_by_coordinate(h: float, error: float) -> None:
    images = IMAGES.copy()
    images[0, 0, 0, 0], images[1, 3, 3, 0] = 0.0, 1.0  # a side of these is outside the bounds
    modifier = RNG.uniform(-0.1, 0.1, size=(6, 16)).astype(np.float32)
    modifier[0, 0] = modifier[1, 15] = 0.0
    const, seen = np.linspace(0.5, 2, 6).astype(np.float32), []

    def margin(x: tf.Tensor) -> tf.Tensor:
        seen.append((len(x), float(tf.reduce_min(x)), float(tf.reduce_max(x))))
        return model(x)[:, 0] - model(x)[:, 1]

    level = pixel_level(images)
    slope, curvature = estimate(
        lambda sides, rows: [margin(side) for side in sides],
        level,
        tf.constant(modifier),
        all_coordinates(6, 16),
        h=h,
        const=const,
        current=margin(level.images(modifier)),
        max_rows=7,
    )
    # The slope of the margin is -DIRECTION, that of the squared distance twice the modifier; at
    # a bound the one side left is off by h, half of its curvature 2 times h.
    expected = 2 * modifier - const[:, None] * DIRECTION
    expected[0, 0] += h
    expected[1, 15] -= h
    np.testing.assert_allclose(slope, expected, atol=error)
    if h == 1e-2:  # of a linear margin only the curvature of the distance is left
        inside = np.full((6, 16), 2.0)
        inside[0, 0] = inside[1, 15] = 0.0
        np.testing.assert_allclose(curvature, inside, atol=0.05)
    rows, low, high = np.array(seen[1:]).T
    assert rows.max() == 7 and rows.sum() == 2 * 6 * 16
    assert low.min() >= 0 and high.max() <= 1


def test_the_estimate_of_a_small_modifier_is_the_gradient_through_its_enlargement() -> None:
    images = tf.constant(RNG.uniform(0.4, 0.6, size=(2, 8, 8, 3)).astype(np.float32))
    weights = tf.constant(RNG.normal(size=(8, 8, 3)).astype(np.float32))
    small = tf.constant(RNG.uniform(-0.05, 0.05, size=(2, 48)).astype(np.float32))
    wide = tf.fill([2, 48], 1.0)
    level = Level(images, images, -wide, wide, (4, 4, 3), tf.identity)

    def margin(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x * weights, axis=[1, 2, 3])

    slope, _ = estimate(
        lambda sides, rows: [margin(side) for side in sides],
        level,
        small,
        all_coordinates(2, 48),
        h=1e-2,
        const=tf.ones(2),
        current=None,
        max_rows=1000,
    )
    with tf.GradientTape() as tape:
        tape.watch(small)
        x = images + tf.image.resize(tf.reshape(small, [2, 4, 4, 3]), (8, 8))
        loss = tf.reduce_sum((x - images) ** 2, axis=[1, 2, 3]) + margin(x)
    np.testing.assert_allclose(slope, tape.gradient(loss, small), atol=2e-3)


ADAM: dict[str, Any] = {"const": 1.0, "steps": 250}
NEWTON: dict[str, Any] = {**ADAM, "solver": "newton", "learning_rate": 0.05}


@pytest.mark.parametrize(
    "settings, tolerance, targets",
    [
        (ADAM, 0.05, None),
        (ADAM, 0.05, ONES),
        (NEWTON, 0.05, None),
        ({**ADAM, "coordinates": 5, "steps": 400}, 0.08, ONES),
        ({**ADAM, "tanh_space": True}, 0.05, None),
        ({"steps": 120, "binary_search_steps": 6}, 0.02, None),
    ],
)
def test_it_reaches_the_distance_to_the_other_class(
    settings: dict[str, Any], tolerance: float, targets: np.ndarray | None
) -> None:
    result = ZOO(model, **settings)(IMAGES, ZEROS, targets)
    exact = GAP / SLOPE
    assert GAP.min() > 0.2 and result.success.all()
    assert (result.distortion >= exact - 1e-5).all()  # nothing is closer than the plane
    np.testing.assert_allclose(result.distortion, exact, rtol=tolerance)


@pytest.mark.parametrize("settings", [ADAM, {**NEWTON, "learning_rate": 0.5, "steps": 60}])
def test_a_weak_hinge_goes_as_far_as_it_pays(settings: dict[str, Any]) -> None:
    # Minimise d^2 + c * max(gap - slope * d, 0): the optimum before the plane is c * slope / 2.
    const = 0.02
    assert (const * SLOPE / 2 < GAP / SLOPE).all()
    weak = {**settings, "const": const, "h": 1e-2}
    last = ZOO(model, iterate="last", **weak)(IMAGES, ZEROS)
    np.testing.assert_allclose(last.distortion, const * SLOPE / 2, rtol=0.02)
    best = ZOO(model, **weak)(IMAGES, ZEROS)
    assert not best.success.any()
    np.testing.assert_array_equal(best.adversarial, IMAGES)


def test_confidence_is_won_by() -> None:
    result = ZOO(model, confidence=0.5, **ADAM)(IMAGES, ZEROS)
    logits = model(result.adversarial).numpy()
    assert (logits[:, 1] - logits[:, 0] >= 0.5 - 1e-5).all() and result.success.all()
    np.testing.assert_allclose(result.distortion, (GAP + 0.5) / SLOPE, rtol=0.05)


@pytest.mark.parametrize("solver", ["adam", "newton"])
def test_queries_are_the_images_that_the_model_sees(solver: str) -> None:
    rows, largest = tf.Variable(0), tf.Variable(0)

    def counted(x: tf.Tensor) -> tf.Tensor:
        rows.assign_add(tf.shape(x)[0])
        largest.assign(tf.maximum(largest, tf.shape(x)[0]))
        return model(x)

    attack = ZOO(counted, solver=solver, coordinates=5, steps=40, binary_search_steps=3, max_rows=8)
    attack.check_model(IMAGES)
    rows.assign(0)
    result = attack(IMAGES, ZEROS)
    assert rows.numpy() == result.queries.sum() and largest.numpy() == 8
    assert len(set(result.iterations)) > 1  # some images are done earlier
    np.testing.assert_array_equal(result.queries, result.iterations * (2 * 5 + 1) + 1)


def test_results_do_not_depend_on_batch_mates_or_on_max_rows() -> None:
    settings: dict[str, Any] = {"coordinates": 3, "importance_sampling": True, "h": 1e-2}
    attack = ZOO(model, const=1.0, iterate="last", steps=40, abort_early=True, **settings)
    together = attack(IMAGES, ZEROS)
    for other in (
        dataclasses.replace(attack, max_rows=4)(IMAGES, ZEROS),
        dataclasses.replace(attack, batch_size=2)(IMAGES, ZEROS),
    ):
        np.testing.assert_allclose(other.adversarial, together.adversarial, atol=1e-5)
        np.testing.assert_array_equal(other.iterations, together.iterations)
    backwards = attack(IMAGES[::-1], ZEROS)
    np.testing.assert_allclose(backwards.adversarial[::-1], together.adversarial, atol=1e-5)
    reseeded = dataclasses.replace(attack, seed=1)(IMAGES, ZEROS)
    assert (np.abs(reseeded.adversarial - together.adversarial).max(axis=(1, 2, 3)) > 1e-3).all()


def test_coordinates_are_picked_in_proportion_to_their_weights() -> None:
    weights, draws = np.array([1.0, 2.0, 3.0, 0.5], np.float32), 4000
    keys = tf.random.stateless_uniform([draws], (3, 4), None, None, tf.int64)
    pick = tf.function(pick_coordinates)
    picked = pick(tf.tile(weights[None], [draws, 1]), keys, 2).numpy()
    assert (picked[:, 0] != picked[:, 1]).all()
    share = weights / weights.sum()
    # The second one by the weights of those that the first has left.
    others = (1 - np.eye(4)) * share / (1 - share[:, None])
    second = share @ others
    for column, expected in zip(picked.T, (share, second)):
        found = np.bincount(column, minlength=4) / draws
        assert (np.abs(found - expected) <= 5 * np.sqrt(expected / draws)).all()


def test_importance_is_the_largest_change_of_a_region() -> None:
    modifier = np.zeros((2, 18, 16, 2), np.float32)
    modifier[0, 3, 5, 1], modifier[0, 17, 0, 0], modifier[0, 2, 4, 1] = -0.2, 0.1, 0.05
    weights = importance(modifier.reshape(2, -1), (18, 16, 2)).numpy().reshape(2, 18, 16, 2)
    # Sides of 18 // 8 = 2: the largest change weighs 1, beside the 0.01 that all keep.
    expected = np.full((2, 18, 16, 2), 0.01, np.float32)
    expected[0, 2:4, 4:6, 1] += 1.0
    expected[0, 16:, 0:2, 0] += 0.5
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_hierarchical_attack_grows_with_its_levels() -> None:
    # Logits that only see the image's mean, which a modifier of 2 x 2 reaches as well.
    def mean(x: tf.Tensor) -> tf.Tensor:
        bright = tf.reduce_mean(x, axis=[1, 2, 3])
        return tf.stack([0.6 - bright, 0.0 * bright], axis=1) * 20

    images = np.full((2, 8, 8, 1), 0.5, np.float32)
    settings: dict[str, Any] = {"const": 2.5, "learning_rate": 5e-3, "steps": 90, "h": 1e-2}
    attack = ZOO(mean, coordinates=4, resize=(2, 4), **settings)
    result = attack(images, ZEROS[:2])
    assert result.success.all() and (result.queries == 90 * 9 + 1).all()
    # From 0.5 to the plane at 0.6: 0.1 in each of 64 pixels.
    np.testing.assert_allclose(result.distortion, 0.8, rtol=0.05)
    # At full size the same queries reach every pixel 90 * 4 / 64 times: not far enough.
    assert not dataclasses.replace(attack, resize=())(images, ZEROS[:2]).success.any()
    with pytest.raises(ValueError, match="smaller than the images"):
        dataclasses.replace(attack, resize=(2, 8))(images, ZEROS[:2])


def test_a_nan_is_no_result() -> None:
    attack = ZOO(lambda x: tf.where(tf.reduce_all(x == IMAGES[0]), 1.0, np.nan) * model(x), **ADAM)
    with pytest.raises(ValueError, match="finite"):
        attack(IMAGES[:1], ZEROS[:1])


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "sgd"},
        {"noise": "none"},
        {"coordinates": 0},
        {"h": 0.0},
        {"max_rows": 0},
        {"resize": (64, 32)},
        {"resize": 32},
        {"resize": (0, 8)},
        {"seed": -1},
        {"tanh_space": 1},
        {"importance_sampling": None},
        {"const": -1.0},
    ],
)
def test_bad_hyperparameters_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        ZOO(model, **settings)
