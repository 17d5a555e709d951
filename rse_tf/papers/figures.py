"""The papers' figures: curves and bars drawn from tables, and attacked images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rse_tf.evaluation import Gallery, Row
from rse_tf.papers.table import ACCURACY, Cell, Table
from rse_tf.reporting.axes import beside, make_axes, tidy
from rse_tf.reporting.drawing import (
    COLOURS,
    PERCENT,
    Limits,
    Plot,
    Point,
    Style,
    add_legend,
    draw_plots,
    interval_of,
    published_label,
    wrapped,
)
from rse_tf.reporting.gallery import montage
from rse_tf.reporting.names import display_name

_PUBLISHED_MARK: Style = {
    "marker": "D",
    "markersize": 5.5,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "linestyle": "none",
}
_WHITE = np.ones((1, 1, 1))  # an image for a place that stays empty
_DARKEST = 0.995  # the share of all changes that are not drawn at full strength


def draw_sweeps(
    tables: Sequence[Table], rows: Sequence[Row], *, across: int = 1, axis: str = "const"
) -> Figure:
    """Draws a pair of axes per table: a curve per column, over the places of the lines.

    Published numbers are dashed, with open markers of the same colour; they are drawn whether
    or not there is a row beside them.

    Args:
        tables: from left to right and from top to bottom.
        rows: measured rows.
        across: axes beside each other.
        axis: `"const"`, or `"draws"` for a number of draws.
    """
    filled = [table.cells(rows) for table in tables]
    plots = []
    for table, cells in zip(tables, filled, strict=True):
        curves = {
            column.name: [
                _point(line.x, own[index], column.ours_only, axis)
                for line, own in zip(table.lines, cells, strict=True)
            ]
            for index, column in enumerate(table.columns)
        }
        limits: Limits = PERCENT if table.metric is ACCURACY else (0, None)
        if axis == "draws":  # they change little: their axis shows no more than it must
            limits = (None, None)
        plots.append(Plot(table.title, axis, table.metric.name, limits, curves))
    flat = [cell for cells in filled for line in cells for cell in line]
    return draw_plots(plots, across, map(_source, flat), [cell.spread[1] for cell in flat])


def draw_bars(tables: Sequence[Table], rows: Sequence[Row], *, across: int = 1) -> Figure:
    """Draws a pair of axes per table: a group of bars per line, in it a bar per column.

    The published number is a diamond on its bar. A column that is not in the paper is hatched.

    Args:
        tables: from left to right and from top to bottom.
        rows: measured rows.
        across: axes beside each other.
    """
    longest = max(len(table.lines) for table in tables)
    figure, all_axes = make_axes(len(tables), across, width=max(5.4, 1.25 * longest))
    names = dict.fromkeys(column.name for table in tables for column in table.columns)
    colours = dict(zip(names, itertools.cycle(COLOURS)))
    patches: dict[str, Patch] = {}
    drawn: list[Cell] = []
    for axes, table in zip(all_axes, tables, strict=True):
        cells, count = table.cells(rows), len(table.columns)
        for index, column in enumerate(table.columns):
            colour, own = colours[column.name], [line[index] for line in cells]
            look: Style = {"facecolor": colour, "edgecolor": colour, "label": column.name}
            if column.ours_only:
                look |= {"facecolor": "white", "hatch": "///"}
            x = [group + 0.84 * beside(index, count) for group in range(len(own))]
            heights = [_or_nan(cell.ours) for cell in own]
            bars = axes.bar(x, heights, width=0.76 / count, **look)
            numbers = ["" if math.isnan(height) else f"{height:.0f}" for height in heights]
            axes.bar_label(bars, numbers, fontsize=7, padding=1)
            if any(cell.source for cell in own):
                paper, label = [_or_nan(cell.paper) for cell in own], f"{column.name}, published"
                axes.plot(x, paper, **_PUBLISHED_MARK, label=label, zorder=4)
            drawn += own
            patches[column.name] = Patch(**{**look, "label": wrapped(column.name)})
        _name_groups(axes, table)
    handles: list[Patch | Line2D] = list(patches.values())
    if label := published_label(map(_source, drawn)):
        handles.append(Line2D([], [], label=label, **_PUBLISHED_MARK))
    add_legend(figure, handles)
    return figure


def draw_perturbations(galleries: Sequence[Gallery]) -> Figure | None:
    """Draws what targeted attacks did to one image: a column per defense, a row per target.

    In each place stand the adversarial image and its perturbation, with the squared L2 norm
    below. A perturbation is the absolute change of each channel, scaled by one factor for the
    whole figure, cut at 1 and inverted, so that what did not change is white. The clean image
    is on the right.

    Args:
        galleries: those with `targets`, of the same clean image, are drawn.

    Returns:
        The figure, None if no gallery has targets.

    Raises:
        ValueError: as `Gallery.check`.
    """
    shown = [gallery.check("targets") for gallery in galleries if len(gallery.targets)]
    if not shown:
        return None
    changes = np.concatenate([np.abs(g.adversarial - g.clean).ravel() for g in shown])
    # Not by the largest change: one pixel would make all others pale.
    large = float(np.quantile(changes, _DARKEST)) or float(changes.max())
    scale = 1 / large if large else 1.0
    targets = list(dict.fromkeys(target for gallery in shown for target in gallery.targets))
    tiles: list[list[np.ndarray | None]] = [[] for _ in targets]
    captions: list[list[str]] = [[] for _ in targets]
    for gallery in shown:
        for line, target in enumerate(targets):
            found = [i for i, own in enumerate(gallery.targets) if own == target]
            tile, caption = None, ""
            if found:
                after = gallery.adversarial[found[0]]
                change = np.abs(after - gallery.clean[found[0]])
                tile = np.concatenate([after, np.clip(1 - scale * change, 0, 1)], axis=1)
                caption = f"squared L2 = {np.sum(change**2):.2f}"
            tiles[line].append(tile)
            captions[line].append(caption)
    name = next((gallery.labels[0] for gallery in shown if len(gallery.labels)), "clean")
    for line, (row, words) in enumerate(zip(tiles, captions)):
        row.append(_WHITE if line else shown[0].clean[0])
        words.append("" if line else f"original: {name}")
    columns = [*(display_name(gallery.defense) for gallery in shown), ""]
    figure = montage(tiles, targets, columns, captions)
    figure.supxlabel(
        f"Right of each pair: 1 - {scale:.3g} × absolute change, the same factor everywhere.",
        fontsize=9,
    )
    return figure


def draw_attacked(galleries: Sequence[Gallery]) -> Figure | None:
    """Draws a row of clean images and below it one of adversarial ones, for each gallery.

    The correct class stands below a clean image, the predicted one below an adversarial one.

    Args:
        galleries: those with `predicted` are drawn.

    Returns:
        The figure, None if no gallery has predictions.

    Raises:
        ValueError: as `Gallery.check`.
    """
    shown = [g.check("labels", "predicted") for g in galleries if len(g.predicted)]
    if not shown:
        return None
    longest = max(len(gallery.clean) for gallery in shown)
    tiles, labels, captions = [], [], []
    for gallery in shown:
        for kind, names in (("clean", gallery.labels), ("adversarial", gallery.predicted)):
            blank = longest - len(names)
            tiles.append([*getattr(gallery, kind), *[_WHITE] * blank])
            parts = (gallery.dataset, gallery.strength, kind)
            labels.append("\n".join(filter(None, parts)))
            captions.append([*names, *[""] * blank])
    return montage(tiles, labels, [""] * longest, captions)


def _name_groups(axes: Axes, table: Table) -> None:
    labels = [line.label.replace(", ", ",\n") for line in table.lines]
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    several = len({column.metric for column in table.columns}) > 1
    axes.set_ylabel("share of the images (%)" if several else table.metric.name)
    axes.set_ylim(0, 106)
    tidy(axes, table.title)
    axes.grid(visible=False, axis="x")


def _point(x: float, cell: Cell, ours_only: bool, axis: str) -> Point:
    paper = None if cell.paper is None or ours_only else (x, cell.paper)
    is_accuracy = cell.row is not None and cell.metric.has_spread
    interval = interval_of(cell.row) if cell.row is not None and is_accuracy else None
    clean = axis == "const" and x == 0
    return Point(x, _or_nan(cell.ours), cell.spread[0], paper, interval, clean)


def _source(cell: Cell) -> tuple[str, tuple[str, ...]]:
    return cell.source, cell.paper_differences


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
