"""One type for every data set."""

from __future__ import annotations

import dataclasses
import functools
import zlib

import numpy as np

from rse_tf.data.pixels import DataError, check_axes, class_numbers, unit_pixels


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
                f"the classes of {self.name} are {', '.join(self.class_names)}. Received: {name!r}"
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
        train: images `[number, height, width, channels]` or without the last axis, and integer
            labels `[number]` or `[number, 1]`. Images are uint8 in [0, 255], uint16 in
            [0, 65535], bool, or floating-point in [0, 1]; what is off by at most 1e-5 is clipped.
        test: likewise.
        class_names: one name per class.
        validation_fraction: share of the training images to hold out; 0 holds out none.
        seed: which images are held out follows from it.

    Raises:
        DataError: if arrays do not have these shapes, dtypes and ranges, all images are of
            one class, or the fraction is not 0 and leaves either part empty.
    """
    train_split = _check_split(name, "train", *train, len(class_names))
    test_split = _check_split(name, "test", *test, len(class_names))
    if train_split.images.shape[1:] != test_split.images.shape[1:]:
        raise DataError(
            f"{name}: training and test images must have the same shape. Received: "
            f"{train_split.images.shape[1:]} and {test_split.images.shape[1:]}"
        )
    classes = np.union1d(train_split.labels, test_split.labels)
    if len(classes) < 2:
        raise DataError(
            f"{name}: labels must be of two classes or more, for a classifier to tell apart. "
            f"Received: only class {classes[0]}"
        )
    held_out = 0
    if 0 < validation_fraction < 1:
        held_out = round(len(train_split) * validation_fraction)
    if validation_fraction != 0 and not 0 < held_out < len(train_split):
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
    if images.ndim != 4 or labels.shape[:1] != images.shape[:1]:
        raise DataError(
            f"{name}: {part} images must be [number, height, width(, channels)] with as many "
            f"labels [number]. Received: images {images.shape} and labels {labels.shape}"
        )
    if not images.size:
        raise DataError(
            f"{name}: {part} images must be at least one, and of one pixel or more. "
            f"Received: images {images.shape}"
        )
    check_axes(f"{name}: {part} images", images.shape[1:])
    labels = class_numbers(f"{name}: {part} labels", labels, num_classes)
    return Split(unit_pixels(f"{name}: {part} images", images), labels)
