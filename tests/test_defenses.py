"""What each defense minimises, and from where it starts."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from trainings import DIGITS, SETTINGS, SPEC, TINY, TINY_SPEC, Recorder

from rse_tf.attacks import FGSM
from rse_tf.defenses.adversarial_retraining import AdversarialRetraining, FGSMRetraining
from rse_tf.defenses.adversarial_training import AdversarialTraining
from rse_tf.defenses.distillation import DefensiveDistillation, Distillation
from rse_tf.training import CrossEntropy, Loop, Objective, Trainer, make_strategy

CLASSES, PIXELS, BATCH = 3, 16, 8
RNG = np.random.default_rng(0)
KERNELS = RNG.normal(size=(2, PIXELS, CLASSES))
# Away from the bounds, where FGSM would be clipped, but for the first row.
IMAGES = RNG.uniform(0.35, 0.65, (BATCH, 4, 4, 1)).astype(np.float32)
IMAGES[0] = RNG.integers(0, 2, (4, 4, 1))
LABELS = RNG.integers(0, CLASSES, BATCH)
KEY = tf.constant([0, 1])


def linear(kernel: np.ndarray) -> keras.Model:
    dense = keras.layers.Dense(CLASSES, use_bias=False)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), dense])
    dense.set_weights([kernel])
    return model


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def probabilities(x: np.ndarray, kernel: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    return softmax(x.reshape(len(x), -1).astype(np.float64) @ kernel / temperature)


def losses(objective: Objective, model: Any, labels: np.ndarray = LABELS) -> np.ndarray:
    return objective.losses(model, tf.constant(IMAGES), tf.constant(labels), KEY).numpy()


# Distillation.


@pytest.mark.parametrize("temperature", [1.0, 10.0, 40.0])
def test_a_student_minimises_its_cross_entropy_with_the_teacher(temperature: float) -> None:
    teacher, student = map(linear, KERNELS)
    soft, own = (probabilities(IMAGES, kernel, temperature) for kernel in KERNELS)
    objective = Distillation(teacher, temperature)
    found = losses(objective, student)
    np.testing.assert_allclose(found, -np.sum(soft * np.log(own), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(losses(objective, student, (LABELS + 1) % CLASSES), found)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(objective.losses(student, tf.constant(IMAGES), LABELS, KEY))
    variables = [model.trainable_variables[0].value for model in (teacher, student)]
    to_teacher, to_student = tape.gradient(loss, variables)
    # d(-sum q log p) / dz = (p - q) / T.
    expected = IMAGES.reshape(BATCH, -1).T @ (own - soft) / temperature
    assert to_teacher is None
    np.testing.assert_allclose(to_student, expected, atol=1e-5)


def test_teacher_and_student_are_trained_at_the_temperature(tmp_path: pathlib.Path) -> None:
    trainer = Recorder(TINY, SETTINGS, tmp_path)
    student = DefensiveDistillation(temperature=7.0).train(SPEC, trainer)
    (spec, first, start, _), (same, second, other, _) = trainer.fits
    assert spec == same == SPEC.without_noise() and start is other is None
    assert first == CrossEntropy(7.0)
    assert isinstance(second, Distillation) and second.temperature == 7.0
    assert second.teacher is trainer.models[0] and student is trainer.models[1]


def test_teacher_and_student_are_kept_apart_and_reused(tmp_path: pathlib.Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=1)
    trainer = Trainer(TINY, settings, tmp_path)
    student = DefensiveDistillation(temperature=5.0).train(TINY_SPEC, trainer)
    # Used at temperature 1: the logits are the network's own.
    assert student.get_config() == TINY_SPEC.without_noise().build("float32").get_config() | {
        "name": student.name
    }
    facts = {file.parent: json.loads(file.read_text()) for file in tmp_path.rglob("settings.json")}
    assert sorted(fact["objective"]["name"] for fact in facts.values()) == [
        "CrossEntropy",
        "Distillation",
    ]
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    again = DefensiveDistillation(temperature=5.0).train(
        TINY_SPEC, dataclasses.replace(trainer, may_train=False)
    )
    for ours, theirs in zip(again.get_weights(), student.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    other, teacher = (linear(kernel) for kernel in KERNELS)
    objectives = [Distillation(other, 5.0), Distillation(teacher, 5.0), Distillation(teacher, 6.0)]
    assert len({trainer.directory(TINY_SPEC, objective) for objective in objectives}) == 3


# Adversarial training.


def fgsm(kernel: np.ndarray, epsilon: float) -> np.ndarray:
    # The gradient of the cross-entropy is W (p - y).
    error = probabilities(IMAGES, kernel) - np.eye(CLASSES)[LABELS]
    return np.clip(IMAGES + epsilon * np.sign(error @ kernel.T).reshape(IMAGES.shape), 0, 1)


def cross_entropy(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return -np.log(probabilities(x, kernel)[np.arange(BATCH), LABELS])


@pytest.mark.parametrize(("epsilon", "rho"), [(0.3, 0.5), (0.03, 0.2), (0.1, 0.0), (0.1, 1.0)])
def test_adversarial_training_weighs_clean_and_fgsm_images(epsilon: float, rho: float) -> None:
    clean = cross_entropy(IMAGES, KERNELS[0])
    attacked = cross_entropy(fgsm(KERNELS[0], epsilon), KERNELS[0])
    assert (attacked > clean).all()
    found = losses(AdversarialTraining(epsilon, rho), linear(KERNELS[0]))
    np.testing.assert_allclose(found, rho * clean + (1 - rho) * attacked, rtol=1e-4)


def train_digits(folder: pathlib.Path, objective: Objective) -> keras.Model:
    def build(dtype: str) -> keras.Model:
        hidden = keras.layers.Dense(64, activation="relu")
        return keras.Sequential(
            [
                keras.Input(DIGITS.image_shape),
                keras.layers.Flatten(),
                hidden,
                keras.layers.Dense(10),
            ]
        )

    settings = dataclasses.replace(SETTINGS, epochs=5)
    loop = Loop(build, DIGITS, settings, objective, make_strategy("one_device"), folder, "mlp")
    loop.run()
    loop.model.load_weights(loop.best_weights)
    return loop.model


def test_adversarial_training_makes_digits_robust(tmp_path: pathlib.Path) -> None:
    images, labels = DIGITS.test.images, DIGITS.test.labels
    accuracies = {}
    for name, objective in (("plain", CrossEntropy()), ("robust", AdversarialTraining(0.1, 0.5))):
        model = train_digits(tmp_path / name, objective)
        attacked = FGSM(model, epsilon=0.1)(images, labels).adversarial
        guesses = [np.argmax(model(x), axis=1) for x in (images, attacked)]
        accuracies[name] = [float(np.mean(guess == labels)) for guess in guesses]
    assert min(accuracies["plain"][0], accuracies["robust"][0]) > 0.85
    # 1,000 images: a difference of two shares has a standard error below 0.023.
    assert accuracies["robust"][1] > accuracies["plain"][1] + 0.3


@pytest.mark.parametrize(
    "objective", [AdversarialTraining(0.1, 0.5), AdversarialRetraining(0.1, 0.3)]
)
def test_robustness_is_not_chosen_by_clean_accuracy(
    objective: Objective, tmp_path: pathlib.Path
) -> None:
    loop = Loop(
        lambda dtype: linear(KERNELS[0][:, [0] * CLASSES]),
        tiny_linear(),
        dataclasses.replace(SETTINGS, epochs=2),
        objective,
        make_strategy("one_device"),
        tmp_path,
        "linear",
    )
    accuracies = iter([0.9, 0.2])
    loop._accuracy = lambda split: next(accuracies)  # type: ignore[method-assign]
    loop.run()
    last = loop.model.get_weights()[0]
    loop.model.load_weights(loop.best_weights)
    np.testing.assert_array_equal(loop.model.get_weights()[0], last)


def tiny_linear() -> Any:
    """A data set for the linear models of this file."""
    parts = {}
    for name in ("train", "validation", "test"):
        split = getattr(TINY, name)
        parts[name] = dataclasses.replace(
            split, images=split.images[:, :4, :4], labels=split.labels % CLASSES
        )
    return dataclasses.replace(TINY, **parts)


# Adversarial retraining.


class Spy:
    """A linear classifier that tells what it was trained on."""

    seen: tf.Tensor

    def __call__(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        if training:
            self.seen = images
        kernel = tf.constant(KERNELS[0], tf.float32)
        return tf.reshape(images, [-1, PIXELS]) @ kernel


def drawn_epsilons(seed: int, number: int) -> np.ndarray:
    """How far the training images of many steps are from the clean ones; 0 for clean."""
    spy, objective = Spy(), AdversarialRetraining(0.1, 0.3)
    images, labels = tf.constant(IMAGES[1:]), tf.constant(LABELS[1:])

    @tf.function
    def distance(key: tf.Tensor) -> tf.Tensor:
        objective.losses(spy, images, labels, key)
        moved = tf.abs(spy.seen - images)
        # All pixels by the same epsilon, as the sign of the gradient has it.
        tf.debugging.assert_near(tf.reduce_min(moved), tf.reduce_max(moved), atol=1e-6)
        return tf.reduce_max(moved)

    keys = tf.stack([tf.fill([number], seed), tf.range(number)], axis=1)
    return tf.map_fn(distance, keys, fn_output_signature=tf.float32).numpy()


def test_half_of_the_batches_are_fgsm_at_a_uniform_epsilon() -> None:
    number = 3000
    epsilons = drawn_epsilons(0, number)
    attacked = epsilons > 0
    # A fair coin: 5 standard errors are 5 sqrt(0.25 / N).
    assert abs(attacked.mean() - 0.5) < 5 * np.sqrt(0.25 / number)
    # One step's coin says nothing of the next: products of two signs have mean 0, variance 1.
    signs = np.where(attacked, 1, -1)
    assert abs(np.mean(signs[1:] * signs[:-1])) < 5 / np.sqrt(number - 1)
    drawn = epsilons[attacked]
    assert 0.1 - 1e-6 <= drawn.min() and drawn.max() <= 0.3 + 1e-6
    # Kolmogorov and Smirnov: a uniform sample is this far off once in a million.
    assert scipy.stats.kstest((drawn - 0.1) / 0.2, "uniform").pvalue > 1e-6
    assert drawn.min() < 0.102 and drawn.max() > 0.298


def test_the_same_step_of_a_seed_has_the_same_draw() -> None:
    first = drawn_epsilons(0, 50)
    np.testing.assert_array_equal(drawn_epsilons(0, 50), first)
    assert np.any(drawn_epsilons(1, 50) != first) and len(set(first)) > 10


def test_retraining_on_clean_batches_is_plain_training() -> None:
    # Every key is either the clean loss or that of the images it drew.
    objective, model = AdversarialRetraining(0.2, 0.2), linear(KERNELS[0])
    clean = cross_entropy(IMAGES, KERNELS[0])
    attacked = cross_entropy(fgsm(KERNELS[0], 0.2), KERNELS[0])
    kinds = set()
    for step in range(20):
        found = objective.losses(
            model, tf.constant(IMAGES), tf.constant(LABELS), tf.constant([0, step])
        ).numpy()
        is_clean = np.allclose(found, clean, rtol=1e-4)
        assert is_clean or np.allclose(found, attacked, rtol=1e-4)
        kinds.add(is_clean)
    assert kinds == {True, False}


def test_two_replicas_retrain_like_one_device(tmp_path: pathlib.Path) -> None:
    # They draw the same for both halves of a batch, which one device has whole.
    settings = dataclasses.replace(SETTINGS, epochs=4, batch_size=32)
    losses = [
        [
            record["loss"]
            for record in Loop(
                lambda dtype: linear(KERNELS[0]),
                tiny_linear(),
                settings,
                AdversarialRetraining(0.1, 0.3),
                make_strategy(name),
                tmp_path / name,
                "linear",
            ).run()
        ]
        for name in ("one_device", "mirrored")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_retraining_starts_from_the_plain_network_with_epochs_of_its_own(
    tmp_path: pathlib.Path,
) -> None:
    trainer = Recorder(TINY, SETTINGS, tmp_path)
    defense = FGSMRetraining(retraining_epsilon=(0.05, 0.2), retraining_epochs=9)
    found = defense.train(SPEC, trainer)
    (spec, first, start, epochs), (same, second, plain, longer) = trainer.fits
    assert spec == same == SPEC.without_noise()
    assert (first, start, epochs) == (CrossEntropy(), None, SETTINGS.epochs)
    assert (second, longer) == (AdversarialRetraining(0.05, 0.2), 9)
    assert plain is trainer.models[0] and found is trainer.models[1]
