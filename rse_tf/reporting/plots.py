"""The curves of a run's report."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from rse_tf.evaluation import Row
from rse_tf.evaluation.suite_rows import is_single_attack
from rse_tf.reporting.drawing import PERCENT, Plot, Point, draw_plots, interval_of, spread_of
from rse_tf.reporting.heading import add_heading, counts_of, heading_of, names_of
from rse_tf.reporting.names import strength_text
from rse_tf.reporting.published import published
from rse_tf.reporting.saving import save_figure
from rse_tf.reporting.series import Panel, panels

_Y_LABEL = "accuracy (%)"


def plot_accuracy_vs_strength(
    rows: Sequence[Row], path: str | os.PathLike[str], formats: Sequence[str] = ("png",)
) -> list[pathlib.Path]:
    """Saves `draw_accuracy_vs_strength`, and returns the paths.

    Args:
        rows: rows of any attacks, in any order; those without attack are the clean ones.
        path: the file; each format has its own ending.
        formats: of `FIGURE_FORMATS`.

    Raises:
        ValueError: if there are no rows, or a format is unknown.
    """
    return save_figure(draw_accuracy_vs_strength(rows), path, formats)


def plot_accuracy_vs_l2(
    rows: Sequence[Row], path: str | os.PathLike[str], formats: Sequence[str] = ("png",)
) -> list[pathlib.Path]:
    """Saves `draw_accuracy_vs_l2`; the rest is as in `plot_accuracy_vs_strength`."""
    return save_figure(draw_accuracy_vs_l2(rows), path, formats)


def draw_accuracy_vs_strength(rows: Sequence[Row]) -> Figure:
    """Draws accuracy against the strength of the attack.

    One pair of axes per data set, model and attack, one curve per run and defense. Clean accuracy
    stands at a position of its own on the logarithmic axis of const, and at 0 on the linear
    axis of epsilon; beside a single strength, clean and attacked are two places. Published numbers
    for the same protocol are dashed, in the same colour. Of a suite, only the worst case is drawn.
    The heading says what was attacked, on how many images, and whether this was a trial run.

    Raises:
        ValueError: if there are no rows.
    """
    return _draw(rows, _by_strength)


def draw_accuracy_vs_l2(rows: Sequence[Row]) -> Figure:
    """Draws accuracy against the root mean square L2 distortion over all images.

    Curves follow the rising strength of the attack, from the clean row at 0. The rest is as
    in `draw_accuracy_vs_strength`, the colours included.

    Raises:
        ValueError: if there are no rows.
    """
    return _draw(rows, _by_l2)


def _draw(rows: Sequence[Row], plot: Callable[[Panel], Plot]) -> Figure:
    rows = [row for row in rows if not is_single_attack(row)]
    found = panels(rows)
    plots = [plot(panel) for panel in found]
    if len(found) > 1:  # what is the same in all stands in the heading only
        titles = [_differing(panel.rows, rows) for panel in found]
        plots = [one._replace(title=title) for one, title in zip(plots, titles)]
    figure = draw_plots(plots, 3, map(_source, rows), [spread_of(row)[1] for row in rows])
    add_heading(figure, heading_of(rows))
    return figure


def _differing(own: Sequence[Row], every: Sequence[Row]) -> str:
    names, counts = names_of(own), counts_of(own)
    kept = [name for name in names.split(", ") if name not in names_of(every).split(", ")]
    return ", ".join(kept) + (f"\n{counts}" if counts != counts_of(every) else "")


def _by_strength(panel: Panel) -> Plot:
    strengths = {row.strength for one in panel.series for row in one.rows}
    single = len(strengths) < 2
    curves = {
        one.label: [_point(row, single) for row in (*one.clean, *one.rows)] for one in panel.series
    }
    attacked = strength_text(strengths.pop()) if single and strengths else ""
    axis = None if single else panel.strength
    return Plot("", axis, _Y_LABEL, PERCENT, curves, attacked or "attacked")


def _by_l2(panel: Panel) -> Plot:
    curves = {
        one.label: [_point_by_l2(row) for row in (*one.clean, *one.rows)] for one in panel.series
    }
    return Plot("", "l2", _Y_LABEL, PERCENT, curves)


def _point(row: Row, single: bool) -> Point:
    clean = row.attack == "none"
    x = float(not clean) if single or not row.strength else row.strength[1]
    number = published(row.settings)
    paper = None
    if number is not None and number.accuracy is not None:
        paper = (x, 100 * number.accuracy)
    spread = 100 * spread_of(row)[0]
    return Point(x, 100 * row.score.accuracy, spread, paper, interval_of(row), clean)


def _point_by_l2(row: Row) -> Point:
    number, point = published(row.settings), _point(row, False)
    paper = None
    if number is not None and number.rms_l2 is not None and point.published:
        paper = (number.rms_l2, point.published[1])
    return point._replace(x=row.score.rms_l2, published=paper)


def _source(row: Row) -> tuple[str, tuple[str, ...]]:
    number = published(row.settings)
    return (number.source, number.differences(row.settings)) if number else ("", ())
