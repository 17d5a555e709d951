"""Pictures of attacked images, pixel for pixel."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from rse_tf.files import atomic_path
from rse_tf.reporting.canvas import CHARACTER, LINE, Canvas, checked_images, zoom_for

# In pixels of the PNG.
_GAP = 14
_LABELS_WIDTH = 112
_ROWS = ("clean", "adversarial", "perturbation")


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Attacked images of one defense, to look at.

    The fields from `dataset` on are for the figures of the papers. Where they are not empty,
    they hold one name per image.

    Attributes:
        defense: its name.
        clean: float `[number, height, width, channels]` in [0, 1].
        adversarial: likewise, after the attack.
        titles: one per image.
        dataset: name of the data set.
        labels: names of the right classes.
        predicted: names of the classes predicted for the adversarial images.
        targets: names of the classes that the attack aimed at.
    """

    defense: str
    clean: np.ndarray
    adversarial: np.ndarray
    titles: Sequence[str]
    dataset: str = ""
    labels: Sequence[str] = ()
    predicted: Sequence[str] = ()
    targets: Sequence[str] = ()


def save_gallery(gallery: Gallery, path: str | os.PathLike[str]) -> None:
    """Writes a gallery as an `.npz` file, for figures that are made of several runs."""
    fields: dict[str, Any] = {name: np.asarray(value) for name, value in vars(gallery).items()}
    with atomic_path(path) as unfinished:
        np.savez_compressed(unfinished, **fields)


def load_galleries(folder: str | os.PathLike[str]) -> list[Gallery]:
    """Reads all galleries of a finished run, in the order of their names."""
    found = []
    for path in sorted(pathlib.Path(folder).glob("gallery_*.npz")):
        with np.load(path) as file:
            values: dict[str, Any] = {name: file[name] for name in file.files}
        for name, value in values.items():
            if name not in ("clean", "adversarial"):
                values[name] = value.tolist()
        found.append(Gallery(**values))
    return found


def plot_gallery(
    clean: np.ndarray,
    adversarial: np.ndarray,
    titles: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Draws clean images, adversarial ones and their differences below each other as a PNG.

    Images are not interpolated: each pixel becomes a square of k x k equal ones, with the
    value rounded to 8 bits. A perturbation is centred on mid-grey and scaled up until its
    largest change is black or white; the factor and the L2 norm stand below it.

    Args:
        clean: floating-point `[n, height, width, channels]` in [0, 1], with 1 or 3 channels.
        adversarial: the same for the attacked images.
        titles: n captions, for example `"cat -> dog"`.
        path: the PNG file.

    Raises:
        ValueError: if shapes, the number of titles, or values are not as above.
    """
    clean = checked_images("plot_gallery: clean", clean)
    adversarial = checked_images("plot_gallery: adversarial", adversarial)
    if clean.shape != adversarial.shape or len(titles) != len(clean):
        raise ValueError(
            "plot_gallery: clean and adversarial must have the same shape, with one title for "
            f"each image. Received: clean.shape={clean.shape}, "
            f"adversarial.shape={adversarial.shape}, len(titles)={len(titles)}"
        )
    count, height, width, _ = clean.shape
    zoom = zoom_for(height, width)
    height, width = height * zoom, width * zoom
    cell = max(width, 120) + _GAP  # room for the text under narrow images
    captions = [textwrap.wrap(title, cell // CHARACTER) for title in titles]
    header = LINE * max(1, *map(len, captions)) + _GAP
    canvas = Canvas(_LABELS_WIDTH + count * cell, header + 3 * (height + _GAP) + 2 * LINE)

    for line, name in enumerate(_ROWS):
        middle = header + line * (height + _GAP) + height / 2
        canvas.text(_LABELS_WIDTH - _GAP, middle, name, ha="right", va="center")
    for column in range(count):
        left = _LABELS_WIDTH + column * cell
        centre = left + (cell - _GAP) / 2
        canvas.text(centre, header - 6, "\n".join(captions[column]), ha="center", va="bottom")
        change, note = _perturbation(clean[column], adversarial[column])
        for line, image in enumerate((clean[column], adversarial[column], change)):
            top = header + line * (height + _GAP)
            canvas.image(left + (cell - _GAP - width) // 2, top, image, zoom)
        canvas.text(centre, header + 3 * (height + _GAP) - _GAP + 5, note, ha="center", va="top")
    canvas.save(path)


def _perturbation(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns the change as an image around mid-grey, and what to write below it."""
    change = adversarial - clean
    largest = float(np.abs(change).max())
    if largest == 0:
        return np.full_like(change, 0.5), "unchanged"
    scale = 0.5 / largest
    return 0.5 + scale * change, f"scaled × {scale:.3g}\nL2 = {np.linalg.norm(change):.3g}"
