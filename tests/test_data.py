from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from digits import digits, some_digits

from rse_tf import data
from rse_tf.data import DataError, Split

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


def write_npz(path: pathlib.Path, **changes: np.ndarray) -> str:
    images, labels = some_digits(60)
    arrays = {
        "x_train": images[::2],
        "y_train": labels[::2],
        "x_test": images[1::2],
        "y_test": labels[1::2],
    }
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


def test_an_npz_file_damaged_in_its_middle_is_a_data_error(tmp_path: pathlib.Path) -> None:
    for save in (np.savez, np.savez_compressed):
        images, labels = some_digits(60)
        path = tmp_path / "a.npz"
        save(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
        content = bytearray(path.read_bytes())
        content[2000:2100] = bytes(100 * [255])
        path.write_bytes(content)
        with pytest.raises(DataError, match="a.npz: not a readable .npz file: .*numpy.savez"):
            data.load(str(path))


def test_an_npz_file_is_found_by_a_path_and_below_the_home_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [data.load(n).name for n in ("~/a.npz", pathlib.Path(path))] == [path, path]


@pytest.mark.parametrize(("name", "size"), [("mnist_5k", 14), ("my.npz", 14), ("cifar10", 0)])
def test_an_image_size_that_would_do_nothing_is_a_data_error(name: str, size: int) -> None:
    with pytest.raises(DataError, match=f"^{name}: image_size must be .* image_size={size}$"):
        data.load(name, image_size=size)


def test_an_npz_file_of_python_objects_is_a_data_error(tmp_path: pathlib.Path) -> None:
    path = write_npz(tmp_path / "a.npz", x_train=np.array([None, "pickled"], object))
    with pytest.raises(DataError, match="not a readable .npz file: Object arrays"):
        data.load(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.eye(10)[np.zeros(30, int)],
            "of one-hot ones take labels.argmax(axis=1). Received: labels of shape (30, 10)",
        ),
        (np.zeros(0, int), "labels (0,)"),
        (np.full(30, np.nan), "labels.astype(int) makes integers. Received: float64 from nan"),
        (np.full(30, -1), "number the classes from 0. Received: int64 from -1 to -1"),
        (np.full(30, 10**9), "labels up to 1000000000"),
        (
            np.array(["cat", "dog", "owl"] * 10),
            "labels must be integers from 0 to 9; of names, "
            "numpy.unique(labels, return_inverse=True) makes numbers. "
            "Received: <U3, such as ['cat']",
        ),
        (np.array([b"cat"] * 30), "of names, numpy.unique"),
        (np.arange(30) % 2 == 0, "Received: bool from False to True"),
    ],
)
def test_impossible_labels_in_an_npz_file_are_data_errors(
    labels: np.ndarray, message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as raised:
        data.load(write_npz(tmp_path / "a.npz", y_train=labels))
    assert str(raised.value).startswith(str(tmp_path)) and "\n" not in str(raised.value)


def test_images_of_one_class_are_a_data_error(tmp_path: pathlib.Path) -> None:
    for label in (0, 3):
        labels = np.full(30, label)
        path = write_npz(tmp_path / "a.npz", y_train=labels, y_test=labels)
        with pytest.raises(DataError, match=f"two classes or more.* Received: only class {label}$"):
            data.load(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_channels_in_front_are_a_data_error(
    channels: int, kind: type, tmp_path: pathlib.Path
) -> None:
    images = np.repeat(some_digits(60)[0], channels, axis=-1).astype(kind)
    images = images / kind(255) if kind is np.float32 else images
    front = images.transpose(0, 3, 1, 2)
    path = write_npz(tmp_path / "a.npz", x_train=front[::2], x_test=front[1::2])
    shape = re.escape(f"Received: images of shape ({channels}, 28, 28)")
    with pytest.raises(DataError, match=rf"images\.transpose\(0, 2, 3, 1\)\. {shape}$"):
        data.load(path)
    # What the message says to do.
    back = front.transpose(0, 2, 3, 1)
    loaded = data.load(write_npz(tmp_path / "b.npz", x_train=back[::2], x_test=back[1::2]))
    assert loaded.image_shape == (28, 28, channels)
