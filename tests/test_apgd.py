"""Oracles of Auto-PGD: closed forms on linear logits, the paper's steps in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from digits import some_digits
from victims import TEST_DIGITS, digit_network

from rse_tf.attacks import APGD, PGD
from rse_tf.attacks.randomness import per_image_seeds, uniform_l2, uniform_linf

PIXELS = some_digits(20)[0].astype(np.float32) / 255
RNG = np.random.default_rng(0)
HIDDEN = (RNG.normal(size=(784, 24)) / 8).astype(np.float32)
LAST = RNG.normal(size=(24, 5)).astype(np.float32)
NORMS = {"linf": 0.1, "l2": 1.5}


def network(x: Any) -> tf.Tensor:
    return tf.nn.relu(tf.reshape(x, [-1, 784]) @ HIDDEN) @ LAST


LABELS = np.argmax(network(PIXELS), axis=1)


def norm_of(change: np.ndarray, norm: str) -> np.ndarray:
    flat = change.reshape(len(change), -1).astype(np.float64)
    return np.abs(flat).max(1) if norm == "linf" else np.sqrt((flat**2).sum(1))


@pytest.mark.parametrize("norm", NORMS)
def test_it_finds_the_worst_case_of_a_linear_model(norm: str) -> None:
    weights = RNG.normal(size=(784, 2)).astype(np.float32)
    grey = np.full((3, 28, 28, 1), 0.5, np.float32)
    result = APGD(lambda x: tf.reshape(x, [-1, 784]) @ weights, epsilon=0.1, norm=norm)(
        grey, [0, 1, 0]
    )
    w = weights[:, 1] - weights[:, 0]
    w = np.sign(w) if norm == "linf" else w / np.linalg.norm(w)
    expected = np.stack([w, -w, w]) * 0.1
    np.testing.assert_allclose((result.adversarial - grey).reshape(3, -1), expected, atol=1e-4)


def loss_in_numpy(x: np.ndarray, label: int) -> tuple[float, np.ndarray, bool]:
    """Cross-entropy of one image, its gradient, and whether the class is another."""
    h = x @ HIDDEN.astype(float)
    z = np.maximum(h, 0) @ LAST.astype(float)
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    back = HIDDEN.astype(float) @ ((LAST.astype(float) @ (p - np.eye(5)[label])) * (h > 0))
    return -np.log(p[label]), back, bool(z.argmax() != label)


def apgd_in_numpy(
    image: np.ndarray, label: int, start: np.ndarray, eps: float, norm: str, steps: int
) -> np.ndarray:
    """Algorithm 1 of the paper, for one image."""

    def project(x: np.ndarray) -> np.ndarray:
        away = x - image
        if norm == "linf":
            away = np.clip(away, -eps, eps)
        else:
            away = away * min(1.0, eps / max(np.linalg.norm(away), 1e-30))
        return np.clip(image + away, 0, 1)

    def direction(g: np.ndarray) -> np.ndarray:
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    checkpoints, p = [0.0, 0.22], [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    checkpoints = [round(share * steps) for share in p]
    x = before = project(start)
    f, g, wrong = loss_in_numpy(x, label)
    points, best, eta = [(wrong, f, x)], (f, x, g), 2 * eps
    ups, last_best, halved = 0, f, True
    for k in range(steps):
        z = project(x + eta * direction(g))
        a = 0.75 if k else 1.0
        x, before = project(x + a * (z - x) + (1 - a) * (x - before)), x
        new, g, wrong = loss_in_numpy(x, label)
        points.append((wrong, new, x))
        ups, f = ups + (new > f), new
        best = (f, x, g) if f > best[0] else best
        if k + 1 in checkpoints:
            period = k + 1 - checkpoints[checkpoints.index(k + 1) - 1]
            halve = ups <= 0.75 * period or (not halved and best[0] <= last_best)
            if halve:
                eta, (f, x, g) = eta / 2, best
            ups, last_best, halved = 0, best[0], halve
    return max(points, key=lambda point: point[:2])[2]


# Where the paper's shares are whole steps; elsewhere periods are rounded as in the authors' code.
@pytest.mark.parametrize("steps", [1, 2, 100, 200])
@pytest.mark.parametrize("norm", NORMS)
def test_its_steps_are_those_of_the_paper_on_digits(norm: str, steps: int) -> None:
    eps = NORMS[norm]
    result = APGD(network, epsilon=eps, norm=norm, steps=steps)(PIXELS, LABELS)
    keys = per_image_seeds(tf.constant(PIXELS), tf.constant(0), (0.0, 1.0))
    draw = (uniform_linf if norm == "linf" else uniform_l2)(keys, tf.constant(PIXELS)).numpy()
    length = norm_of(draw, norm)[:, None]
    flat, draws = PIXELS.reshape(20, -1).astype(float), draw.reshape(20, -1) / length
    for i in range(20):
        start = flat[i] + eps * draws[i]
        mine = apgd_in_numpy(flat[i], LABELS[i], start, eps, norm, steps)
        away = np.abs(result.adversarial[i].ravel() - mine)
        # Rounding to float32 may turn the sign of a gradient that is all but 0.
        assert np.quantile(away, 0.98) < 1e-3, i


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "dlr_targeted"])
def test_it_stays_uniform_l2_and_bounds_whatever_the_batch(norm: str, loss: str) -> None:
    attack = APGD(network, epsilon=NORMS[norm], norm=norm, loss=loss, steps=20, restarts=2)
    result = attack(PIXELS, LABELS)
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert norm_of(result.adversarial - PIXELS, norm).max() <= NORMS[norm] + 1e-7
    predicted = np.argmax(network(result.adversarial), axis=1)
    np.testing.assert_array_equal(result.success, predicted != LABELS)
    alone = attack(PIXELS[3:4], LABELS[3:4])
    np.testing.assert_allclose(alone.adversarial[0], result.adversarial[3], atol=1e-5)


def test_it_is_no_weaker_than_pgd_of_as_many_gradients() -> None:
    # In L-infinity. In L2 the paper's projection, into the ball and then into the bounds, gives
    # away length at the bounds, which that of `PGD` does not.
    images, labels = (part[:100] for part in TEST_DIGITS)
    settings: dict[str, Any] = {"epsilon": 0.06}
    auto = APGD(digit_network(), steps=40, **settings)(images, labels)
    plain = PGD(digit_network(), steps=41, step_size=0.015, **settings)(images, labels)
    assert auto.success.sum() >= plain.success.sum()


def test_a_lucky_draw_of_a_random_model_decides_nothing() -> None:
    # The noise fools at every draw about once in two: the sum of 16 pixels moves by 1.6 at most.
    def noisy(x: tf.Tensor) -> tf.Tensor:
        z = tf.reduce_sum(x, axis=[1, 2, 3]) + tf.random.normal([tf.shape(x)[0]], stddev=1.0)
        return tf.stack([z - 8.0, 8.0 - z], axis=1)

    grey = np.full((8, 4, 4, 1), 0.5, np.float32)
    result = APGD(noisy, epsilon=0.1, steps=20)(grey, np.ones(8, int))
    np.testing.assert_allclose(result.adversarial.mean(axis=(1, 2, 3)), 0.6, atol=0.02)
    # All run to the end: 21 gradients, 10 draws at each checkpoint, and the last look.
    assert (result.iterations == 21).all() and (result.queries > 31).all()


@pytest.mark.parametrize(
    "change", [{"loss": "hinge"}, {"norm": "l1"}, {"steps": 0}, {"selection_draws": 0}]
)
def test_it_names_the_argument_that_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        APGD(network, epsilon=0.1, **change)
