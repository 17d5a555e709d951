"""The figures of a run's report."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rse_tf.reporting.drawing import (
    DPI,
    PAPER,
    Style,
    beside,
    const_axis,
    legend,
    save_png,
    styles_of,
    tidy,
)
from rse_tf.reporting.reference import published
from rse_tf.reporting.rows import Row
from rse_tf.reporting.series import Panel, Series, panels


def plot_accuracy_vs_strength(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draws accuracy against the strength of the attack as a PNG.

    One pair of axes per data set, model and attack, one curve per defense. Clean accuracy
    stands at a position of its own on the logarithmic axis of const, and at 0 on the linear
    axis of epsilon. Published numbers for the same settings are dashed, in the same colour.

    Args:
        rows: rows of any attacks, in any order; those without attack are the clean ones.
        path: the PNG file.

    Raises:
        ValueError: if there are no rows.
    """

    def draw(axes: Axes, panel: Panel, styles: dict[str, Style]) -> None:
        place = _strength_axis(axes, panel)
        for index, series in enumerate(panel.series):
            curve = [*series.clean, *series.rows]
            pieces = [curve]
            if panel.strength == "const":  # a line across the break of the axis means nothing
                start = [row for row in curve if _strength(row) == 0]
                pieces = [start, [row for row in curve if _strength(row) > 0]]
            for piece in pieces:
                x = [place(row, index) for row in piece]
                _curve(axes, piece, x, styles[series.label])

    _draw_panels(panels(rows), draw, path)


def plot_accuracy_vs_l2(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draws accuracy against the root mean square L2 distortion over all images as a PNG.

    Curves follow the rising strength of the attack, from the clean row at 0. The rest is as
    in `plot_accuracy_vs_strength`, the colours included.

    Raises:
        ValueError: if there are no rows.
    """

    def draw(axes: Axes, panel: Panel, styles: dict[str, Style]) -> None:
        axes.set_xlabel("RMS L2 distortion over all images (pixels in [0, 1])")
        for series in panel.series:
            curve = [*series.clean, *series.rows]
            _curve(axes, curve, [row.rms_l2 for row in curve], styles[series.label], by_l2=True)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))

    _draw_panels(panels(rows), draw, path)


def _draw_panels(
    panels_: list[Panel],
    draw: Callable[[Axes, Panel, dict[str, Style]], None],
    path: str | os.PathLike[str],
) -> None:
    columns = min(len(panels_), 3)
    lines = math.ceil(len(panels_) / columns)
    figure = Figure(figsize=(2.6 + 4.6 * columns, 4.2 * lines), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    styles = styles_of(series.label for panel in panels_ for series in panel.series)
    for axes, panel in itertools.zip_longest(grid.flat, panels_):
        if panel is None:
            axes.remove()
            continue
        draw(axes, panel, styles)
        axes.set_ylim(-3, 103)
        tidy(axes, panel.title)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy under attack (%)")
    _legend(figure, styles, [series for panel in panels_ for series in panel.series])
    save_png(figure, path)


def _curve(
    axes: Axes, rows: list[Row], x: list[float], style: Style, *, by_l2: bool = False
) -> None:
    """Draws one curve, and dashed the published numbers for its rows."""
    if rows:
        axes.errorbar(
            x,
            [100 * row.accuracy for row in rows],
            # A bar of no length would still be drawn, as a dash across the marker.
            yerr=[100 * row.accuracy_std if row.eval_seeds > 1 else math.nan for row in rows],
            capsize=3,
            zorder=3,
            **style,
        )
    paper: list[tuple[float, float]] = []
    for row, at in zip(rows, x, strict=True):
        number = published(row)
        if number is None or number.accuracy is None:
            continue
        if not by_l2:
            paper.append((at, 100 * number.accuracy))
        elif number.rms_l2 is not None:
            paper.append((number.rms_l2, 100 * number.accuracy))
    if paper:
        axes.plot(*zip(*paper), **{**style, **PAPER})


def _legend(figure: Figure, styles: dict[str, Style], series: list[Series]) -> None:
    rows = [row for curve in series for row in (*curve.clean, *curve.rows)]
    sources = [number.source for row in rows if (number := published(row))]
    legend(figure, styles, sources, any(row.eval_seeds > 1 for row in rows))


def _strength_axis(axes: Axes, panel: Panel) -> Callable[[Row, int], float]:
    """Sets up the horizontal axis; returns where a row of the n-th curve belongs on it."""
    if panel.strength == "epsilon":
        axes.set_xlabel("epsilon, in pixel units (0: clean)")
        return lambda row, _: _strength(row)
    if panel.strength == "const":
        rows = [row for curve in panel.series for row in curve.rows]
        place = const_axis(axes, map(_strength, rows), len(panel.series))
        return lambda row, index: place(_strength(row), index)
    attacked = any(series.rows for series in panel.series)
    axes.set_xticks([0, 1] if attacked else [0], ["clean", "attacked"][: 1 + attacked])
    axes.set_xlim(-0.5, 1.5 if attacked else 0.5)
    count = len(panel.series)
    return lambda row, index: (row.attack != "none") + 0.3 * beside(index, count)


def _strength(row: Row) -> float:
    return row.strength[1] if row.strength else 0.0
