"""The figures of a report, drawn without pyplot and its global state."""

from __future__ import annotations

import itertools
import math
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from rse_tf.files import atomic_path
from rse_tf.reporting.reference import SWEEP, published
from rse_tf.reporting.rows import Row
from rse_tf.reporting.series import Panel, Series, panels

# Okabe and Ito's colours for all kinds of colour vision, without their yellow, which is too
# pale for a line on white. Markers differ as well, for prints in black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_GREY = "#707070"
DPI = 100

Style = dict[str, Any]

# Open markers around the filled ones: where the two agree, both can still be seen.
_PAPER: Style = {
    "linestyle": "--",
    "linewidth": 1.1,
    "markersize": 7.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.9,
    "zorder": 4,
}


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
    labels = dict.fromkeys(series.label for panel in panels_ for series in panel.series)
    looks = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS))
    styles: dict[str, Style] = {
        label: {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.6}
        for label, (colour, marker) in zip(labels, looks)
    }
    for axes, panel in itertools.zip_longest(grid.flat, panels_):
        if panel is None:
            axes.remove()
            continue
        draw(axes, panel, styles)
        axes.set_title(panel.title, fontsize=10)
        axes.set_ylim(-3, 103)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
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
        if number and by_l2 and number.rms_l2 is not None:
            paper.append((number.rms_l2, 100 * number.accuracy))
        elif number and not by_l2:
            paper.append((at, 100 * number.accuracy))
    if paper:
        axes.plot(*zip(*paper), **{**style, **_PAPER})


def _legend(figure: Figure, styles: dict[str, Style], series: list[Series]) -> None:
    handles = [
        Line2D([], [], label="\n".join(textwrap.wrap(label, 24)), **style)
        for label, style in styles.items()
    ]
    rows = [row for curve in series for row in (*curve.clean, *curve.rows)]
    if any(published(row) for row in rows):
        grey: Style = {"color": _GREY, "marker": "o"}
        label = "\n".join(textwrap.wrap(f"published: {SWEEP}", 24))
        handles.append(Line2D([], [], label=label, **{**grey, **_PAPER}))
    if any(row.eval_seeds > 1 for row in rows):
        bar: Style = {"color": _GREY, "marker": "|", "markersize": 12, "linestyle": "none"}
        handles.append(Line2D([], [], label="standard deviation\nover evaluation seeds", **bar))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)


def _strength_axis(axes: Axes, panel: Panel) -> Callable[[Row, int], float]:
    """Sets up the horizontal axis; returns where a row of the n-th curve belongs on it."""
    if panel.strength == "epsilon":
        axes.set_xlabel("epsilon, in pixel units (0: clean)")
        return lambda row, _: _strength(row)
    if panel.strength == "const":
        return _const_axis(axes, panel.series)
    attacked = any(series.rows for series in panel.series)
    axes.set_xticks([0, 1] if attacked else [0], ["clean", "attacked"][: 1 + attacked])
    axes.set_xlim(-0.5, 1.5 if attacked else 0.5)
    count = len(panel.series)
    return lambda row, index: (row.attack != "none") + 0.3 * _beside(index, count)


def _const_axis(axes: Axes, series: Sequence[Series]) -> Callable[[Row, int], float]:
    """A logarithmic axis with a place for c = 0 to the left of it."""
    consts = sorted({_strength(row) for curve in series for row in curve.rows} - {0.0}) or [1.0]
    low, high = math.log10(consts[0]), math.log10(consts[-1])
    span = high - low or 1.0
    clean = low - 0.2 * span
    if span > 2:
        ticks = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    else:  # too few powers of ten: mark the values themselves, but no two that would touch
        ticks = consts[:1]
        for const in consts[1:]:
            if math.log10(const / ticks[-1]) > 0.09 * span:
                ticks.append(const)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (clean - 0.1 * span), 10 ** (high + 0.06 * span))
    axes.xaxis.set_major_locator(FixedLocator([10**clean, *ticks]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: "clean" if math.isclose(x, 10**clean) else f"{x:g}")
    )
    axes.xaxis.set_minor_locator(FixedLocator(consts))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(10 ** (low - 0.09 * span), color=_GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("attack strength c (const)")

    def place(row: Row, index: int) -> float:
        return _strength(row) or 10 ** (clean + 0.14 * span * _beside(index, len(series)))

    return place


def _beside(index: int, count: int) -> float:
    """Spreads points of the same x over (-1/2, 1/2), so that none hides another."""
    return (index + 0.5) / count - 0.5


def _strength(row: Row) -> float:
    return row.strength[1] if row.strength else 0.0


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Saves a figure at its own size, whole or not at all."""
    # The canvas's own method: savefig would follow the reader's rcParams.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
