"""Tests of the plots of `rse_tf.reporting`, and of how rows are sorted into curves."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from rse_tf import reporting
from rse_tf.reporting import Row
from rse_tf.reporting.series import distinguishing_settings, panels

PAPER = {"steps": 300, "learning_rate": 1e-3, "targeted": False, "iterate": "last"}
ROW = Row(
    dataset="cifar10",
    model="vgg16",
    defense="rse",
    attack="carlini_wagner",
    parameters={"const": 0.1, **PAPER},
    noise={"init_noise": 0.4, "inner_noise": 0.1, "distribution": "gaussian"},
    accuracy=0.6,
    accuracy_std=0.02,
    rms_l2=0.35,
    mean_l2=0.4,
    median_l2=0.4,
    mean_linf=0.03,
    max_linf=0.1,
    success_rate=0.25,
    misclassified_clean=0.1,
    num_images=1600,
    num_draws=50,
    eval_seeds=3,
    seconds=12.0,
)


def make_row(**changes: Any) -> Row:
    return dataclasses.replace(ROW, **changes)


def clean_row(**changes: Any) -> Row:
    return make_row(**{"attack": "none", "parameters": {}, "rms_l2": 0.0, **changes})


def carlini_wagner(**changes: Any) -> Row:
    return make_row(parameters={**PAPER, **changes})


def test_settings_that_follow_the_strength_do_not_split_a_curve() -> None:
    rows = [
        make_row(attack="bim", parameters={"step_size": e / steps, "epsilon": e, "steps": steps})
        for e in (0.1, 0.2, 0.3)
        for steps in (8, 40)
    ]
    assert distinguishing_settings(rows) == ("steps",)
    assert distinguishing_settings(rows[::2]) == ()
    (panel,) = panels([clean_row(), *reversed(rows)])
    assert [series.label for series in panel.series] == ["RSE, steps=40", "RSE, steps=8"]
    for series in panel.series:
        assert [row.parameters["epsilon"] for row in series.rows] == [0.1, 0.2, 0.3]
        assert series.clean == (clean_row(),)


def test_clean_rows_join_the_curve_with_their_number_of_draws() -> None:
    rows = [make_row(), make_row(num_draws=1), clean_row(), clean_row(num_draws=1)]
    (panel,) = panels(rows)
    drawn = {s.label: [row.num_draws for row in (*s.clean, *s.rows)] for s in panel.series}
    assert drawn == {"RSE, num_draws=50": [50, 50], "RSE, num_draws=1": [1, 1]}


def test_panels_part_datasets_and_attacks() -> None:
    rows = [clean_row(), make_row(), make_row(attack="fgsm", parameters={"epsilon": 0.1})]
    found = panels([*rows, clean_row(dataset="stl10")])
    assert [(panel.title, panel.strength) for panel in found] == [
        ("cifar10, vgg16, carlini wagner", "const"),
        ("cifar10, vgg16, fgsm", "epsilon"),
        ("stl10, vgg16, clean", None),
    ]


BLUE = (0x00, 0x72, 0xB2)  # the first colour


def read_png(path: Path) -> np.ndarray:
    """Returns a PNG as integers from 0 to 255, [height, width, 3]."""
    return np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(int)


def count_pixels(path: Path, colour: tuple[int, int, int], left_of: float = 1.0) -> int:
    image = read_png(path)
    image = image[:, :int(left_of * image.shape[1])]
    return int((image == colour).all(axis=-1).sum())


SWEEPS = {
    "const": [clean_row(), *(carlini_wagner(const=c, steps=9) for c in (0.01, 0.1, 1, 10))],
    "epsilon": [clean_row(), make_row(attack="fgsm", parameters={"epsilon": 0.1})],
    "neither": [clean_row(), make_row(attack="zoo", parameters={})],
    "clean": [clean_row(num_draws=7)],
    "several": [clean_row(defense=f"d{i}", dataset=f"s{i % 4}") for i in range(9)],
}


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize(
    "plot", [reporting.plot_accuracy_vs_strength, reporting.plot_accuracy_vs_l2]
)
def test_plots_draw_curves(plot: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    plot(SWEEPS[name], path)
    assert count_pixels(path, BLUE, left_of=0.6) > 20  # beyond are the keys of the legend
    assert os.listdir(tmp_path) == ["plot.png"]


@pytest.mark.parametrize(
    "plot", [reporting.plot_accuracy_vs_strength, reporting.plot_accuracy_vs_l2]
)
def test_published_curve_is_drawn_for_its_own_protocol_only(plot: Any, tmp_path: Path) -> None:
    blue = {}
    for steps in (300, 299):
        consts = (0.01, 0.1, 1.0, 10.0)
        rows = [carlini_wagner(const=c, steps=steps) for c in consts]
        rows = [dataclasses.replace(row, accuracy=0.0) for row in rows]
        plot(rows, tmp_path / f"{steps}.png")
        # Ours lies flat at one height; only the paper's curve has blue above the middle.
        image = read_png(tmp_path / f"{steps}.png")[:, :450]
        middle = image[100:150]
        blue[steps] = int((np.abs(middle - BLUE).sum(axis=-1) < 60).sum())
    assert blue[300] > 20 and blue[299] == 0


def test_error_bars_grow_with_the_spread(tmp_path: Path) -> None:
    blue = []
    for std in (0.0, 0.1, 0.3):
        rows = [carlini_wagner(const=c, steps=9) for c in (0.01, 0.1, 1.0)]
        rows = [dataclasses.replace(row, accuracy_std=std) for row in rows]
        reporting.plot_accuracy_vs_strength(rows, tmp_path / "plot.png")
        blue.append(count_pixels(tmp_path / "plot.png", BLUE, left_of=0.6))
    assert blue[0] < blue[1] < blue[2]


def shown(png: np.ndarray, image: np.ndarray, zoom: int, within: int = 0) -> bool:
    """Whether the PNG holds the image, each pixel enlarged to `zoom` x `zoom`."""
    large = np.rint(255 * np.broadcast_to(image, (*image.shape[:2], 3))).astype(int)
    large = large.repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width, _ = large.shape
    corners = np.argwhere((np.abs(png - large[0, 0]) <= within).all(axis=-1))
    windows = (png[y:y + height, x:x + width] for y, x in corners)
    return any(w.shape == large.shape and np.abs(w - large).max() <= within for w in windows)


@pytest.mark.parametrize(
    "count, side, channels, zoom", [(1, 8, 1, 18), (3, 32, 3, 5), (8, 96, 3, 2), (2, 300, 3, 1)]
)
def test_gallery_shows_the_data(
    count: int, side: int, channels: int, zoom: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    shape = (count, side, side + 1, channels)
    clean = generator.integers(50, 200, shape) / 255  # values that 8 bits hold exactly
    adversarial = clean + generator.integers(-20, 21, shape) / 255
    reporting.plot_gallery(clean, adversarial, ["cat -> dog"] * count, tmp_path / "g.png")
    png = read_png(tmp_path / "g.png")
    for before, after in zip(clean, adversarial, strict=True):
        assert shown(png, before, zoom)
        assert shown(png, after, zoom)
        scaled = 0.5 + 0.5 * (after - before) / np.abs(after - before).max()
        assert shown(png, scaled, zoom, within=1)  # 127.5 may be rounded either way


def test_gallery_of_unchanged_images_is_grey(tmp_path: Path) -> None:
    images = np.full((1, 8, 8, 1), 0.25)
    reporting.plot_gallery(images, images, ["cat -> cat"], tmp_path / "g.png")
    assert count_pixels(tmp_path / "g.png", (128, 128, 128)) >= 160**2


@pytest.mark.parametrize(
    "clean, adversarial, titles, words",
    [
        (np.zeros((2, 8, 8, 2)), np.zeros((2, 8, 8, 2)), ["a", "b"], "1 or 3 channels"),
        (np.zeros((0, 8, 8, 1)), np.zeros((0, 8, 8, 1)), [], "at least one image"),
        (np.zeros((2, 8, 8, 1)), np.zeros((1, 8, 8, 1)), ["a", "b"], "same shape"),
        (np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8, 1)), ["a"], r"len\(titles\)=1"),
        (np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), 1.5), ["a"], "max=1.5"),
        (np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), np.nan), ["a"], "adversarial"),
        (np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 8, 8, 1)), ["a"], "dtype=uint8"),
    ],
)
def test_gallery_refuses_other_arrays(
    clean: np.ndarray, adversarial: np.ndarray, titles: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        reporting.plot_gallery(clean, adversarial, titles, tmp_path / "g.png")
    assert not os.listdir(tmp_path)
