"""C&W against closed forms on linear logits and against a slow NumPy twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import CarliniWagnerL2, carlini_wagner

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(16, 3)).astype(np.float32)
IMAGES = RNG.uniform(0.4, 0.6, size=(10, 4, 4, 1)).astype(np.float32)


def model(x: Any) -> tf.Tensor:
    return tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, WEIGHTS)


LOGITS = model(IMAGES).numpy()
LABELS = LOGITS.argmax(axis=1)
TARGETS = (LABELS + 1) % 3


def distance(label: np.ndarray, other: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Distance of each image to the plane Z_other - Z_label = margin: the margin by its slope."""
    rows = np.arange(len(label))
    gap = LOGITS[rows, label] - LOGITS[rows, other] + margin
    return gap / np.linalg.norm(WEIGHTS.T[label] - WEIGHTS.T[other], axis=1)


SEARCH: dict[str, Any] = {"learning_rate": 1e-2, "steps": 300, "binary_search_steps": 9}

# Two classes; every image is of class 0 by a gap between 0.3 and 1.5 or so.
TWO = WEIGHTS[:, :2]
SLOPE = float(np.linalg.norm(TWO[:, 1] - TWO[:, 0]))


def two_classes(x: Any) -> tf.Tensor:
    return tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, TWO) + [0.9, 0.0]


GAP = (two_classes(IMAGES)[:, 0] - two_classes(IMAGES)[:, 1]).numpy()
ZEROS, ONES = np.zeros(10, int), np.ones(10, int)


@pytest.mark.parametrize("confidence", [0.0, 0.5])
@pytest.mark.parametrize("targets", [None, ONES])
def test_binary_search_finds_the_distance_to_the_other_class(
    confidence: float, targets: np.ndarray | None
) -> None:
    result = CarliniWagnerL2(two_classes, confidence=confidence, **SEARCH)(IMAGES, ZEROS, targets)
    exact = (GAP + confidence) / SLOPE
    assert GAP.min() > 0.2 and result.success.all()
    assert (result.distortion >= exact - 1e-5).all()  # nothing is closer than the plane
    np.testing.assert_allclose(result.distortion, exact, rtol=0.01)


def test_binary_search_is_never_closer_than_the_nearest_of_several_classes() -> None:
    result = CarliniWagnerL2(model, **SEARCH)(IMAGES, LABELS)
    first, second = (distance(LABELS, (LABELS + k) % 3) for k in (1, 2))
    assert result.success.all()
    assert (result.distortion >= np.minimum(first, second) - 1e-5).all()
    # The hinge follows the other class with the largest logit, which need not be the nearest;
    # the attack ends at one of the two planes or where they meet.
    close = np.isclose(result.distortion, first, rtol=0.02, atol=4e-3)
    close |= np.isclose(result.distortion, second, rtol=0.02, atol=4e-3)
    assert close.sum() >= 8


@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_targeted_binary_search_finds_the_region_of_the_target(confidence: float) -> None:
    result = CarliniWagnerL2(model, confidence=confidence, **SEARCH)(IMAGES, LABELS, TARGETS)
    logits = model(result.adversarial).numpy()
    rows = np.arange(len(logits))
    own = logits[rows, TARGETS].copy()
    logits[rows, TARGETS] = -np.inf
    assert result.success.all()
    assert (own - logits.max(axis=1) >= confidence - 1e-5).all()
    # Both other classes must lose by the confidence, so the larger of the distances to the two
    # planes is a lower bound, and where one is inside the other's side it is the answer.
    bound = np.maximum(*(distance((TARGETS + k) % 3, TARGETS, confidence) for k in (1, 2)))
    assert (result.distortion >= bound - 1e-5).all()
    assert (np.abs(result.distortion - bound) < 4e-3).sum() >= 5


@pytest.mark.parametrize("targets", [None, ONES])
def test_fixed_const_goes_as_far_as_its_hinge_pays(targets: np.ndarray | None) -> None:
    # Minimise d^2 + c * max(gap - slope * d, 0): the hinge pulls with c * slope, so the optimum
    # is d = c * slope / 2, or the plane at gap / slope if that is nearer.
    for const in (0.01, 0.02):
        assert (const * SLOPE / 2 < GAP / SLOPE).all()
        attack = CarliniWagnerL2(two_classes, const=const, steps=500, learning_rate=2e-3)
        result = attack(IMAGES, ZEROS, targets)
        assert not result.success.any()
        np.testing.assert_allclose(result.distortion, const * SLOPE / 2, rtol=0.01)
    # Across the plane the hinge is gone, and the last iterate of a strong one keeps stepping
    # to and fro; the best iterate is the one closest to the plane.
    attack = CarliniWagnerL2(two_classes, const=1.0, steps=500, learning_rate=2e-3, iterate="best")
    result = attack(IMAGES, ZEROS, targets)
    assert result.success.all()
    np.testing.assert_allclose(result.distortion, GAP / SLOPE, rtol=0.02, atol=2e-3)


def test_at_the_box_only_the_free_pixels_move() -> None:
    # One pixel is at 0 and would have to go below; the distance to the plane over the 15
    # others is gap / norm of their part of the slope.
    slope = WEIGHTS[:, 1] - WEIGHTS[:, 0]
    images = IMAGES.copy().reshape(10, 16)
    blocked = int(np.argmax(np.abs(slope)))
    images[:, blocked] = 0.0 if slope[blocked] < 0 else 1.0
    two = WEIGHTS[:, :2] * 1.0
    offset = float(((images - 0.5) @ slope).max()) + 0.2
    logits = lambda x: tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, two) + [offset, 0.0]  # noqa: E731
    gap = offset - (images - 0.5) @ slope
    free = np.delete(slope, blocked)
    attack = CarliniWagnerL2(logits, **{**SEARCH, "steps": 400})
    result = attack(images.reshape(IMAGES.shape), np.zeros(10, int))
    assert result.success.all()
    np.testing.assert_allclose(result.distortion, gap / np.linalg.norm(free), rtol=0.03)


def test_an_image_that_is_wrong_already_is_left_alone() -> None:
    wrong = (LABELS + 1) % 3
    for attack in (
        CarliniWagnerL2(model, const=1.0, steps=50),
        CarliniWagnerL2(model, const=1.0, steps=50, iterate="best"),
        CarliniWagnerL2(model, steps=50, binary_search_steps=3),
    ):
        result = attack(IMAGES, wrong)
        assert result.success.all()
        np.testing.assert_allclose(result.distortion, 0.0, atol=1e-5)


def test_a_failure_returns_the_image_unchanged() -> None:
    def stubborn(x: tf.Tensor) -> tf.Tensor:
        return 0.01 * model(x) + [5.0, 0.0, 0.0]

    labels = np.zeros(10, int)
    for settings in ({"const": 1e-3, "iterate": "best"}, {"binary_search_steps": 2}):
        result = CarliniWagnerL2(stubborn, steps=20, **settings)(IMAGES, labels)  # type: ignore
        assert not result.success.any()
        np.testing.assert_array_equal(result.adversarial, IMAGES)
        assert (result.distortion == 0).all()


def test_best_is_never_farther_than_last() -> None:
    settings: dict[str, Any] = {"const": 2.0, "steps": 200, "learning_rate": 1e-2}
    last = CarliniWagnerL2(model, **settings)(IMAGES, LABELS)
    best = CarliniWagnerL2(model, iterate="best", **settings)(IMAGES, LABELS)
    both = last.success & best.success
    assert both.any() and best.success.all()
    assert (best.distortion[both] <= last.distortion[both] + 1e-6).all()


def test_early_abort_spares_steps_of_the_images_that_have_converged() -> None:
    settings: dict[str, Any] = {
        "const": 2.0,
        "iterate": "best",
        "steps": 500,
        "learning_rate": 1e-2,
    }
    full = CarliniWagnerL2(model, **settings)(IMAGES, LABELS)
    short = CarliniWagnerL2(model, abort_early=True, **settings)(IMAGES, LABELS)
    assert (full.iterations == 500).all()
    assert (short.iterations < 500).any() and len(set(short.iterations)) > 1
    np.testing.assert_allclose(short.distortion, full.distortion, rtol=0.05, atol=2e-3)


def test_an_image_that_cannot_win_any_more_ends_its_descent() -> None:
    # The box lets the gap of 5 close by a few tenths at most, whatever the constant: Adam runs
    # into the corner while the loss goes on falling, by less and less.
    def stubborn(x: tf.Tensor) -> tf.Tensor:
        return 0.05 * model(x) + [5.0, 0.0, 0.0]

    search = {**SEARCH, "binary_search_steps": 4, "initial_const": 10.0}
    labels = np.zeros(10, int)
    full = CarliniWagnerL2(stubborn, abort_early=False, **search)(IMAGES, labels)
    short = CarliniWagnerL2(stubborn, **search)(IMAGES, labels)
    assert not full.success.any() and (full.iterations == 4 * 300).all()
    assert not short.success.any() and (short.iterations <= 4 * 90).all()


@pytest.mark.parametrize("targets", [None, TARGETS])
def test_ending_hopeless_descents_changes_no_result(
    targets: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: dict[str, Any] = {"learning_rate": 1e-3, "steps": 100}  # the planes are just in reach
    short = CarliniWagnerL2(model, **slow)(IMAGES, LABELS, targets)
    full = CarliniWagnerL2(model, abort_early=False, **slow)(IMAGES, LABELS, targets)
    assert full.success.all() and short.success.all()
    np.testing.assert_allclose(short.distortion, full.distortion, rtol=5e-3)
    # What of this is due to the other reason for an end, a loss that no longer falls:
    monkeypatch.setattr(carlini_wagner, "TOLERANCE", 1e9)
    patient = CarliniWagnerL2(model, **slow)(IMAGES, LABELS, targets)
    np.testing.assert_allclose(short.distortion, patient.distortion, rtol=1e-6)
    assert (short.iterations <= patient.iterations).all()
    assert short.iterations.mean() < 0.98 * patient.iterations.mean()


def test_the_iterate_after_the_last_step_counts() -> None:
    # Adam's first step is the learning rate in every pixel's tanh space, which is far enough.
    once: dict[str, Any] = {"steps": 1, "learning_rate": 1.0}
    fixed = CarliniWagnerL2(two_classes, const=1.0, iterate="best", **once)(IMAGES, ZEROS)
    search = CarliniWagnerL2(two_classes, initial_const=1.0, binary_search_steps=1, **once)
    last = CarliniWagnerL2(two_classes, const=1.0, **once)(IMAGES, ZEROS)
    assert last.success.all()
    for result in (fixed, search(IMAGES, ZEROS)):
        assert result.success.all()
        np.testing.assert_allclose(result.adversarial, last.adversarial, atol=1e-6)
        assert (result.queries == last.queries + 1).all()


def test_early_abort_is_decided_for_every_image_by_itself() -> None:
    attack = CarliniWagnerL2(
        model, const=2.0, iterate="best", steps=300, learning_rate=1e-2, abort_early=True
    )
    together = attack(IMAGES, LABELS)
    for i in range(3):
        alone = attack(IMAGES[i : i + 1], LABELS[i : i + 1])
        np.testing.assert_allclose(alone.adversarial[0], together.adversarial[i], atol=1e-6)
        assert alone.iterations[0] == together.iterations[i]


def slow_carlini_wagner(
    x: np.ndarray, label: int, const: float, steps: int, rate: float, confidence: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """One image, one descent, in float64: the last iterate and the closest adversarial one."""
    start = np.arctanh((2 * x.astype(float) - 1) * 0.999999)
    center = (np.tanh(start) + 1) / 2
    w, mean, variance = start.copy(), 0.0, 0.0
    best, best_l2 = None, np.inf
    for t in range(1, steps + 2):
        tanh = np.tanh(w)
        pixels = (tanh + 1) / 2
        logits = (pixels.ravel() - 0.5) @ WEIGHTS
        other = max((j for j in range(3) if j != label), key=lambda j: logits[j])
        advantage = logits[other] - logits[label]
        l2 = np.sum((pixels - center) ** 2)
        if advantage > 0 and advantage >= confidence and l2 < best_l2:
            best, best_l2 = pixels, l2
        if t > steps:
            return pixels, best
        gradient = 2 * (pixels - center)
        if confidence - advantage > 0:
            gradient -= const * (WEIGHTS[:, other] - WEIGHTS[:, label]).reshape(x.shape)
        gradient = gradient * (1 - tanh**2) / 2
        mean = 0.9 * mean + 0.1 * gradient
        variance = 0.999 * variance + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9**t)
        scale = np.sqrt(variance / (1 - 0.999**t)) + 1e-8 / np.sqrt(1 - 0.999**t)
        w = w - rate * unbiased / scale
    raise AssertionError("the last iterate is judged and returned")


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_fixed_const_agrees_with_a_slow_numpy_twin(confidence: float) -> None:
    settings = (0.3, 60, 5e-3)
    for iterate in ("last", "best"):
        attack = CarliniWagnerL2(
            model, const=0.3, steps=60, learning_rate=5e-3, confidence=confidence, iterate=iterate
        )
        result = attack(IMAGES, LABELS)
        for i, image in enumerate(IMAGES):
            last, best = slow_carlini_wagner(image, LABELS[i], *settings, confidence)
            expected = last if iterate == "last" else image if best is None else best
            np.testing.assert_allclose(result.adversarial[i], expected, atol=1e-4)


def test_binary_search_agrees_with_a_slow_numpy_twin() -> None:
    attack = CarliniWagnerL2(
        model,
        steps=40,
        learning_rate=1e-2,
        binary_search_steps=5,
        initial_const=0.02,
        abort_early=False,
    )
    result = attack(IMAGES, LABELS)
    for i, image in enumerate(IMAGES):
        lower, upper, const, closest = 0.0, 1e10, 0.02, image
        for _ in range(5):
            _, best = slow_carlini_wagner(image, LABELS[i], const, 40, 1e-2, 0.0)
            if best is None:
                lower = max(lower, const)
            else:
                upper = min(upper, const)
                if closest is image or np.sum((best - image) ** 2) < np.sum((closest - image) ** 2):
                    closest = best
            const = (lower + upper) / 2 if upper < 1e9 else const * 10
        np.testing.assert_allclose(result.adversarial[i], closest, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"const": -1.0},
        {"steps": 0},
        {"learning_rate": 0.0},
        {"iterate": "first"},
        {"confidence": -1.0},
        {"initial_const": 0.0},
        {"binary_search_steps": 0},
    ],
)
def test_bad_hyperparameters_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        CarliniWagnerL2(model, **settings)
