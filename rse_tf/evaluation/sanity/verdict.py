"""Rows of a sanity check, and the verdict that they add up to."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from typing import Any

from tabulate import tabulate

from rse_tf.utils.checks import argument_error

PASS, WARN, FAIL, NOT_RUN = "PASS", "WARN", "FAIL", "NOT_RUN"
# From the mildest to the gravest.
VERDICTS = (NOT_RUN, PASS, WARN, FAIL)


@dataclasses.dataclass(frozen=True)
class SanityRow:
    """The answer to one question about an evaluation.

    Attributes:
        id: such as `"A1"`; the letter is the group: A the model, B its gradients, C the settings of
            the attack, D attacks beside each other, E the numbers reported.
        question: what is asked.
        figure: the number that decides; `None` if the row has not run.
        rule: when it passes and when it fails.
        verdict: `"PASS"`, `"WARN"`, `"FAIL"` or `"NOT_RUN"`.
        reason: what was found, or why the row has not run.

    Raises:
        ValueError: if `verdict` is none of the four, or a row that has run has no figure.
    """

    id: str
    question: str
    figure: float | None
    rule: str
    verdict: str
    reason: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise argument_error("SanityRow", "verdict", f"one of {VERDICTS}", self.verdict)
        if (self.figure is None) != (self.verdict == NOT_RUN):
            expected = f"a number, or None for {NOT_RUN}"
            raise argument_error("SanityRow", "figure", expected, self.figure)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A question and how its answer is judged; it makes the rows.

    Attributes:
        id: as in `SanityRow`.
        question: likewise.
        rule: likewise.
    """

    id: str
    question: str
    rule: str

    def row(self, verdict: str, figure: float, reason: str) -> SanityRow:
        """A row that has run."""
        return SanityRow(self.id, self.question, float(figure), self.rule, verdict, reason)

    def not_run(self, reason: str) -> SanityRow:
        """A row that has not run, and why."""
        return SanityRow(self.id, self.question, None, self.rule, NOT_RUN, reason)

    def by_limits(self, figure: float, passes: float, fails: float, reason: str) -> SanityRow:
        """PASS up to the limit `passes`, FAIL above the limit `fails`; NaN fails."""
        if figure <= passes:
            return self.row(PASS, figure, reason)
        return self.row(WARN if figure <= fails else FAIL, figure, reason)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How far the robust accuracy of an evaluation can be trusted.

    Attributes:
        rows: the answers, in the order of their ids.
        headline: the robust accuracy that they judge, from 0 to 1; `None` if there is none.
        interval: its 95 % confidence interval (Clopper-Pearson); `None` without a headline.
    """

    rows: tuple[SanityRow, ...]
    headline: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def overall(self) -> str:
        """The gravest verdict of all rows; `"NOT_RUN"` if none has run."""
        return max((row.verdict for row in self.rows), key=VERDICTS.index, default=NOT_RUN)

    @property
    def headline_is_upper_bound(self) -> bool:
        """Whether a row failed: the attack may have missed much, and accuracy may be far lower."""
        return self.overall == FAIL

    def row(self, id: str) -> SanityRow:
        """The row of an id.

        Raises:
            ValueError: if there is none.
        """
        for row in self.rows:
            if row.id == id:
                return row
        raise argument_error("Verdict", "id", f"one of {[row.id for row in self.rows]}", id)

    def as_dict(self) -> dict[str, Any]:
        """All of it as numbers, strings, lists and dicts that JSON can hold."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        for row in rows:
            # JSON has no NaN and no infinity.
            if row["figure"] is not None and not math.isfinite(row["figure"]):
                row["figure"] = str(row["figure"])
        return {
            "headline": self.headline,
            "interval": None if self.interval is None else list(self.interval),
            "headline_is_upper_bound": self.headline_is_upper_bound,
            "overall": self.overall,
            "rows": rows,
        }

    def format(self) -> str:
        """A table for the terminal: the headline, the rows that ran, and why the others did not."""
        cells = [
            [
                row.id,
                row.verdict,
                "" if row.figure is None else f"{row.figure:.3g}",
                row.question,
                row.reason,
            ]
            for row in self.rows
            if row.verdict != NOT_RUN
        ]
        table = tabulate(
            cells,
            headers=["", "verdict", "figure", "question", "what was found"],
            disable_numparse=True,
            maxcolwidths=[None, None, None, 34, 60],
        )
        silent: dict[str, list[str]] = {}
        for row in self.rows:
            if row.verdict == NOT_RUN:
                silent.setdefault(row.reason, []).append(row.id)
        lines = [
            textwrap.fill(f"{NOT_RUN} {', '.join(ids)}: {reason}", 120, subsequent_indent="    ")
            for reason, ids in silent.items()
        ]
        return "\n\n".join(filter(None, [self._headline(), table, "\n".join(lines)]))

    def _headline(self) -> str:
        counts = [f"{sum(row.verdict == v for row in self.rows)} {v}" for v in VERDICTS[::-1]]
        told = ", ".join(counts)
        if self.headline is None or self.interval is None:
            return f"No robust accuracy was measured. Rows: {told}"
        low, high = self.interval
        text = f"Robust accuracy {self.headline:.1%} (95 % interval {low:.1%} to {high:.1%})"
        if self.headline_is_upper_bound:
            failed = ", ".join(row.id for row in self.rows if row.verdict == FAIL)
            text += f": UPPER BOUND ONLY, for {failed} failed"
        return f"{text}. Rows: {told}"
