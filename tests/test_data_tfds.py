from __future__ import annotations

import os
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from digits import some_digits

from rse_tf import data
from rse_tf.data import DataError, Split

NUMBER, TRAIN = 200, 140


def prepare(builder: Any, examples: dict[str, list[dict[str, Any]]]) -> None:
    """Has TFDS write a data set's own files, from examples instead of a download."""
    builder._split_generators = types.MethodType(
        lambda self, manager: {part: enumerate(rows) for part, rows in examples.items()}, builder
    )
    # Several files, as large sets have, whose order must not be left to chance.
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A prepared directory of real digits, as TFDS leaves it after a download."""
    directory = str(tmp_path_factory.mktemp("tfds"))
    images, labels = some_digits(NUMBER)
    rows = [{"image": image, "label": int(label)} for image, label in zip(images, labels)]
    mixed = np.random.default_rng(0).permutation(NUMBER)
    parts = {"train": [rows[i] for i in mixed[:TRAIN]], "test": [rows[i] for i in mixed[TRAIN:]]}
    prepare(tfds.builder("mnist", data_dir=directory), parts)
    yield directory


def pairs(*splits: Split) -> list[tuple[bytes, int]]:
    return sorted(
        (np.rint(image * 255).astype(np.uint8).tobytes(), int(label))
        for split in splits
        for image, label in zip(split.images, split.labels)
    )


def test_a_prepared_set_gives_exactly_its_pixels_and_labels(data_dir: str) -> None:
    dataset = data.load("mnist", data_dir=data_dir)
    images, labels = some_digits(NUMBER)
    mixed = np.random.default_rng(0).permutation(NUMBER)
    train, test = (
        sorted((images[i].tobytes(), int(labels[i])) for i in part)
        for part in (mixed[:TRAIN], mixed[TRAIN:])
    )
    assert pairs(dataset.train, dataset.validation) == train
    assert pairs(dataset.test) == test
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [126, 14, 60]
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    assert dataset.train.images.dtype == np.float32
    # uint8 / 255 in float32, not some other rounding.
    bytes_ = np.rint(dataset.test.images * 255).astype(np.float32)
    np.testing.assert_array_equal(dataset.test.images, bytes_ / np.float32(255))


def test_a_prepared_set_comes_in_the_same_order_every_time(data_dir: str) -> None:
    first, again = (data.load("mnist", data_dir=data_dir, seed=5) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(first.test.images, again.test.images)
    other = data.load("mnist", data_dir=data_dir, seed=6)
    assert other.fingerprint != first.fingerprint
    np.testing.assert_array_equal(other.test.images, first.test.images)


def test_image_size_resizes_every_image(data_dir: str) -> None:
    plain = data.load("mnist", data_dir=data_dir)
    half = data.load("mnist", data_dir=data_dir, image_size=14)
    assert half.image_shape == (14, 14, 1)
    for small, large in ((half.train, plain.train), (half.test, plain.test)):
        np.testing.assert_array_equal(small.labels, large.labels)
        assert small.images.dtype == np.float32
        np.testing.assert_array_equal(small.images * 255, np.rint(small.images * 255))
        # Halved with antialiasing, a pixel takes 1/8, 3/8, 3/8, 1/8 of its neighbours on each
        # axis; rounding it to a byte moves it by half of 1/255.
        weights = np.zeros([14, 28])
        for row in range(14):
            for offset, weight in zip(range(-1, 3), (1, 3, 3, 1)):
                if 0 <= 2 * row + offset < 28:
                    weights[row, 2 * row + offset] = weight
        weights /= weights.sum(axis=1, keepdims=True)
        expected = np.einsum("ih,nhwc,jw->nijc", weights, large.images, weights)
        np.testing.assert_allclose(small.images, expected, atol=0.5 / 255 + 1e-5)


def test_image_size_can_enlarge(data_dir: str) -> None:
    dataset = data.load("mnist", data_dir=data_dir, image_size=32)
    assert dataset.image_shape == (32, 32, 1)
    assert dataset.train.images.min() == 0.0 and 0.9 < dataset.train.images.max() <= 1.0


@pytest.mark.parametrize(
    "name", ["no_such_set", "mnist/no_such_config", "mnist:9.9.9", "not a name", "../mnist", "x/y"]
)
def test_an_unknown_name_is_a_data_error(name: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError) as raised:
        data.load(name, data_dir=str(tmp_path))
    message = str(raised.value)
    assert message.startswith(f"{name}: TensorFlow Datasets knows no such set.")
    assert "mnist_5k" in message and ".npz" in message


def test_a_set_of_something_else_than_images_is_a_data_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="^iris: must have the features 'image'"):
        data.load("iris", data_dir=str(tmp_path))


def test_an_unprepared_set_without_a_network_says_what_to_do(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(builder: Any) -> None:
        raise requests.ConnectionError(
            "HTTPSConnectionPool(host='example.com', port=443): Max retries exceeded with url: / "
            "(Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object>'))"
        )

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(DataError) as raised:
        data.load("cifar10", data_dir=str(tmp_path))
    message = str(raised.value)
    assert message.startswith(f"cifar10: not prepared in {tmp_path}{os.sep}cifar10")
    assert "(ConnectionError)" in message
    assert "`tfds build cifar10 --data_dir=DIR`" in message and "pass data_dir=DIR, or" in message
    assert "or use mnist_5k, which needs no network" in message
    for raw in ("urllib3", "HTTPSConnectionPool", "Traceback", "\n"):
        assert raw not in message
    assert isinstance(raised.value.__cause__, requests.ConnectionError)


def test_a_prepared_set_is_not_downloaded(data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(builder: Any) -> None:
        raise AssertionError("must not be called")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    assert len(data.load("mnist", data_dir=data_dir).test) == NUMBER - TRAIN


# Sets that are not quite what is needed.


class Pictures(tfds.core.GeneratorBasedBuilder):
    """Images of different sizes."""

    VERSION = tfds.core.Version("1.0.0")
    image: Any = tfds.features.Image(shape=(None, None, 3))
    label: Any = tfds.features.ClassLabel(names=["round", "square"])

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"image": self.image, "label": self.label})
        keys = ("image", "label")
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=keys)

    def _split_generators(self, manager: Any) -> Any:
        raise NotImplementedError

    def _generate_examples(self) -> Any:
        raise NotImplementedError


class MeasuredPictures(Pictures):
    """Images with a number instead of a class."""

    label = tfds.features.Scalar(np.float32)


def pictures() -> list[dict[str, Any]]:
    sizes = [(8 + i, 12, 3) for i in range(6)]
    return [{"image": np.full(s, 10 * i, np.uint8), "label": i % 2} for i, s in enumerate(sizes)]


def test_images_of_different_sizes_need_image_size(tmp_path: pathlib.Path) -> None:
    prepare(Pictures(data_dir=str(tmp_path)), {"train": pictures(), "test": pictures()[:3]})
    with pytest.raises(DataError, match="^pictures: .* pass image_size to resize them"):
        data.load("pictures", data_dir=str(tmp_path))
    dataset = data.load("pictures", data_dir=str(tmp_path), image_size=9, validation_fraction=0.5)
    assert dataset.image_shape == (9, 9, 3)
    assert dataset.class_names == ("round", "square")
    # A grey picture is as grey when it is resized.
    images = np.concatenate([dataset.train.images, dataset.validation.images])
    greys = np.rint(images * 255)
    np.testing.assert_array_equal(greys, np.broadcast_to(greys[:, :1, :1, :1], greys.shape))
    assert sorted(greys[:, 0, 0, 0]) == [0, 10, 20, 30, 40, 50]


def test_a_set_without_a_test_part_is_a_data_error(tmp_path: pathlib.Path) -> None:
    prepare(Pictures(data_dir=str(tmp_path)), {"train": pictures()})
    message = r"^pictures: must have the parts 'train' and 'test'. Received: \['train'\]"
    with pytest.raises(DataError, match=message):
        data.load("pictures", data_dir=str(tmp_path), image_size=8)


def test_a_set_whose_label_is_no_class_is_a_data_error(tmp_path: pathlib.Path) -> None:
    assert MeasuredPictures.name == "measured_pictures"
    with pytest.raises(DataError, match="'label', a class"):
        data.load("measured_pictures", data_dir=str(tmp_path))


# Pixels have the range of their dtype, resized or not.


class Deep(Pictures):
    """Real digits as another feature."""

    label = tfds.features.ClassLabel(num_classes=10)


FEATURES: dict[str, tuple[Any, Any]] = {
    "uint8": (tfds.features.Image(shape=(28, 28, 1)), lambda x: x),
    "uint16": (
        tfds.features.Image(shape=(28, 28, 1), dtype=np.uint16, encoding_format="png"),
        lambda x: x.astype(np.uint16) * 257,  # 65535 = 255 * 257
    ),
    "float32": (
        tfds.features.Image(shape=(28, 28, 1), dtype=np.float32),
        lambda x: x / np.float32(255),
    ),
    "tensor": (tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8), lambda x: x),
    "plane": (tfds.features.Tensor(shape=(28, 28), dtype=np.uint8), lambda x: x[..., 0]),
    "float64": (tfds.features.Tensor(shape=(28, 28, 1), dtype=np.float64), lambda x: x / 255),
}


def prepare_digits(feature: Any, change: Any, folder: pathlib.Path) -> list[np.ndarray]:
    images, labels = some_digits(40)
    Deep.image = feature
    rows = [{"image": change(x), "label": int(y)} for x, y in zip(images, labels)]
    prepare(Deep(data_dir=str(folder)), {"train": rows[::2], "test": rows[1::2]})
    return sorted((images[1::2] / np.float32(255)), key=lambda image: image.tobytes())


@pytest.mark.parametrize("kind", FEATURES)
def test_every_kind_of_pixels_keeps_its_range(kind: str, tmp_path: pathlib.Path) -> None:
    digits = prepare_digits(*FEATURES[kind], tmp_path)
    test = data.load("deep", data_dir=str(tmp_path)).test
    found = sorted(test.images, key=lambda image: image.tobytes())
    np.testing.assert_allclose(found, digits, atol=1e-6)
    half = data.load("deep", data_dir=str(tmp_path), image_size=14).test
    assert half.images.shape == (20, 14, 14, 1)
    # Halving keeps what an image holds where its rim is black: 4 pixels become one.
    for small, large in zip(half.images, test.images):
        assert small.sum() * 4 == pytest.approx(large.sum(), rel=0.01)


def test_black_and_white_pixels_are_0_and_1(tmp_path: pathlib.Path) -> None:
    feature = tfds.features.Tensor(shape=(28, 28, 1), dtype=np.bool_)
    prepare_digits(feature, lambda x: x > 127, tmp_path)
    images = data.load("deep", data_dir=str(tmp_path)).test.images
    assert set(np.unique(images)) == {0.0, 1.0}
    half = data.load("deep", data_dir=str(tmp_path), image_size=14).test.images
    np.testing.assert_allclose(half.mean(), images.mean(), rtol=0.01)


@pytest.mark.parametrize(
    ("feature", "change", "message"),
    [
        (tfds.features.Tensor(shape=(28, 28, 1), dtype=np.int64), np.int64, "Received: int64"),
        (
            tfds.features.Tensor(shape=(1, 28, 28), dtype=np.uint8),
            lambda x: x[None, ..., 0],
            r"transpose\(0, 2, 3, 1\). Received: images of shape \(1, 28, 28\)",
        ),
        (
            tfds.features.Tensor(shape=(784,), dtype=np.uint8),
            lambda x: x.reshape(-1),
            r"Received: image shape \(784,\)",
        ),
    ],
)
@pytest.mark.parametrize("image_size", [None, 14])
def test_other_pixels_are_refused_by_name(
    feature: Any, change: Any, message: str, image_size: int | None, tmp_path: pathlib.Path
) -> None:
    prepare_digits(feature, change, tmp_path)
    with pytest.raises(DataError, match=f"^deep: the feature 'image' must .*{message}$"):
        data.load("deep", data_dir=str(tmp_path), image_size=image_size)


def test_floats_of_0_to_255_are_refused_resized_or_not(tmp_path: pathlib.Path) -> None:
    prepare_digits(FEATURES["float32"][0], lambda x: x.astype(np.float32), tmp_path)
    for size in (None, 14):
        with pytest.raises(DataError, match="^deep: train images .* divide them by 255"):
            data.load("deep", data_dir=str(tmp_path), image_size=size)


def test_a_damaged_file_of_a_set_names_the_folder(tmp_path: pathlib.Path) -> None:
    prepare_digits(*FEATURES["uint8"], tmp_path)
    for file in tmp_path.rglob("*test.tfrecord*"):
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(DataError, match=f"^deep: the test images in {tmp_path}.*; delete that"):
        data.load("deep", data_dir=str(tmp_path))
