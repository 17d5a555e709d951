"""Pictures of attacked images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rse_tf.evaluation.gallery import Gallery
from rse_tf.reporting.drawing import DPI, save_png
from rse_tf.utils.files import atomic_path

_ROWS = ("clean", "adversarial", "perturbation")
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


def plot_gallery(gallery: Gallery, path: str | os.PathLike[str]) -> None:
    """Draws clean images, adversarial ones and their differences below each other as a PNG.

    A perturbation is centred on mid-grey and scaled up until its largest change is black or
    white; the factor and the L2 norm stand below it. The class and the predicted one stand
    above each column.

    Raises:
        ValueError: as `Gallery.check`.
    """
    names = [name for name in ("labels", "predicted") if len(getattr(gallery, name))]
    gallery = gallery.check(*names)
    changes, notes = zip(*map(_perturbation, gallery.clean, gallery.adversarial))
    titles = [" → ".join(words) for words in zip(*(getattr(gallery, name) for name in names))]
    blank = [""] * len(gallery.clean)
    figure = montage(
        [list(gallery.clean), list(gallery.adversarial), list(changes)],
        _ROWS,
        titles or blank,
        [blank, blank, list(notes)],
    )
    save_png(figure, path)


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
    size = (sheet.shape[1] / DPI + 1.6, sheet.shape[0] / DPI + 1.0)
    figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
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
    wrapped = [textwrap.fill(label, max(8, across // 7)) for label in column_labels]
    axes.set_xticks(np.arange(len(wrapped)) * across + width / 2, wrapped, fontsize=9)
    axes.set_yticks(tops[:-1] + height / 2, row_labels, fontsize=9)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def _enlarged(tile: np.ndarray) -> np.ndarray:
    zoom = max(1, round(_SIDE / tile.shape[0]))
    colour = np.broadcast_to(np.clip(tile, 0, 1), (*tile.shape[:2], 3))
    return colour.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _perturbation(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns the change as an image around mid-grey, and what to write below it."""
    change = adversarial - clean
    largest = float(np.abs(change).max())
    if largest == 0:
        return np.full_like(change, 0.5), "unchanged"
    scale = 0.5 / largest
    return 0.5 + scale * change, f"scaled × {scale:.3g}\nL2 = {np.linalg.norm(change):.3g}"
