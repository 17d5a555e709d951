"""One type for every data set."""

from __future__ import annotations

import dataclasses
import functools
import zlib

import numpy as np


class DataError(ValueError):
    """A data set is not to be had, or is not what it must be."""


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        images: float32 `[number, height, width, channels]` in [0, 1].
        labels: int64 `[number]`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | np.ndarray) -> Split:
        return Split(self.images[index], self.labels[index])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training, validation and test images of one data set.

    Attributes:
        name: what it was loaded as.
        train: for training.
        validation: held out of the training images; for choosing checkpoints and settings. It
            may be empty.
        test: for the final numbers only; nothing is ever chosen by it.
        class_names: one name per class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def fingerprint(self) -> str:
        """Checksum of the training and validation images and labels."""
        crc = 0
        for split in (self.train, self.validation):
            for array in (split.images, split.labels):
                crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return f"{crc:08x}"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def class_index(self, name: str) -> int:
        """Returns the label of a class.

        Raises:
            DataError: if there is no class of this name.
        """
        if name not in self.class_names:
            raise DataError(
                f"classes of --dataset={self.name} are {', '.join(self.class_names)}. "
                f"Received: {name!r}"
            )
        return self.class_names.index(name)


def make_dataset(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: tuple[str, ...],
    validation_fraction: float,
    seed: int,
) -> Dataset:
    """Checks and scales the arrays and holds out the validation part.

    Args:
        name: name of the data set.
        train: images uint8 in [0, 255] or float in [0, 1], `[number, height, width, channels]`
            or without the last axis, and integer labels `[number]`.
        test: likewise.
        class_names: one name per class.
        validation_fraction: share of the training images to hold out; 0 holds out none.
        seed: which images are held out follows from it.

    Raises:
        DataError: if arrays do not have these shapes, dtypes and ranges, or the fraction
            is not 0 and leaves either part empty.
    """
    train_split = _check_split(name, "train", *train, len(class_names))
    test_split = _check_split(name, "test", *test, len(class_names))
    if train_split.images.shape[1:] != test_split.images.shape[1:]:
        raise DataError(
            f"{name}: training and test images must have the same shape. Received: "
            f"{train_split.images.shape[1:]} and {test_split.images.shape[1:]}"
        )
    held_out = round(len(train_split) * validation_fraction)
    if not 0 <= held_out < len(train_split) or (validation_fraction and not held_out):
        raise DataError(
            f"{name}: validation_fraction must be 0 or leave images on both sides. Received: "
            f"validation_fraction={validation_fraction} of {len(train_split)} images"
        )
    order = np.random.default_rng(seed).permutation(len(train_split))
    validation, train_ = np.sort(order[:held_out]), np.sort(order[held_out:])
    return Dataset(
        name, train_split[train_], train_split[validation], test_split, tuple(class_names)
    )


def _check_split(
    name: str, part: str, images: np.ndarray, labels: np.ndarray, num_classes: int
) -> Split:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
        raise DataError(
            f"{name}: {part} images must be [number, height, width(, channels)] with as many "
            f"labels [number]. Received: images {images.shape} and labels {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or not (
        0 <= labels.min() and labels.max() < num_classes
    ):
        raise DataError(
            f"{name}: {part} labels must be integers from 0 to {num_classes - 1}. Received: "
            f"{labels.dtype} from {labels.min()} to {labels.max()}"
        )
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    elif not np.issubdtype(images.dtype, np.floating) or not (
        images.min() >= 0 and images.max() <= 1
    ):
        raise DataError(
            f"{name}: {part} images must be uint8 in [0, 255] or floating-point in [0, 1]. "
            f"Received: {images.dtype} from {images.min()} to {images.max()}"
        )
    return Split(images.astype(np.float32, copy=False), labels.astype(np.int64))
