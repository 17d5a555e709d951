"""How the members of an ensemble differ, and that they are trained so."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
from trainings import DIGITS, SETTINGS, TINY, TINY_SPEC, Recorder

from rse_tf import data, defenses
from rse_tf.defenses import DEFENSES, ENSEMBLES, is_defense
from rse_tf.defenses.adversarial_training import AdversarialTraining
from rse_tf.defenses.distillation import Distillation
from rse_tf.defenses.ensembles import Bagging, GaussNoise, Mixed, RandomInit
from rse_tf.models import MODELS, AveragedEnsemble, NetworkSpec
from rse_tf.training import Trainer

ROOT = pathlib.Path("models")
TRAINER = Trainer(DIGITS, SETTINGS, ROOT)
SPEC = NetworkSpec("mnist_cnn", DIGITS.image_shape, 10)


def counted(number: int = 3600) -> data.Dataset:
    """Images that hold their own number in their first pixels, and labels that follow from it."""
    images = np.zeros((number, 4, 4, 1), np.float32)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(number), 100) / np.float32(100)
    split = data.Split(images, np.arange(number) % 10)
    return data.Dataset("counted", split, split[:7], split[:9], tuple("0123456789"))


def numbers(images: np.ndarray) -> np.ndarray:
    return np.rint(images[:, 0, 0, 0] * 10_000 + images[:, 0, 1, 0] * 100).astype(int)


# Random initialisation.


def test_members_differ_in_their_seed_and_the_first_is_the_network_itself() -> None:
    members = [RandomInit().member(number, SPEC, TRAINER) for number in range(10)]
    assert members[0] == (SPEC, TRAINER)
    assert all(spec == SPEC for spec, _ in members)
    seeds = [trainer.settings.seed for _, trainer in members]
    others = [RandomInit().member(n, SPEC, seeded(1))[1].settings.seed for n in range(10)]
    assert len(set(seeds) | set(others)) == 20
    assert all(0 <= seed < 2**32 for seed in seeds)
    for _, trainer in members:  # nothing else
        assert dataclasses.replace(trainer.settings, seed=0) == SETTINGS
        assert trainer.dataset is DIGITS
    # A network without defense is found as the first member, and the other way round.
    folders = [trainer.directory(spec) for spec, trainer in members]
    assert folders[0] == TRAINER.directory(SPEC) and len(set(folders)) == 10


def seeded(seed: int, dataset: data.Dataset = DIGITS) -> Trainer:
    return Trainer(dataset, dataclasses.replace(SETTINGS, seed=seed), ROOT)


# Bagging.


def test_replicates_hold_two_thirds_of_the_images_with_their_labels() -> None:
    dataset = counted()
    number = len(dataset.train)
    seen = []
    for member in range(10):
        _, trainer = Bagging().member(member, SPEC, seeded(0, dataset))
        replicate = trainer.dataset.train
        drawn = numbers(replicate.images)
        assert len(replicate) == number
        np.testing.assert_array_equal(replicate.images, dataset.train.images[drawn])
        np.testing.assert_array_equal(replicate.labels, drawn % 10)
        # An image is missing with probability 1 / e = 0.368. Of N images, a share of
        # sqrt((1 - 2 / e) / (e N)) is one standard deviation.
        share = len(set(drawn)) / number
        spread = np.sqrt((1 - 2 / np.e) / (np.e * number))
        assert abs(share - (1 - 1 / np.e)) < 5 * spread
        # No image is preferred: its copies are Poisson of mean 1, and variance 1.
        copies = np.bincount(drawn, minlength=number)
        assert abs(copies.var() - 1) < 5 * np.sqrt(3 / number)  # fourth moment 4, less 1
        for part in ("validation", "test"):
            assert getattr(trainer.dataset, part) is getattr(dataset, part)
        seen.append(tuple(drawn))
    assert len(set(seen)) == 10
    again = Bagging().member(3, SPEC, seeded(0, dataset))[1].dataset.train
    assert tuple(numbers(again.images)) == seen[3]
    other = Bagging().member(3, SPEC, seeded(1, dataset))[1].dataset.train
    assert tuple(numbers(other.images)) not in seen


# Gaussian noise.


def grey(value: float, number: int = 2000) -> data.Dataset:
    split = data.Split(np.full((number, 4, 4, 1), value, np.float32), np.arange(number) % 10)
    return data.Dataset("grey", split, split[:7], split[:9], tuple("0123456789"))


def noisy_images(value: float, stddev: float, member: int = 0, seed: int = 0) -> np.ndarray:
    dataset = grey(value)
    _, trainer = GaussNoise(member_noise=stddev).member(member, SPEC, seeded(seed, dataset))
    found = trainer.dataset
    assert found.train.images.dtype == np.float32
    np.testing.assert_array_equal(found.train.labels, dataset.train.labels)
    assert found.validation is dataset.validation and found.test is dataset.test
    return found.train.images


@pytest.mark.parametrize("stddev", [0.02, 0.1])
def test_the_noise_of_a_member_is_gaussian_and_added_once(stddev: float) -> None:
    images = noisy_images(0.5, stddev)  # five standard deviations from either bound
    noise = images.astype(np.float64) - 0.5
    assert abs(noise.mean()) < 5 * stddev / np.sqrt(noise.size)
    assert abs(noise.std() - stddev) < 5 * stddev / np.sqrt(2 * noise.size)
    # 68.3 % within one standard deviation: it is a bell and not a box.
    within = np.mean(np.abs(noise) < stddev)
    assert abs(within - 0.6827) < 5 * np.sqrt(0.6827 * 0.3173 / noise.size)
    np.testing.assert_array_equal(noisy_images(0.5, stddev), images)  # the same whenever asked
    others = [noisy_images(0.5, stddev, member) for member in (1, 2)]
    others.append(noisy_images(0.5, stddev, seed=1))
    assert all(np.mean(other == images) < 0.01 for other in others)


@pytest.mark.parametrize(("value", "inwards"), [(0.0, 1), (1.0, -1)])
def test_noisy_images_are_clipped(value: float, inwards: int) -> None:
    images = noisy_images(value, 0.1)
    assert 0 <= images.min() and images.max() <= 1
    # Half of the noise points out of the range and is gone; the rest stays.
    share = np.mean(images == value)
    assert abs(share - 0.5) < 5 * np.sqrt(0.25 / images.size)
    rest = np.abs(images[images != value] - value)
    # A half-normal has the mean sigma sqrt(2 / pi) and the variance sigma^2 (1 - 2 / pi).
    spread = 0.1 * np.sqrt(1 - 2 / np.pi)
    assert abs(rest.mean() - 0.1 * np.sqrt(2 / np.pi)) < 5 * spread / np.sqrt(rest.size)


# Mixed models.


@pytest.mark.parametrize("name", MODELS)
def test_every_member_of_a_mixed_ensemble_is_another_network(name: str) -> None:
    size = max(MODELS[name].smallest, 10)
    plain = NetworkSpec(name, (size, size, 1), 3)
    specs = [Mixed().member(number, plain, TRAINER)[0] for number in range(10)]
    assert specs[0] == plain and len(set(specs)) == 10
    images = np.random.default_rng(0).uniform(size=(2, size, size, 1)).astype(np.float32)
    shapes = set()
    large = name in ("vgg16", "resnext29", "model_a")
    for number in (0, 1, 2) if large else range(10):
        model = specs[number].build()
        logits = model(images).numpy()
        assert logits.shape == (2, 3) and np.isfinite(logits).all()
        shapes.add(tuple(weights.shape for weights in model.get_weights()))
    assert len(shapes) == (3 if large else 10)


def test_mixed_models_are_seeded_apart_too() -> None:
    trainers = [Mixed().member(number, SPEC, TRAINER)[1] for number in range(10)]
    assert trainers[0] == TRAINER and len({t.settings.seed for t in trainers}) == 10


# Any ensemble with any defense.


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_an_ensemble_goes_with_any_way_to_train_a_network(ensemble: str) -> None:
    assert is_defense(ensemble)
    assert all(is_defense(f"{ensemble}+{defense}") for defense in DEFENSES)
    assert is_defense(f"{ensemble}+rse+fast_training")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "+",
        "rse+",
        "+rse",
        "magic",
        "ensemble_bagging+",
        "ensemble_bagging+magic",
        "rse+ensemble_bagging",
        "rse+distillation",
        "ensemble_bagging+ensemble_mixed",
        "ensemble_bagging+rse+rse",
        "rse+none",
        "rse+consistency",
        "fast_training+rse",
        "rse+magic",
        "none+fast_training",
        "rse+fast_training+pgd_training",
        "rse+ensemble_bagging+fast_training",
        "ensemble_bagging+rse+",
        "Ensemble_bagging",
        "ensemble_bagging + rse",
    ],
)
def test_other_combinations_are_no_defense(name: str, tmp_path: pathlib.Path) -> None:
    assert not is_defense(name)
    with pytest.raises(KeyError):
        defenses.make(name).train(TINY_SPEC, Recorder(TINY, SETTINGS, tmp_path))


def test_every_member_of_a_combination_is_trained_by_the_defense(tmp_path: pathlib.Path) -> None:
    settings = {"members": 3, "training_epsilon": 0.2, "temperature": 9.0}

    def train(name: str) -> tuple[Recorder, AveragedEnsemble]:
        trainer = Recorder(TINY, SETTINGS, tmp_path)
        model = defenses.make(name, settings).train(TINY_SPEC, trainer)
        assert isinstance(model, AveragedEnsemble)
        return trainer, model

    trainer, model = train("ensemble_bagging+rse")
    assert [spec for spec, *_ in trainer.fits] == [TINY_SPEC] * 3  # noise and all
    assert model.members == trainer.models
    replicates = [Bagging().member(n, TINY_SPEC, trainer)[1].dataset.train for n in range(3)]
    for asked, replicate in zip(trainer.trainers, replicates, strict=True):
        np.testing.assert_array_equal(asked.dataset.train.images, replicate.images)
    assert [asked.label for asked in trainer.trainers] == [
        f"ensemble_bagging+rse, member {n}/3" for n in (1, 2, 3)
    ]
    trainer, _ = train("ensemble_mixed+adversarial_training")
    assert {objective for _, objective, *_ in trainer.fits} == {AdversarialTraining(0.2, 0.5)}
    assert [(s.extra_filters, s.extra_convolution) for s, *_ in trainer.fits] == [
        (0, 0),
        (8, 0),
        (0, 8),
    ]
    trainer, model = train("ensemble_random_init+distillation")
    teachers, students = trainer.models[::2], trainer.models[1::2]
    assert model.members == students
    for (_, objective, *_), teacher in zip(trainer.fits[1::2], teachers, strict=True):
        assert isinstance(objective, Distillation) and objective.teacher is teacher
    seeds = [asked.settings.seed for asked in trainer.trainers]
    assert seeds[::2] == seeds[1::2] and len(set(seeds)) == 3
    trainer, _ = train("ensemble_gauss_noise")
    assert all(spec == TINY_SPEC.without_noise() for spec, *_ in trainer.fits)
