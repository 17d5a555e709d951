"""The verdict on a suite of attacks, from what the suite has found: no attack runs again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rse_tf.evaluation.confidence import clopper_pearson
from rse_tf.evaluation.sanity import comparison_rows, model_rows, report_rows, settings_rows
from rse_tf.evaluation.sanity.auditing import RULES
from rse_tf.evaluation.sanity.verdict import SanityRow, Verdict
from rse_tf.evaluation.suite_outcome import StepOutcome, SuiteOutcome, attacks_on_everyone

_WHY_NOT = "the suite does not tell; --audit does"


def suite_verdict(outcome: SuiteOutcome, images: np.ndarray) -> Verdict:
    """Judges a suite at the largest distance of its first norm.

    It has the rows that the suite's figures are enough for. Missing are those of the model and its
    gradients, those that take other runs of an attack (`rse_tf.audit` has them), and D5: the suite
    transfers first, and its direct attacks meet only the images that are left.

    Args:
        outcome: what the suite found.
        images: the images without an attack, `[number, height, width, channels]`.
    """
    same = [one for one in outcome.cells if one.norm == outcome.cells[0].norm]
    cell = same[-1]
    steps = {one.step.name: one for one in cell.steps}
    left_out = list(dict.fromkeys(name for one in outcome.cells for name in one.left_out))
    rows: list[SanityRow] = [
        model_rows.a5_streams(),
        settings_rows.c7_complete(left_out),
        report_rows.e1_constraints(
            images, cell.adversarial, cell.epsilon, cell.norm, outcome.bounds
        ),
        report_rows.e4_resolution(cell.answers.correct),
    ]
    if len(cell.answers.correct) > 1:
        rows.append(report_rows.e5_resubmission(cell.answers.correct, cell.answers.worst))
    if {"pgd_half", "pgd"} <= steps.keys():
        half = steps["pgd_half"].correct
        whole = np.where(steps["pgd"].attacked, steps["pgd"].correct, half)
        rows.append(settings_rows.c3_steps(half, whole))
    iterative = steps.get("pgd_half", steps.get("pgd"))
    if "fgsm" in steps and iterative is not None:
        rows.append(comparison_rows.d1_iterative(steps["fgsm"].correct, iterative.correct))
    on_everyone = attacks_on_everyone(*(one.steps for one in same))
    if len(same) > 1 and on_everyone[0]:
        masks = {one.epsilon: _worst(some) for one, some in zip(same, on_everyone)}
        rows.append(comparison_rows.d2_larger_epsilon(masks))
    if "square" in steps and len(steps) > 1:
        white = _worst([one for name, one in steps.items() if name != "square"])
        rows.append(comparison_rows.d4_black_box(steps["square"].correct, white))
    robust = cell.answers.correct.mean(axis=0) > 0.5
    low, high = clopper_pearson(int(robust.sum()), len(robust))
    known = {row.id: row for row in rows}
    every = tuple(known.get(rule.id, rule.not_run(_WHY_NOT)) for rule in RULES)
    return Verdict(every, float(robust.mean()), (float(low), float(high)))


def _worst(steps: Sequence[StepOutcome]) -> np.ndarray:
    """For each image the answers under the worst of some attacks, bool `[answers, number]`."""
    correct = np.stack([one.correct for one in steps])
    worst = correct.mean(axis=1).argmin(axis=0)
    return correct[worst, :, np.arange(correct.shape[2])].T
