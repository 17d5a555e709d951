"""Tests of the papers' figures: what the axes hold, and which pixels are shown."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rows import attacked, make_row, second_conv
from test_paper_ensembles import METHODS, ensemble_rows
from test_reporting_plots import shown

from rse_tf.evaluation import Gallery, Row
from rse_tf.papers import TABLES, write_table


def figure_of(name: str, rows: list[Row], galleries: list[Gallery] | None = None) -> Figure:
    figure = TABLES[name].figure(rows, galleries or [])
    assert figure is not None
    return figure


def lines(axes: Axes, label: str) -> list[tuple[list[float], list[float]]]:
    """The pieces of a curve, x and y, parted by NaN."""
    # Error bars are containers; their line has no name of its own.
    found = [bars[0] for bars in axes.containers if bars.get_label() == label and len(bars) == 3]
    found = found or [line for line in axes.get_lines() if line.get_label() == label]
    pieces: list[tuple[list[float], list[float]]] = []
    for line in found:
        pieces.append(([], []))
        for x, y in zip(*line.get_data()):
            if np.isnan(x):
                pieces.append(([], []))
            else:
                pieces[-1][0].append(float(x))
                pieces[-1][1].append(float(y))
    return [piece for piece in pieces if piece[0]]


def attacked_part(axes: Axes, label: str) -> dict[float, float]:
    """The last piece of a curve, the one under attack."""
    x, y = lines(axes, label)[-1]
    return dict(zip(x, y, strict=True))


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def test_figure_2_draws_measured_and_published_curves() -> None:
    rows = [attacked("rse", const, y) for const, y in ((0.1, 0.5), (1.0, 0.25))]
    rows += [make_row("rse", "none", 0.75), attacked("rse_test_noise_only", 1.0, 0.125)]
    figure = figure_of("rse/figure2", rows)
    (axes,) = figure.axes
    label = "noise in training and test (RSE)"
    (clean_x, clean_y), (x, y) = lines(axes, label)
    assert clean_y == [75.0] and clean_x[0] < 0.01  # left of every c
    assert (x, y) == ([0.1, 1.0], [50.0, 25.0])
    paper = attacked_part(axes, f"{label}, published")
    assert len(paper) == 16 and paper[0.1] == 61.875 and paper[100.0] == 0.1875
    assert lines(axes, f"{label}, published")[0][1] == [88.5625]
    assert attacked_part(axes, "noise in test only") == {1.0: 12.5}
    assert lines(axes, "noise in test only, published") == []
    assert lines(axes, "no noise (baseline)") == []  # not run; the paper's is drawn all the same
    baseline = attacked_part(axes, "no noise (baseline), published")
    assert baseline[0.01] == pytest.approx(30.375)
    assert axes.get_xscale() == "log"
    names = legend_of(figure)
    sweep = "published: Liu et al. 2018, authors' sweep with other settings: "
    assert f"{sweep}init_noise_at=second_conv (ours: first_conv)" in names
    assert not any("deviation" in name for name in names)


def test_the_authors_placement_is_drawn_only_where_measured_and_without_a_second_sweep() -> None:
    label = "RSE, init noise before 2nd convolution (ours)"
    assert label not in legend_of(figure_of("rse/figure2", [attacked("rse", 0.1)]))
    figure = figure_of("rse/figure2", [second_conv(attacked("rse", 0.1, 0.625))])
    assert label in legend_of(figure)
    assert attacked_part(figure.axes[0], label) == {0.1: 62.5}
    assert lines(figure.axes[0], f"{label}, published") == []


def test_error_bars_stand_for_several_seeds_only() -> None:
    rows = [attacked("rse", 0.1, 0.5, eval_seeds=3, accuracy_std=0.125), attacked("rse", 1.0)]
    figure = figure_of("rse/figure4", rows)
    (container,) = [c for c in figure.axes[0].containers if c.get_label() == "50-ensemble"]
    (bars,) = container[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments() if len(segment)]
    assert ends == [[37.5, 62.5]]  # c = 0.1, but not c = 1
    assert "standard deviation over evaluation seeds" in legend_of(figure)


def test_figure_5_draws_draws_on_a_logarithmic_axis() -> None:
    rows = [make_row("rse", "none", n / 64, num_draws=n) for n in (1, 5, 50)]
    (axes,) = figure_of("rse/figure5", rows).axes
    assert lines(axes, "init 0.4, inner 0.1") == [([1.0, 5.0, 50.0], [1.5625, 7.8125, 78.125])]
    assert lines(axes, "init 0.4, inner 0.1, published") == [([50.0], [88.5625])]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "number of draws averaged"


def test_figure_6_has_accuracies_above_and_distortions_below() -> None:
    place = {"dataset": "stl10", "model": "model_a"}
    figure = figure_of("rse/figure6", [attacked("none", 4.0, 0.25, rms_l2=1.5, **place)])
    assert [axes.get_title() for axes in figure.axes] == [
        f"{network}: {measure}"
        for measure in ("accuracy (%)", "RMS L2")
        for network in ("CIFAR-10, VGG16", "CIFAR-10, ResNeXt-29", "STL-10, Model A")
    ]
    accuracy, distortion = figure.axes[2], figure.axes[5]
    assert attacked_part(accuracy, "No defense") == {4.0: 25.0}
    assert attacked_part(distortion, "No defense") == {4.0: 1.5}
    assert lines(figure.axes[0], "No defense") == []
    for axes in figure.axes:  # five defenses, dashed
        names = {line.get_label() for line in axes.get_lines()}
        assert sum(str(name).endswith(", published") for name in names) == 5
    assert attacked_part(distortion, "RSE, published")[100.0] > 3  # the axis reaches that far
    assert distortion.get_ylim()[1] > 3 and distortion.get_ylim()[0] == 0


def test_ensembles_figure_2_has_a_bar_and_a_mark_for_each_number() -> None:
    rows = ensemble_rows()
    figure = figure_of("ensembles/figure2", rows)
    titles = ["MNIST, FGSM", "MNIST, BIM", "CIFAR-10, FGSM", "CIFAR-10, BIM"]
    assert [axes.get_title() for axes in figure.axes] == titles
    axes = figure.axes[3]
    bars = {c.get_label(): [bar.get_height() for bar in c] for c in axes.containers}
    own = {
        (row.defense, row.scored, row.gradient): row.score.accuracy
        for row in rows
        if row.dataset == "cifar10" and row.attack in ("bim", "none")
    }
    methods = [f"ensemble_{method}" for method in METHODS]
    for label, scored, gradient in (
        ("Grad. 1: Single", "single", "member"),
        ("Grad. 1: Ensemble", "ensemble", "member"),
        ("Grad. 2: Ensemble", "ensemble", "mean_loss"),
        ("Mean prob. (ours): Ensemble", "ensemble", "mean_probability"),
        ("No Attack: Single", "single", None),
        ("No Attack: Ensemble", "ensemble", None),
    ):
        assert bars[label] == [100 * own[method, scored, gradient] for method in methods]
        marks = lines(axes, f"{label}, published")
        assert (len(marks) == 0) == ("ours" in label)
        if marks:
            (container,) = [c for c in axes.containers if c.get_label() == label]
            centres = [bar.get_x() + bar.get_width() / 2 for bar in container]
            assert marks[0][0] == pytest.approx(centres)  # on the bars
    assert lines(axes, "Grad. 2: Ensemble, published")[0][1] == pytest.approx(
        [68.26, 67.68, 71.66, 72.77]
    )
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "Rand. Ini.",
        "Mix. Mod.",
        "Bagging",
        "Gauss Noise",
    ]


def test_zoo_has_bars_of_shares() -> None:
    parameters = {"const": 10.0, "noise": "fresh"}
    row = make_row("rse", "zoo", 0.75, success_rate=0.25, parameters=parameters)
    (axes,) = figure_of("rse/zoo", [row]).axes
    bars = {c.get_label(): c[0].get_height() for c in axes.containers}
    assert bars == {
        "clean accuracy (%)": 87.5,
        "accuracy (%)": 75.0,
        "success rate (%)": 25.0,
    }


def images(count: int, side: int, channels: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(50, 200, (count, side, side, channels)) / 255


def texts_of(figure: Figure) -> set[str]:
    axes = figure.axes[0]
    every = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
    return {text.get_text() for text in every}


def test_figure_7_shows_images_and_inverted_changes() -> None:
    clean = images(1, 32, 3, 0).repeat(2, axis=0)
    generator = np.random.default_rng(1)
    galleries = []
    for defense, targets in (("none", ["cat", "dog"]), ("rse", ["dog", "frog"])):
        change = generator.integers(-40, 41, clean.shape) / 255
        galleries.append(
            Gallery(defense, clean, clean + change, labels=["ship"] * 2, targets=targets)
        )
    figure = figure_of("rse/figure7", [], galleries)
    assert shown(figure, clean[0], zoom=5)
    for gallery in galleries:
        for after in gallery.adversarial:
            assert shown(figure, after, zoom=5)
            # All changes are multiples of 1 / 255 up to 40: more than 0.5 % are the largest.
            inverted = np.clip(1 - np.abs(after - clean[0]) * 255 / 40, 0, 1)
            assert shown(figure, inverted, zoom=5)
    texts = texts_of(figure)
    assert {"no defense", "RSE", "cat", "dog", "frog", "original: ship", "–"} <= texts
    square = np.sum((galleries[0].adversarial[0] - clean[0]) ** 2)
    assert f"squared L2 = {square:.2f}" in texts


def test_ensembles_figure_1_shows_classes_below_images() -> None:
    galleries, pairs = [], []
    for dataset, side, channels, count in (("mnist", 28, 1, 3), ("cifar10", 32, 3, 2)):
        pair = images(count, side, channels, 0), images(count, side, channels, 1)
        predicted = [f"{n} of {dataset}" for n in range(count)]
        names = {"labels": ["a", "b", "c"][:count], "predicted": predicted}
        galleries.append(Gallery("none", *pair, dataset=dataset, **names))
        pairs.append(pair)
    figure = figure_of("ensembles/figure1", [], galleries)
    assert all(shown(figure, image, zoom=5) for pair in pairs for kind in pair for image in kind)
    assert {"mnist\nclean", "cifar10\nadversarial", "a", "2 of mnist", "1 of cifar10"} <= texts_of(
        figure
    )


@pytest.mark.parametrize(
    "name, names", [("rse/figure7", "targets"), ("ensembles/figure1", "predicted")]
)
def test_galleries_must_name_every_image(name: str, names: str) -> None:
    pictures = images(2, 8, 1, 0)
    given: dict[str, Any] = {"labels": ["1", "2"], names: ["3"]}
    gallery = Gallery("rse", pictures, pictures, **given)
    with pytest.raises(ValueError, match=f"'rse' must have .*{names}.*1 {names}"):
        figure_of(name, [], [gallery])
    # Without names, the gallery belongs elsewhere.
    assert TABLES[name].figure([], [Gallery("rse", pictures, pictures)]) is None


@pytest.mark.parametrize("name", TABLES)
def test_figures_are_written_and_shown_in_the_text(name: str, tmp_path: pathlib.Path) -> None:
    pictures = images(2, 8, 3, 0)
    named: dict[str, Any] = {key: ["1", "2"] for key in ("labels", "predicted", "targets")}
    gallery = Gallery("none", pictures, pictures, dataset="cifar10", **named)
    paths = write_table(name, [attacked("none", 0.1)], tmp_path, "", [gallery])
    drawn = [path.name for path in paths if path.suffix == ".png"]
    start = name.replace("/", "_")
    assert drawn == ([f"{start}.png"] if "figure" in name or "zoo" in name else [])
    assert all(f"({picture})" in paths[0].read_text() for picture in drawn)
    assert sorted(paths) == sorted(tmp_path.iterdir())
