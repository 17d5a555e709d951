"""The rows of a suite: the worst case at each distance, and below it the single attacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rse_tf.evaluation.result import Row
from rse_tf.evaluation.suite_outcome import StepOutcome, SuiteCell, SuiteOutcome

# The attack of the row that holds the worst case over all of a suite's attacks.
ADAPTIVE = "adaptive"


def suite_rows(outcome: SuiteOutcome) -> Iterator[dict[str, Any]]:
    """What the rows of a suite have of their own, by the names of the fields of `Row`.

    A single attack is scored by the answers that the choice among the attacks rests on. They have
    no bias for the one image of an attack that has one. Of several, as one for each member, the
    worst by these answers counts, and an image that it did not attack counts as the worst of the
    attacks above it left it: such a row of a randomised model can lie below the worst case, which
    is measured by other noise.
    """
    for cell in outcome.cells:
        strength = {"epsilon": cell.epsilon, "norm": cell.norm, "suite_scale": outcome.scale}
        left_out = {"left_out": ",".join(cell.left_out)} if cell.left_out else {}
        yield {
            "attack": ADAPTIVE,
            "parameters": {**strength, **left_out},
            "score": cell.score,
            "eval_seeds": len(cell.answers.correct),
            "seconds": cell.seconds,
            "mean_queries": cell.queries,
        }
        for one in cell.steps:
            yield _row_of_step(cell, one, strength)


def is_single_attack(row: Row) -> bool:
    """Whether a row is that of a single attack of a suite."""
    return "suite_scale" in row.parameters and row.attack != ADAPTIVE


def _row_of_step(cell: SuiteCell, one: StepOutcome, strength: dict[str, Any]) -> dict[str, Any]:
    step = one.step
    share = {"share": step.share} if step.source == "reweighted" else {}
    return {
        "attack": step.attack,
        "parameters": {
            **strength,
            **dict(step.options),
            **share,
            "attack_draws": step.draws,
        },
        "score": one.score,
        "eval_seeds": len(one.correct),
        "seconds": one.seconds,
        "mean_queries": one.queries,
        "gradient": None if step.source == "model" else step.source,
    }
