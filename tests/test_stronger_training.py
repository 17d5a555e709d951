"""Training on worst-case images, and RSE with a loss that asks two draws to agree."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from trainings import DIGITS, SETTINGS, SPEC, TINY, TINY_SPEC, Recorder

from rse_tf import defenses
from rse_tf.attacks import PGD
from rse_tf.attacks.pgd import projected_gradient_sign
from rse_tf.config import Config, ConfigError
from rse_tf.defenses.consistency import Consistency, ConsistentRSE
from rse_tf.defenses.fast_training import FastTraining
from rse_tf.defenses.pgd_training import PGDTraining, WorstCase
from rse_tf.layers import Dropout, FusedBatchNormalization, NoiseLayer, noise_state
from rse_tf.reporting.names import display_name
from rse_tf.training import Loop, Objective, Trainer, make_strategy

BATCH, PIXELS = 6, 16
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(PIXELS, 2))
IMAGES = RNG.uniform(0, 1, (BATCH, 4, 4, 1)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0, 0, 1])
KEY = tf.constant([3, 5])


def logits(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) @ KERNEL


class Linear:
    """A linear classifier that tells what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[tf.Tensor, bool]] = []

    def __call__(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        self.calls.append((images, training))
        return tf.reshape(images, [-1, PIXELS]) @ tf.constant(KERNEL, tf.float32)


def worst_corner(epsilon: float) -> np.ndarray:
    # Of two classes, the loss rises along the weights of the other less those of the label,
    # wherever one stands: the worst point of the ball is its corner there, within [0, 1].
    direction = KERNEL.T[1 - LABELS] - KERNEL.T[LABELS]
    return np.clip(IMAGES + epsilon * np.sign(direction).reshape(IMAGES.shape), 0, 1)


def cross_entropy(z: np.ndarray) -> np.ndarray:
    others, own = z[np.arange(BATCH), 1 - LABELS], z[np.arange(BATCH), LABELS]
    return np.log1p(np.exp(others - own))


# Worst-case images.


@pytest.mark.parametrize(
    ("epsilon", "step", "steps"), [(0.3, 0.1, 6), (0.1, 0.2, 1), (0.03, 0.0075, 10)]
)
def test_the_inner_attack_reaches_the_worst_corner(epsilon: float, step: float, steps: int) -> None:
    # All steps together are at least as long as the ball is wide, so any start will do.
    model = Linear()
    found = WorstCase(epsilon, step, steps).losses(
        model,
        tf.constant(IMAGES),
        tf.constant(LABELS),
        KEY,  # type: ignore[arg-type]
    )
    adversarial, training = model.calls[-1]
    np.testing.assert_allclose(adversarial, worst_corner(epsilon), atol=1e-6)
    np.testing.assert_allclose(found, cross_entropy(logits(worst_corner(epsilon))), rtol=1e-4)
    assert training and not any(training for _, training in model.calls[:-1])


def fast_moves(number: int, key: tf.Tensor) -> np.ndarray:
    """How far each pixel moves towards the worst corner, in units of epsilon."""
    # Far from the bounds, and each image another one: equal ones have equal starts.
    images = RNG.uniform(0.3, 0.7, (number, 4, 4, 1)).astype(np.float32)
    labels = np.zeros(number, np.int32)
    model = Linear()
    objective = FastTraining(training_epsilon=0.2).objective()
    objective.losses(model, tf.constant(images), tf.constant(labels), key)  # type: ignore
    towards = np.sign(KERNEL[:, 1] - KERNEL[:, 0]).reshape(4, 4, 1)
    return (model.calls[-1][0].numpy() - images) * towards / 0.2


def test_a_fast_step_is_five_quarters_of_epsilon_from_a_uniform_start() -> None:
    # From u, uniform in [-1, 1], to u + 1.25, and back to 1 where that is further: with
    # probability 5/8. The others are uniform in [0.25, 1].
    moves = fast_moves(500, KEY).ravel()
    inside = moves[moves < 1 - 1e-4]
    share = 1 - len(inside) / moves.size
    assert abs(share - 5 / 8) < 5 * np.sqrt(5 / 8 * 3 / 8 / moves.size)
    assert 0.25 - 1e-4 < moves.min() < 0.26 and moves.max() < 1 + 1e-4
    # A uniform number between 0.25 and 1 has the variance 0.75^2 / 12.
    assert abs(inside.mean() - 0.625) < 5 * 0.75 / np.sqrt(12 * len(inside))


def test_starts_are_the_image_s_own_and_anew_in_each_step() -> None:
    def images_of(key: list[int], images: np.ndarray) -> np.ndarray:
        seed = tf.bitcast(tf.constant(key), tf.int64)
        labels = tf.zeros(len(images), tf.int32)
        return projected_gradient_sign(
            lambda x: Linear()(x, True), tf.constant(images), labels, 0.3, 1e-6, 1, seed
        ).numpy()

    first = images_of([3, 5], IMAGES)
    np.testing.assert_array_equal(images_of([3, 5], IMAGES), first)
    # Halves of a batch, as two replicas have them.
    halves = [images_of([3, 5], half) for half in np.split(IMAGES, 2)]
    np.testing.assert_array_equal(np.concatenate(halves), first)
    for key in ([3, 6], [4, 5]):
        assert np.mean(images_of(key, IMAGES) == first) < 0.5  # but for those at a bound
    assert first.min() >= 0 and first.max() <= 1 and np.abs(first - IMAGES).max() <= 0.3 + 1e-6


def test_no_gradient_goes_through_the_attack() -> None:
    weights = tf.Variable(tf.constant(KERNEL, tf.float32))

    def model(images: tf.Tensor, training: bool) -> tf.Tensor:
        return tf.reshape(images, [-1, PIXELS]) @ weights

    @tf.function
    def slope(objective: Objective) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(objective.losses(model, IMAGES, LABELS, KEY))
        return tape.gradient(loss, weights)

    corner = worst_corner(0.1).reshape(BATCH, -1)
    z = logits(corner)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = corner.T @ (p - np.eye(2)[LABELS])  # of the cross-entropy, at constant images
    for objective in (WorstCase(0.1, 0.05, 5), WorstCase(0.1, 0.2, 1)):
        np.testing.assert_allclose(slope(objective), expected, atol=1e-5)


def test_the_noisy_network_is_attacked_and_trained_under_fresh_noise() -> None:
    noise, seen = NoiseLayer(0.2), []

    class Noisy(Linear):
        def __call__(self, images: tf.Tensor, training: bool) -> tf.Tensor:
            noisy = noise(images)
            seen.append((noisy - images).numpy())
            return super().__call__(noisy, training)

    objective = WorstCase(0.1, 0.2, 1)
    objective.losses(Noisy(), tf.constant(IMAGES), tf.constant(LABELS), KEY)  # type: ignore
    attacked, trained = seen
    assert np.all(attacked != trained) and np.std(attacked) > 0.1 < np.std(trained)


# The defenses.


def test_what_the_defenses_train_by(tmp_path: pathlib.Path) -> None:
    def fitted(name: str, **settings: Any) -> tuple[Any, Objective]:
        trainer = Recorder(TINY, SETTINGS, tmp_path)
        defenses.make(name, {"members": 1, **settings}).train(SPEC, trainer)
        ((spec, objective, start, _),) = trainer.fits
        assert start is None and not objective.save_best_only
        return spec, objective

    plain, eight = SPEC.without_noise(), {"training_epsilon": 8 / 255}
    pgd, fast = WorstCase(8 / 255, 2 / 255, 10), WorstCase(8 / 255, 10 / 255, 1)
    assert fitted("pgd_training", **eight) == (plain, pgd)
    assert fitted("fast_training", **eight) == (plain, fast)
    assert fitted("rse+pgd_training", **eight) == (SPEC, pgd)
    assert fitted("ensemble_bagging+rse+fast_training", **eight) == (SPEC, fast)
    assert fitted("consistency") == (SPEC, Consistency(10.0, 0.5))
    own = {"training_epsilon": 0.3, "training_steps": 40, "training_step_size": 0.01}
    assert fitted("pgd_training", **own) == (plain, WorstCase(0.3, 0.01, 40))


def test_rows_tell_the_step_that_was_taken() -> None:
    assert PGDTraining(training_epsilon=0.2).settings() == {
        "training_epsilon": 0.2,
        "training_steps": 10,
        "training_step_size": 0.05,
    }
    assert FastTraining().settings() == {"training_epsilon": 0.03}
    assert ConsistentRSE().settings() == {"consistency_weight": 10.0, "entropy_weight": 0.5}
    assert display_name("ensemble_bagging+rse+pgd_training") == "ensemble bagging+RSE+PGD training"


def test_digits_have_the_published_settings_of_mnist() -> None:
    digits, cifar = Config(), Config(dataset="cifar10", defense=("rse+fast_training",))
    own = digits.make_defense("pgd_training").settings()
    assert own == {"training_epsilon": 0.3, "training_steps": 40, "training_step_size": 0.01}
    assert cifar.make_defense("rse+pgd_training") == PGDTraining(with_noise=True)
    assert cifar.make_defense("rse+fast_training") == FastTraining(with_noise=True)
    with pytest.raises(ConfigError, match="--training_steps must be at least 1. Received: 0"):
        Config(training_steps=0)
    with pytest.raises(ConfigError, match="--training_step_size must be greater than 0. Rec"):
        Config(training_step_size=0.0)
    with pytest.raises(ConfigError, match="--consistency_weight must be 0 or greater. Received"):
        Config(consistency_weight=-1.0)
    with pytest.raises(ConfigError, match="--defense must be one of"):
        Config(defense=("rse+consistency",))


# Consistency.


@pytest.mark.parametrize(("weight", "entropy"), [(0.0, 0.0), (10.0, 0.0), (0.0, 0.5), (3.0, 0.7)])
def test_consistency_is_the_published_loss(weight: float, entropy: float) -> None:
    z = RNG.normal(scale=2, size=(2 * BATCH, 3))

    def model(images: tf.Tensor, training: bool) -> tf.Tensor:
        assert training and len(images) == 2 * BATCH
        np.testing.assert_array_equal(images, np.concatenate([IMAGES, IMAGES]))
        return tf.constant(z, tf.float32)

    p = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)).reshape(2, BATCH, 3)
    mean = p.mean(axis=0)
    divergence = np.mean([np.sum(mean * np.log(mean / each), axis=1) for each in p], axis=0)
    surprise = np.mean([-np.log(each[np.arange(BATCH), LABELS]) for each in p], axis=0)
    expected = surprise + weight * divergence - entropy * np.sum(mean * np.log(mean), axis=1)
    found = Consistency(weight, entropy).losses(
        model,
        tf.constant(IMAGES),
        tf.constant(LABELS),
        KEY,  # type: ignore[arg-type]
    )
    assert found.shape == (BATCH,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_consistency_of_far_logits_has_a_gradient() -> None:
    z = tf.constant([[300.0, 0, -300], [-300, 300, 0]])  # probabilities that round to zero
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = Consistency(10.0, 0.5).losses(
            lambda images, training: z, IMAGES[:1], LABELS[:1], KEY
        )  # type: ignore
    slope = tape.gradient(loss, z)
    assert np.isfinite(loss).all() and np.isfinite(slope).all()
    # By hand, up to exp(-300): the logarithms are (0, -300, -600) and (-600, 0, -300), the mean is
    # (1/2, 1/2, 0). J = (0 + 600) / 2, KL = (300 + 600) / 4 - log 2, H = log 2.
    expected = 300 + 10 * (225 - np.log(2)) + 0.5 * np.log(2)
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_both_copies_of_an_image_have_noise_of_their_own() -> None:
    model = TINY_SPEC.build()
    first = next(layer for layer in model.layers if isinstance(layer, NoiseLayer))
    noisy = keras.Model(model.input, [first.output, model.output])
    seen = []

    def spy(images: tf.Tensor, training: bool) -> tf.Tensor:
        values, found = noisy(images, training=training)
        seen.append((values - images).numpy())
        return found

    images, labels = TINY.train.images, TINY.train.labels
    Consistency(10.0, 0.5).losses(spy, tf.constant(images), labels, KEY)  # type: ignore
    one, other = np.split(seen[0], 2)
    # Independent draws: their products have the mean 0 and the deviation stddev^2.
    stddev = TINY_SPEC.noise.init_noise
    assert abs(np.mean(one * other)) < 5 * stddev**2 / np.sqrt(one.size)
    assert abs(np.std(one) - stddev) < 5 * stddev / np.sqrt(2 * one.size)


# What comes of them.


def test_two_replicas_train_on_the_worst_case_like_one_device(tmp_path: pathlib.Path) -> None:
    def build(dtype: str) -> keras.Model:
        dense = keras.layers.Dense(10, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
        return keras.Sequential([keras.Input(TINY.image_shape), keras.layers.Flatten(), dense])

    settings = dataclasses.replace(SETTINGS, epochs=2, batch_size=32)
    losses = [
        [
            record["loss"]
            for record in Loop(
                build,
                TINY,
                settings,
                WorstCase(0.1, 0.05, 3),
                make_strategy(name),
                tmp_path / name,
                "linear",
            ).run()
        ]
        for name in ("one_device", "mirrored")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def build_noisy(dtype: str) -> keras.Model:
    """A small network with all that is random, or that a training counts."""
    layers = NoiseLayer(0.2), FusedBatchNormalization(), keras.layers.Flatten(), Dropout(0.2)
    return keras.Sequential([keras.Input(TINY.image_shape), *layers, keras.layers.Dense(10)])


@pytest.mark.parametrize("objective", [WorstCase(0.1, 0.05, 3), Consistency(10.0, 0.5)])
def test_two_replicas_train_a_network_with_statistics(
    objective: Objective, tmp_path: pathlib.Path
) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=32)
    loop = Loop(
        build_noisy, TINY, settings, objective, make_strategy("mirrored"), tmp_path, "small"
    )
    drawn = noise_state(loop.model)
    (record,) = loop.run()
    assert np.isfinite(record["loss"]) and np.any(noise_state(loop.model) != drawn)


def test_the_passes_of_the_attack_count_for_no_statistics() -> None:
    norm = FusedBatchNormalization()
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), norm, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    images, labels = tf.constant(IMAGES), tf.constant(LABELS)
    adversarial = projected_gradient_sign(
        lambda x: model(x, training=False), images, labels, 0.1, 0.05, 3, tf.bitcast(KEY, tf.int64)
    )
    WorstCase(0.1, 0.05, 3).losses(model, images, labels, KEY)
    expected = (1 - norm.momentum) * np.mean(adversarial)  # one pass, from a mean of 0
    np.testing.assert_allclose(norm.moving_mean, [expected], rtol=1e-5)


@pytest.mark.parametrize("objective", [WorstCase(0.1, 0.05, 3), Consistency(10.0, 0.5)])
def test_a_step_compiles_for_xla(objective: Objective) -> None:
    model = build_noisy("float32")
    images, labels = tf.constant(TINY.train.images[:8]), tf.constant(TINY.train.labels[:8])

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def slopes() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(objective.losses(model, images, labels, KEY))
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    assert all(np.isfinite(slope).all() and np.any(slope) for slope in slopes())


@pytest.mark.long
@pytest.mark.parametrize("name", ["fast_training", "rse+fast_training"])
def test_digits_withstand_pgd_after_it(name: str, tmp_path: pathlib.Path) -> None:
    settings = dataclasses.replace(SETTINGS, batch_size=32)
    trainer = Trainer(DIGITS, settings, tmp_path)

    def accuracy(name: str) -> float:
        model = defenses.make(name, {"training_epsilon": 0.2}).train(SPEC, trainer)
        images, labels = DIGITS.test.images[:300], DIGITS.test.labels[:300]
        attacked = PGD(model, epsilon=0.2, steps=20)(images, labels).adversarial
        return float(np.mean(np.argmax(model(attacked), axis=1) == labels))

    plain = "rse" if name.startswith("rse") else "none"
    # 300 images: a difference of two shares has a standard error below 0.041.
    assert accuracy(name) > accuracy(plain) + 5 * 0.041
