"""What an attacker differentiates: closed forms on linear members, and memory-bounded gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.attacks import PGD
from rse_tf.attacks.facts import GRADIENTS
from rse_tf.attacks.losses import joint_logits, loss_direction
from rse_tf.layers import CommonNoise, FrozenNoise, NoiseLayer, noise_state, set_noise_state
from rse_tf.models import (
    GRADIENT_SOURCES,
    AveragedEnsemble,
    MeanLogits,
    MeanProbability,
    ReweightedMembers,
    SelfEnsemble,
    StackedDraws,
    gradient_source,
)

RNG = np.random.default_rng(2)
SHAPE = (4, 4, 1)
IMAGES = tf.constant(RNG.random((6, *SHAPE), np.float32))
LABELS = tf.constant([0, 1, 2, 0, 1, 2])


def noisy(*extra: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    hidden = [layers.Conv2D(4, 3, activation="relu"), NoiseLayer(0.3), *extra, layers.Flatten()]
    return keras.Sequential([keras.Input(SHAPE), NoiseLayer(0.3), *hidden, layers.Dense(3)])


def gradient_of(source: Callable, images: tf.Tensor = IMAGES) -> np.ndarray:
    return loss_direction(source, images, LABELS[: len(images)]).numpy()


def stacked(*members: Any) -> Callable:
    return lambda x: tf.stack([member(x) for member in members])


# Draws.


@pytest.mark.parametrize("max_rows", [1, 6, 13, 36, None])
@pytest.mark.parametrize("kind", [None, MeanProbability, MeanLogits])
@pytest.mark.parametrize("compiled", [False, True])
def test_passes_give_the_gradient_of_all_draws_at_once(
    max_rows: int | None, kind: Any, compiled: bool
) -> None:
    model = noisy()
    source = StackedDraws(model, num_draws=6, max_rows=max_rows)
    source = source if kind is None else kind(source)
    signature = [tf.TensorSpec([None, *SHAPE], tf.float32)]

    def run(images: tf.Tensor) -> tf.Tensor:
        return loss_direction(source, images, LABELS)

    run = tf.function(run, signature, autograph=False) if compiled else run
    source(IMAGES)  # looked at before the noise is set
    start = noise_state(model)
    found = run(IMAGES)
    end = noise_state(model)
    # The same draws by hand: as many at once as divide 6 and fit.
    at_once = max(d for d in (1, 2, 3, 6) if d == 1 or d * 6 <= (max_rows or 36))
    set_noise_state(model, start)
    with tf.GradientTape() as tape:
        tape.watch(IMAGES)
        passes = [model(tf.tile(IMAGES, (at_once, 1, 1, 1))) for _ in range(6 // at_once)]
        logits = tf.reshape(tf.concat(passes, axis=0), [6, 6, 3])
        if kind is MeanProbability:
            logits = tf.math.log(tf.reduce_mean(tf.nn.softmax(logits), axis=0))
        elif kind is MeanLogits:
            logits = tf.reduce_mean(logits, axis=0)
        loss = _log_loss(logits)
    np.testing.assert_allclose(found, tape.gradient(loss, IMAGES), rtol=1e-4, atol=1e-6)
    # The gradient's own passes leave the streams where the forward passes left them.
    np.testing.assert_array_equal(noise_state(model), end)


def _log_loss(logits: tf.Tensor) -> tf.Tensor:
    each = tf.nn.sparse_softmax_cross_entropy_with_logits
    if logits.shape.rank == 2:
        return tf.math.log(each(LABELS, logits))
    losses = [each(LABELS, one) for one in tf.unstack(logits)]
    return tf.math.log(tf.add_n(losses) / len(losses))


@pytest.mark.parametrize("max_rows", [6, 36])
def test_draws_are_fresh_common_or_frozen(max_rows: int) -> None:
    model = noisy()
    fresh = StackedDraws(model, 6, max_rows)
    logits = fresh(IMAGES).numpy()
    assert np.all(logits[0] != logits[1:]) and np.all(logits != fresh(IMAGES))
    common = CommonNoise(model)
    held = StackedDraws(common, 6, max_rows)
    first = held(IMAGES).numpy()
    np.testing.assert_array_equal(first, held(IMAGES))
    np.testing.assert_allclose(gradient_of(held), gradient_of(held))
    assert np.all(first[0] != first[1:])
    common.redraw()
    assert np.all(first != held(IMAGES))
    frozen = StackedDraws(FrozenNoise(model, seed=4), 6, max_rows)
    first = frozen(IMAGES).numpy()
    common.redraw()
    np.testing.assert_array_equal(first, frozen(IMAGES))
    assert np.all(first != StackedDraws(FrozenNoise(model, seed=5), 6, max_rows)(IMAGES))


def test_all_random_layers_are_repeated_and_not_those_of_noise_alone() -> None:
    class AlwaysDropout(keras.layers.Dropout):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return super().call(inputs, training=True)

    def run(max_rows: int) -> np.ndarray:
        model = noisy(AlwaysDropout(0.5, seed=3))
        source = StackedDraws(model, 6, max_rows)
        source(IMAGES)
        rse_tf.layers.seed_noise(model, 1)
        with tf.GradientTape() as tape:
            tape.watch(IMAGES)
            logits = source(IMAGES)[:, :, 0]
        gradient = tape.gradient(logits, IMAGES)
        # With one draw at a time, six calls by hand.
        rse_tf.layers.seed_noise(model, 1)
        with tf.GradientTape() as tape:
            tape.watch(IMAGES)
            expected = [model(IMAGES)[:, 0] for _ in range(6)]
        np.testing.assert_allclose(gradient, tape.gradient(expected, IMAGES), atol=1e-5)
        return gradient.numpy()

    assert np.any(run(6) != 0)


def test_the_mean_of_the_logits_has_the_variance_of_a_mean() -> None:
    # Logits (x + e, 0), e ~ N(0, s^2): a mean of n draws has mean x and variance s^2 / n.
    model = keras.Sequential([keras.Input((2,)), NoiseLayer(0.5)])
    rows, draws = 4000, 8
    images = tf.tile(tf.constant([[1.0, 0.0]]), [rows, 1])
    first = MeanLogits(StackedDraws(model, draws, max_rows=rows))(images)[:, 0].numpy()
    deviation = 0.5 / math.sqrt(draws)
    assert abs(first.mean() - 1) <= 5 * deviation / math.sqrt(rows)
    # The variance over N rows has the relative standard deviation sqrt(2 / (N - 1)).
    assert abs(first.var(ddof=1) / deviation**2 - 1) <= 5 * math.sqrt(2 / (rows - 1))


def test_the_mean_probability_of_probit_noise_is_the_closed_form() -> None:
    # Logits (1000 (x + e), 0), e ~ N(0, s^2): the probability is 1 where e > -x, so its mean is
    # the normal distribution function at x / s; here at 0.5: 0.69146.
    dense = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), NoiseLayer(1.0, sampler="exact"), dense])
    dense.set_weights([np.array([[1000.0, 0.0]])])
    draws, rows = 50, 200
    source = MeanProbability(StackedDraws(model, draws, max_rows=1000))
    mean = np.exp(source(tf.fill([rows, 1], 0.5))[:, 0]).mean()
    p = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    assert abs(mean - p) <= 5 * math.sqrt(p * (1 - p) / (draws * rows))


def test_an_attack_runs_on_a_source_and_is_the_same_in_passes() -> None:
    model = noisy()
    found = []
    for max_rows in (6, 12):
        frozen = StackedDraws(FrozenNoise(model), 2, max_rows)
        attack = PGD(MeanLogits(frozen), epsilon=0.1, step_size=0.03, steps=5)
        found.append(attack(IMAGES, LABELS).adversarial)
    # The noise of a row depends on how many rows a pass has: the images differ, and both are moved.
    assert all(np.abs(one - IMAGES).max() > 0.02 for one in found)


def test_what_has_no_stream_to_repeat_is_refused() -> None:
    silent = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])
    for model in (silent, lambda x: x):
        with pytest.raises(ValueError, match="StackedDraws: model must be .*random.*Received"):
            StackedDraws(model)
    with pytest.raises(ValueError, match="num_draws must be .*Received"):
        StackedDraws(noisy(), num_draws=0)
    with pytest.raises(ValueError, match="members must be returning stacked logits"):
        MeanLogits(silent)(IMAGES)


# Members.

WEIGHTS = RNG.normal(size=(3, 16, 3)).astype(np.float32)


def linear(kernel: np.ndarray) -> Callable:
    return lambda x: tf.reshape(x, [-1, 16]) @ kernel


def test_the_mean_of_linear_members_is_the_member_of_the_mean() -> None:
    members = stacked(*(linear(kernel) for kernel in WEIGHTS))
    average = linear(WEIGHTS.mean(axis=0))
    np.testing.assert_allclose(MeanLogits(members)(IMAGES), average(IMAGES), atol=1e-5)
    np.testing.assert_allclose(
        gradient_of(MeanLogits(members)), gradient_of(average), rtol=1e-4, atol=1e-5
    )
    own = MeanLogits(members, own_prediction=True)
    np.testing.assert_allclose(own(IMAGES), joint_logits(members(IMAGES)), atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(IMAGES)
        first = own(IMAGES)[:, 0]
    expected = np.tile(WEIGHTS.mean(axis=0)[:, 0].reshape(SHAPE), (6, 1, 1, 1))
    np.testing.assert_allclose(tape.gradient(first, IMAGES), expected, atol=1e-5)


def test_the_reweighted_gradient_is_that_of_the_members_not_yet_fooled() -> None:
    # At 0 the logits are the biases. The first two members and the ensemble say class 0, the
    # third says class 1. Gaps are 2, 1 and 1, below 10: nothing is scaled.
    biases = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    kernels = RNG.normal(size=(3, 16, 2)).astype(np.float32)

    def members(x: tf.Tensor) -> tf.Tensor:
        return tf.stack([linear(k)(x) + b for k, b in zip(kernels, biases)])

    source = ReweightedMembers(members, share=1.0)
    zero = tf.zeros((1, *SHAPE))
    with tf.GradientTape() as tape:
        tape.watch(zero)
        logits = source(zero)
        first = logits[:, 0]
    # Weights p (1 - p): sigmoid(2) (1 - sigmoid(2)) = 0.104994 and 0.196612 of sigmoid(1).
    expected = (0.104994 * kernels[0] + 0.196612 * kernels[1])[:, 0] / (0.104994 + 0.196612)
    found = np.reshape(tape.gradient(first, zero), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, joint_logits(members(zero)), atol=1e-6)


def test_the_share_goes_from_the_ensemble_to_its_members() -> None:
    members = stacked(*(linear(kernel) for kernel in WEIGHTS))
    by_probability = gradient_of(MeanProbability(members))
    none = gradient_of(ReweightedMembers(members, share=0.0))
    # Only the gap scales: the same direction.
    scale = np.linalg.norm(none, axis=(1, 2), keepdims=True)
    scale /= np.linalg.norm(by_probability, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(none, by_probability * scale, rtol=1e-3, atol=1e-4)
    half, whole = (gradient_of(ReweightedMembers(members, share)) for share in (0.5, 1.0))
    np.testing.assert_allclose(half, (none + whole) / 2, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="share must be from 0 to 1.*Received"):
        ReweightedMembers(members, share=1.5)


def test_sure_members_and_a_class_of_nobody_have_finite_weights() -> None:
    # Logits 200 apart: p (1 - p) underflows. In the second image the ensemble's class 2 is that
    # of no member: mean probabilities are about (.26, .26, .48).
    logits = tf.constant([[[200.0, 0, 0], [0.1, -9, 0]], [[200.0, 0, 0], [-9, 0.1, 0]]])

    def members(x: tf.Tensor) -> tf.Tensor:
        rows = tf.where(x[None, :, 0, :1, 0] > 0.5, logits[:, :1], logits[:, 1:])
        return rows + 1e-3 * tf.stack([linear(k)(x) for k in WEIGHTS[:2]])

    pictures = np.full((2, *SHAPE), 0.25, np.float32)
    pictures[0] = 0.75
    source = ReweightedMembers(members)
    assert np.argmax(source(pictures), axis=1).tolist() == [0, 2]
    found = gradient_of(source, tf.constant(pictures))
    assert np.isfinite(found).all() and np.abs(found).max(axis=(1, 2, 3)).min() > 0


# By their names.


def test_every_gradient_of_the_attacks_has_a_source() -> None:
    assert set(GRADIENT_SOURCES) == set(GRADIENTS)
    with pytest.raises(ValueError, match="gradient must be one of member, .*Received: .*second"):
        gradient_source(noisy(), "second")


def test_the_mean_logits_of_random_members_are_those_of_all_their_draws() -> None:
    # Logits x + e, e ~ N(0, s^2): the gradient of the mean logits is 1 whatever e is, and the
    # prediction is that of the draws' mean probability.
    members = [keras.Sequential([keras.Input((2,)), NoiseLayer(s)]) for s in (0.5, 2.0)]
    ensemble = AveragedEnsemble([SelfEnsemble(member, 4) for member in members])
    source = gradient_source(ensemble, "mean_logits")
    x = tf.constant([[1.0, 0.0]])
    source(x)
    for member in members:
        rse_tf.layers.seed_noise(member, 1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = source(x)
        first = logits[:, 0]
    np.testing.assert_allclose(tape.gradient(first, x), [[1.0, 0.0]], atol=1e-6)
    for member in members:
        rse_tf.layers.seed_noise(member, 1)
    np.testing.assert_allclose(logits, ensemble(x), atol=1e-5)
    assert gradient_source(members[0], "mean_logits") is members[0]
