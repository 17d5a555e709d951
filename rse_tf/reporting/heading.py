"""What a picture says about itself, so that it can travel alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from rse_tf.evaluation import Row
from rse_tf.reporting.axes import LEGEND_WIDTH
from rse_tf.reporting.names import attack_name, counted, dataset_name, norm_of

# Fewer images, or so few epochs, show that a run works, and nothing else.
FEW_IMAGES, FEW_EPOCHS = 50, 1
_WARNING = "#B03A00"
_PER_INCH = 12  # characters of a title
_LINE = 0.2  # inches


class Heading(NamedTuple):
    """What stands above a picture.

    Attributes:
        title: what it shows.
        counts: images, epochs, draws.
        warning: why its numbers mean little; empty if they do not.
    """

    title: str
    counts: str = ""
    warning: str = ""


def names_of(rows: Sequence[Row]) -> str:
    """Returns data set, network, attack and norm of all rows, as far as all have the same.

    Clean rows have no attack, and do not count for it.
    """
    attacked = [row for row in rows if row.attack != "none"] or rows
    groups = [
        {dataset_name(row.dataset) for row in rows},
        {row.model for row in rows},
        {attack_name(row.attack) for row in attacked},
        {norm_of(row) for row in attacked} - {""},
    ]
    return ", ".join(names.pop() for names in groups if len(names) == 1)


def counts_of(rows: Sequence[Row]) -> str:
    """Returns for example `"20 to 100 images, 8 epochs, 50 draws"`."""
    epochs = [row.training["epochs"] for row in rows if row.training.get("epochs")]
    draws = [row.num_draws for row in rows if row.noise or row.num_draws > 1]
    kinds = {"image": [row.num_images for row in rows], "epoch": epochs, "draw": draws}
    return ", ".join(_span(values, noun) for noun, values in kinds.items() if values)


def warning_of(rows: Iterable[Row]) -> str:
    """Says that rows are of trial runs: of very few images, or of networks hardly trained."""
    return trial_warning(
        [trial_reasons(row.training.get("epochs", 0), row.num_images) for row in rows]
    )


def trial_reasons(epochs: int, images: int) -> list[str]:
    """Returns why numbers are those of a trial run; nothing if they are not.

    Args:
        epochs: of the training; 0 if they are not known.
        images: attacked, or certified. A single one is a case of its own, as in the papers.
    """
    reasons = [counted(epochs, "epoch")] if 0 < epochs <= FEW_EPOCHS else []
    return reasons + ([counted(images, "image")] if 1 < images < FEW_IMAGES else [])


def trial_warning(reasons: Sequence[Sequence[str]]) -> str:
    """Says that all or some numbers are of trial runs; nothing if none is.

    Args:
        reasons: of each number, as `trial_reasons` returns them.
    """
    trials = [found for found in reasons if found]
    if not trials:
        return ""
    words = ", ".join(dict.fromkeys(reason for found in trials for reason in found))
    who = "Trial run" if len(trials) == len(reasons) else "Trial runs are among these"
    return f"{who} ({words}): such numbers show that it runs, and no more."


def heading_of(rows: Sequence[Row], title: str = "") -> Heading:
    """Returns the heading of a picture of these rows.

    Args:
        rows: all that the picture shows.
        title: its title, in place of data set, network and attack.
    """
    return Heading(title or names_of(rows), counts_of(rows), warning_of(rows))


def add_heading(figure: Figure, heading: Heading) -> None:
    """Writes a heading above a figure, to the left of its legend; the figure grows by as much."""
    room = figure.get_figwidth() - (LEGEND_WIDTH if figure.legends else 0)
    width = int(_PER_INCH * room)
    lines = [line for text in heading if text for line in textwrap.wrap(text, width)]
    if lines:
        figure.set_figheight(figure.get_figheight() + _LINE * len(lines))
        colour = _WARNING if heading.warning else "black"
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, color=colour)


def _span(values: Sequence[int], noun: str) -> str:
    low, high = min(values), max(values)
    return counted(high, noun) if low == high else f"{low:,} to {counted(high, noun)}"
