"""Image classification data sets, all as one type."""

from __future__ import annotations

import os

from rse_tf.data.dataset import Dataset, Split, make_dataset
from rse_tf.data.datasets import (
    DATASETS,
    DatasetEntry,
    comes_from_tfds,
    dataset_defaults,
    described,
)
from rse_tf.data.input_pipeline import AUGMENTATIONS, Batches
from rse_tf.data.loaders import Arrays, load_npz, load_tfds
from rse_tf.data.pixels import DataError


def load(
    name: str | os.PathLike[str] = "mnist_5k",
    data_dir: str | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    image_size: int | None = None,
) -> Dataset:
    """Loads a data set into memory.

    Args:
        name: `"mnist_5k"` (5,000 real digits, no network needed), a name of TensorFlow
            Datasets such as `"mnist"`, `"cifar10"` or `"stl10"`, or the path of an `.npz` file
            with x_train, y_train, x_test and y_test: images and labels as `make_dataset` takes
            them. The training part keeps the order of its source, and that of `"mnist_5k"` is
            sorted by class: shuffle before you take the first images, or a share of them.
        data_dir: the TensorFlow Datasets directory; default `~/tensorflow_datasets`.
        seed: which training images are held out for validation follows from it.
        validation_fraction: share of the training images held out. Default 0.1.
        image_size: height and width to resize to, for TensorFlow Datasets only.

    Raises:
        DataError: if there is no such set, it is not one of labelled images, it is not on this
            machine and cannot be fetched, or `image_size` is given for another source.
    """
    name = os.fspath(name)
    if image_size is not None and (not comes_from_tfds(name) or image_size < 1):
        raise DataError(
            f"{name}: image_size must be at least 1, and for a set of TensorFlow Datasets. "
            f"Received: image_size={image_size}"
        )
    if name.endswith(".npz"):
        name = os.path.expanduser(name)
        arrays = load_npz(name)
    elif (entry := DATASETS.get(name)) and entry.load is not None:
        arrays = entry.load()
    else:
        data_dir = None if data_dir is None else os.path.expanduser(data_dir)
        arrays = load_tfds(name, data_dir, image_size)
    return make_dataset(name, *arrays, validation_fraction=validation_fraction, seed=seed)


__all__ = [
    "AUGMENTATIONS",
    "Arrays",
    "Batches",
    "DATASETS",
    "DataError",
    "Dataset",
    "DatasetEntry",
    "Split",
    "comes_from_tfds",
    "dataset_defaults",
    "described",
    "load",
    "make_dataset",
]
