"""Tables in a paper's layout: which measured row and which published number go where."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tabulate

from rse_tf.evaluation import Row
from rse_tf.reporting.drawing import spread_of
from rse_tf.reporting.published import (
    OTHER_SOURCE,
    TRAINING,
    Published,
    is_same,
    published,
    short,
)

MISSING = "–"
OTHER_SETTINGS = "†"
FAILED = "‡"

# Settings that a row does not record, and those of rows written before they were recorded.
_DEFAULTS = {
    "attack_draws": 1,
    "confidence": 0.0,
    "init_noise_at": "first_conv",
    "targeted": False,
}
# Rows of a smoke test are accepted in every cell, and marked.
_SMOKE_TEST = {"dataset": "mnist_5k", "model": "mnist_cnn"}
# A row that differs only in these is shown, and marked.
TOLERATED = frozenset(
    ("confidence", "distribution", "iterate", "learning_rate", "members", "num_draws")
    + ("step_size", "steps", *TRAINING)
)


@dataclasses.dataclass(frozen=True)
class Metric:
    """The quantity in the cells of a table.

    Args:
        name: its name, with the unit.
        ours: takes it from a row; None where the row has none.
        paper: takes it from a published number; None where that has none.
        digits: decimals.
        has_spread: whether it is an accuracy in percent, whose spread is known.
        failed: whether the attack of the row failed, which marks the cell.
    """

    name: str
    ours: Callable[[Row], float | None]
    paper: Callable[[Published], float | None] = lambda number: None
    digits: int = 2
    has_spread: bool = False
    failed: Callable[[Row], bool] = lambda row: False


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


ACCURACY = Metric(
    "accuracy (%)",
    lambda row: 100 * row.score.accuracy,
    lambda number: _percent(number.accuracy),
    has_spread=True,
)
RMS_L2 = Metric("RMS L2", lambda row: row.score.rms_l2, lambda number: number.rms_l2, digits=3)
# Of a single image, the root mean square is its L2 norm.
SQUARED_L2 = Metric(
    "squared L2",
    lambda row: row.score.rms_l2**2,
    lambda number: None if number.rms_l2 is None else number.rms_l2**2,
    failed=lambda row: row.score.accuracy > 0 if row.target_rate is None else row.target_rate < 1,
)
CLEAN_ACCURACY = Metric("clean accuracy (%)", lambda row: 100 * (1 - row.score.misclassified_clean))
SUCCESS_RATE = Metric("success rate (%)", lambda row: _percent(row.score.success_rate))
MEAN_L2 = Metric("mean L2 of successes", lambda row: row.score.mean_l2, digits=3)
QUERIES = Metric("queries per image", lambda row: row.mean_queries, digits=0)


@dataclasses.dataclass(frozen=True)
class Header:
    """A line or a column of a table.

    Args:
        label: its name.
        match: the settings of its rows; None drops what another header asks.
        group: stands before the label, once for all neighbours that have it.
        x: its place on the horizontal axis of a figure.
        ours_only: whether it is not in the paper.
        metric: what it holds, None for the metric of its table.
    """

    label: str
    match: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    group: str = ""
    x: float = 0.0
    ours_only: bool = False
    metric: Metric | None = None

    @property
    def name(self) -> str:
        """Group and label."""
        return ": ".join(filter(None, (self.group, self.label)))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        metric: what it holds.
        row: the row, None if it is not there yet.
        differences: how the row's settings differ from the paper's.
        paper: the published value, None without one.
        source: where that is from.
        paper_differences: how its settings differ from the row's.
    """

    metric: Metric
    row: Row | None = None
    differences: tuple[str, ...] = ()
    paper: float | None = None
    source: str = ""
    paper_differences: tuple[str, ...] = ()

    @property
    def ours(self) -> float | None:
        """The measured value, None if it is not there."""
        return None if self.row is None else self.metric.ours(self.row)

    @property
    def spread(self) -> tuple[float, str]:
        """Its standard deviation, and what that is over; NaN without any."""
        if self.row is None or not self.metric.has_spread:
            return math.nan, ""
        spread, over = spread_of(self.row)
        return 100 * spread, over

    @property
    def failed(self) -> bool:
        """Whether the attack failed."""
        return self.row is not None and self.metric.failed(self.row)

    def __str__(self) -> str:
        number = f".{self.metric.digits}f"
        text = MISSING if self.ours is None else f"{self.ours:{number}}"
        if self.spread[1]:
            text += f" ± {self.spread[0]:{number}}"
        text += FAILED if self.failed else ""
        text += OTHER_SETTINGS if self.differences else ""
        mark = OTHER_SOURCE if self.paper_differences else ""
        return text if self.paper is None else f"{text} ({self.paper:{number}}{mark})"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: lines and columns, and the settings of the rows in their cells.

    Args:
        title: its name.
        index_name: what the lines are.
        lines: from top to bottom.
        columns: from left to right; where a line asks for something else, the column has its way.
        match: the settings of all cells.
        metric: what the cells hold.
        source: where the published numbers are from, None for any source.
        tolerated: settings in which a row may differ, and is marked then.
    """

    title: str
    index_name: str
    lines: tuple[Header, ...]
    columns: tuple[Header, ...]
    match: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metric: Metric = ACCURACY
    source: str | None = None
    tolerated: frozenset[str] = TOLERATED

    def cells(self, rows: Sequence[Row]) -> list[list[Cell]]:
        """Returns the cells line by line."""
        # By what most rows differ in: a cell has few to choose from.
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.defense, row.attack), []).append(row)
        return [
            [self._cell(line, column, groups) for column in self.columns] for line in self.lines
        ]

    def to_markdown(self, rows: Sequence[Row]) -> str:
        """Returns the table as Markdown."""
        has_groups = any(line.group for line in self.lines)
        headers = [*([""] if has_groups else []), self.index_name]
        headers += [column.name for column in self.columns]
        body, group = [], ""
        for line, cells in zip(self.lines, self.cells(rows), strict=True):
            first = [line.group if line.group != group else ""] if has_groups else []
            body.append([*first, line.label, *map(str, cells)])
            group = line.group
        aligned = ["left"] * (1 + has_groups) + ["right"] * len(self.columns)
        return tabulate.tabulate(
            body, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned
        )

    def _cell(self, line: Header, column: Header, groups: dict[tuple[str, str], list[Row]]) -> Cell:
        asked = {**self.match, **line.match, **column.match}
        match = {name: value for name, value in asked.items() if value is not None}
        metric = column.metric or line.metric or self.metric
        rows = groups.get((match.get("defense", ""), match.get("attack", "")), [])
        row, others = _choose(match, rows, self.tolerated)
        number = published(match, self.source)
        paper = metric.paper(number) if number else None
        if number is None or paper is None:
            return Cell(metric, row, others)
        apart = number.differences(match if row is None else row.settings)
        return Cell(metric, row, others, paper, number.source, apart)


def differences(
    match: Mapping[str, Any], row: Row, tolerated: frozenset[str] = TOLERATED
) -> tuple[str, ...] | None:
    """Returns in which settings a row differs, None if it does not match at all."""
    settings = {**_DEFAULTS, **row.settings}
    if {"image_class", "substitute"} & {*settings} - {*match}:
        return None  # attacked by way of another model, or on images of one class only
    found = []
    for name, wanted in match.items():
        value = settings.get(name)
        if is_same(value, wanted) or name in TRAINING and name not in settings:
            continue  # a setting of the training that an older row does not record
        if name not in tolerated and (name not in _SMOKE_TEST or value != _SMOKE_TEST[name]):
            return None
        if name == "num_draws" and value == 1:
            return None  # a single draw is no ensemble of any size
        found.append(f"{name}={short(value)} instead of {short(wanted)}")
    if row.stop_error is not None:
        found.append(f"stop_error={short(row.stop_error)}")
    return tuple(found)


def _choose(
    match: Mapping[str, Any], rows: Sequence[Row], tolerated: frozenset[str]
) -> tuple[Row | None, tuple[str, ...]]:
    """Returns the row nearest to the settings, then with most images, most draws, the last."""
    found = [(row, differences(match, row, tolerated)) for row in rows]
    fitting = [(row, others) for row, others in found if others is not None]
    if not fitting:
        return None, ()
    return functools.reduce(lambda best, new: new if _rank(*new) >= _rank(*best) else best, fitting)


def _rank(row: Row, others: tuple[str, ...]) -> tuple[int, int, int]:
    return -len(others), row.num_images, row.num_draws
