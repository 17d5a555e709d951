"""Curves of measured and published numbers, and their legend. No pyplot."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rse_tf.evaluation import Row
from rse_tf.reporting.axes import GREY, LEGEND_WIDTH, lay_out, make_axes, tidy

# Okabe and Ito's colours for all kinds of colour vision, without their yellow, which is too
# pale for a line on white. Markers differ as well, for prints in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("-", "-.", ":")  # one for each round of the colours; dashed is what is published
_WIDTH = 26  # of a legend, in characters
_LINE = 0.19  # height of its lines, in inches
_HIGHEST = 1.3  # of a legend beside the axes, in heights of these
_MARKER, _LINEWIDTH = 5.0, 1.6
_HIDDEN = 0.015  # of the vertical axis: points nearer to each other hide one another
_LOGARITHMIC = ("const", "draws")
_MOST_WIDER = 3  # how often a curve below others is drawn wider than these
SEEDS, MEMBERS = "over evaluation seeds", "over members"
SAMPLING = "pale bar: 95 % interval over the choice of the images"

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
    """One place of a curve.

    NaN and None stand for what is not there.

    Attributes:
        x: its place.
        y: the measured value.
        spread: its standard deviation.
        published: the published (x, value).
        interval: the ends of its confidence interval.
        clean: whether nothing was attacked.
    """

    x: float
    y: float = math.nan
    spread: float = math.nan
    published: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    clean: bool = False


class Plot(NamedTuple):
    """The curves in one pair of axes, by label; `axis` and `attacked` are for `lay_out`."""

    title: str
    axis: str | None
    y_label: str
    y_limits: Limits
    curves: dict[str, list[Point]]
    attacked: str = "attacked"


_GAP = Point(math.nan)  # breaks a curve
PERCENT: Limits = (-3, 103)  # of an axis of accuracies


def spread_of(row: Row) -> tuple[float, str]:
    """Returns the standard deviation of an accuracy, and what it is over; NaN without any."""
    if row.score.accuracy_std_members is not None:
        return row.score.accuracy_std_members, MEMBERS
    if row.eval_seeds > 1:
        return row.score.accuracy_std, SEEDS
    return math.nan, ""  # a bar of no length would still be drawn, as a dash across the marker


def interval_of(row: Row) -> tuple[float, float] | None:
    """Returns the interval of an accuracy, in percent; None of one image, or if not measured."""
    low, high = row.score.accuracy_low, row.score.accuracy_high
    if low is None or high is None or row.num_images == 1:
        return None
    return 100 * low, 100 * high


def draw_plots(
    plots: Sequence[Plot],
    across: int,
    sources: Iterable[tuple[str, tuple[str, ...]]],
    spreads: Iterable[str],
) -> Figure:
    """Draws measured curves, and dashed in the same colour the published ones.

    A line joins strengths that were measured, and the clean point where the axis has a 0; a
    single strength stays a point. Of curves that lie on each other, the lower ones are wider.

    Args:
        plots: from left to right and from top to bottom.
        across: axes beside each other.
        sources: as for `published_label`.
        spreads: what the error bars are over.
    """
    styles = styles_of(label for plot in plots for label in plot.curves)
    points = [point for plot in plots for curve in plot.curves.values() for point in curve]
    handles = legend_handles(styles, sources, spreads, any(p.interval for p in points))
    figure, all_axes = make_axes(len(plots), across)
    for axes, plot in zip(all_axes, plots, strict=True):
        _draw_plot(axes, plot, styles)
    add_legend(figure, handles)
    return figure


def _draw_plot(axes: Axes, plot: Plot, styles: dict[str, Style]) -> None:
    places = {point.x for curve in plot.curves.values() for point in curve}
    place = lay_out(axes, plot.axis, places, len(plot.curves), plot.attacked)
    curves = {
        label: [
            point._replace(
                x=place(point.x, index),
                published=point.published
                and (place(point.published[0], index), point.published[1]),
            )
            for point in curve
        ]
        for index, (label, curve) in enumerate(plot.curves.items())
    }
    wider = _widths(list(curves.values()), plot)
    for index, (label, curve) in enumerate(curves.items()):
        style = dict(styles[label])
        style["markersize"] += 3.5 * wider[index][0]
        style["linewidth"] += 2.2 * wider[index][1]
        style["zorder"] = 3 - 0.01 * max(wider[index])
        caps = 2.0 + 1.0 * (index % 4)  # bars that lie on each other are told apart
        _draw_curve(axes, label, _with_gap(curve, plot.axis), style, caps)
    axes.set_ylabel(plot.y_label)
    axes.set_ylim(*plot.y_limits)
    tidy(axes, plot.title)


def _with_gap(curve: list[Point], axis: str | None) -> list[Point]:
    """Parts clean points from attacked ones where a line between them would mean nothing."""
    clean = [point for point in curve if point.clean]
    attacked = [point for point in curve if not point.clean]
    if axis in (None, "const") or len(attacked) < 2:
        return [*clean, _GAP, *attacked]
    return [*clean, *attacked]


def _widths(curves: Sequence[list[Point]], plot: Plot) -> list[tuple[int, int]]:
    """Returns how much wider the markers and the lines of each curve are drawn.

    That is by the number of later curves that hide a point of it, or most of it.
    """
    heights = [point.y for curve in curves for point in curve if not math.isnan(point.y)]
    heights += [limit for limit in plot.y_limits if limit is not None]
    places = [point.x for curve in curves for point in curve]
    near = _HIDDEN * (max(heights) - min(heights)) if heights else 0.0
    beside = 0.0 if plot.axis in _LOGARITHMIC else _HIDDEN * (max(places) - min(places))
    found = []
    for index, curve in enumerate(curves):
        hidden = [
            sum(any(_is_near(one, other, beside, near) for other in later) for one in curve)
            for later in curves[index + 1 :]
        ]
        markers = sum(count > 0 for count in hidden)
        lines = sum(count > 1 and 2 * count >= len(curve) for count in hidden)
        found.append((min(markers, _MOST_WIDER), min(lines, _MOST_WIDER)))
    return found


def _is_near(one: Point, other: Point, beside: float, near: float) -> bool:
    same_place = math.isclose(one.x, other.x) or abs(one.x - other.x) <= beside
    return same_place and abs(one.y - other.y) <= near


def _draw_curve(axes: Axes, label: str, points: list[Point], style: Style, capsize: float) -> None:
    ours = [point for point in points if point is _GAP or not math.isnan(point.y)]
    for point in ours:
        if point.interval is not None:
            pale: Style = {"color": style["color"], "alpha": 0.22, "linewidth": 10 - 1.7 * capsize}
            axes.vlines(point.x, *point.interval, **pale)
    if any(point is not _GAP for point in ours):
        x, y, spread = zip(*((point.x, point.y, point.spread) for point in ours))
        axes.errorbar(x, y, yerr=spread, capsize=capsize, elinewidth=1.4, label=label, **style)
    paper = [(math.nan, math.nan) if point is _GAP else point.published for point in points]
    drawn = [place for place in paper if place is not None]
    if any(not math.isnan(x) for x, _ in drawn):
        axes.plot(*zip(*drawn), label=f"{label}, published", **{**style, **_PUBLISHED})


def styles_of(labels: Iterable[str]) -> dict[str, Style]:
    """Returns a style for each curve, by label; it comes again after 72 curves at the earliest."""
    dashes = itertools.cycle(dash for dash in _DASHES for _ in COLOURS)
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(_MARKERS), dashes)
    return {
        label: {
            "color": colour,
            "marker": marker,
            "markersize": _MARKER,
            "linestyle": dash,
            "linewidth": _LINEWIDTH,
        }
        for label, (colour, marker, dash) in zip(dict.fromkeys(labels), looks)
    }


def legend_handles(
    styles: dict[str, Style],
    sources: Iterable[tuple[str, tuple[str, ...]]],
    spreads: Iterable[str],
    has_intervals: bool = False,
) -> list[Line2D]:
    """Returns the entries of a legend: the curves, what is published, and what the bars are.

    Args:
        styles: a style for each curve, by label.
        sources: as for `published_label`; nothing without any.
        spreads: what the error bars are over; nothing without any.
        has_intervals: whether intervals are drawn.
    """
    handles = [Line2D([], [], label=wrapped(label), **style) for label, style in styles.items()]
    if label := published_label(sources):
        grey: Style = {"color": GREY, "marker": "o"}
        handles.append(Line2D([], [], label=label, **{**grey, **_PUBLISHED}))
    bar: Style = {"color": GREY, "marker": "|", "markersize": 12, "linestyle": "none"}
    if kinds := list(dict.fromkeys(filter(None, spreads))):
        words = wrapped(f"standard deviation {' or '.join(kinds)}")
        handles.append(Line2D([], [], label=words, **bar))
    if has_intervals:
        pale = {**bar, "alpha": 0.35, "markeredgewidth": 5}
        handles.append(Line2D([], [], label=wrapped(SAMPLING), **pale))
    return handles


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Adds a legend to the right of the axes, if it has any entries, or a long one below them."""
    if not handles:
        return
    lines = sum(1 + str(handle.get_label()).count("\n") for handle in handles)
    height = 0.6 + _LINE * (lines + 1)
    style: Style = {"handles": list(handles), "frameon": False, "fontsize": 9}
    if height <= _HIGHEST * figure.get_figheight():
        figure.set_figheight(max(height, figure.get_figheight()))
        figure.legend(loc="outside right upper", **style)
        return
    columns = int(figure.get_figwidth() / LEGEND_WIDTH)
    figure.set_figheight(figure.get_figheight() + height / columns + 0.8)
    figure.legend(loc="outside lower left", ncols=columns, **style)


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
    """Breaks a label of a legend into lines: between words, and long ones where a name ends."""
    words = [
        re.sub(r"([/_+=])(?=\w)", "\\1\0 ", word) if len(word) > _WIDTH else word
        for word in label.split()
    ]  # \0 marks a place where there is no space, unless the line ends there
    lines = textwrap.wrap(" ".join(words), _WIDTH, break_long_words=False)
    return "\n".join(line.replace("\0 ", "").removesuffix("\0") for line in lines)
