"""Oracles of the gradient attacks: closed forms on linear logits, NumPy on a small network."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import ATTACKS, BIM, FGSM, MIM, PGD, CleverHansMIM, RandFGSM
from rse_tf.attacks.fgsm import fast_gradient_sign
from rse_tf.attacks.losses import cross_entropy, joint_logits, loss_gradient

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(1)
TWO = RNG.normal(size=(16, 2)).astype(np.float32)
THREE = RNG.normal(size=(16, 3)).astype(np.float32)
HIDDEN = RNG.normal(size=(16, 8)).astype(np.float32)
LAST = RNG.normal(size=(8, 3)).astype(np.float32)
IMAGES = RNG.uniform(0.35, 0.65, size=(12, *SHAPE)).astype(np.float32)


def linear(weights: np.ndarray) -> Any:
    return lambda x: tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, weights)


def network(x: Any) -> tf.Tensor:
    return tf.matmul(tf.tanh(tf.matmul(tf.reshape(x, [-1, 16]), HIDDEN)), LAST)


def network_in_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[batch, 3]` and their gradients `[batch, 3, 16]`."""
    h = np.tanh(x.reshape(-1, 16) @ HIDDEN)
    return h @ LAST, np.einsum("bh,ph,hc->bcp", 1 - h**2, HIDDEN, LAST)


def loss_gradient_in_numpy(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    z, gradients = network_in_numpy(x)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return np.einsum("bc,bcp->bp", p - np.eye(3)[labels], gradients).reshape(x.shape)


def predictions(model: Any, images: np.ndarray) -> np.ndarray:
    return np.argmax(model(images), axis=1)


LABELS2 = predictions(linear(TWO), IMAGES)
LABELS = predictions(network, IMAGES)
AWAY2 = (TWO.T[1 - LABELS2] - TWO.T[LABELS2]).reshape(IMAGES.shape)

# Stacked logits.


def stacked(*models: Any) -> Any:
    return lambda x: tf.stack([model(x) for model in models])


def test_the_gradient_of_stacked_logits_is_the_mean_of_the_single_gradients() -> None:
    models, x = (network, linear(THREE), linear(10 * THREE)), tf.constant(IMAGES)
    together = loss_gradient(stacked(*models), x, LABELS)
    each = [loss_gradient(model, x, LABELS).numpy() for model in models]
    np.testing.assert_allclose(together, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)
    # The gradient of the mean probability is another one.
    other = loss_gradient(lambda x: joint_logits(stacked(*models)(x)), x, LABELS)
    assert np.abs(other - together).max() > 0.1


def test_success_on_stacked_logits_is_that_of_the_mean_probability() -> None:
    # Three weak members for class 0, one strong for class 1: mean probability 0.45 of class 0
    # (3 * 0.6 + 0) / 4, though its mean logit and its votes win or lose otherwise.
    weak = np.log([0.6, 0.4]).astype(np.float32)
    logits = tf.constant([[weak], [weak], [weak], [[0.0, 50.0]]])
    np.testing.assert_allclose(np.exp(joint_logits(logits)), [[0.45, 0.55]], rtol=1e-5)
    result = FGSM(lambda x: logits + 0 * tf.reduce_sum(x), epsilon=0.0)(IMAGES[:1], [0])
    assert result.success.all()


# ARC steps against each member by itself: it makes twice as many steps against two.
@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"arc"}))
def test_the_same_opinion_twice_is_one_opinion(name: str) -> None:
    settings: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.03, "steps": 5}
    fields = {field.name for field in dataclasses.fields(ATTACKS[name])}
    settings = {key: value for key, value in settings.items() if key in fields}
    once = ATTACKS[name](network, **settings)(IMAGES, LABELS)
    twice = ATTACKS[name](stacked(network, network), **settings)(IMAGES, LABELS)
    np.testing.assert_allclose(twice.adversarial, once.adversarial, atol=1e-5)
    np.testing.assert_array_equal(twice.success, once.success)


@pytest.mark.parametrize("select", [np.s_[:, :5], np.s_[:, :, :1], np.s_[:0], np.s_[None]])
def test_other_stacks_are_refused(select: Any) -> None:
    with pytest.raises(ValueError, match=r"\[members, 8, classes\]"):
        FGSM(lambda x: stacked(network, network)(x)[select], epsilon=0.1)(IMAGES, LABELS)


# FGSM inside a graph, and after a random step.


def test_fast_gradient_sign_serves_inside_a_training_step() -> None:
    weights = tf.Variable(TWO)

    @tf.function
    def step(x: tf.Tensor, labels: tf.Tensor, epsilon: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            model = linear(weights)
            adversarial = fast_gradient_sign(model, x, labels, epsilon)
            loss = tf.reduce_sum(adversarial)  # of the weights only by way of the attack
        return adversarial, tape.gradient(loss, weights) is None

    adversarial, is_constant = step(IMAGES, LABELS2, tf.constant(0.4))
    expected = np.clip(IMAGES + 0.4 * np.sign(AWAY2), 0, 1)
    np.testing.assert_allclose(adversarial, expected, atol=1e-6)
    assert is_constant
    wide = fast_gradient_sign(linear(TWO), tf.constant(IMAGES), LABELS2, 2, bounds=(-9.0, 9.0))
    np.testing.assert_allclose(wide, IMAGES + 2 * np.sign(AWAY2), atol=1e-6)
    with pytest.raises(ValueError, match="differentiable"):
        constant = tf.constant(IMAGES)
        fast_gradient_sign(lambda x: tf.stop_gradient(network(x)), constant, LABELS2, 0.1)


@pytest.mark.parametrize("targeted", [False, True])
def test_rand_fgsm_takes_the_gradient_at_the_shifted_point(targeted: bool) -> None:
    images = IMAGES.copy()
    images[:, 0] = 0.02  # the random step is clipped here
    classes = (LABELS + 1) % 3 if targeted else predictions(network, images)
    targets = classes if targeted else None
    # With nothing left for the second step, the result is the shifted point.
    shifted = RandFGSM(network, epsilon=0.3, random_step=0.3)(images, LABELS).adversarial
    size = np.where(images + np.sign(shifted - images) * 0.3 < 0, 0.02, 0.3)
    np.testing.assert_allclose(np.abs(shifted - images), size, atol=1e-6)
    # Fair coins: 192 of them have a mean of 0 with a deviation of 1 / sqrt(192).
    assert abs(np.sign(shifted - images).mean()) < 5 / np.sqrt(images.size)

    sign = np.sign(loss_gradient_in_numpy(shifted, classes)) * (-1 if targeted else 1)
    expected = np.clip(shifted + 0.2 * sign, 0, 1)
    result = RandFGSM(network, epsilon=0.5, random_step=0.3)(images, classes, targets)
    np.testing.assert_allclose(result.adversarial, expected, atol=1e-6)
    assert np.any(sign != np.sign(loss_gradient_in_numpy(images, classes)) * (-1) ** targeted)
    halves = RandFGSM(network, epsilon=0.6, random_step=0.3)(images, classes, targets)
    default = RandFGSM(network, epsilon=0.6)(images, classes, targets)
    np.testing.assert_array_equal(default.adversarial, halves.adversarial)


# Projected gradient descent.


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_reaches_the_optimum_from_any_start(norm: str, targeted: bool) -> None:
    length = np.sqrt((AWAY2**2).sum(axis=(1, 2, 3), keepdims=True))
    best = IMAGES + 0.3 * (np.sign(AWAY2) if norm == "linf" else AWAY2 / length)
    for seed in range(3):
        attack = PGD(linear(TWO), epsilon=0.3, step_size=0.15, norm=norm, seed=seed)
        result = attack(IMAGES, LABELS2, 1 - LABELS2 if targeted else None)
        np.testing.assert_allclose(result.adversarial, best, atol=1e-5)


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.2), ("l2", 0.01), ("l2", 1.5)])
def test_pgd_stays_in_the_ball_and_the_bounds(norm: str, epsilon: float) -> None:
    images = RNG.choice([0.0, 0.02, 0.5, 0.98, 1.0], size=IMAGES.shape).astype(np.float32)
    attack = PGD(network, epsilon=epsilon, step_size=epsilon, norm=norm)
    x = attack(images, LABELS).adversarial
    away = (x.astype(float) - images).reshape(len(x), -1)
    order = np.inf if norm == "linf" else 2
    # One rounding of float32 on top for a single pixel, none for the sum of many.
    largest = epsilon + (1e-7 if norm == "linf" else 0)
    assert np.linalg.norm(away, ord=order, axis=1).max() <= largest
    assert x.min() >= 0 and x.max() <= 1


def test_pgd_without_a_random_start_is_bim() -> None:
    settings: dict[str, Any] = {"epsilon": 0.2, "step_size": 0.03, "steps": 10}
    ours = PGD(network, random_start=False, **settings)(IMAGES, LABELS)
    np.testing.assert_allclose(
        ours.adversarial, BIM(network, **settings)(IMAGES, LABELS).adversarial, atol=1e-6
    )


def test_tiny_gradients_have_a_direction() -> None:
    # Squares of 1e-25 are no float32.
    images, model = tf.constant(IMAGES), linear(TWO * 1e-25)
    assert not np.any(np.square(loss_gradient(model, images, LABELS2)))
    x = PGD(model, epsilon=0.3, step_size=0.15, norm="l2")(IMAGES, LABELS2).adversarial
    length = np.sqrt((AWAY2**2).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(x, IMAGES + 0.3 * AWAY2 / length, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_uniform_in_the_ball(norm: str) -> None:
    number, size = 4000, 4
    rng = np.random.default_rng(0)
    images = rng.uniform(0.2, 0.8, size=(number, 2, 2, 1)).astype(np.float32)

    def model(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [-1, size])

    attack = PGD(model, epsilon=0.1, step_size=0, steps=1, norm=norm, batch_size=number)
    starts = (attack(images, np.zeros(number, int)).adversarial - images).reshape(-1, size) / 0.1
    if norm == "linf":
        # Uniform in [-1, 1]: E u^2 = 1/3, E u^4 = 1/5.
        second, fourth, ranks = 1 / 3, 1 / 5, (starts[:, 0] + 1) / 2
    else:
        # In the n-ball: E u^2 = 1 / (n + 2), E u^4 = 3 / ((n + 2) (n + 4)), and r^n is uniform.
        second, fourth, ranks = 1 / 6, 1 / 16, np.linalg.norm(starts, axis=1) ** size
    assert np.all(np.abs(starts.mean(axis=0)) < 5 * np.sqrt(second / number))
    spread = np.sqrt((fourth - second**2) / number)
    assert np.all(np.abs((starts**2).mean(axis=0) - second) < 5 * spread)
    # The Kolmogorov-Smirnov distance of uniform numbers exceeds 2 / sqrt(N) once in 1,500.
    steps = np.arange(number) / number
    assert np.abs(np.sort(ranks) - steps).max() < 2 / np.sqrt(number)
    # Neither two pixels nor two images have to do with each other.
    for a, b in ((starts[:, 0], starts[:, 1]), (starts[1:, 0], starts[:-1, 0])):
        assert abs((a * b).mean()) < 5 * second / np.sqrt(number)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm, epsilon", [("linf", 0.11), ("l2", 0.4)])
def test_restarts_are_never_weaker(norm: str, epsilon: float, targeted: bool) -> None:
    images = np.random.default_rng(0).uniform(size=(400, *SHAPE)).astype(np.float32)
    labels = predictions(network, images)
    classes = (labels + 1) % 3 if targeted else labels
    call = (images, labels, classes if targeted else None)
    attack = PGD(network, epsilon=epsilon, step_size=epsilon, steps=2, norm=norm)
    once = attack(*call)
    often = dataclasses.replace(attack, restarts=5)(*call)
    assert np.all(often.success >= once.success)
    same = once.success  # the first success stays
    np.testing.assert_array_equal(often.adversarial[same], once.adversarial[same])
    loss = [cross_entropy(network(r.adversarial), classes) for r in (once, often)]
    gain = (loss[1] - loss[0]).numpy() * (-1 if targeted else 1)
    assert gain[~often.success].min() >= 0 and gain[~often.success].max() > 1e-4
    # Two steps and a look per restart, and the look of the end.
    tries = often.iterations // 2
    np.testing.assert_array_equal(often.queries, tries * 3 + 1)
    assert np.all(tries[once.success] == 1) and np.all(tries[~often.success] == 5)
    assert np.any(often.success & ~once.success) and np.all(tries[~once.success] > 1)


@pytest.mark.parametrize("name", ["pgd", "rand_fgsm"])
def test_random_steps_follow_from_the_seed_and_the_image(name: str) -> None:
    settings: dict[str, Any] = {"pgd": {"step_size": 0.01, "steps": 2}}.get(name, {})

    def run(images: np.ndarray, seed: int) -> np.ndarray:
        attack = ATTACKS[name](network, epsilon=0.1, seed=seed, **settings)
        return attack(images, LABELS[: len(images)]).adversarial - images

    np.testing.assert_array_equal(run(IMAGES, 3), run(IMAGES, 3))
    assert np.abs(run(IMAGES, 4) - run(IMAGES, 3)).reshape(12, -1).max(axis=1).min() > 0.01
    # A black image has starts of its own as well, and rounding errors change no start.
    black = np.zeros_like(IMAGES[:1])
    assert np.any(run(black, 4) != run(black, 3))
    np.testing.assert_allclose(run(IMAGES + 1e-7, 3), run(IMAGES, 3), atol=1e-6)


# Momentum.


@pytest.mark.parametrize("targeted", [False, True])
def test_mim_agrees_with_cleverhans(targeted: bool) -> None:
    targets = (LABELS + 1) % 3 if targeted else None
    settings: dict[str, Any] = {"epsilon": 0.2, "step_size": 0.07, "steps": 10}
    ours = MIM(network, **settings)(IMAGES, LABELS, targets)
    theirs = CleverHansMIM(network, **settings)(IMAGES, LABELS, targets)
    np.testing.assert_allclose(ours.adversarial, theirs.adversarial, atol=1e-5)
    without = MIM(network, decay=0, **settings)(IMAGES, LABELS, targets)
    bim = BIM(network, **settings)(IMAGES, LABELS, targets)
    np.testing.assert_allclose(without.adversarial, bim.adversarial, atol=1e-6)
    assert np.abs(bim.adversarial - ours.adversarial).max() > 0.01


@pytest.mark.parametrize(
    "attack, settings, message",
    [
        (RandFGSM, {"random_step": 0.2}, "at most epsilon"),
        (RandFGSM, {"seed": -1}, "seed"),
        (PGD, {"step_size": 0.1, "seed": 2**31}, "at most"),
        (PGD, {"step_size": 0.1, "norm": "l1"}, "one of linf, l2"),
        (PGD, {"step_size": 0.1, "restarts": 2, "random_start": False}, "restarts"),
        (PGD, {"step_size": 0.1, "random_start": 1}, "random_start"),
        (MIM, {"step_size": 0.1, "decay": -1}, "decay"),
    ],
)
def test_bad_hyperparameters_are_refused(attack: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        attack(network, epsilon=0.1, **settings)
    assert "Received" in str(error.value)
