"""The files of a run's report."""

from __future__ import annotations

import pathlib

import numpy as np

from rse_tf.reporting import Gallery, Row, write_report

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
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
