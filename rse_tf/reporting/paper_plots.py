"""The papers' figures with numbers in them, drawn from tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rse_tf.reporting.drawing import (
    COLOURS,
    DPI,
    PAPER,
    Style,
    beside,
    const_axis,
    legend,
    styles_of,
    tidy,
    wrapped,
)
from rse_tf.reporting.grid import ACCURACY, Cell, Grid
from rse_tf.reporting.rows import Row

_PAPER_MARK: Style = {
    "marker": "D",
    "markersize": 5.5,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "linestyle": "none",
}


def draw_sweeps(
    grids: Sequence[Grid], rows: Sequence[Row], *, across: int = 1, axis: str = "const"
) -> Figure:
    """Draws a pair of axes per table: a curve per column, over the places of the lines.

    Published numbers are dashed, with open markers of the same colour; they are drawn whether
    or not there is a row beside them.

    Args:
        grids: the tables, from left to right and from top to bottom.
        rows: measured rows.
        across: axes beside each other.
        axis: `"const"`, or `"draws"` for a number of draws.
    """
    figure, all_axes = _axes(len(grids), across)
    styles = styles_of(column.name for grid in grids for column in grid.columns)
    tables = [grid.cells(rows) for grid in grids]
    for axes, grid, cells in zip(all_axes, grids, tables, strict=True):
        place = _place(axes, grid, axis)
        for index, column in enumerate(grid.columns):
            curve = [(line.at, line_cells[index]) for line, line_cells in zip(grid.lines, cells)]
            pieces = [curve]
            if axis == "const":  # a line across the break of the axis means nothing
                pieces = [[point for point in curve if bool(point[0]) == b] for b in (0, 1)]
            for piece in pieces:
                points = [(place(at, index), cell) for at, cell in piece]
                _curve(axes, column.name, points, styles[column.name], column.beyond)
        axes.set_ylabel(grid.measure.name)
        if axis == "const":  # draws change little: their axis shows no more than it must
            axes.set_ylim(*((-3, 103) if grid.measure is ACCURACY else (0, None)))
        tidy(axes, grid.title)
    flat = [cell for cells in tables for line in cells for cell in line]
    sources = [cell.source for cell in flat if cell.source]
    legend(figure, styles, sources, any(not math.isnan(cell.spread) for cell in flat))
    return figure


def draw_bars(grids: Sequence[Grid], rows: Sequence[Row], *, across: int = 1) -> Figure:
    """Draws a pair of axes per table: a group of bars per line, in it a bar per column.

    The published number is a diamond on its bar. A column beyond the paper is hatched.

    Args:
        grids: the tables, from left to right and from top to bottom.
        rows: measured rows.
        across: axes beside each other.
    """
    longest = max(len(grid.lines) for grid in grids)
    figure, all_axes = _axes(len(grids), across, width=max(5.4, 1.25 * longest))
    names = dict.fromkeys(column.name for grid in grids for column in grid.columns)
    colours = dict(zip(names, itertools.cycle(COLOURS)))
    patches: dict[str, Patch] = {}
    sources: list[str] = []
    for axes, grid in zip(all_axes, grids, strict=True):
        cells, count = grid.cells(rows), len(grid.columns)
        for index, column in enumerate(grid.columns):
            colour = colours[column.name]
            look: Style = {"facecolor": colour, "edgecolor": colour, "label": column.name}
            if column.beyond:
                look |= {"facecolor": "white", "hatch": "///"}
            own = [line[index] for line in cells]
            x = [group + 0.84 * beside(index, count) for group in range(len(own))]
            axes.bar(x, [_or_nan(cell.ours) for cell in own], width=0.76 / count, **look)
            paper = [_or_nan(cell.paper) for cell in own]
            if any(cell.source for cell in own):
                label = f"{column.name}, published"
                axes.plot(x, paper, **_PAPER_MARK, label=label, zorder=4)
            sources += [cell.source for cell in own if cell.source]
            patches[column.name] = Patch(**{**look, "label": wrapped(column.name)})
        labels = [line.label.replace(", ", ",\n") for line in grid.lines]
        axes.set_xticks(range(len(labels)), labels, fontsize=9)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        several = len({column.measure for column in grid.columns}) > 1
        axes.set_ylabel("share of the images (%)" if several else grid.measure.name)
        axes.set_ylim(0, 103)
        tidy(axes, grid.title)
        axes.grid(visible=False, axis="x")
    handles: list[Patch | Line2D] = list(patches.values())
    if sources:
        label = wrapped(f"published: {'; '.join(dict.fromkeys(sources))}")
        handles.append(Line2D([], [], label=label, **_PAPER_MARK))
    legend(figure, {}, [], False, handles)
    return figure


def _axes(count: int, across: int, width: float = 4.6) -> tuple[Figure, list[Axes]]:
    down = math.ceil(count / across)
    figure = Figure(figsize=(2.6 + width * across, 4.2 * down), dpi=DPI, layout="constrained")
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def _place(axes: Axes, grid: Grid, axis: str) -> Callable[[float, int], float]:
    places = sorted({line.at for line in grid.lines})
    if axis == "const":
        return const_axis(axes, places, len(grid.columns))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel("number of draws averaged")
    return lambda at, _: at


def _curve(
    axes: Axes, name: str, points: list[tuple[float, Cell]], style: Style, beyond: bool
) -> None:
    """Draws one curve, and dashed the published one."""
    ours = [(x, cell.ours, cell.spread) for x, cell in points if cell.ours is not None]
    if ours:
        x, y, spread = zip(*ours)
        axes.errorbar(x, y, yerr=spread, capsize=3, zorder=3, label=name, **style)
    paper = [(x, cell.paper) for x, cell in points if cell.paper is not None]
    if paper and not beyond:
        axes.plot(*zip(*paper), label=f"{name}, published", **{**style, **PAPER})


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
