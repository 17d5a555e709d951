"""The sanity rows of a model and its gradients: each notices its planted defect, and no other."""

from __future__ import annotations

import functools
from typing import Any

import defects
import keras
import numpy as np
import pytest
import tensorflow as tf
from victims import TEST_DIGITS, digit_network

import rse_tf
from rse_tf.evaluation.sanity.gradient_rows import (
    b1_gradients_exist,
    b2_gradients_true,
    b3_gradient_signal,
)
from rse_tf.evaluation.sanity.model_rows import (
    a1_logits,
    a2_randomness,
    a3_noise,
    a4_batch_coupling,
)
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.verdict import SanityRow
from rse_tf.layers import FrozenNoise
from rse_tf.utils.classifier import ProbabilitiesError

EPSILON = 0.1
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (32, 8, 8, 1)).astype(np.float32)


@functools.cache
def network() -> keras.Model:
    """Small and untrained, for defects that do not depend on what a network has learned."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(16, "relu"),
        keras.layers.Dense(4),
    ]
    return keras.Sequential(layers)


def labels_of(images: np.ndarray) -> np.ndarray:
    """What that network predicts, as of a network that is sure of itself."""
    return network()(images).numpy().argmax(axis=1)


def noisy_network() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), rse_tf.layers.NoiseLayer(0.1), network()])


def rows_of(
    model: Any, images: np.ndarray = IMAGES, labels: np.ndarray | None = None
) -> dict[str, SanityRow]:
    """Rows A1 to B3."""
    subject = Subject(
        model, images, labels_of(images) if labels is None else labels, attack_draws=4
    )
    rows = [
        a1_logits(subject),
        a2_randomness(subject),
        a3_noise(subject),
        a4_batch_coupling(subject),
        b1_gradients_exist(subject, EPSILON),
        b2_gradients_true(subject, EPSILON),
        b3_gradient_signal(subject),
    ]
    return {row.id: row for row in rows}


def verdicts(*given: Any) -> str:
    """Those of A1 to B3, a word each."""
    return " ".join(row.verdict for row in rows_of(*given).values())


HONEST = "PASS PASS NOT_RUN PASS PASS PASS NOT_RUN"
MODELS = {
    "honest function": (lambda: network().call, HONEST),
    "honest noise": (noisy_network, "PASS PASS PASS PASS PASS PASS PASS"),
    "log probabilities": (lambda: lambda x: tf.nn.log_softmax(network()(x)), HONEST),
    "small logits": (lambda: lambda x: 1e-4 * network()(x), HONEST),
    "undeclared dropout": (
        lambda: defects.DropsOut(network()),
        "PASS FAIL NOT_RUN PASS PASS PASS NOT_RUN",
    ),
    "frozen noise": (
        lambda: defects.FreezesNoise(noisy_network()),
        "PASS FAIL FAIL PASS PASS PASS PASS",
    ),
    "noise frozen from outside": (
        lambda: FrozenNoise(noisy_network()),
        "PASS FAIL FAIL PASS PASS PASS NOT_RUN",
    ),
    "noise shared by a batch": (
        lambda: defects.SharesNoise(network()),
        "PASS PASS FAIL PASS PASS PASS PASS",
    ),
    "statistics of the batch": (
        lambda: defects.NormalisesByBatch(network()),
        "PASS PASS NOT_RUN FAIL PASS FAIL NOT_RUN",
    ),
    "zero gradient": (
        lambda: defects.without_gradient(network()),
        "PASS PASS NOT_RUN PASS FAIL FAIL NOT_RUN",
    ),
    "logits of a large scale": (
        lambda: lambda x: 1000.0 * network()(x),
        "PASS PASS NOT_RUN PASS WARN PASS NOT_RUN",
    ),
    "flipped gradient": (
        lambda: defects.sign_flipped(network()),
        "PASS PASS NOT_RUN PASS PASS FAIL NOT_RUN",
    ),
    "stopped gradient": (
        lambda: defects.half_stopped(network()),
        "PASS PASS NOT_RUN PASS PASS FAIL NOT_RUN",
    ),
    "8 levels": (lambda: defects.quantised(network()), "PASS PASS NOT_RUN PASS PASS FAIL NOT_RUN"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_defect_fails_the_rows_that_look_for_it_and_no_other(name: str) -> None:
    build, expected = MODELS[name]
    assert verdicts(build()) == expected


def test_a_trained_network_passes() -> None:
    assert verdicts(digit_network(), *(a[:32] for a in TEST_DIGITS)) == HONEST


@pytest.mark.parametrize("ending", ["layer", "function"])
def test_probabilities_are_refused_by_an_error_of_their_own(ending: str) -> None:
    model: Any = keras.Sequential([network(), keras.layers.Softmax()])
    if ending == "function":
        model = lambda x: tf.nn.softmax(network()(x))  # noqa: E731
    with pytest.raises(ProbabilitiesError, match="Subject: model must be returning logits, not"):
        Subject(model, IMAGES, labels_of(IMAGES))


def test_plain_cross_entropy_behind_large_logits_has_no_gradient() -> None:
    subject = Subject(lambda x: 1000.0 * network()(x), IMAGES, labels_of(IMAGES))
    assert b1_gradients_exist(subject, EPSILON, "cross_entropy").verdict == "FAIL"
    row = b1_gradients_exist(subject, EPSILON)
    assert row.verdict == "WARN" and "plain cross-entropy" in row.reason


def test_the_signal_of_a_mean_gradient_is_that_of_its_energy() -> None:
    # The noise passes a linear layer whose product with x makes a gradient s + n: half of the
    # pixels carry the signal 1, all of them noise of deviation 2 in every draw. One draw has a
    # signal of 1/2 a pixel and noise of 4; of 16 draws the cosine is (1/2) / (1/2 + 4/16) = 2/3.
    mask = np.zeros((28, 28, 1), np.float32)
    mask[:14] = 1.0
    images = np.full((32, 28, 28, 1), 0.5, np.float32)

    class Noisy(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.noise = rse_tf.layers.NoiseLayer(2.0)

        def call(self, images: tf.Tensor) -> tf.Tensor:
            weights = self.noise(tf.broadcast_to(mask, tf.shape(images)))
            z = tf.reduce_sum(weights * (images - tf.stop_gradient(images)), axis=[1, 2, 3])
            return tf.stack([z, -z], axis=-1) - 1.0

    labels = np.zeros(32, np.int64)
    row = b3_gradient_signal(Subject(Noisy(), images, labels, attack_draws=16))
    # A cosine over 784 pixels has a standard error of 1/28 at most; the median of 32 is within it.
    assert row.figure == pytest.approx(2 / 3, abs=1 / 28)
    assert row.verdict == "PASS" and "0.5 at about 8" in row.reason
    row = b3_gradient_signal(Subject(Noisy(), images, labels, attack_draws=2))
    # (1/2) / (1/2 + 2) = 0.2
    assert row.figure == pytest.approx(0.2, abs=1 / 28) and row.verdict == "WARN"


def test_half_precision_has_no_differences() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10, dtype="mixed_bfloat16"),
        ]
    )
    row = b2_gradients_true(Subject(model, IMAGES, labels_of(IMAGES)), EPSILON)
    assert row.verdict == "NOT_RUN" and "half precision" in row.reason


def test_a_black_box_has_no_gradient() -> None:
    subject = Subject(lambda x: np.asarray(network()(x)), IMAGES, labels_of(IMAGES))
    assert not subject.has_gradient
    assert b1_gradients_exist(subject, EPSILON).verdict == "FAIL"
    assert b2_gradients_true(subject, EPSILON).verdict == "NOT_RUN"


def test_a_self_ensemble_is_its_network_at_its_number_of_draws() -> None:
    model = noisy_network()
    subject = Subject(rse_tf.SelfEnsemble(model, 7), IMAGES, labels_of(IMAGES))
    assert subject.model is model and subject.num_draws == 7
