"""The picture of attack distance against certified radius, image by image."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rse_tf.reporting.axes import GREY, make_axes, tidy
from rse_tf.reporting.comparison import Comparison, ImagePoint
from rse_tf.reporting.drawing import COLOURS, add_legend, legend_handles
from rse_tf.reporting.heading import Heading, add_heading, trial_reasons, trial_warning
from rse_tf.reporting.names import counted, display_name
from rse_tf.reporting.saving import save_figure

_NONE, _SOME, _INSIDE = COLOURS[0], COLOURS[2], COLOURS[1]
_ROOM = 1.08  # of an axis beyond its last point


def plot_distances(
    found: Comparison, path: str | os.PathLike[str], formats: Sequence[str] = ("png",)
) -> list[pathlib.Path]:
    """Saves `draw_distances`, and returns the paths.

    Args:
        found: a comparison with points.
        path: the file; each format has its own ending.
        formats: of `FIGURE_FORMATS`.
    """
    return save_figure(draw_distances(found), path, formats)


def draw_distances(found: Comparison) -> Figure:
    """Draws for each image the nearest adversarial image that was found over its certified radius.

    Below the diagonal an attack is inside a certified radius: there no point may lie. An image
    for which no attack found one stands as a triangle at the top.

    Args:
        found: a comparison with points.
    """
    groups = {
        "outside of the certified radius": [p for p in found.points if _is_broken(p, True)],
        "inside the certified radius": [p for p in found.points if _is_broken(p, False)],
        "no attack found one": [p for p in found.points if p.distance is None],
    }
    looks = zip(groups, (_SOME, _INSIDE, _NONE), ("o", "X", "^"))
    styles: dict[str, dict[str, Any]] = {
        f"{label}: {len(groups[label])}": {
            "color": colour,
            "marker": marker,
            "markersize": 5.5,
            "linestyle": "none",
            "alpha": 0.6,
        }
        for label, colour, marker in looks
        if groups[label]
    }
    figure, (axes,) = make_axes(1, 1)
    right = _ROOM * max(p.radius for p in found.points) or 1.0
    top = _ROOM * max([found.farthest, right, *(p.distance or 0.0 for p in found.points)])
    for points, style in zip(filter(None, groups.values()), styles.values(), strict=True):
        heights = [top if p.distance is None else p.distance for p in points]
        axes.plot([p.radius for p in points], heights, clip_on=False, zorder=3, **style)
    axes.fill_between([0, right], [0, right], color=GREY, alpha=0.15, linewidth=0)
    axes.plot([0, right], [0, right], color=GREY, linewidth=0.9)
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    axes.set_xlabel("certified L2 radius, in pixel units (0: not certified as its class)")
    axes.set_ylabel("L2 distance of the nearest adversarial image")
    tidy(axes, "")
    forbidden = Patch(color=GREY, alpha=0.15, label="the two would contradict\neach other")
    add_legend(figure, [*legend_handles(styles, (), ()), forbidden])
    counts = [counted(len(found.points), "image"), f"suite up to L2 {found.farthest:g}"]
    title = f"{display_name(found.defense)}: attack distance against certified radius"
    warning = trial_warning([trial_reasons(0, len(found.points))])
    add_heading(figure, Heading(title, ", ".join(counts), warning))
    return figure


def _is_broken(point: ImagePoint, outside: bool) -> bool:
    """Whether an image was broken, outside its radius or inside."""
    return point.distance is not None and (point.distance >= point.radius) == outside
