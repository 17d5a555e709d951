from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from digits import digits, some_digits

from rse_tf import data
from rse_tf.data import DataError, Dataset, Split, make_dataset

NAMES = tuple(str(digit) for digit in range(10))


def keys(split: Split) -> list[bytes]:
    """The bytes of every image, back in [0, 255]."""
    return [image.tobytes() for image in np.rint(split.images * 255).astype(np.uint8)]


def same(first: Split, second: Split) -> bool:
    return np.array_equal(first.images, second.images) and np.array_equal(
        first.labels, second.labels
    )


# The embedded digits.


def test_mnist_5k_has_the_documented_sizes_and_balance() -> None:
    dataset = data.load()
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [3600, 400, 1000]
    assert dataset.image_shape == (28, 28, 1)
    assert (dataset.name, dataset.class_names, dataset.num_classes) == ("mnist_5k", NAMES, 10)
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), np.full(10, 100))
    both = np.concatenate([dataset.train.labels, dataset.validation.labels])
    np.testing.assert_array_equal(np.bincount(both), np.full(10, 400))


def test_mnist_5k_is_float32_between_0_and_1_with_int64_labels() -> None:
    dataset = data.load()
    for split in (dataset.train, dataset.validation, dataset.test):
        assert (split.images.dtype, split.labels.dtype) == (np.float32, np.int64)
        assert split.images.shape == (len(split), 28, 28, 1)
        assert (split.images.min(), split.images.max()) == (0.0, 1.0)


def test_mnist_5k_holds_the_real_digits_each_once_with_its_own_label() -> None:
    dataset = data.load()
    images, labels = digits()
    found = sorted(
        (key, int(label))
        for split in (dataset.train, dataset.validation, dataset.test)
        for key, label in zip(keys(split), split.labels)
    )
    expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))
    assert found == expected


def test_the_first_test_images_hold_all_classes() -> None:
    counts = np.bincount(data.load().test.labels[:200], minlength=10)
    # 200 of 1,000 without replacement: 20 +- 3.8 of each class; five standard deviations.
    assert counts.min() >= 1 and counts.max() <= 39


def test_the_test_part_is_the_same_for_every_seed_and_fraction() -> None:
    first = data.load(seed=0)
    for other in (data.load(seed=1), data.load(seed=7, validation_fraction=0.5)):
        assert same(first.test, other.test)


def test_the_validation_part_follows_from_the_seed() -> None:
    first, again, other = data.load(seed=3), data.load(seed=3), data.load(seed=4)
    assert same(first.validation, again.validation) and same(first.train, again.train)
    assert not same(first.validation, other.validation)
    # A tenth of a tenth is expected to be in both: 40 +- 6; five standard deviations.
    shared = set(keys(first.validation)) & set(keys(other.validation))
    assert 10 <= len(shared) <= 70


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_three_parts_are_disjoint(seed: int) -> None:
    dataset = data.load(seed=seed)
    train, validation, test = (
        set(keys(split)) for split in (dataset.train, dataset.validation, dataset.test)
    )
    assert not train & validation
    assert not (train | validation) & test


def test_the_fraction_decides_how_many_are_held_out() -> None:
    dataset = data.load(validation_fraction=0.25)
    assert (len(dataset.train), len(dataset.validation)) == (3000, 1000)


# Arrays and .npz files.


def make(
    train: tuple[np.ndarray, np.ndarray] | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    images, labels = some_digits(60)
    train, test = train or (images[:40], labels[:40]), test or (images[40:], labels[40:])
    return make_dataset("set", train, test, NAMES, fraction, seed)


def write_npz(path: pathlib.Path, **changes: np.ndarray) -> str:
    images, labels = some_digits(60)
    arrays = {"x_train": images[::2], "y_train": labels[::2],
              "x_test": images[1::2], "y_test": labels[1::2]}  # fmt: skip
    np.savez(path, **(arrays | changes))
    return str(path)


def reformatted(images: np.ndarray, kind: str) -> np.ndarray:
    if "float" in kind:
        images = images.astype(kind.split()[0]) / 255
    return images[..., 0] if "no axis" in kind else images


@pytest.mark.parametrize(
    "kind", ["uint8", "uint8 no axis", "float32", "float32 no axis", "float64", "float64 no axis"]
)
def test_npz_files_of_every_kind_give_the_same_data_set(kind: str, tmp_path: pathlib.Path) -> None:
    plain = data.load(write_npz(tmp_path / "plain.npz"))
    images, _ = some_digits(60)
    path = write_npz(
        tmp_path / "kind.npz",
        x_train=reformatted(images[::2], kind),
        x_test=reformatted(images[1::2], kind),
    )
    dataset = data.load(path)
    assert dataset.name == path
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [27, 3, 30]
    for split, expected in (
        (dataset.train, plain.train),
        (dataset.validation, plain.validation),
        (dataset.test, plain.test),
    ):
        assert split.images.dtype == np.float32
        np.testing.assert_allclose(split.images, expected.images, rtol=1e-6)
        np.testing.assert_array_equal(split.labels, expected.labels)


def test_npz_pixels_are_those_of_the_file(tmp_path: pathlib.Path) -> None:
    images, labels = some_digits(60)
    test = data.load(write_npz(tmp_path / "a.npz")).test
    np.testing.assert_array_equal(np.rint(test.images * 255), images[1::2])
    np.testing.assert_array_equal(test.labels, labels[1::2])


def test_npz_labels_may_be_a_column_as_in_keras(tmp_path: pathlib.Path) -> None:
    _, labels = some_digits(60)
    path = write_npz(tmp_path / "a.npz", y_train=labels[::2, None], y_test=labels[1::2, None])
    assert same(data.load(path).train, data.load(write_npz(tmp_path / "b.npz")).train)


def test_npz_classes_are_counted_over_both_parts(tmp_path: pathlib.Path) -> None:
    labels = np.arange(30) % 3
    path = write_npz(tmp_path / "a.npz", y_train=labels, y_test=labels + 1)
    assert data.load(path).class_names == ("0", "1", "2", "3")


def test_a_missing_npz_file_is_a_data_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="nowhere.npz: there is no such file"):
        data.load(str(tmp_path / "nowhere.npz"))


def test_an_npz_file_without_an_array_names_what_is_missing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "half.npz"
    np.savez(path, x_train=np.zeros([4, 2, 2]), y_test=np.zeros(4))
    with pytest.raises(DataError, match=r"half.npz: must hold .* Missing: x_test, y_train$"):
        data.load(str(path))


@pytest.mark.parametrize("content", [b"not an archive", b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_what_only_ends_in_npz_is_a_data_error(content: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"other.npz: not a readable .npz file"):
        data.load(str(path))


def test_an_npz_file_of_python_objects_is_a_data_error(tmp_path: pathlib.Path) -> None:
    path = write_npz(tmp_path / "a.npz", x_train=np.array([None, "pickled"], object))
    with pytest.raises(DataError, match="not a readable .npz file: Object arrays"):
        data.load(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(10)[np.zeros(30, int)], "labels (30, 10)"),
        (np.zeros(0, int), "labels (0,)"),
        (np.full(30, np.nan), "labels must be integers from 0 to 9. Received: float64"),
        (np.full(30, -1), "labels must be integers from 0 to 9. Received: int64 from -1 to -1"),
    ],
)
def test_impossible_labels_in_an_npz_file_are_data_errors(
    labels: np.ndarray, message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(write_npz(tmp_path / "a.npz", y_train=labels))


IMAGES, LABELS = np.zeros([8, 4, 4, 1], np.uint8), np.zeros(8, np.int64)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:, 0, 0], LABELS, "images must be [number, height, width(, channels)] with as "
         "many labels [number]. Received: images (8, 1) and labels (8,)"),
        (IMAGES[None], LABELS[:1], "Received: images (1, 8, 4, 4, 1) and labels (1,)"),
        (IMAGES, LABELS[:7], "Received: images (8, 4, 4, 1) and labels (7,)"),
        (IMAGES, np.eye(10)[LABELS], "Received: images (8, 4, 4, 1) and labels (8, 10)"),
        (IMAGES[:0], LABELS[:0], "Received: images (0, 4, 4, 1) and labels (0,)"),
        (IMAGES, LABELS + 0.5, "labels must be integers from 0 to 9. Received: float64 from 0.5"),
        (IMAGES, LABELS - 1, "labels must be integers from 0 to 9. Received: int64 from -1 to -1"),
        (IMAGES, LABELS + 10, "labels must be integers from 0 to 9. Received: int64 from 10"),
        (IMAGES.astype(np.int64), LABELS, "images must be uint8 in [0, 255] or floating-point in "
         "[0, 1]. Received: int64 from 0 to 0"),
        (IMAGES + 1.5, LABELS, "Received: float64 from 1.5 to 1.5"),
        (IMAGES - 0.5, LABELS, "Received: float64 from -0.5 to -0.5"),
        (IMAGES + np.nan, LABELS, "Received: float64 from nan to nan"),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("fraction", [0.05, 0.96, 1.0, -0.5, 1.5])
def test_a_fraction_that_leaves_a_part_empty_is_a_data_error(fraction: float) -> None:
    message = f"validation_fraction={fraction} of 8 images"
    with pytest.raises(DataError, match=re.escape(message)):
        make((IMAGES, LABELS), (IMAGES, LABELS), fraction=fraction)


# The types.


def test_a_slice_of_a_split_keeps_images_and_labels_together() -> None:
    split = data.load().test
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
