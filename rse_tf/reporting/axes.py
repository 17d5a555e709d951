"""Pairs of axes, and the horizontal ones that curves lie over."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

GREY = "#707070"
DPI = 150
LEGEND_WIDTH = 2.6  # inches to the right of all axes

Place = Callable[[float, int], float]  # of a point, in the n-th curve


def make_axes(count: int, across: int, width: float = 4.6) -> tuple[Figure, list[Axes]]:
    """Returns a figure with so many pairs of axes, each so many inches wide, and a legend."""
    across = min(count, across)
    down = math.ceil(count / across)
    size = (LEGEND_WIDTH + width * across, 4.2 * down)
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


def beside(index: int, count: int) -> float:
    """Spreads points of the same x over (-1/2, 1/2), so that none hides another."""
    return (index + 0.5) / count - 0.5


def lay_out(
    axes: Axes, kind: str | None, places: set[float], count: int, attacked: str = "attacked"
) -> Place:
    """Prepares a horizontal axis, and returns where the points of each curve go on it.

    Args:
        axes: the pair of axes.
        kind: `"const"`, `"draws"`, `"epsilon"` or `"l2"`; None for clean points at 0, and attacked
            ones at 1.
        places: all x of the points.
        count: number of curves.
        attacked: what stands below the attacked points, if `kind` is None.
    """
    if kind is None:
        return _attack_axis(axes, places, count, attacked)
    return _AXES[kind](axes, places, count)


def _const_axis(axes: Axes, places: set[float], count: int) -> Place:
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
    axes.axvline(10 ** (low - 0.09 * span), color=GREY, linewidth=0.8, linestyle=":")
    return lambda x, index: x or 10 ** (clean + 0.14 * span * beside(index, count))


def _draws_axis(axes: Axes, places: set[float], count: int) -> Place:
    _log_axis(axes, sorted(places), [], "number of draws averaged")
    return lambda x, _: x


def _epsilon_axis(axes: Axes, places: set[float], count: int) -> Place:
    return _linear_axis(axes, "epsilon, in pixel units (0: clean)")


def _l2_axis(axes: Axes, places: set[float], count: int) -> Place:
    return _linear_axis(axes, "RMS L2 distortion over all images (pixels in [0, 1])")


def _attack_axis(axes: Axes, places: set[float], count: int, attacked: str) -> Place:
    """Clean and attacked points, where no strength is swept."""
    last = max(places)
    names = ["clean", attacked][: 1 + int(last)]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, 0.5 + last)
    return lambda x, index: x + 0.5 * beside(index, count)


_AXES = {"const": _const_axis, "draws": _draws_axis, "epsilon": _epsilon_axis, "l2": _l2_axis}


def _linear_axis(axes: Axes, label: str) -> Place:
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6))  # more would touch each other
    return lambda x, _: x


def _log_axis(axes: Axes, ticks: list[float], minor: list[float], label: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(FixedLocator(minor))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
