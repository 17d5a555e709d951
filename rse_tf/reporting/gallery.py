"""Pictures of attacked images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting.heading import Heading, add_heading, counts_of, warning_of
from rse_tf.reporting.names import attack_name, dataset_name, display_name
from rse_tf.reporting.saving import save_figure
from rse_tf.utils.files import atomic_path

_ROWS = ("clean", "adversarial", "perturbation")
_DPI = 100
_FOOLED = "#B03A00"
_SIDE = 150  # small images are enlarged by a whole factor to about so many pixels
_GAP, _LINE = 12, 17  # between images, and for a line of a caption


def save_gallery(gallery: Gallery, path: str | os.PathLike[str]) -> None:
    """Writes a gallery as an `.npz` file, for figures that are made of several runs."""
    fields: dict[str, Any] = {name: np.asarray(value) for name, value in vars(gallery).items()}
    with atomic_path(path) as unfinished:
        np.savez_compressed(unfinished, **fields)


def load_galleries(folder: str | os.PathLike[str]) -> list[Gallery]:
    """Reads all galleries of a finished run, in the order of their names."""
    names = {field.name for field in dataclasses.fields(Gallery)}
    found = []
    for path in sorted(pathlib.Path(folder).glob("gallery_*.npz")):
        with np.load(path) as file:  # an earlier version wrote more fields
            values: dict[str, Any] = {name: file[name] for name in names & set(file.files)}
        for name, value in values.items():
            if name not in ("clean", "adversarial"):
                values[name] = value.tolist()
        found.append(Gallery(**values))
    return found


def pictures_of(galleries: Sequence[Gallery]) -> list[Gallery]:
    """Returns the galleries that have images, of as many channels as a picture has."""
    return [one for one in galleries if len(one.clean) and one.clean.shape[-1] in (1, 3)]


def gallery_names(galleries: Sequence[Gallery]) -> list[str]:
    """Returns a file name without its ending for each gallery, all of them different."""
    attacks: dict[tuple[str, str], set[str]] = {}
    for one in galleries:
        attacks.setdefault((one.run, one.defense), set()).add(one.attack)
    names: list[str] = []
    for one in galleries:
        attack = one.attack if len(attacks[one.run, one.defense]) > 1 else ""
        parts = ("gallery", one.run.replace("/", "_"), one.defense, attack)
        names.append(unused("_".join(filter(None, parts)), names))
    return names


def unused(name: str, names: Sequence[str]) -> str:
    """Returns a name, with a number behind it if it is taken: by runs "a/b" and "a_b", say."""
    found = [name, *(f"{name}_{number}" for number in range(2, len(names) + 2))]
    return next(one for one in found if one not in names)


def plot_gallery(
    gallery: Gallery,
    path: str | os.PathLike[str],
    formats: Sequence[str] = ("png",),
    rows: Sequence[Row] = (),
) -> list[pathlib.Path]:
    """Saves `draw_gallery`, and returns the paths.

    Args:
        gallery: the images.
        path: the file; each format has its own ending.
        formats: of `FIGURE_FORMATS`.
        rows: as in `draw_gallery`.

    Raises:
        ValueError: as `Gallery.check`, or if a format is unknown.
    """
    return save_figure(draw_gallery(gallery, rows), path, formats)


def draw_gallery(gallery: Gallery, rows: Sequence[Row] = ()) -> Figure:
    """Draws clean images, adversarial ones and their differences below each other.

    The heading names the defense, the attack and its strength. Above each column stand the class
    and the predicted one, and whether the attack failed. The perturbations of all columns have one
    colour scale, from the largest change down to its negative, with a colour bar; the L2 norm
    stands below each. Of images in colour, it is the change of each channel around mid-grey.

    Args:
        gallery: the images.
        rows: those of the same run, for the counts in the heading; others are left out.

    Raises:
        ValueError: as `Gallery.check`.
    """
    own = [row for row in rows if (row.run, row.defense) == (gallery.run, gallery.defense)]
    names = [name for name in ("labels", "predicted", "targets") if len(getattr(gallery, name))]
    gallery = gallery.check(*names)
    changes = gallery.adversarial - gallery.clean
    largest = float(np.abs(changes).max())
    colours = matplotlib.colormaps["RdBu_r" if changes.shape[-1] == 1 else "gray"]
    shown = 0.5 + 0.5 * changes / (largest or 1.0)
    tiles = [_coloured(tile, colours) for tile in shown]
    titles, fooled = zip(*(_verdict(gallery, column) for column in range(len(changes))))
    blank = [""] * len(changes)
    figure = montage(
        [list(gallery.clean), list(gallery.adversarial), tiles],
        _ROWS,
        titles,
        [blank, blank, [_length(change) for change in changes]],
    )
    for label, hit in zip(figure.axes[0].get_xticklabels(), fooled, strict=True):
        label.set_color(_FOOLED if hit else "black")
    scale = ScalarMappable(Normalize(-largest, largest), colours)
    if largest:
        bar = figure.colorbar(scale, ax=figure.axes[0], shrink=0.6, pad=0.01)
        bar.set_label("change of a pixel" + ("" if changes.shape[-1] == 1 else ", each channel"))
    add_heading(figure, _heading(gallery, own))
    return figure


def _length(change: np.ndarray) -> str:
    return f"L2 = {np.linalg.norm(change):.3g}" if change.any() else "unchanged"


def _heading(gallery: Gallery, rows: Sequence[Row]) -> Heading:
    attack = attack_name(gallery.attack) if gallery.attack else "attack"
    strength = gallery.strength.replace("const=", "c = ").replace("=", " = ").replace("  ", " ")
    title = f"{display_name(gallery.defense)} under {', '.join(filter(None, (attack, strength)))}"
    place = [dataset_name(gallery.dataset) if gallery.dataset else "", gallery.model]
    counts = [counts_of(rows)] if rows else []
    return Heading(title, ", ".join(filter(None, [*place, *counts])), warning_of(rows))


def _verdict(gallery: Gallery, column: int) -> tuple[str, bool]:
    """Returns what stands above a column, and whether the attack reached its goal."""
    label, guess, target = (
        names[column] if len(names) else ""
        for names in (gallery.labels, gallery.predicted, gallery.targets)
    )
    text = " → ".join(filter(None, (label, guess)))
    if not guess or not (label or target):
        return text or target, False
    fooled = guess == target if target else guess != label
    aim = f" (aim: {target})" if target else ""
    return text + aim + ("" if fooled else "\nattack failed"), fooled


def _coloured(shares: np.ndarray, colours: Colormap) -> np.ndarray:
    """Returns values in [0, 1] as an image; of three channels each stays its own."""
    return colours(shares[..., 0])[..., :3] if shares.shape[-1] == 1 else shares


def montage(
    tiles: Sequence[Sequence[np.ndarray | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    captions: Sequence[Sequence[str]],
) -> Figure:
    """Shows images in rows and columns, each enlarged by a whole factor.

    Args:
        tiles: rows of images `[height, width, 1 or 3]` in [0, 1], None for one that is missing.
        row_labels: stand to the left.
        column_labels: stand above.
        captions: one for each tile, below it.
    """
    large = [[None if tile is None else _enlarged(tile) for tile in row] for row in tiles]
    shapes = [tile.shape for row in large for tile in row if tile is not None]
    height, width = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    lines = [max(caption.count("\n") + bool(caption) for caption in row) for row in captions]
    tops = np.cumsum([0, *(height + _GAP + _LINE * count for count in lines)])
    across = width + _GAP
    sheet = np.ones((tops[-1], across * len(column_labels), 3))
    size = (sheet.shape[1] / _DPI + 1.6, sheet.shape[0] / _DPI + 1.0)
    figure = Figure(figsize=size, dpi=_DPI, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
    axes = figure.subplots()
    for top, row, words in zip(tops, large, captions):
        for column, (tile, caption) in enumerate(zip(row, words, strict=True)):
            middle = column * across + width / 2
            if tile is None:
                axes.text(middle, top + height / 2, "–", ha="center", va="center")
                continue
            left = column * across + (width - tile.shape[1]) // 2
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            axes.text(middle, top + tile.shape[0] + 3, caption, ha="center", va="top", fontsize=9)
    axes.imshow(sheet, interpolation="nearest")
    room = max(8, across // 7)  # in characters
    wrapped = [
        "\n".join(textwrap.fill(line, room) for line in label.splitlines())
        for label in column_labels
    ]
    axes.set_xticks(np.arange(len(wrapped)) * across + width / 2, wrapped, fontsize=9)
    axes.set_yticks(tops[:-1] + height / 2, row_labels, fontsize=9)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def _enlarged(tile: np.ndarray) -> np.ndarray:
    zoom = max(1, round(_SIDE / tile.shape[0]))
    colour = np.broadcast_to(np.clip(tile, 0, 1), (*tile.shape[:2], 3))
    return colour.repeat(zoom, axis=0).repeat(zoom, axis=1)
