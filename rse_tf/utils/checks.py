"""Checks of arguments that several rooms take. Each error names the argument and what came."""

from __future__ import annotations

from typing import Any

import numpy as np


class ArgumentError(ValueError):
    """An argument that cannot be: its name, what it must be, and the message of both."""

    def __init__(self, message: str, name: str = "", expected: str = "") -> None:
        super().__init__(message)
        self.name, self.expected = name, expected


def argument_error(caller: str, name: str, expected: str, received: Any) -> ArgumentError:
    """The error of an argument: who was called, what it must be, and what came instead."""
    message = f"{caller}: {name} must be {expected}. Received: {name}={received!r}"
    return ArgumentError(message, name, expected)


def checked_images(
    caller: str, images: Any, bounds: tuple[float, float] | None = None
) -> np.ndarray:
    """Returns images as float32 `[batch, ...]`.

    Args:
        caller: what stands in front of an error.
        images: floating-point `[batch, ...]`: an array, a tensor, or lists of numbers.
        bounds: smallest and largest pixel value. Rounding of other libraries' preprocessing is
            forgiven and clipped; anything more is a mistake. `None` if any value will do.

    Raises:
        ValueError: if there is no image, or the pixels are no floating-point numbers, are not
            finite, or lie outside `bounds`.
    """
    given, images = images, np.asarray(images)
    if images.dtype == object:
        expected = "one array or tensor of images; go through a tf.data.Dataset batch by batch"
        raise argument_error(caller, "images", expected, type(given).__name__)
    if not np.issubdtype(images.dtype, np.floating) and images.dtype.name != "bfloat16":
        expected = f"floating-point pixels in {bounds}" if bounds else "floating-point pixels"
        expected += ", as the model takes them; cast other numbers, and divide bytes by 255"
        raise argument_error(caller, "images", expected, images.dtype)
    images = images.astype(np.float32)
    if images.ndim < 2 or not len(images):
        raise argument_error(caller, "images", "[batch, ...] with at least one image", images.shape)
    if not np.isfinite(images).all():
        raise argument_error(caller, "images", "finite numbers", "NaN or infinite values")
    if bounds is None:
        return images
    low, high = bounds
    slack = 1e-5 * (high - low)
    if images.min() < low - slack or images.max() > high + slack:
        found = f"values from {images.min()} to {images.max()}"
        raise argument_error(caller, "images", f"within bounds {bounds}; pass others if so", found)
    return np.clip(images, np.float32(low), np.float32(high))


def checked_classes(
    caller: str, name: str, classes: Any, batch: int, num_classes: int
) -> np.ndarray:
    """Returns classes as int32 `[batch]`.

    Args:
        caller: what stands in front of an error.
        name: the argument, such as `"labels"`.
        classes: integer `[batch]`, or one-hot `[batch, num_classes]`.
        batch: number of images.
        num_classes: number of classes.

    Raises:
        ValueError: if they are neither, or name a class that does not exist.
    """
    classes = np.asarray(classes)
    expected = f"integer [{batch}] or one-hot [{batch}, {num_classes}]"
    if classes.shape == (batch, num_classes) and classes.dtype.kind in "biuf":
        if not (np.isin(classes, (0, 1)).all() and (classes.sum(axis=1) == 1).all()):
            raise argument_error(caller, name, expected, "rows that are not one-hot")
        classes = classes.argmax(axis=1)
    if classes.shape != (batch,) or not np.issubdtype(classes.dtype, np.integer):
        raise argument_error(caller, name, expected, f"{classes.dtype} {classes.shape}")
    if len(classes) and (classes.min() < 0 or classes.max() >= num_classes):
        found = f"classes from {classes.min()} to {classes.max()}"
        raise argument_error(caller, name, f"classes from 0 to {num_classes - 1}", found)
    return classes.astype(np.int32)


def checked_integer(caller: str, name: str, value: Any, smallest: int = 1) -> int:
    """Returns an integer of at least `smallest` that TensorFlow's int32 can hold.

    Raises:
        ValueError: if it is anything else.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not float(value).is_integer() or value < smallest:
        raise argument_error(caller, name, f"an integer of at least {smallest}", value)
    if value > np.iinfo(np.int32).max:
        raise argument_error(caller, name, "an integer of at most 2**31 - 1", value)
    return int(value)


def checked_number(caller: str, name: str, value: Any, *, positive: bool = False) -> float:
    """Returns a finite number of at least 0, or above 0, that float32 can hold.

    Raises:
        ValueError: if it is anything else.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    largest = float(np.finfo(np.float32).max)
    if not number or not 0 <= value <= largest or (positive and value == 0):
        expected = "a finite number " + (">" if positive else ">=") + " 0"
        raise argument_error(caller, name, expected, value)
    return float(value)
