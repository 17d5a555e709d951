"""The curves of a run's report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from rse_tf.evaluation import Row
from rse_tf.evaluation.suite_rows import is_single_attack
from rse_tf.reporting.drawing import PERCENT, Plot, Point, draw_plots, save_png, spread_of
from rse_tf.reporting.published import published
from rse_tf.reporting.series import panels


def plot_accuracy_vs_strength(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draws accuracy against the strength of the attack as a PNG.

    One pair of axes per data set, model and attack, one curve per run and defense. Clean accuracy
    stands at a position of its own on the logarithmic axis of const, and at 0 on the linear
    axis of epsilon. Published numbers for the same protocol are dashed, in the same colour. Of a
    suite, only the worst case is drawn.

    Args:
        rows: rows of any attacks, in any order; those without attack are the clean ones.
        path: the PNG file.

    Raises:
        ValueError: if there are no rows.
    """
    _plot(rows, path, lambda axis: axis, _point)


def plot_accuracy_vs_l2(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draws accuracy against the root mean square L2 distortion over all images as a PNG.

    Curves follow the rising strength of the attack, from the clean row at 0. The rest is as
    in `plot_accuracy_vs_strength`, the colours included.

    Raises:
        ValueError: if there are no rows.
    """
    _plot(rows, path, lambda axis: "l2", _point_by_l2)


def _plot(
    rows: Sequence[Row],
    path: str | os.PathLike[str],
    axis: Callable[[str | None], str | None],
    point: Callable[[Row], Point],
) -> None:
    plots = [
        Plot(
            panel.title,
            axis(panel.strength),
            "accuracy under attack (%)",
            PERCENT,
            {one.label: list(map(point, (*one.clean, *one.rows))) for one in panel.series},
        )
        for panel in panels([row for row in rows if not is_single_attack(row)])
    ]
    save_png(draw_plots(plots, 3, map(_source, rows), [spread_of(row)[1] for row in rows]), path)


def _point(row: Row) -> Point:
    x = row.strength[1] if row.strength else float(row.attack != "none")
    number = published(row.settings)
    paper = None
    if number is not None and number.accuracy is not None:
        paper = (x, 100 * number.accuracy)
    return Point(x, 100 * row.score.accuracy, 100 * spread_of(row)[0], paper)


def _point_by_l2(row: Row) -> Point:
    number, point = published(row.settings), _point(row)
    paper = None
    if number is not None and number.rms_l2 is not None and point.published:
        paper = (number.rms_l2, point.published[1])
    return point._replace(x=row.score.rms_l2, published=paper)


def _source(row: Row) -> tuple[str, tuple[str, ...]]:
    number = published(row.settings)
    return (number.source, number.differences(row.settings)) if number else ("", ())
