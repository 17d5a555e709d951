"""Tests of the plots of `rse_tf.reporting`, and of how rows are sorted into curves."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rows import attacked, ensembles_row, make_row

from rse_tf import reporting
from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting import drawing
from rse_tf.reporting.gallery import montage
from rse_tf.reporting.heading import names_of
from rse_tf.reporting.saving import save_figure
from rse_tf.reporting.series import distinguishing_settings, panels


def attacked_by(attack: str, **changes: Any) -> Row:
    return make_row("rse", attack, **changes)


def test_settings_that_follow_the_strength_do_not_split_a_curve() -> None:
    rows = [
        attacked_by("bim", parameters={"step_size": e / steps, "epsilon": e, "steps": steps})
        for e in (0.1, 0.2, 0.3)
        for steps in (8, 40)
    ]
    assert distinguishing_settings(rows) == ("steps",)
    assert distinguishing_settings(rows[::2]) == ()
    (panel,) = panels([make_row(), *reversed(rows)])
    assert [series.label for series in panel.series] == ["RSE, steps=40", "RSE, steps=8"]
    for series in panel.series:
        assert [row.parameters["epsilon"] for row in series.rows] == [0.1, 0.2, 0.3]
        assert series.clean == (make_row(),)


def test_clean_rows_join_the_curve_with_their_number_of_draws() -> None:
    rows = [attacked(), attacked(num_draws=1), make_row(), make_row(num_draws=1)]
    (panel,) = panels(rows)
    drawn = {s.label: [row.num_draws for row in (*s.clean, *s.rows)] for s in panel.series}
    assert drawn == {"RSE, num_draws=50": [50, 50], "RSE, num_draws=1": [1, 1]}


def test_panels_part_datasets_and_attacks() -> None:
    rows = [make_row(), attacked(), attacked_by("fgsm", parameters={"epsilon": 0.1})]
    found = panels([*rows, make_row(dataset="stl10")])
    assert [(names_of(panel.rows), panel.strength) for panel in found] == [
        ("CIFAR-10, vgg16, Carlini-Wagner L2", "const"),
        ("CIFAR-10, vgg16, FGSM", "epsilon"),
        ("STL-10, vgg16, no attack", None),
    ]


def test_clean_rows_stay_out_of_panels_where_their_network_is_not_attacked() -> None:
    here, there = (dataclasses.replace(make_row(), run=run) for run in ("here", "there"))
    fgsm = dataclasses.replace(attacked_by("fgsm", parameters={"epsilon": 0.1}), run="there")
    found = panels([here, dataclasses.replace(attacked(), run="here"), there, fgsm])
    assert [[one.clean for one in panel.series] for panel in found] == [[(here,)], [(there,)]]


def test_clean_rows_join_the_curve_of_what_is_scored() -> None:
    place = ("mnist", "ensemble_bagging")
    rows = [
        ensembles_row(*place, attack, scored, "" if attack == "none" else "member")
        for scored in ("single", "ensemble")
        for attack in ("none", "fgsm")
    ]
    (panel,) = panels(rows)
    assert [(series.clean, series.rows) for series in panel.series] == [
        ((rows[0],), (rows[1],)),
        ((rows[2],), (rows[3],)),
    ]


def test_two_runs_of_one_defense_are_two_curves() -> None:
    rows = [
        dataclasses.replace(row, run=run)
        for run in ("first", "runs/second")
        for row in (make_row(), attacked(), attacked("rse", 1.0))
    ]
    (panel,) = panels(rows)
    assert {series.label: (*series.clean, *series.rows) for series in panel.series} == {
        "first, RSE": tuple(rows[:3]),
        "runs/second, RSE": tuple(rows[3:]),
    }


BLUE = (0x00, 0x72, 0xB2)  # the first colour


def read_png(path: Path) -> np.ndarray:
    """Returns a PNG as integers from 0 to 255, [height, width, 3]."""
    return np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(int)


def count_pixels(path: Path, colour: tuple[int, int, int], left_of: float = 1.0) -> int:
    image = read_png(path)
    image = image[:, : int(left_of * image.shape[1])]
    return int((image == colour).all(axis=-1).sum())


OTHERS = {"parameters": {"steps": 9}, "eval_seeds": 3, "accuracy_std": 0.02}
SWEEPS = {
    "const": [make_row(), *(attacked("rse", c, **OTHERS) for c in (0.01, 0.1, 1, 10))],
    "epsilon": [make_row(), attacked_by("fgsm", parameters={"epsilon": 0.1})],
    "neither": [make_row(), attacked_by("zoo", parameters={})],
    "clean": [make_row(num_draws=7)],
    "several": [make_row(f"d{i}", dataset=f"s{i % 4}") for i in range(9)],
}


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize(
    "plot", [reporting.plot_accuracy_vs_strength, reporting.plot_accuracy_vs_l2]
)
def test_plots_draw_curves(plot: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    plot(SWEEPS[name], path)
    assert count_pixels(path, BLUE, left_of=0.6) > 12  # beyond are the keys of the legend
    assert os.listdir(tmp_path) == ["plot.png"]


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures themselves instead of files."""
    figures: list[Figure] = []
    monkeypatch.setattr("rse_tf.reporting.plots.save_figure", lambda fig, *_: figures.append(fig))
    return figures


def curve(figure: Figure, label: str) -> dict[float, float]:
    """The points of a curve, the error bars' line or a plain one, x -> y."""
    (axes,) = figure.axes
    bars = [container[0] for container in axes.containers if container.get_label() == label]
    for line in [*bars, *(line for line in axes.get_lines() if line.get_label() == label)]:
        return {x: y for x, y in zip(*line.get_data()) if x == x}
    return {}


@pytest.mark.parametrize("steps, published", [(300, True), (299, False)])
def test_published_curve_is_drawn_for_its_own_protocol_only(
    steps: int, published: bool, saved: list[Figure]
) -> None:
    rows = [attacked("rse", c, 0.25, rms_l2=c / 2, parameters={"steps": steps}) for c in (0.1, 1.0)]
    reporting.plot_accuracy_vs_strength(rows, "")
    reporting.plot_accuracy_vs_l2(rows, "")
    assert curve(saved[0], "RSE") == {0.1: 25.0, 1.0: 25.0}
    assert curve(saved[1], "RSE") == {0.05: 25.0, 0.5: 25.0}
    places = [{0.1: 61.875, 1.0: 0.75}, {0.362506: 61.875, 0.88267: 0.75}]
    for figure, expected in zip(saved, places, strict=True):
        assert curve(figure, "RSE, published") == (expected if published else {})
    words = " ".join(text.get_text() for text in saved[0].legends[0].get_texts())
    assert ("init_noise_at=second_conv" in words.replace("\n", "")) == published


def test_no_line_joins_clean_and_attacked_points_of_c(saved: list[Figure]) -> None:
    reporting.plot_accuracy_vs_strength([make_row("x"), attacked("x", 1.0)], "")
    (container,) = saved[0].axes[0].containers
    x = container[0].get_xdata()
    assert len(x) == 3 and x[0] < 1 and np.isnan(x[1]) and x[2] == 1


@pytest.mark.parametrize(
    "facts, length, over",
    [
        ({}, None, None),
        ({"eval_seeds": 3, "accuracy_std": 0.125}, 12.5, drawing.SEEDS),
        ({"accuracy_std_members": 0.25, "eval_seeds": 3}, 25, drawing.MEMBERS),
    ],
)
def test_error_bars_are_of_what_the_legend_says(
    facts: dict[str, Any], length: float | None, over: str | None, saved: list[Figure]
) -> None:
    reporting.plot_accuracy_vs_strength([attacked("x", 1.0, **facts)], "")
    (container,) = saved[0].axes[0].containers
    ends = [part[:, 1].tolist() for part in container[2][0].get_segments() if len(part)]
    assert ends == ([] if length is None else [[50 - length, 50 + length]])
    words = [text.get_text().replace("\n", " ") for text in saved[0].legends[0].get_texts()]
    assert words[1:] == ([] if over is None else [f"standard deviation {over}"])


def test_a_long_legend_fits_its_figure(saved: list[Figure]) -> None:
    reporting.plot_accuracy_vs_strength([make_row(f"defense_{i}") for i in range(40)], "")
    (figure,) = saved
    FigureCanvasAgg(figure).draw()
    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0 and box.y1 <= figure.bbox.height


def shown(figure: Figure, image: np.ndarray, zoom: int, within: float = 1e-9) -> bool:
    """Whether the picture in the axes holds the image, each pixel enlarged to `zoom` x `zoom`."""
    sheet = np.asarray(figure.axes[0].get_images()[0].get_array())
    large = np.broadcast_to(image, (*image.shape[:2], 3)).repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width, _ = large.shape
    corners = np.argwhere((np.abs(sheet - large[0, 0]) <= within).all(axis=-1))
    windows = (sheet[y : y + height, x : x + width] for y, x in corners)
    return any(w.shape == large.shape and np.abs(w - large).max() <= within for w in windows)


def make_gallery(clean: np.ndarray, adversarial: np.ndarray, **names: Any) -> Gallery:
    return Gallery("rse", clean, adversarial, **names)


@pytest.mark.parametrize(
    "count, side, channels, zoom", [(1, 8, 1, 19), (3, 32, 3, 5), (8, 96, 3, 2), (2, 300, 3, 1)]
)
def test_gallery_shows_the_data(
    count: int, side: int, channels: int, zoom: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("rse_tf.reporting.gallery.save_figure", lambda fig, *_: figures.append(fig))
    generator = np.random.default_rng(0)
    clean, adversarial = generator.uniform(size=(2, count, side, side + 1, channels))
    names = {"labels": ["cat"] * count, "predicted": ["dog"] * count}
    reporting.plot_gallery(make_gallery(clean, adversarial, **names), "")
    (figure,) = figures
    for before, after in zip(clean, adversarial, strict=True):
        assert shown(figure, before, zoom) and shown(figure, after, zoom)
        change = 0.5 + 0.5 * (after - before) / np.abs(adversarial - clean).max()
        if channels == 1:  # red where brighter, blue where darker
            change = matplotlib.colormaps["RdBu_r"](change[..., 0])[..., :3]
        assert shown(figure, change, zoom)
    texts = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert texts == ["cat → dog"] * count


def test_a_montage_is_written_as_it_is(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3))
    red[..., 0] = 1.0
    save_figure(montage([[red, None]], ["row"], ["a", "b"], [["", ""]]), tmp_path / "m.png")
    # 4 x 4 pixels, each of 38 x 38: the layout scales by little, and blurs nothing.
    assert 0.8 * 152**2 < count_pixels(tmp_path / "m.png", (255, 0, 0)) < 2 * 152**2
    image = read_png(tmp_path / "m.png")
    assert not (
        (image[..., 0] == 255)
        & (image[..., 1] > 0)
        & (image[..., 1] < 255)
        & (image[..., 1] == image[..., 2])
    ).any()


def test_gallery_of_unchanged_images_is_grey(tmp_path: Path) -> None:
    images = np.full((1, 8, 8, 3), 0.25)
    reporting.plot_gallery(make_gallery(images, images), tmp_path / "g.png")
    assert count_pixels(tmp_path / "g.png", (127, 127, 127)) >= 0.8 * 152**2


@pytest.mark.parametrize(
    "clean, adversarial, names, words",
    [
        (np.zeros((2, 8, 8, 2)), np.zeros((2, 8, 8, 2)), {}, "1 or 3 channels"),
        (np.zeros((0, 8, 8, 1)), np.zeros((0, 8, 8, 1)), {}, "at least one image"),
        (np.zeros((2, 8, 8, 1)), np.zeros((1, 8, 8, 1)), {}, "same shape"),
        (np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8, 1)), {"labels": ["a"]}, "1 labels"),
        (np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), 1.5), {}, "max=1.5"),
        (np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), np.nan), {}, "adversarial"),
        (np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 8, 8, 1)), {}, "dtype=uint8"),
    ],
)
def test_gallery_refuses_other_arrays(
    clean: np.ndarray, adversarial: np.ndarray, names: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        reporting.plot_gallery(make_gallery(clean, adversarial, **names), tmp_path / "g.png")
    assert not os.listdir(tmp_path)


def test_distances_in_two_norms_are_no_one_curve() -> None:
    rows = [
        make_row("none"),
        *(
            make_row("none", "pgd", parameters={"epsilon": epsilon, "norm": norm})
            for epsilon, norm in ((0.1, "linf"), (0.2, "linf"), (1.0, "l2"))
        ),
    ]
    first, second = panels(rows)
    assert [row.strength[1] for row in first.series[0].rows] == [0.1, 0.2]
    assert [row.strength[1] for row in second.series[0].rows] == [1.0]
    table = reporting.format_table(rows)
    assert "norm=l2" in table and "norm=linf" in table
    assert "norm" not in reporting.format_table(rows[:3])
