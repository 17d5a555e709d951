"""Slope and curvature of the loss, on networks whose derivatives fit on a page."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.attacks.losses import cross_entropy
from rse_tf.evaluation import Regularity, measure_regularity, regularity
from rse_tf.layers import BReLU, FusedBatchNormalization, NoiseLayer, seed_noise

RNG = np.random.default_rng(0)
PIXELS, CLASSES = 6, 3
WEIGHTS = RNG.normal(size=(PIXELS, CLASSES)).astype(np.float32)
IMAGES = RNG.uniform(size=(5, 2, 3, 1)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0])


def linear(noise: float = 0.0) -> keras.Model:
    """Logits `(image + noise) W`."""
    model = keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            NoiseLayer(noise),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, use_bias=False),
        ]
    )
    model.set_weights([WEIGHTS])
    return model


def probabilities(flat: np.ndarray) -> np.ndarray:
    odds = np.exp(flat @ WEIGHTS.astype(np.float64))
    return odds / odds.sum(axis=-1, keepdims=True)


def closed_form() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, gradients and Hessians of the silent linear model, one per image."""
    p = probabilities(IMAGES.reshape(-1, PIXELS).astype(np.float64))
    # loss = log(sum exp(z)) - z_y with z = xW: the gradient with respect to z is p - onehot,
    # the Hessian diag(p) - p p^T, and x reaches z through W.
    gradients = (p - np.eye(CLASSES)[LABELS]) @ WEIGHTS.T
    hessians = np.stack([WEIGHTS @ (np.diag(q) - np.outer(q, q)) @ WEIGHTS.T for q in p])
    return -np.log(p[range(len(LABELS)), LABELS]), gradients, hessians


def std_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def hutchinson_std_dev(hessians: np.ndarray, probes: int) -> float:
    """Standard deviation of the mean over images of the estimated traces."""
    # For sign vectors, v^T H v = trace + 2 * (sum over i < j of H_ij v_i v_j), and the
    # products v_i v_j are uncorrelated with variance 1: 2 * (sum over i != j of H_ij^2).
    off_diagonal = hessians * (1 - np.eye(PIXELS))
    variances = 2 * (off_diagonal**2).sum(axis=(1, 2)) / probes
    return float(np.sqrt(variances.sum()) / len(hessians))


def test_loss_and_gradient_of_a_linear_model_are_exact() -> None:
    losses, gradients, _ = closed_form()
    norms = np.linalg.norm(gradients, axis=1)
    found = measure_regularity(linear(), IMAGES, LABELS, probes=1)
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.gradient_norm == pytest.approx(norms.mean(), rel=1e-5)
    assert found.gradient_norm_std_error == pytest.approx(std_error(norms), rel=1e-4)


def test_the_trace_of_a_linear_model_is_that_of_its_hessian() -> None:
    hessians = closed_form()[2]
    traces = np.trace(hessians, axis1=1, axis2=2)
    found = measure_regularity(linear(), IMAGES, LABELS, probes=400)
    tolerance = 5 * hutchinson_std_dev(hessians, 400)
    assert tolerance < 0.1 * traces.mean()
    assert abs(found.hessian_trace - traces.mean()) < tolerance
    # Images differ by far more than 400 probes of one of them do.
    assert found.hessian_trace_std_error == pytest.approx(std_error(traces), rel=0.2)


def test_the_smoothed_trace_of_a_smooth_model_is_its_trace() -> None:
    hessians = closed_form()[2]
    trace = np.trace(hessians, axis1=1, axis2=2).mean()
    found = measure_regularity(linear(), IMAGES, LABELS, probes=400, smoothing=0.05)
    # u^T H u of normal u has variance 2 * (sum of all H_ij^2). Further terms of the expansion
    # are of relative order sigma^2; rounding makes 1e-7 * loss / sigma^2 = 1e-4.
    deviation = np.sqrt(2 * (hessians**2).sum() / 400) / len(hessians)
    assert 5 * deviation < 0.15 * trace
    assert abs(found.hessian_trace - trace) < 5 * deviation + 0.01 * trace
    exact = measure_regularity(linear(), IMAGES, LABELS, probes=1)
    assert found.gradient_norm == exact.gradient_norm and found.loss == exact.loss


def test_only_smoothing_sees_a_kink() -> None:
    # logits (0, relu(s)), s the sum of the pixels, at s = 0: the loss is log(1 + exp(relu(s)))
    # and class 0 the label, so it rises with slope 1/2 on one side only. Its Hessian is 0, but
    # E[loss(x + sigma u)] - loss(x) = 1/2 E[relu(s)] + O(sigma^2) = 1/2 sigma sqrt(6 / 2 pi).
    # The other terms: relu(s)^2 / 8, of mean 6 sigma^2 / 16.
    model = keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Lambda(lambda x: tf.reduce_sum(x, axis=1, keepdims=True)),
            keras.layers.Lambda(lambda s: tf.concat([tf.zeros_like(s), tf.nn.relu(s)], axis=1)),
        ]
    )
    zeros, labels, sigma = np.zeros((20, 2, 3, 1), np.float32), np.zeros(20, int), 0.01
    assert measure_regularity(model, zeros, labels).hessian_trace == 0
    found = measure_regularity(model, zeros, labels, probes=50, smoothing=sigma)
    expected = 2 / sigma**2 * (sigma / 2 * np.sqrt(PIXELS / (2 * np.pi))) + PIXELS / 8 * 2
    # The mean of both sides is |s| / 4, whose deviation is sqrt(pi / 2 - 1) = 0.76 of its
    # mean: 5 standard errors of 1,000 pairs are 12 %.
    assert found.hessian_trace == pytest.approx(expected, rel=0.12)


def replayed(model: keras.Model, num_draws: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Measures, and calls a `SelfEnsemble` anew from every state that the noise was set to."""
    seeds: list[tuple[int, ...]] = []

    def recorded(seeded: keras.Model, *seed: int) -> None:
        seeds.append(seed)
        seed_noise(seeded, *seed)

    monkeypatch.setattr(regularity, "seed_noise", recorded)
    found = measure_regularity(model, IMAGES, LABELS, num_draws=num_draws, probes=200)
    noise = []
    for image, seed in zip(IMAGES, seeds):
        seed_noise(model, *seed)
        tiled = np.broadcast_to(image, (num_draws, *image.shape))
        noise.append(model.layers[0](tiled).numpy().reshape(num_draws, PIXELS))
    ensemble = rse_tf.SelfEnsemble(model, num_draws, max_rows=num_draws)
    losses = []
    for image, label, seed in zip(IMAGES, LABELS, seeds):
        seed_noise(model, *seed)
        losses.append(cross_entropy(ensemble(image[None]), np.array([label])).numpy()[0])
    return found, np.stack(noise).astype(np.float64), np.mean(losses)


def test_a_noisy_model_is_the_ensemble_over_its_frozen_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, noisy, ensemble_loss = replayed(linear(0.7), 8, monkeypatch)
    assert len({image.tobytes() for image in noisy - IMAGES.reshape(-1, 1, PIXELS)}) == 5
    losses, norms, hessians = [], [], []
    for flat, label in zip(noisy, LABELS):
        p = probabilities(flat)
        # loss = -log(mean of p_y): every draw counts by its share w of the sum of p_y. With
        # the gradients g and Hessians H of the draws' own losses, the gradient is
        # sum w g, and the Hessian sum w (H - g g^T) + (sum w g)(sum w g)^T.
        w = p[:, label] / p[:, label].sum()
        g = (p - np.eye(CLASSES)[label]) @ WEIGHTS.T
        each = [WEIGHTS @ (np.diag(q) - np.outer(q, q)) @ WEIGHTS.T for q in p]
        mean = w @ g
        losses.append(-np.log(p[:, label].mean()))
        norms.append(np.linalg.norm(mean))
        hessian = sum(a * (h - np.outer(b, b)) for a, h, b in zip(w, each, g))
        hessians.append(hessian + np.outer(mean, mean))
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.loss == pytest.approx(ensemble_loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(np.mean(norms), rel=1e-5)
    trace = np.mean([np.trace(hessian) for hessian in hessians])
    tolerance = 5 * hutchinson_std_dev(np.stack(hessians), 200)
    mean_loss_trace = np.mean(  # what averaging the draws' losses would give instead
        [
            np.trace(WEIGHTS @ (np.diag(q) - np.outer(q, q)) @ WEIGHTS.T)
            for q in probabilities(noisy.reshape(-1, PIXELS))
        ]
    )
    assert abs(found.hessian_trace - trace) < tolerance < abs(mean_loss_trace - trace)


def small_network(noise: float) -> keras.Model:
    """What our networks are made of, every kind of layer once."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            NoiseLayer(noise),
            layers.Conv2D(4, 3, groups=2),
            FusedBatchNormalization(epsilon=1e-5),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            NoiseLayer(noise),
            layers.Conv2D(6, 2),
            BReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    network.layers[2].moving_variance.assign([0.1, 0.2, 0.3, 0.4])
    return network


def grey_images(number: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(1).uniform(size=(number, 8, 8, 2)).astype(np.float32)
    return images, np.arange(number) % 4


def as_row(found: Regularity) -> list[float]:
    return [getattr(found, name) for name in Regularity.__dataclass_fields__]


@pytest.mark.parametrize(("noise", "smoothing"), [(0.0, None), (0.0, 0.1), (0.5, None)])
def test_batches_change_nothing_and_seeds_do(noise: float, smoothing: float | None) -> None:
    model = linear(noise)

    def measured(seed: int = 0, batch_size: int = 100) -> list[float]:
        return as_row(
            measure_regularity(
                model,
                IMAGES,
                LABELS,
                num_draws=4,
                probes=2,
                smoothing=smoothing,
                seed=seed,
                batch_size=batch_size,
            )
        )

    first = measured()
    model(IMAGES)  # what the noise did in between does not matter
    assert measured() == first
    rounding = {"rel": 1e-3 if smoothing else 1e-5}
    assert measured(batch_size=2) == pytest.approx(first, **rounding)
    other = measured(seed=1)
    assert other[2] != first[2] and (other[0] != first[0]) == (noise > 0)


def test_the_curvature_of_a_network_is_that_of_its_softmax() -> None:
    # Between its kinks a ReLU network has v^T H v = v^T J^T (diag(p) - p p^T) J v.
    network, (images, labels) = small_network(0.0), grey_images(2)
    x = tf.constant(images)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits = network(x)
        columns = [tf.reduce_sum(logits[:, k]) for k in range(4)]
    jacobian = np.stack([tape.gradient(column, x).numpy() for column in columns], axis=1)
    p = tf.nn.softmax(logits).numpy().astype(np.float64)
    v = np.where(RNG.uniform(size=images.shape) < 0.5, -1, 1).astype(np.float32)
    along = np.einsum("nkhwc,nhwc->nk", jacobian.astype(np.float64), v)
    expected = (p * along**2).sum(axis=1) - (p * along).sum(axis=1) ** 2
    derivatives = regularity._Derivatives(network, images.shape[1:])
    assert (expected > 1e-3).all()
    np.testing.assert_allclose(
        derivatives.curvature(images, labels.astype(np.int32), v), expected, rtol=1e-3
    )


def test_a_noisy_network_has_a_reproducible_second_derivative() -> None:
    network, (images, labels) = small_network(0.1), grey_images(2)
    first = measure_regularity(network, images, labels, num_draws=2, probes=1)
    assert np.isfinite(as_row(first)).all() and first.hessian_trace != 0
    again = measure_regularity(network, images, labels, num_draws=2, probes=1, batch_size=1)
    np.testing.assert_allclose(as_row(again), as_row(first), rtol=1e-4)


def test_a_single_image_has_no_spread() -> None:
    found = measure_regularity(linear(), IMAGES[:1], LABELS[:1])
    assert found.gradient_norm_std_error == found.hessian_trace_std_error == 0


def test_a_model_without_gradients_or_with_nan_is_refused() -> None:
    model = linear()
    for function, words in (
        (lambda x: tf.stop_gradient(model(x)), "without a gradient"),
        (lambda x: model(x) * np.float32("nan"), "NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            measure_regularity(function, IMAGES, LABELS, probes=1)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("num_draws", {"num_draws": 0}),
        ("probes", {"probes": 2.5}),
        ("batch_size", {"batch_size": True}),
        ("seed", {"seed": -1}),
        ("smoothing", {"smoothing": 0.0}),
        ("smoothing", {"smoothing": float("inf")}),
        ("images", {"images": IMAGES[:0], "labels": LABELS[:0]}),
        ("images", {"images": (255 * IMAGES).astype(np.uint8)}),
        ("labels", {"labels": LABELS[:4]}),
        ("labels", {"labels": LABELS.astype(float)}),
        ("images", {"images": IMAGES * np.float32("nan")}),
    ],
)
def test_senseless_arguments_are_named(name: str, changed: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"images": IMAGES, "labels": LABELS, "probes": 1, **changed}
    with pytest.raises(ValueError, match=rf"^measure_regularity: {name} .*Received: {name}="):
        measure_regularity(linear(), arguments.pop("images"), arguments.pop("labels"), **arguments)
