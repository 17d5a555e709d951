"""Row E3 and the default attacks of an audit: against closed forms and planted defects."""

from __future__ import annotations

import dataclasses
from typing import Any

import defects
import numpy as np
import pytest

import rse_tf
from rse_tf.attacks import APGD, PGD
from rse_tf.evaluation import Certificate, SanityRow, certify
from rse_tf.evaluation.sanity.auditing import _default_attacks
from rse_tf.evaluation.sanity.certificate_check import attacked_certificate
from rse_tf.evaluation.sanity.model_rows import a5_streams
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.suite import Suite
from rse_tf.utils import seeds

TASK = defects.LinearTask(number=24, classes=2)
STDDEV = 0.1


def e3(model: Any, certificate: list[Certificate]) -> SanityRow:
    subject = Subject(model, TASK.images, TASK.labels, attack_draws=4)
    return attacked_certificate(Suite(subject), certificate)


def distances() -> np.ndarray:
    """Exact L2 distances from the boundary of the two classes, 0 for images on the wrong side."""
    weights = TASK.weights[:, 0] - TASK.weights[:, 1]
    margin = TASK.images.reshape(-1, 16) @ weights + TASK.bias[0] - TASK.bias[1]
    return np.maximum(np.where(TASK.labels == 0, margin, -margin) / np.linalg.norm(weights), 0)


def exact(factor: float) -> list[Certificate]:
    """Certificates whose radius is so many times the exact distance."""
    return [
        Certificate(i, int(y), int(y), float(factor * d), -1, 0.0, 0.0, STDDEV)
        for i, (y, d) in enumerate(zip(TASK.labels, distances()))
    ]


@pytest.mark.parametrize("noise", [0.0, STDDEV])
def test_a_certificate_holds_up_to_the_exact_distance_and_no_further(noise: float) -> None:
    # Of two classes of a linear model, noise on the pixels moves no boundary: the smoothed
    # classifier has the distances of the network. Just inside, half of the votes are lost.
    model = TASK.model(noise)
    number = int(np.sum(distances() > 0))
    row = e3(model, exact(1.0))
    assert row.verdict == "PASS" and row.reason.startswith(f"0 of {number} certified images")
    # Beyond, a class keeps Phi(-(factor - 1) distance / stddev) of the votes. 1,000 votes tell a
    # share of 0.4 from 1/2: their standard deviation is 0.016, six of which lie between.
    told = int(np.sum(0.4 * 0.999 * distances() / STDDEV > 0.2534))
    row = e3(model, exact(1.4))
    assert told > 5 and row.verdict == "FAIL" and row.figure is not None and row.figure >= told


def test_what_certify_returns_passes_in_an_audit_and_a_false_radius_fails() -> None:
    model = TASK.model()
    found = certify(model, TASK.images, TASK.labels, STDDEV, n=1000, alpha=0.01, seed=0)
    assert {(one.stddev, one.alpha) for one in found} == {(STDDEV, 0.01)}
    options: dict[str, Any] = {
        "epsilon": 0.03,
        "attacks": [PGD(model, 0.03, steps=5)],
        "search_points": 1,
        "square_steps": 0,
    }
    row = e3(model, found)
    assert row.verdict == "PASS" and "alpha 0.01001" in row.reason  # that of the votes as well
    false = [dataclasses.replace(one, radius=2 * one.radius) for one in found]
    verdict = rse_tf.audit(model, TASK.images, TASK.labels, certificate=false, **options)
    assert verdict.row("E3").verdict == "FAIL" and verdict.headline_is_upper_bound


def test_a_certificate_of_the_models_own_noise_need_not_say_how_much() -> None:
    silent = [dataclasses.replace(one, stddev=None) for one in exact(0.9)]
    assert e3(TASK.model(STDDEV), silent).verdict == "PASS"
    row = e3(TASK.model(), silent)
    assert row.verdict == "NOT_RUN" and "does not say of what noise" in row.reason
    none = [dataclasses.replace(one, radius=0.0) for one in exact(1.0)]
    assert e3(TASK.model(), none).reason == "no image is certified"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 24}, "of the images"),
        ({"index": 1}, "of the images"),
        ({"label": 1}, "label 1 of image 0, which has 0"),
        ({"stddev": 0.2}, "of one stddev"),
    ],
)
def test_a_certificate_of_other_images_is_refused(change: dict[str, Any], message: str) -> None:
    first, *others = exact(1.0)
    certificate = [dataclasses.replace(first, **change), *others]
    with pytest.raises(ValueError, match=f"audit: certificate must be .*{message}"):
        rse_tf.audit(TASK.model(), TASK.images, TASK.labels, epsilon=0.1, certificate=certificate)


def test_the_default_attacks_are_pgd_and_apgd_on_two_losses() -> None:
    task = defects.LinearTask(number=8)
    subject = Subject(task.model(), task.images, task.labels)
    first, *others = _default_attacks(subject, 0.25, "l2")
    assert isinstance(first, PGD) and all(isinstance(one, APGD) for one in others)
    assert [getattr(one, "loss") for one in others] == ["cross_entropy", "dlr_targeted"]
    assert {getattr(one, "norm") for one in (first, *others)} == {"l2"}
    binary = Subject(TASK.model(), TASK.images, TASK.labels)
    assert [getattr(one, "loss", None) for one in _default_attacks(binary, 0.25, "linf")] == [
        None,
        "cross_entropy",
    ]


@pytest.mark.parametrize("gradient", [True, False])
def test_the_square_attack_finds_what_gradients_of_the_wrong_sign_leave(gradient: bool) -> None:
    model = TASK.model()
    hidden = defects.sign_flipped(model) if gradient else lambda x: np.asarray(model(x))
    options: dict[str, Any] = {
        "epsilon": 0.06,
        "search_points": 1,
        "attacks": [PGD(model, 0.06, steps=5)],
    }
    images, labels = TASK.images, TASK.labels
    without = rse_tf.audit(hidden, images, labels, square_steps=0, **options)
    verdict = rse_tf.audit(hidden, images, labels, square_steps=200, **options)
    exact_share = TASK.robust(0.06).mean()
    assert verdict.headline is not None and without.headline is not None
    assert without.headline > exact_share + 0.2
    # A random search comes near what the corner of the ball gives away.
    assert exact_share <= verdict.headline < without.headline - 0.1
    if gradient:
        figures = [one.row("D4").figure or 0.0 for one in (without, verdict)]
        assert figures[1] > figures[0] and verdict.row("D4").verdict == "FAIL"


def test_streams_of_random_numbers_are_disjoint_and_a_shared_one_fails() -> None:
    row = a5_streams()
    assert row.verdict == "PASS" and len(seeds.streams()) >= 13
    row = a5_streams({"ATTACK": 7, "SELECTION": 8, "SCORING": 7})
    assert row.verdict == "FAIL" and "ATTACK, SCORING" in row.reason
