"""A sheet on which images are shown pixel for pixel, with text between them."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rse_tf.reporting.drawing import DPI, save_png

# All lengths are in pixels of the PNG.
LINE = 16  # height of a line of text
CHARACTER = 7  # width of one
_TARGET_SIDE = 160  # small images are enlarged by a whole factor to about this size


class Canvas:
    """A PNG to be; places are counted in pixels from its upper left corner.

    Args:
        width: the least width; it is rounded up.
        height: likewise.
    """

    def __init__(self, width: float, height: float) -> None:
        self._width, self._height = _up_to_quarter_inch(width), _up_to_quarter_inch(height)
        self.figure = Figure(figsize=(self._width / DPI, self._height / DPI), dpi=DPI)

    def text(self, x: float, top: float, words: str, **style: Any) -> None:
        """Writes at a place; `ha` and `va` are Matplotlib's."""
        self.figure.text(
            x / self._width, 1 - top / self._height, words, **{"fontsize": 9, **style}
        )

    def image(self, left: float, top: float, image: np.ndarray, zoom: int) -> None:
        """Shows `[height, width, 1 or 3]` in [0, 1], each pixel as `zoom` x `zoom` ones."""
        pixels = _enlarged(image, zoom)
        bottom = self._height - round(top) - len(pixels)
        self.figure.figimage(pixels, round(left), bottom, origin="upper", resize=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the PNG."""
        save_png(self.figure, path)


def checked_images(name: str, images: np.ndarray) -> np.ndarray:
    """Returns images as float64.

    Raises:
        ValueError: unless they are floating-point `[n, height, width, channels]` in [0, 1], at
            least one, with 1 or 3 channels.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"{name} must be [n, height, width, channels] with at least one image "
            f"and 1 or 3 channels. Received: shape={images.shape}"
        )
    # Integers are refused: 0..255 would slip through for dark images and come out wrong.
    in_bounds = np.issubdtype(images.dtype, np.floating) and bool(
        np.all((images >= -1e-6) & (images <= 1 + 1e-6))  # false for NaN
    )
    if not in_bounds:
        raise ValueError(
            f"{name} must be floating-point with values in [0, 1]. Received: "
            f"dtype={images.dtype}, min={images.min()}, max={images.max()}"
        )
    return images.astype(np.float64)


def zoom_for(height: int, width: int, side: int = _TARGET_SIDE) -> int:
    """Returns the whole factor that brings an image nearest to a size."""
    return max(1, round(side / max(height, width)))


def _enlarged(image: np.ndarray, zoom: int) -> np.ndarray:
    """Turns `[height, width, 1 or 3]` in [0, 1] into 8-bit RGB, `zoom` times as large."""
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _up_to_quarter_inch(pixels: float) -> int:
    """Rounds up to a size that is exact in inches too, so that no pixel is lost to rounding."""
    step = DPI // 4
    return step * math.ceil(pixels / step)
