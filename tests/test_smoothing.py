"""Votes have noise of the law they should have, each independent of all others."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from smoothed import NORM, at_distances, linear, two_classes

from rse_tf.evaluation.smoothing import BLOCK, Voter
from rse_tf.layers import NoiseLayer
from rse_tf.models import AveragedEnsemble


def votes_of(
    model: keras.Model,
    images: np.ndarray,
    stddev: float,
    number: int,
    phase: int = 0,
    seed: int = 0,
    batch_size: int = 1_000,
    first: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Classes `[images, number]` and probabilities of class 1, likewise, in the order of votes."""
    voter = Voter(model, stddev, seed, batch_size)
    parts = voter.votes(images, range(first, first + len(images)), phase, number)
    rows, classes, probabilities = (np.concatenate(one) for one in zip(*parts))
    assert (rows == np.repeat(np.arange(len(images)), number)).all()
    shape = (len(images), number)
    return classes.reshape(shape), probabilities[:, 1].reshape(shape)


def identity(*, inner: tuple[float, str] | None = None, units: int = 1) -> keras.Model:
    """Logits (0, x) - 5 of the first pixel, so that the logit of a probability is what came in.

    Args:
        inner: standard deviation and sampler of noise behind the pixels.
        units: pixels of an image.
    """
    x = images = keras.Input((units,))
    if inner is not None:
        x = keras.layers.Activation("linear")(x)
        x = NoiseLayer(inner[0], sampler=inner[1])(x)
    return keras.Model(
        images,
        keras.layers.Lambda(lambda x: tf.concat([0 * x[:, :1], x[:, :1]], axis=1) - 5.0)(x),
    )


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability.astype(np.float64)) - np.log1p(-probability.astype(np.float64))


@pytest.mark.parametrize(
    ("model", "pixels", "law"),
    [
        (identity(), 0.5, stats.norm(0, 0.5)),
        # sqrt(0.5^2 + 1.2^2) = 1.3
        (identity(inner=(1.2, "exact")), 0.5, stats.norm(0, 1.3)),
        (identity(inner=(1.2, "pool")), 0.5, stats.norm(0, 1.3)),
    ],
)
def test_the_noise_is_normal_over_votes_and_over_images(
    model: keras.Model, pixels: float, law: stats.rv_continuous
) -> None:
    # 20,000 votes on one image; and 1,000 images of one vote.
    many, each = np.zeros((1_000, 1), np.float32), np.zeros((1, 1), np.float32)
    for images, number in ((each, 20_000), (many, 1)):
        _, probability = votes_of(model, images, pixels, number, batch_size=10_000)
        found = logit(probability).ravel()
        assert stats.kstest(found, law.cdf).pvalue > 1e-4
        assert len(np.unique(found.round(9))) > 0.95 * len(found)


def test_the_pixels_of_an_image_have_noise_of_their_own() -> None:
    # w.x is normal with standard deviation ||w|| sigma only if they do.
    found = logit(votes_of(linear(scale=0.5), at_distances(np.zeros(1)), 0.25, 10_000)[1]).ravel()
    assert stats.kstest(found, stats.norm(0, 0.25 * NORM).cdf).pvalue > 1e-4


def test_no_two_votes_have_the_same_noise() -> None:
    image = np.zeros((3, 1), np.float32)
    rounds = [
        votes_of(identity(), image, 1.0, 3 * BLOCK + 1, phase, seed, first=first)[1]
        for phase, seed, first in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 3))
    ]
    found = np.concatenate(rounds).ravel()
    assert len(np.unique(found)) == len(found) == 4 * 3 * (3 * BLOCK + 1)


@pytest.mark.parametrize("inner", [None, "pool", "exact"])
def test_counts_of_votes_are_binomial(inner: str | None) -> None:
    # 4,000 counts of 50 votes with p = Phi(0.3 / sd). Their mean, and their variance: an estimate
    # of a variance from m numbers of kurtosis near 3 has a standard error of sqrt(2 / m).
    model = identity(inner=None if inner is None else (1.0, inner))
    stddev, repeats, number = 0.5, 4_000, 50
    classes, _ = votes_of(
        model, np.full((repeats, 1), 0.3, np.float32), stddev, number, batch_size=20_000
    )
    p = stats.norm.cdf(0.3 / np.hypot(stddev, 0.0 if inner is None else 1.0))
    counts, variance = classes.sum(axis=1), number * p * (1 - p)
    assert abs(counts.mean() - number * p) < 4.5 * np.sqrt(variance / repeats)
    assert abs(counts.var() / variance - 1) < 4.5 * np.sqrt(2 / repeats)
    # Neighbouring votes, inside a block and across two, agree as often as independent ones.
    agree = (classes[:, 1:] == classes[:, :-1]).mean(axis=0)
    expected = p**2 + (1 - p) ** 2
    error = np.sqrt(expected * (1 - expected) / repeats)
    assert (abs(agree - expected) < 5 * error).all()


def test_votes_share_no_block_of_the_pool() -> None:
    # A block of the pool is one of 4,096 rows. Where votes share one, a vote tells its row, and
    # the row the next vote: two votes that are equal are followed by equal ones.
    model = identity(inner=(1.0, "pool"))

    def followed(values: np.ndarray) -> float:
        values = values.round(6)
        pairs = [(a, b) for a, b in zip(values[:, 0], values[:, 1])]
        same_first = len(pairs) - len({a for a, _ in pairs})
        assert same_first > 100
        return (len(pairs) - len(set(pairs))) / same_first

    # The layer itself begins with a new block at each call; a batch of two is in one.
    layer = NoiseLayer(1.0, sampler="pool")
    draw = tf.function(lambda: layer(tf.zeros([2, 1]))[:, 0], autograph=False)
    assert followed(np.array([draw().numpy() for _ in range(1_500)])) == 1
    images = np.zeros((1_500, 1), np.float32)
    _, probability = votes_of(model, images, 1e-7, 2, batch_size=20_000)
    assert followed(logit(probability)) < 0.05


def test_members_of_an_ensemble_see_the_same_noisy_image() -> None:
    # The mean of two copies is one copy, if and only if the noise on the pixels is common.
    one, other = (
        keras.Sequential([keras.Input((1,)), NoiseLayer(0.5), identity()]) for _ in range(2)
    )
    both = AveragedEnsemble([one, other])
    image = np.zeros((1, 1), np.float32)
    np.testing.assert_allclose(
        votes_of(both, image, 0.5, 40)[1], votes_of(identity(), image, 0.5, 40)[1], rtol=1e-5
    )


def test_noise_in_training_only_is_silent_inside() -> None:
    x = images = keras.Input((1,))
    x = keras.layers.Activation("linear")(x)
    silent = keras.Model(images, two_classes(NoiseLayer(9.0, active="training")(x), 0.5))
    image = np.zeros((1, 1), np.float32)
    np.testing.assert_allclose(
        votes_of(silent, image, 0.5, 40)[1], votes_of(identity(), image, 0.5, 40)[1], rtol=1e-5
    )


class Compiled(keras.Model):
    """Hides its noise in a function that is traced once."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = NoiseLayer(1.0)
        signature = [tf.TensorSpec([None, 1], tf.float32)]
        self._step = tf.function(
            lambda x: tf.concat([x, self.noise(x) - 5], axis=1), input_signature=signature
        )

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self._step(images)


def test_noise_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(ValueError, match="calls all its noise layers.*no call of noise_layer"):
        votes_of(Compiled(), np.zeros((1, 1), np.float32), 0.5, 10)
