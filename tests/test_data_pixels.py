"""Arrays that become a data set: pixels by the range of their dtype, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from digits import some_digits

from rse_tf.data import DataError, Dataset, make_dataset

NAMES = tuple(str(digit) for digit in range(10))


def make(
    train: tuple[np.ndarray, np.ndarray] | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    images, labels = some_digits(60)
    train, test = train or (images[:40], labels[:40]), test or (images[40:], labels[40:])
    return make_dataset("set", train, test, NAMES, fraction, seed)


# Pixels: by the range of their dtype.


def test_a_rounding_outside_0_and_1_is_clipped() -> None:
    images, labels = some_digits(60)
    exact = images / np.float32(255)
    for change in (1 + 2e-7, 1 + 9e-6):
        pixels = np.where(exact == 0, 1 - change, exact * change).astype(np.float32)
        dataset = make((pixels[:40], labels[:40]), (pixels[40:], labels[40:]), fraction=0.0)
        assert dataset.train.images.min() == 0 and dataset.train.images.max() == 1
        np.testing.assert_allclose(dataset.test.images, exact[40:], atol=1e-5)
    with pytest.raises(DataError, match="floating-point in \\[0, 1\\]"):
        make((exact[:40] * np.float32(1 + 2e-5), labels[:40]))


@pytest.mark.parametrize("kind", ["uint16", "bool", "float16", "big-endian"])
def test_pixels_of_other_dtypes_have_the_range_of_their_dtype(kind: str) -> None:
    images, labels = some_digits(60)
    pixels, error = {
        "uint16": (images.astype(np.uint16) * 257, 1e-7),  # 65535 = 255 * 257
        "bool": (images > 127, 0.5),
        "float16": ((images / 255).astype(np.float16), 2**-11),
        "big-endian": (images.astype(">u2") * 257, 1e-7),
    }[kind]
    dataset = make((pixels[:40], labels[:40]), (pixels[40:], labels[40:]), fraction=0.0)
    assert dataset.train.images.dtype == np.float32 and dataset.train.images.max() == 1
    np.testing.assert_allclose(dataset.train.images, images[:40] / 255, atol=error)
    np.testing.assert_allclose(dataset.test.images, images[40:] / 255, atol=error)


def test_all_black_pixels_of_every_dtype_are_black() -> None:
    for kind in (np.uint8, np.uint16, bool, np.float32):
        black = np.zeros([8, 4, 4, 1], kind)
        assert make((black, LABELS), (black, LABELS), fraction=0.0).test.images.max() == 0


IMAGES, LABELS = np.zeros([8, 4, 4, 1], np.uint8), np.arange(8) % 2


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            IMAGES[:, 0, 0],
            LABELS,
            "images must be [number, height, width(, channels)] with as "
            "many labels [number]. Received: images (8, 1) and labels (8,)",
        ),
        (IMAGES[None], LABELS[:1], "Received: images (1, 8, 4, 4, 1) and labels (1,)"),
        (IMAGES, LABELS[:7], "Received: images (8, 4, 4, 1) and labels (7,)"),
        (
            IMAGES,
            np.eye(10)[LABELS],
            "of one-hot ones take labels.argmax(axis=1). Received: labels of shape (8, 10)",
        ),
        (
            IMAGES[:0],
            LABELS[:0],
            "must be at least one, and of one pixel or more. Received: images (0, 4, 4, 1)",
        ),
        (IMAGES[:, :0], LABELS, "Received: images (8, 0, 4, 1)"),
        (
            IMAGES,
            LABELS + 0.5,
            "of whole numbers, labels.astype(int) makes integers. Received: float64 from 0.5",
        ),
        (
            IMAGES,
            LABELS - 1,
            "must be integers from 0 to 9; number the classes from 0. Received: int64 from -1 to 0",
        ),
        (IMAGES, LABELS + 9, "Received: int64 from 9 to 10"),
        (
            IMAGES.astype(np.int64),
            LABELS,
            "images must be uint8 in [0, 255], uint16 in [0, 65535], "
            "bool, or floating-point in [0, 1]: images.astype('uint8') makes bytes of numbers from "
            "0 to 255. Received: int64",
        ),
        (IMAGES.astype(str), LABELS, "Received: <U3"),
        (IMAGES.astype(object), LABELS, "Received: object"),
        (IMAGES + 1j, LABELS, "Received: complex128"),
        (
            IMAGES + np.arange(2, dtype=np.uint8),
            LABELS,
            "of which 255 is white; for pixels from 0 "
            "to 1 use images.astype(bool). Received: uint8 from 0 to 1",
        ),
        (
            IMAGES + np.uint16(200),
            LABELS,
            "of which 65535 is white; for pixels from 0 to 200 use "
            "images.astype('uint8'). Received: uint16 from 200 to 200",
        ),
        (
            IMAGES + 254.5,
            LABELS,
            "if they lie in [0, 255], divide them by 255. Received: float64 from 254.5 to 254.5",
        ),
        (
            IMAGES - 0.5,
            LABELS,
            "if they lie in [-1, 1], use (images + 1) / 2. Received: float64 from -0.5 to -0.5",
        ),
        (IMAGES - 2.5, LABELS, "undo their normalisation. Received: float64 from -2.5 to -2.5"),
        (IMAGES + np.nan, LABELS, "not finite. Received: float64 from nan to nan"),
        (IMAGES + np.inf, LABELS, "not finite. Received: float64 from inf to inf"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_impossible_arrays_are_data_errors(
    part: str, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    sides = {"train": (IMAGES, LABELS), "test": (IMAGES, LABELS)} | {part: (images, labels)}
    with pytest.raises(DataError, match=f"^set: {part} .*{re.escape(message)}"):
        make(**sides)


def test_training_and_test_images_of_two_shapes_are_a_data_error() -> None:
    with pytest.raises(DataError, match=re.escape("Received: (4, 4, 1) and (4, 5, 1)")):
        make((IMAGES, LABELS), (np.zeros([8, 4, 5], np.uint8), LABELS))


def test_without_a_fraction_all_images_are_for_training() -> None:
    images, labels = some_digits(60)
    dataset = make((images[:40], labels[:40]), fraction=0.0)
    assert (len(dataset.train), len(dataset.validation)) == (40, 0)
    np.testing.assert_array_equal(dataset.train.images, images[:40] / np.float32(255))
    np.testing.assert_array_equal(dataset.train.labels, labels[:40])
    assert dataset.fingerprint != make((images[:40], labels[:40])).fingerprint


@pytest.mark.parametrize("fraction", [0.05, 0.96, 1.0, -0.5, -1e-9, 1.5, np.nan, np.inf])
def test_a_fraction_that_leaves_a_part_empty_is_a_data_error(fraction: float) -> None:
    message = f"validation_fraction={fraction} of 8 images"
    with pytest.raises(DataError, match=re.escape(message)):
        make((IMAGES, LABELS), (IMAGES, LABELS), fraction=fraction)


# The types.


def test_a_slice_of_a_split_keeps_images_and_labels_together() -> None:
    split = make().test
    part = split[5:8]
    assert len(part) == 3
    np.testing.assert_array_equal(part.images, split.images[5:8])
    np.testing.assert_array_equal(part.labels, split.labels[5:8])


def test_the_fingerprint_is_that_of_the_training_data() -> None:
    images, labels = some_digits(60)
    train, test = (images[:40], labels[:40]), (images[40:], labels[40:])
    fingerprint = make().fingerprint
    assert fingerprint == make().fingerprint and re.fullmatch("[0-9a-f]{8}", fingerprint)
    # Which images are held out counts, the test part does not.
    assert fingerprint != make(seed=1).fingerprint
    assert fingerprint == make(test=(255 - test[0], test[1])).fingerprint
    for index in range(40):
        changed = images[:40].copy()
        changed[index, 14, 14, 0] ^= 1
        assert make((changed, train[1])).fingerprint != fingerprint
    relabelled = (train[1] + (np.arange(40) == 7)) % 10
    assert make((train[0], relabelled)).fingerprint != fingerprint
