"""What a run does on a file of images where its flags say nothing."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from rse_tf.config import Config
from rse_tf.data import dataset_defaults
from rse_tf.data.datasets import file_defaults
from rse_tf.data.loaders import npz_shape


def file_of(path: pathlib.Path, shape: tuple[int, ...]) -> str:
    images, labels = np.zeros(shape, np.uint8), np.arange(shape[0]) % 2
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "model", "augmentation", "epochs"),
    [
        ((1400, 8, 8), "mnist_cnn", "none", 26),  # 36,000 / 1,400
        ((1400, 8, 8, 1), "mnist_cnn", "none", 26),
        ((60_000, 28, 28, 1), "mnist_cnn", "none", 8),
        ((100, 96, 96, 1), "mnist_cnn", "none", 200),
        ((4500, 8, 8, 3), "mnist_cnn", "none", 8),
        ((4500, 32, 32, 3), "cifar_cnn", "crop_flip", 200),
        ((4500, 24, 24, 3), "cifar_cnn", "crop_flip", 200),
    ],
)
def test_the_training_follows_the_images(
    shape: tuple[int, ...], model: str, augmentation: str, epochs: int
) -> None:
    defaults = {**dataset_defaults("any.npz"), "augmentation": "crop_flip", **file_defaults(shape)}
    assert (defaults["model"], defaults["augmentation"]) == (model, augmentation)
    assert defaults["epochs"] == epochs


def test_a_run_takes_them_from_the_file(tmp_path: pathlib.Path) -> None:
    small = Config(dataset=file_of(tmp_path / "small.npz", (40, 8, 8)))
    assert (small.model, small.augmentation, small.schedule) == ("mnist_cnn", "none", "one_cycle")
    assert Config(dataset=small.dataset, augmentation="crop_flip").augmentation == "crop_flip"
    large = Config(dataset=file_of(tmp_path / "large.npz", (4, 32, 32, 3)))
    missing = Config(dataset=str(tmp_path / "missing.npz"))
    assert (large.model, large.augmentation) == (missing.model, missing.augmentation)
    assert missing.augmentation == "crop_flip"
    # Small ones in colour are attacked as others are: digits withstand more.
    color = Config(dataset=file_of(tmp_path / "color.npz", (40, 8, 8, 3)), attack=("bim",))
    assert color.attack_points("bim") == Config(
        dataset=missing.dataset, attack=("bim",)
    ).attack_points("bim")


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_shape_is_read_from_the_head_of_the_file(order: str, tmp_path: pathlib.Path) -> None:
    images = np.asarray(np.zeros([5, 4, 3, 2]), order=order)  # type: ignore[call-overload]
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "file.npz", x_train=images)
        assert npz_shape(str(tmp_path / "file.npz")) == (5, 4, 3, 2)


def test_what_is_no_such_file_has_no_shape(tmp_path: pathlib.Path) -> None:
    assert npz_shape(str(tmp_path / "missing.npz")) is None
    (tmp_path / "broken.npz").write_bytes(b"PK")
    assert npz_shape(str(tmp_path / "broken.npz")) is None
    np.savez(tmp_path / "other.npz", images=np.zeros([2, 2]))
    assert npz_shape(str(tmp_path / "other.npz")) is None
    assert file_defaults(None) == file_defaults((3,)) == file_defaults((0, 8, 8)) == {}
