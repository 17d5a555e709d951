"""The loss that attacks climb, where float32 holds it and where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import APGD, BIM, FGSM, MIM, PGD, RandFGSM
from rse_tf.attacks.fgsm import fast_gradient_sign
from rse_tf.attacks.losses import cross_entropy, log_loss, loss_direction, loss_gradient

RNG = np.random.default_rng(3)
HIDDEN = RNG.normal(size=(16, 8)).astype(np.float32)
LAST = RNG.normal(size=(3, 8, 3)).astype(np.float32)  # of three members
TWO = RNG.normal(size=(16, 2)).astype(np.float32)
IMAGES = RNG.uniform(0.35, 0.65, size=(12, 4, 4, 1)).astype(np.float32)
LABELS = np.arange(12) % 3


def members(scale: float, number: int) -> Any:
    """Logits of one opinion or several, `scale` times as far apart."""

    def model(x: tf.Tensor) -> tf.Tensor:
        hidden = tf.tanh(tf.matmul(tf.reshape(x, [-1, 16]), HIDDEN))
        each = [scale * tf.matmul(hidden, last) for last in LAST[:number]]
        return each[0] if number == 1 else tf.stack(each)

    return model


def odds_in_numpy(scale: float, number: int) -> tuple[np.ndarray, np.ndarray]:
    """log((1 - p) / p) `[members, batch]` and its gradient `[members, batch, 16]`, in float64."""
    hidden = np.tanh(IMAGES.reshape(-1, 16).astype(float) @ HIDDEN)
    z = scale * np.einsum("bh,ohc->obc", hidden, LAST[:number])
    slopes = scale * np.einsum("bh,ph,ohc->obcp", 1 - hidden**2, HIDDEN, LAST[:number])
    own = np.eye(3, dtype=bool)[LABELS]
    others = np.where(own, -np.inf, z)
    sums = np.logaddexp.reduce(others, axis=-1)
    weights = np.exp(others - sums[..., None]) - own
    return sums - z[:, own], np.einsum("obc,obcp->obp", weights, slopes)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 20.0, 1000.0])
def test_the_logarithm_of_the_loss_and_its_gradient_are_exact(scale: float, number: int) -> None:
    odds, slopes = odds_in_numpy(scale, number)
    # The loss of an opinion is log(1 + e^odds); of small t, log(1 + t) is t.
    logs = np.where(odds < -30, odds, np.log(np.logaddexp(0, np.maximum(odds, -30))))
    expected = np.logaddexp.reduce(logs, axis=0) - np.log(number)
    logits = members(scale, number)(tf.constant(IMAGES))
    np.testing.assert_allclose(log_loss(logits, LABELS), expected, rtol=1e-4, atol=1e-4)
    # Of the mean loss' logarithm: each opinion's dloss/dodds = 1 / (1 + e^-odds), over the sum.
    shares = np.exp(-np.logaddexp(0, -odds) - np.logaddexp.reduce(logs, axis=0))
    exact = np.einsum("ob,obp->bp", shares, slopes).reshape(IMAGES.shape)
    found = loss_direction(members(scale, number), tf.constant(IMAGES), LABELS)
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max())
    if number == 1:
        flat = loss_gradient(members(scale, 1), tf.constant(IMAGES), LABELS).numpy()
        assert (flat == 0).all(axis=(1, 2, 3)).any() == (scale > 1)
    if scale == 1:
        loss = cross_entropy(logits, LABELS)
        np.testing.assert_allclose(np.log(loss), expected, rtol=1e-4, atol=1e-5)


STEPS: dict[str, Any] = {"epsilon": 0.05, "step_size": 0.01, "steps": 2}
ATTACKS = {
    "apgd": lambda model: APGD(model, epsilon=0.05, steps=10),
    "fgsm": lambda model: FGSM(model, epsilon=0.1),
    "rand_fgsm": lambda model: RandFGSM(model, epsilon=0.1),
    "bim": lambda model: BIM(model, **STEPS),
    "mim": lambda model: MIM(model, **STEPS),
    "pgd": lambda model: PGD(model, **STEPS),
    "pgd l2": lambda model: PGD(model, norm="l2", **STEPS),
    "pgd restarts": lambda model: PGD(model, restarts=5, **STEPS),
}


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_do_the_same_at_whatever_scale(name: str, number: int, targeted: bool) -> None:
    # Two classes: what is thousand times as sure is wrong in the same direction. The images are on
    # the right side, a few of them far enough for no attack to succeed.
    def model(scale: float) -> Any:
        def logits(x: tf.Tensor) -> tf.Tensor:
            one = scale * tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, TWO)
            return one if number == 1 else tf.stack([one, one])

        return logits

    labels = np.argmax((IMAGES.reshape(-1, 16) - 0.5) @ TWO, axis=1)
    results = [
        ATTACKS[name](model(scale))(IMAGES, labels, 1 - labels if targeted else None)
        for scale in (1.0, 1000.0)
    ]
    np.testing.assert_allclose(results[1].adversarial, results[0].adversarial, atol=1e-5)
    np.testing.assert_array_equal(results[1].success, results[0].success)
    assert (results[0].adversarial != IMAGES).any(axis=(1, 2, 3)).all()
    if name == "pgd restarts":  # the best of them, not the first
        first = PGD(model(1000.0), **STEPS)(IMAGES, labels, 1 - labels if targeted else None)
        kept = ~results[1].success
        assert kept.any() and (first.adversarial != results[1].adversarial)[kept].any()


def test_a_class_that_does_not_exist_has_no_loss() -> None:
    logits = members(1.0, 1)(tf.constant(IMAGES))
    assert np.isnan(log_loss(logits, [-1, 3] * 6)).all()
    for labels in (LABELS[:, None], np.eye(3)[LABELS]):
        with pytest.raises(ValueError, match=r"labels must be integer \[batch\].*\(12, "):
            fast_gradient_sign(members(1.0, 1), tf.constant(IMAGES), labels, 0.1)
