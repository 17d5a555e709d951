"""Attacked images to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MOST = 10  # images of a gallery


class Kept(NamedTuple):
    """Images of one attack setting that a gallery shows.

    Attributes:
        strength: the setting, such as `"const=10"`.
        target: name of the class that the attack aimed at, or `None`.
        indices: which test images, integer `[number]`.
        adversarial: these after the attack.
    """

    strength: str
    target: str | None
    indices: np.ndarray
    adversarial: np.ndarray


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Attacked images of one defense, to look at.

    Fields of names hold one for each image, or none at all.

    Attributes:
        defense: its name.
        clean: float `[number, height, width, channels]` in [0, 1].
        adversarial: likewise, after the attack.
        dataset: name of the data set.
        labels: names of the correct classes.
        predicted: names of the classes predicted for the adversarial images.
        targets: names of the classes that the attack aimed at.
        run: which run it is from, in a report of several.
        model: name of the network.
        attack: name of the attack.
        strength: its setting, such as `"const=10"`.
    """

    defense: str
    clean: np.ndarray
    adversarial: np.ndarray
    dataset: str = ""
    labels: Sequence[str] = ()
    predicted: Sequence[str] = ()
    targets: Sequence[str] = ()
    run: str = ""
    model: str = ""
    attack: str = ""
    strength: str = ""

    def check(self, *names: str) -> Gallery:
        """Returns the gallery with images as float64.

        Args:
            names: fields that must have a name for each image.

        Raises:
            ValueError: unless both arrays are floating-point `[n, height, width, 1 or 3]` in
                [0, 1] with the same shape, at least one image, and one name each.
        """
        clean, adversarial = (
            _checked(f"gallery {self.defense!r}: {name}", getattr(self, name))
            for name in ("clean", "adversarial")
        )
        if clean.shape != adversarial.shape:
            raise ValueError(
                f"gallery {self.defense!r}: clean and adversarial must have the same shape. "
                f"Received: {clean.shape} and {adversarial.shape}"
            )
        for name in names:
            if len(getattr(self, name)) != len(clean):
                raise ValueError(
                    f"gallery {self.defense!r} must have one of {name} for each image. "
                    f"Received: {len(clean)} images, {len(getattr(self, name))} {name}"
                )
        return dataclasses.replace(self, clean=clean, adversarial=adversarial)


def one_of_each_class(correct: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the first correct image of each class, at most ten, by their indices.

    Args:
        correct: which images are predicted correctly when clean, bool `[number]`.
        labels: their classes, integer `[number]`.
    """
    found = np.flatnonzero(correct)
    _, first = np.unique(labels[found], return_index=True)
    return np.sort(found[first])[:_MOST]


def _checked(name: str, images: np.ndarray) -> np.ndarray:
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
