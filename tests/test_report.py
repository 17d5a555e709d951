"""The files of a run's report."""

from __future__ import annotations

import pathlib

import numpy as np

from rse_tf.reporting import Gallery, Row, load_galleries, save_gallery, write_report

ROW = Row(
    dataset="digits", model="cnn", defense="none", attack="fgsm", parameters={"epsilon": 0.1},
    noise={}, accuracy=0.5, accuracy_std=0.0, rms_l2=1.0, mean_l2=1.0, median_l2=1.0,
    mean_linf=0.1, max_linf=0.1, success_rate=0.5, misclassified_clean=0.0, num_images=2,
    num_draws=1, eval_seeds=1, seconds=1.0,
)  # fmt: skip


def test_the_report_names_its_files_and_leaves_out_what_is_no_picture(
    tmp_path: pathlib.Path,
) -> None:
    def gallery(defense: str, number: int, channels: int) -> Gallery:
        images = np.full((number, 4, 4, channels), 0.5)
        return Gallery(defense, images, images, ["1 -> 2"] * number)

    galleries = [gallery("shown", 2, 3), gallery("empty", 0, 3), gallery("spectral", 2, 4)]
    paths = write_report(tmp_path, [ROW], galleries, flags={}, versions={})
    assert [path.name for path in paths] == [
        "result.json",
        "result.csv",
        "accuracy_vs_epsilon.png",
        "accuracy_vs_l2.png",
        "gallery_shown.png",
    ]
    # Besides, the pictures as numbers, for figures that are made of several runs.
    names = {path.name for path in paths} | {"gallery_shown.npz"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_gallery_comes_back_from_its_file(tmp_path: pathlib.Path) -> None:
    clean, adversarial = np.random.default_rng(0).uniform(size=(2, 3, 4, 4, 1))
    first = Gallery("b", clean, adversarial, ["x → y"] * 3, "digits", ["x"] * 3, ["y"] * 3, ["y"])
    second = Gallery("a", adversarial, clean, ["", "", ""])
    for gallery in (first, second):
        save_gallery(gallery, tmp_path / f"gallery_{gallery.defense}.npz")
    found = load_galleries(tmp_path)
    for loaded, saved in zip(found, (second, first), strict=True):
        for name, value in vars(saved).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(loaded, name), value)
            else:
                assert getattr(loaded, name) == (value if isinstance(value, str) else list(value))
