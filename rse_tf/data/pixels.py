"""Pixels and labels as a data set has them, or a word on what to do with them."""

from __future__ import annotations

import numpy as np

# Arithmetic in float32 leaves pixels a rounding outside [0, 1]: as much is clipped.
SLACK = 1e-5
# Divisors for integer types whose pixel range is known; other types are ambiguous.
_HIGHEST = {"bool": 1, "uint8": 255, "uint16": 65535}
# From so few channels up it is an axis of an image's height or width.
_MOST_CHANNELS = 4


class DataError(ValueError):
    """A data set is not to be had, or is not what it must be."""


def known_dtype(dtype: np.dtype) -> bool:
    """Whether pixels of this dtype have a range: bytes, 16 bits, booleans, and floats in [0, 1]."""
    return dtype.name in _HIGHEST or dtype.kind == "f"


def check_axes(where: str, shape: tuple[int | None, ...]) -> None:
    """Refuses images with their channels in front.

    Args:
        where: what the error says in front.
        shape: of one image, with or without channels.

    Raises:
        DataError: if the channels come first.
    """
    if len(shape) != 3:
        return
    first, last = shape[0] or np.inf, shape[2] or np.inf
    if first <= _MOST_CHANNELS < last:
        raise DataError(
            f"{where} must have the channels as the last axis, [number, height, width, channels]; "
            f"use images.transpose(0, 2, 3, 1). Received: images of shape {shape}"
        )


def unit_pixels(where: str, images: np.ndarray) -> np.ndarray:
    """Returns images as float32 in [0, 1], by the range of their dtype.

    Args:
        where: what the error says in front, such as `"cifar10: train images"`.
        images: bool, uint8 in [0, 255], uint16 in [0, 65535], or floating-point in [0, 1]; these
            may be off by a rounding, of at most 1e-5.

    Raises:
        DataError: if they have another dtype or other values.
    """
    expected = (
        f"{where} must be uint8 in [0, 255], uint16 in [0, 65535], bool, or floating-point in "
        "[0, 1]"
    )
    if not known_dtype(images.dtype):
        raise DataError(
            f"{expected}: images.astype('uint8') makes bytes of numbers from 0 to 255. "
            f"Received: {images.dtype}"
        )
    low, high = images.min(), images.max()
    found = f"Received: {images.dtype} from {low} to {high}"
    if images.dtype.kind == "f":
        if not (-SLACK <= low and high <= 1 + SLACK):  # also false for NaN
            raise DataError(f"{expected}; {_remedy(float(low), float(high))}. {found}")
        return np.clip(images.astype(np.float32, copy=False), 0, 1)
    top = _HIGHEST[images.dtype.name]
    # Read by their dtype, these would be all but black.
    if 0 < high <= {255: 1, 65535: 255}.get(top, 0):
        other = "images.astype(bool)" if top == 255 else "images.astype('uint8')"
        raise DataError(
            f"{expected}, of which {top} is white; for pixels from 0 to {high} use {other}. {found}"
        )
    return images.astype(np.float32) / np.float32(top)


def _remedy(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "leave out or replace the images with values that are not finite"
    if -1 - SLACK <= low < 0 and high <= 1 + SLACK:
        return "if they lie in [-1, 1], use (images + 1) / 2"
    if low >= 0 and high <= 255:
        return "if they lie in [0, 255], divide them by 255"
    return "undo their normalisation"


def class_numbers(where: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns labels as int64 `[number]`.

    Args:
        where: what the error says in front, such as `"cifar10: train labels"`.
        labels: integer `[number]` or, as in Keras' own data sets, `[number, 1]`.
        num_classes: they lie from 0 to one less.

    Raises:
        DataError: if they are anything else.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{where} must be integers [number]; of one-hot ones take labels.argmax(axis=1). "
            f"Received: labels of shape {labels.shape}"
        )
    expected = f"{where} must be integers from 0 to {num_classes - 1}"
    if labels.dtype.kind in "SUO":
        raise DataError(
            f"{expected}; of names, numpy.unique(labels, return_inverse=True) makes numbers. "
            f"Received: {labels.dtype}, such as {labels[:1].tolist()}"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{expected}; of whole numbers, labels.astype(int) makes integers. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{expected}; number the classes from 0. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int64)
