"""The curves of a run's report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from rse_tf.evaluation import Row
from rse_tf.reporting.drawing import (
    GAP,
    Point,
    Style,
    beside,
    const_axis,
    draw_curve,
    legend,
    make_axes,
    save_png,
    spread_of,
    styles_of,
    tidy,
)
from rse_tf.reporting.published import published
from rse_tf.reporting.series import Panel, panels


def plot_accuracy_vs_strength(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draws accuracy against the strength of the attack as a PNG.

    One pair of axes per data set, model and attack, one curve per run and defense. Clean accuracy
    stands at a position of its own on the logarithmic axis of const, and at 0 on the linear
    axis of epsilon. Published numbers for the same protocol are dashed, in the same colour.

    Args:
        rows: rows of any attacks, in any order; those without attack are the clean ones.
        path: the PNG file.

    Raises:
        ValueError: if there are no rows.
    """

    def draw(axes: Axes, panel: Panel, styles: dict[str, Style]) -> None:
        place = _strength_axis(axes, panel)
        for index, series in enumerate(panel.series):
            points: list[Point] = []
            for row in (*series.clean, *series.rows):
                if panel.strength == "const" and row.strength and row.strength[1] > 0:
                    # A line across the break of the axis would mean nothing.
                    points += [GAP] if GAP not in points else []
                points.append(_point(row, place(row, index)))
            draw_curve(axes, series.label, points, styles[series.label])

    _draw_panels(rows, draw, path)


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
            points = [_point(row, row.score.rms_l2, by_l2=True)
                      for row in (*series.clean, *series.rows)]  # fmt: skip
            draw_curve(axes, series.label, points, styles[series.label])
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))

    _draw_panels(rows, draw, path)


def _draw_panels(
    rows: Sequence[Row],
    draw: Callable[[Axes, Panel, dict[str, Style]], None],
    path: str | os.PathLike[str],
) -> None:
    panels_ = panels(rows)
    styles = styles_of(series.label for panel in panels_ for series in panel.series)
    lines = sum(2 + len(label) // 26 for label in styles)
    figure, all_axes = make_axes(len(panels_), 3, sharey=True, legend_lines=lines)
    for axes, panel in zip(all_axes, panels_, strict=True):
        draw(axes, panel, styles)
        axes.set_ylim(-3, 103)
        tidy(axes, panel.title)
    figure.supylabel("accuracy under attack (%)", fontsize=10)
    legend(figure, styles, map(_source, rows), [spread_of(row)[1] for row in rows])
    save_png(figure, path)


def _point(row: Row, x: float, by_l2: bool = False) -> Point:
    number, paper = published(row.settings), None
    if number is not None and number.accuracy is not None:
        at = number.rms_l2 if by_l2 else x
        paper = None if at is None else (at, 100 * number.accuracy)
    return Point(x, 100 * row.score.accuracy, 100 * spread_of(row)[0], paper)


def _source(row: Row) -> tuple[str, tuple[str, ...]]:
    number = published(row.settings)
    return (number.source, number.differences(row.settings)) if number else ("", ())


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
