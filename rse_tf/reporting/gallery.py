"""Pictures of attacked images, pixel for pixel."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rse_tf.reporting.plots import DPI, save_png

# All lengths are in pixels of the PNG.
_TARGET_SIDE = 160  # small images are enlarged by a whole factor to about this size
_GAP = 14
_LABELS_WIDTH = 112
_LINE = 16  # height of a line of text
_CHARACTER = 7  # width of one
_ROWS = ("clean", "adversarial", "perturbation")


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
    clean, adversarial = _checked("clean", clean), _checked("adversarial", adversarial)
    if clean.shape != adversarial.shape or len(titles) != len(clean):
        raise ValueError(
            "plot_gallery: clean and adversarial must have the same shape, with one title for "
            f"each image. Received: clean.shape={clean.shape}, "
            f"adversarial.shape={adversarial.shape}, len(titles)={len(titles)}"
        )
    count, height, width, _ = clean.shape
    zoom = max(1, round(_TARGET_SIDE / max(height, width)))
    height, width = height * zoom, width * zoom
    cell = max(width, 120) + _GAP  # room for the text under narrow images
    captions = [textwrap.wrap(title, cell // _CHARACTER) for title in titles]
    header = _LINE * max(1, *map(len, captions)) + _GAP
    total_width = _up_to_quarter_inch(_LABELS_WIDTH + count * cell)
    total_height = _up_to_quarter_inch(header + 3 * (height + _GAP) + 2 * _LINE)
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)

    def text(x: float, from_top: float, words: str, **style: Any) -> None:
        figure.text(x / total_width, 1 - from_top / total_height, words, fontsize=9, **style)

    for line, name in enumerate(_ROWS):
        middle = header + line * (height + _GAP) + height / 2
        text(_LABELS_WIDTH - _GAP, middle, name, ha="right", va="center")
    for column in range(count):
        left = _LABELS_WIDTH + column * cell
        centre = left + (cell - _GAP) / 2
        text(centre, header - 6, "\n".join(captions[column]), ha="center", va="bottom")
        change, note = _perturbation(clean[column], adversarial[column])
        for line, image in enumerate((clean[column], adversarial[column], change)):
            bottom = total_height - header - line * (height + _GAP) - height
            x = left + (cell - _GAP - width) // 2
            figure.figimage(_enlarged(image, zoom), x, bottom, origin="upper", resize=False)
        text(centre, header + 3 * (height + _GAP) - _GAP + 5, note, ha="center", va="top")
    save_png(figure, path)


def _checked(name: str, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"plot_gallery: {name} must be [n, height, width, channels] with at least one image "
            f"and 1 or 3 channels. Received: {name}.shape={images.shape}"
        )
    # Integers are refused: 0..255 would slip through for dark images and come out wrong.
    in_bounds = np.issubdtype(images.dtype, np.floating) and bool(
        np.all((images >= -1e-6) & (images <= 1 + 1e-6))  # false for NaN
    )
    if not in_bounds:
        raise ValueError(
            f"plot_gallery: {name} must be floating-point with values in [0, 1]. Received: "
            f"dtype={images.dtype}, min={images.min()}, max={images.max()}"
        )
    return images.astype(np.float64)


def _perturbation(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns the change as an image around mid-grey, and what to write below it."""
    change = adversarial - clean
    largest = float(np.abs(change).max())
    if largest == 0:
        return np.full_like(change, 0.5), "unchanged"
    scale = 0.5 / largest
    return 0.5 + scale * change, f"scaled × {scale:.3g}\nL2 = {np.linalg.norm(change):.3g}"


def _enlarged(image: np.ndarray, zoom: int) -> np.ndarray:
    """Turns `[height, width, 1 or 3]` in [0, 1] into 8-bit RGB, `zoom` times as large."""
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _up_to_quarter_inch(pixels: float) -> int:
    """Rounds up to a size that is exact in inches too, so that no pixel is lost to rounding."""
    step = DPI // 4
    return step * math.ceil(pixels / step)
