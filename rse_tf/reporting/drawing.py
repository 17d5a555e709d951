"""What all figures share: colours, curves, axes, and how they are saved. No pyplot."""

from __future__ import annotations

import itertools
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from rse_tf.evaluation import Row
from rse_tf.utils.files import atomic_path

# Okabe and Ito's colours for all kinds of colour vision, without their yellow, which is too
# pale for a line on white. Markers differ as well, for prints in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_GREY = "#707070"
DPI = 100
_WIDTH = 26  # of a legend, in characters
SEEDS, MEMBERS = "over evaluation seeds", "over members"

Style = dict[str, Any]
Limits = tuple[float | None, float | None]  # of an axis; None to fit the points

# Open markers around the filled ones: where the two agree, both can still be seen.
_PUBLISHED: Style = {
    "linestyle": "--",
    "linewidth": 1.1,
    "markersize": 7.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.9,
    "zorder": 4,
}


class Point(NamedTuple):
    """One place of a curve: x, measured value and its spread, and the published (x, value).

    NaN and None stand for what is not there.
    """

    x: float
    y: float = math.nan
    spread: float = math.nan
    published: tuple[float, float] | None = None


class Plot(NamedTuple):
    """The curves in one pair of axes, by label; `axis` is a key of `_AXES`, or None."""

    title: str
    axis: str | None
    y_label: str
    y_limits: Limits
    curves: dict[str, list[Point]]


_GAP = Point(math.nan)  # breaks a curve
PERCENT: Limits = (-3, 103)  # of an axis of accuracies


def spread_of(row: Row) -> tuple[float, str]:
    """Returns the standard deviation of an accuracy, and what it is over; NaN without any."""
    if row.score.accuracy_std_members is not None:
        return row.score.accuracy_std_members, MEMBERS
    if row.eval_seeds > 1:
        return row.score.accuracy_std, SEEDS
    return math.nan, ""  # a bar of no length would still be drawn, as a dash across the marker


def draw_plots(
    plots: Sequence[Plot],
    across: int,
    sources: Iterable[tuple[str, tuple[str, ...]]],
    spreads: Iterable[str],
) -> Figure:
    """Draws measured curves, and dashed in the same colour the published ones.

    Args:
        plots: from left to right and from top to bottom.
        across: axes beside each other.
        sources: as for `published_label`.
        spreads: what the error bars are over.
    """
    styles = styles_of(label for plot in plots for label in plot.curves)
    lines = sum(2 + len(label) // _WIDTH for label in styles)
    figure, all_axes = make_axes(len(plots), across, legend_lines=lines)
    for axes, plot in zip(all_axes, plots, strict=True):
        points = [point for curve in plot.curves.values() for point in curve]
        place = _AXES[plot.axis](axes, {point.x for point in points}, len(plot.curves))
        for index, (label, curve) in enumerate(plot.curves.items()):
            moved = [
                point._replace(
                    x=place(point.x, index),
                    published=point.published and (place(point.published[0], index),
                                                   point.published[1]),
                )
                for point in curve
            ]  # fmt: skip
            if plot.axis == "const":  # a line across the break of the axis would mean nothing
                clean = sum(point.x == 0 for point in curve)
                moved.insert(clean, _GAP)
            _draw_curve(axes, label, moved, styles[label])
        axes.set_ylabel(plot.y_label)
        axes.set_ylim(*plot.y_limits)
        tidy(axes, plot.title)
    legend(figure, styles, sources, spreads)
    return figure


def _draw_curve(axes: Axes, label: str, points: list[Point], style: Style) -> None:
    ours = [point for point in points if point is _GAP or not math.isnan(point.y)]
    if any(point is not _GAP for point in ours):
        x, y, spread = zip(*((point.x, point.y, point.spread) for point in ours))
        axes.errorbar(x, y, yerr=spread, capsize=3, zorder=3, label=label, **style)
    paper = [(math.nan, math.nan) if point is _GAP else point.published for point in points]
    drawn = [place for place in paper if place is not None]
    if any(not math.isnan(x) for x, _ in drawn):
        axes.plot(*zip(*drawn), label=f"{label}, published", **{**style, **_PUBLISHED})


def styles_of(labels: Iterable[str]) -> dict[str, Style]:
    """Returns a style for each curve, by label."""
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(_MARKERS))
    return {
        label: {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.6}
        for label, (colour, marker) in zip(dict.fromkeys(labels), looks)
    }


def make_axes(
    count: int, across: int, width: float = 4.6, legend_lines: int = 0
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with so many pairs of axes, high enough for its legend."""
    across = min(count, across)
    down = math.ceil(count / across)
    size = (2.6 + width * across, max(4.2 * down, 0.5 + 0.2 * legend_lines))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def tidy(axes: Axes, title: str) -> None:
    """Gives axes a title, a faint grid and no frame on the right and at the top."""
    axes.set_title(title, fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(
    figure: Figure,
    styles: dict[str, Style],
    sources: Iterable[tuple[str, tuple[str, ...]]],
    spreads: Iterable[str],
    handles: Sequence[Any] = (),
) -> None:
    """Adds a legend outside of the axes.

    Args:
        figure: the figure.
        styles: a style for each curve, by label.
        sources: as for `published_label`; nothing without any.
        spreads: what the error bars are over; nothing without any.
        handles: stand before all others.
    """
    handles = [
        *handles,
        *(Line2D([], [], label=wrapped(label), **style) for label, style in styles.items()),
    ]
    if label := published_label(sources):
        grey: Style = {"color": _GREY, "marker": "o"}
        handles.append(Line2D([], [], label=label, **{**grey, **_PUBLISHED}))
    if kinds := list(dict.fromkeys(filter(None, spreads))):
        bar: Style = {"color": _GREY, "marker": "|", "markersize": 12, "linestyle": "none"}
        words = wrapped(f"standard deviation {' or '.join(kinds)}")
        handles.append(Line2D([], [], label=words, **bar))
    if handles:
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)


def published_label(sources: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Names where published numbers are from, and which of their settings are not ours.

    Args:
        sources: source and differences of each number; an empty source is none.
    """
    found = [(source, others) for source, others in sources if source]
    names = dict.fromkeys(source for source, _ in found)
    differences = dict.fromkeys(each for _, others in found for each in others)
    parts = [f"published: {'; '.join(names)}"] if names else []
    parts += [f"with other settings: {'; '.join(differences)}"] if differences else []
    return "\n".join(map(wrapped, parts))


def wrapped(label: str) -> str:
    """Breaks a label of a legend into lines."""
    return "\n".join(textwrap.wrap(label, _WIDTH, break_long_words=False))


_Place = Callable[[float, int], float]  # of a point, in the n-th curve


def _const_axis(axes: Axes, places: set[float], count: int) -> _Place:
    """Logarithmic in c, with a place for clean points, beside each other, to the left."""
    consts = sorted(places - {0.0}) or [1.0]
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
    _log_axis(axes, [10**clean, *ticks], consts, "attack strength c (const)")
    axes.set_xlim(10 ** (clean - 0.1 * span), 10 ** (high + 0.06 * span))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: "clean" if math.isclose(x, 10**clean) else f"{x:g}")
    )
    axes.axvline(10 ** (low - 0.09 * span), color=_GREY, linewidth=0.8, linestyle=":")
    return lambda x, index: x or 10 ** (clean + 0.14 * span * beside(index, count))


def _draws_axis(axes: Axes, places: set[float], count: int) -> _Place:
    _log_axis(axes, sorted(places), [], "number of draws averaged")
    return lambda x, _: x


def _epsilon_axis(axes: Axes, places: set[float], count: int) -> _Place:
    axes.set_xlabel("epsilon, in pixel units (0: clean)")
    return lambda x, _: x


def _l2_axis(axes: Axes, places: set[float], count: int) -> _Place:
    axes.set_xlabel("RMS L2 distortion over all images (pixels in [0, 1])")
    return lambda x, _: x


def _attack_axis(axes: Axes, places: set[float], count: int) -> _Place:
    """Clean and attacked points, where an attack has no strength."""
    last = max(places)
    axes.set_xticks([0, 1][: 1 + int(last)], ["clean", "attacked"][: 1 + int(last)])
    axes.set_xlim(-0.5, 0.5 + last)
    return lambda x, index: x + 0.3 * beside(index, count)


_AXES = {"const": _const_axis, "draws": _draws_axis, "epsilon": _epsilon_axis, "l2": _l2_axis,
         None: _attack_axis}  # fmt: skip


def _log_axis(axes: Axes, ticks: list[float], minor: list[float], label: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(FixedLocator(minor))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def beside(index: int, count: int) -> float:
    """Spreads points of the same x over (-1/2, 1/2), so that none hides another."""
    return (index + 0.5) / count - 0.5


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Saves a figure at its own size, whole or not at all."""
    # The canvas's own method: savefig would follow the reader's rcParams.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
