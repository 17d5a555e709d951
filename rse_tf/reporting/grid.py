"""Tables in a paper's layout: which measured row and which published number go where."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tabulate

from rse_tf.reporting.reference import Published, published, published_by_source
from rse_tf.reporting.reference_training import training_differences
from rse_tf.reporting.rows import Row

MISSING = "–"
OTHER_SETTINGS = "†"
FAILED = "‡"

_FIELDS = ("dataset", "model", "defense", "attack", "num_draws")
_NOISE = ("init_noise", "inner_noise", "distribution", "init_noise_at")
# What a row means that does not say.
_DEFAULTS = {
    "attack_draws": 1,
    "confidence": 0.0,
    "init_noise_at": "first_conv",
    "targeted": False,
}
# What may stand in for any data set and any network, marked, where it is tried whether all runs.
_STAND_INS = {"dataset": "mnist_5k", "model": "mnist_cnn"}
# A row that differs only in these is shown, and marked.
LOOSE = frozenset(
    ("confidence", "distribution", "iterate", "learning_rate", "members", "num_draws")
    + ("step_size", "steps")
)


@dataclasses.dataclass(frozen=True)
class Measure:
    """What the cells of a table hold.

    Args:
        name: its name, with the unit.
        ours: takes it from a row; None where the row has none.
        paper: takes it from a published number; None where that has none.
        digits: decimals.
        spread: takes its standard deviation over the evaluation seeds from a row.
        failed: whether the attack of the row failed, which marks the cell.
    """

    name: str
    ours: Callable[[Row], float | None]
    paper: Callable[[Published], float | None] = lambda number: None
    digits: int = 2
    spread: Callable[[Row], float] | None = None
    failed: Callable[[Row], bool] = lambda row: False


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


ACCURACY = Measure(
    "accuracy (%)",
    lambda row: _percent(row.accuracy),
    lambda number: _percent(number.accuracy),
    spread=lambda row: 100 * row.accuracy_std,
)
RMS_L2 = Measure("RMS L2", lambda row: row.rms_l2, lambda number: number.rms_l2, digits=3)
# Of a single image, the root mean square is its L2 norm.
SQUARED_L2 = Measure(
    "squared L2",
    lambda row: row.rms_l2**2,
    lambda number: None if number.rms_l2 is None else number.rms_l2**2,
    failed=lambda row: row.accuracy > 0 if row.target_rate is None else row.target_rate < 1,
)
CLEAN_ACCURACY = Measure("clean accuracy (%)", lambda row: 100 * (1 - row.misclassified_clean))
SUCCESS_RATE = Measure("success rate (%)", lambda row: _percent(row.success_rate))
MEAN_L2 = Measure("mean L2 of successes", lambda row: row.mean_l2, digits=3)
QUERIES = Measure("queries per image", lambda row: row.mean_queries, digits=0)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a row must be to stand in a cell; `published` takes it for a row.

    Args:
        wants: values by name of a field, a noise setting, or a parameter of the attack. What
            is not named may be anything.
    """

    wants: Mapping[str, Any]

    dataset = property(lambda self: str(self.wants.get("dataset", "")))
    model = property(lambda self: str(self.wants.get("model", "")))
    defense = property(lambda self: str(self.wants.get("defense", "")))
    attack = property(lambda self: str(self.wants.get("attack", "")))
    num_draws = property(lambda self: int(self.wants.get("num_draws", 1)))
    training = property(lambda self: {})  # that of the paper, whatever it is

    @property
    def noise(self) -> dict[str, Any]:
        """Settings of the network's noise."""
        return {name: value for name, value in self.wants.items() if name in _NOISE}

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings of the attack."""
        others = (*_FIELDS, *_NOISE)
        return {name: value for name, value in self.wants.items() if name not in others}

    def differences(self, row: Row, loose: frozenset[str]) -> list[str] | None:
        """Returns what the row has otherwise, None if it does not belong here at all."""
        found = []
        narrowed = {"image_class", "substitute"} - {*self.wants}
        if "target" in self.wants:
            narrowed.discard("image_class")
        if narrowed & {*row.parameters}:
            return None  # attacked by way of another model, or on images of one class only
        for name, wanted in self.wants.items():
            value = _value(row, name)
            if _is_same(value, wanted):
                continue
            if name not in loose and value != _STAND_INS.get(name, wanted):
                return None
            if name == "num_draws" and value == 1:
                return None  # a single draw is no ensemble of any size
            found.append(f"{name}={_short(value)} instead of {_short(wanted)}")
        if "stop_error" in row.parameters:
            found.append(f"stop_error={_short(row.parameters['stop_error'])}")
        return found + training_differences(row)


@dataclasses.dataclass(frozen=True)
class Line:
    """A row or a column of a table.

    Args:
        label: its name.
        wants: what it asks of a row (see `Setting`); None takes back what another asks.
        group: stands before the label, once for all neighbours that have it.
        at: its place on the horizontal axis of a figure.
        beyond: whether it is not in the paper.
        measure: what it holds, None for the measure of its table.
    """

    label: str
    wants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    group: str = ""
    at: float = 0.0
    beyond: bool = False
    measure: Measure | None = None

    @property
    def name(self) -> str:
        """Group and label."""
        return ": ".join(filter(None, (self.group, self.label)))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        measure: what it holds.
        row: the row, None if it is not there yet.
        paper: the published value, None without one.
        source: where that is from.
        differences: how the row's settings differ from the paper's.
    """

    measure: Measure
    row: Row | None
    paper: float | None
    source: str
    differences: tuple[str, ...]

    @property
    def ours(self) -> float | None:
        """The measured value, None if it is not there."""
        return None if self.row is None else self.measure.ours(self.row)

    @property
    def spread(self) -> float:
        """Standard deviation over the evaluation seeds, NaN for one seed."""
        if self.row is None or self.row.eval_seeds < 2 or self.measure.spread is None:
            return math.nan
        return self.measure.spread(self.row)

    def __str__(self) -> str:
        number = f".{self.measure.digits}f"
        text = MISSING if self.ours is None else f"{self.ours:{number}}"
        if not math.isnan(self.spread):
            text += f" ± {self.spread:{number}}"
        if self.row is not None and self.measure.failed(self.row):
            text += FAILED
        text += OTHER_SETTINGS if self.differences else ""
        return text if self.paper is None else f"{text} ({self.paper:{number}})"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table: lines and columns, and what they ask of the rows in their cells.

    Args:
        title: its name.
        corner: what the lines are.
        lines: from top to bottom.
        columns: from left to right; where both ask the same, the column has its way.
        wants: what all cells ask.
        measure: what the cells hold.
        source: where the published numbers are from, None for any source.
        loose: settings in which a row may differ, and is marked then.
    """

    title: str
    corner: str
    lines: tuple[Line, ...]
    columns: tuple[Line, ...]
    wants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measure: Measure = ACCURACY
    source: str | None = None
    loose: frozenset[str] = LOOSE

    def cells(self, rows: Sequence[Row]) -> list[list[Cell]]:
        """Returns the cells line by line."""
        # By what most rows differ in: a cell has few to choose from.
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.defense, row.attack), []).append(row)
        return [
            [self._cell(line, column, groups) for column in self.columns] for line in self.lines
        ]

    def _cell(self, line: Line, column: Line, groups: dict[tuple[str, str], list[Row]]) -> Cell:
        wants = {**self.wants, **line.wants, **column.wants}
        setting = Setting({name: value for name, value in wants.items() if value is not None})
        measure = column.measure or line.measure or self.measure
        number = published(setting)
        if self.source is not None:
            number = published_by_source(setting).get(self.source)
        paper = measure.paper(number) if number else None
        rows = groups.get((setting.defense, setting.attack), [])
        row, differences = _choose(setting, rows, self.loose)
        source = number.source if number and paper is not None else ""
        return Cell(measure, row, paper, source, differences)


def format_grid(grid: Grid, rows: Sequence[Row]) -> str:
    """Returns the table as Markdown."""
    has_groups = any(line.group for line in grid.lines)
    headers = [*([""] if has_groups else []), grid.corner]
    headers += [column.name for column in grid.columns]
    body, group = [], ""
    for line, cells in zip(grid.lines, grid.cells(rows), strict=True):
        first = [line.group if line.group != group else ""] if has_groups else []
        body.append([*first, line.label, *map(str, cells)])
        group = line.group
    left = 1 + has_groups
    aligned = ["left"] * left + ["right"] * len(grid.columns)
    return tabulate.tabulate(
        body, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned
    )


def _choose(
    setting: Setting, rows: Sequence[Row], loose: frozenset[str]
) -> tuple[Row | None, tuple[str, ...]]:
    """Returns the row nearest to the setting, then with most images, most draws, the last."""
    found = [(row, setting.differences(row, loose)) for row in rows]
    fitting = [(row, tuple(others)) for row, others in found if others is not None]
    if not fitting:
        return None, ()
    return functools.reduce(
        lambda best, new: new if _rank(*new) >= _rank(*best) else best, fitting
    )


def _rank(row: Row, differences: tuple[str, ...]) -> tuple[int, int, int]:
    return -len(differences), row.num_images, row.num_draws


def _value(row: Row, name: str) -> Any:
    if name in _FIELDS:
        return getattr(row, name)
    return {**row.noise, **row.parameters}.get(name, _DEFAULTS.get(name))


def _is_same(value: Any, wanted: Any) -> bool:
    is_number = isinstance(wanted, (int, float)) and not isinstance(wanted, bool)
    if is_number and isinstance(value, (int, float)):
        return math.isclose(value, wanted, rel_tol=1e-6)  # a value may come from float32
    return bool(value == wanted)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
