"""The verdict on a model's robustness, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from rse_tf.attacks import APGD, PGD
from rse_tf.attacks.base import Attack
from rse_tf.attacks.losses import Logits
from rse_tf.evaluation.certification import Certificate
from rse_tf.evaluation.confidence import clopper_pearson
from rse_tf.evaluation.sanity import (
    binarisation,
    comparison_rows,
    gradient_rows,
    model_rows,
    report_rows,
    settings_rows,
)
from rse_tf.evaluation.sanity.audit_run import AuditRun
from rse_tf.evaluation.sanity.certificate_check import checked_certificate
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.suite import checked_attacks
from rse_tf.evaluation.sanity.verdict import Rule, SanityRow, Verdict
from rse_tf.utils.checks import checked_integer, checked_number
from rse_tf.utils.classifier import ProbabilitiesError, unchanged
from rse_tf.utils.log import progress_bar

_CALLER = "audit"
_MODULES = (model_rows, gradient_rows, settings_rows, comparison_rows, binarisation, report_rows)
RULES = tuple(
    sorted(
        (rule for module in _MODULES for rule in vars(module).values() if isinstance(rule, Rule)),
        key=lambda rule: rule.id,
    )
)


def audit(
    model: keras.Model | Logits,
    images: Any,
    labels: Any,
    *,
    epsilon: float,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    attacks: Sequence[Attack] | None = None,
    substitute: keras.Model | Logits | None = None,
    num_draws: int = 50,
    attack_draws: int = 10,
    search_points: int = 100,
    square_steps: int = 300,
    certificate: Sequence[Certificate] | None = None,
    loss: str = "log_loss",
    batch_size: int = 128,
    seed: int = 0,
) -> Verdict:
    """Attacks a model, and says how far the robust accuracy that comes out can be trusted.

    A hundred images of a small network take a few minutes on two cores; a randomised network takes
    `attack_draws` times as long. The model's random streams and moving statistics are left as they
    were.

    Args:
        model: a `keras.Model` from images to logits, or any callable that is one. Its noise is what
            `NoiseLayer`s add. Of a `SelfEnsemble` its network is audited, at its number of draws.
        images: floating-point `[number, height, width, channels]`, within `bounds`.
        labels: true classes, integer `[number]` or one-hot `[number, classes]`.
        epsilon: radius of the ball, in pixel units.
        norm: `"linf"` or `"l2"`.
        bounds: smallest and largest pixel value. Default (0, 1).
        attacks: attacks of `rse_tf.attacks` with a field `epsilon`, such as `PGD(model, 0.3)`.
            Their model and their epsilon are replaced, a `step_size` that is given is scaled
            along. The rows about settings look at the first; each of the others goes for the
            images that are left. Default: `PGD` with its own defaults, 40 steps of epsilon / 4;
            `APGD` on the cross-entropy, 50 steps; and for at least 4 classes `APGD` on the
            targeted DLR loss, 30 steps for each of the 3 likeliest other classes.
        substitute: a model that images are transferred from, such as the same network without
            its defense. Default: of a randomised model, one frozen draw of its noise; else none.
        num_draws: passes that the deployed prediction averages. Default 50 (Liu et al., 2018).
        attack_draws: draws that an attack averages. Default 10.
        search_points: random points of the ball that the search without gradients tries.
            Default 100.
        square_steps: queries of the `Square` attack for an image; 0 leaves it out. It goes for up
            to 32 images that the attacks above leave. Default 300.
        certificate: what `rse_tf.evaluation.certify` returned for the images, or for some of them,
            with their places as `indices`. Row E3 attacks it. Default: none, and no row E3.
        loss: what the attacks follow: `"log_loss"`, the logarithm of the cross-entropy, as those
            of this package do, or plain `"cross_entropy"`.
        batch_size: images that go through the model at a time. Default 128.
        seed: of everything random.

    Returns:
        The verdict. A model of probabilities fails A1, and no other row runs.

    Raises:
        ValueError: if an argument is not one of the above, if the model returns neither logits
            nor probabilities, or logits that are not finite.
    """
    epsilon = checked_number(_CALLER, "epsilon", epsilon, positive=True)
    search_points = checked_integer(_CALLER, "search_points", search_points)
    square_steps = checked_integer(_CALLER, "square_steps", square_steps, 0)
    seed = checked_integer(_CALLER, "seed", seed, 0)
    with unchanged(model):
        try:
            subject = Subject(
                model,
                images,
                labels,
                bounds=bounds,
                num_draws=num_draws,
                attack_draws=attack_draws,
                batch_size=batch_size,
                caller=_CALLER,
            )
        except ProbabilitiesError as error:
            return _verdict([model_rows.a1_probabilities(error)], "the model returns probabilities")
        if attacks is None:
            attacks = _default_attacks(subject, epsilon, norm)
        if certificate is not None:
            checked_certificate(_CALLER, certificate, subject.labels)
        attacks = checked_attacks(_CALLER, attacks, norm, subject.bounds)
        run = AuditRun(
            subject,
            attacks,
            epsilon,
            norm,
            substitute,
            search_points,
            square_steps,
            loss,
            seed,
            certificate,
        )
        for part in progress_bar(run.parts, len(run.parts), _CALLER):
            part()
    return _verdict(run.rows, run.why_not, run.final)


def _default_attacks(subject: Subject, epsilon: float, norm: str) -> list[Attack]:
    """Attacks that together take minutes on two cores; PGD keeps its path, for the rows."""
    options: dict[str, Any] = {"norm": norm, "bounds": subject.bounds}
    attacks: list[Attack] = [
        PGD(subject.model, epsilon, **options),
        APGD(subject.model, epsilon, steps=50, **options),
    ]
    if subject.num_classes >= 4:
        options |= {"loss": "dlr_targeted", "num_targets": 3}
        attacks.append(APGD(subject.model, epsilon, steps=30, **options))
    return attacks


def _verdict(rows: list[SanityRow], why_not: str, correct: np.ndarray | None = None) -> Verdict:
    """All rows in order, those that are missing with the reason `why_not`."""
    known = {row.id: row for row in rows}
    all_rows = tuple(known.get(rule.id, rule.not_run(why_not)) for rule in RULES)
    if correct is None:
        return Verdict(all_rows)
    robust = correct.mean(axis=0) > 0.5  # the majority of the evaluations
    low, high = clopper_pearson(int(robust.sum()), len(robust))
    return Verdict(all_rows, float(robust.mean()), (float(low), float(high)))
