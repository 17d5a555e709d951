"""Pictures stand alone: headings, curves that hide each other, verdicts, file formats."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rows import attacked, change, make_row

from rse_tf import reporting
from rse_tf.evaluation import Gallery, Row
from rse_tf.papers import TABLES
from rse_tf.reporting.drawing import wrapped
from rse_tf.reporting.heading import counts_of, heading_of
from rse_tf.reporting.plots import draw_accuracy_vs_strength
from rse_tf.reporting.saving import save_figure


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures themselves instead of files."""
    figures: list[Figure] = []
    for room in ("plots", "gallery"):
        name = f"rse_tf.reporting.{room}.save_figure"
        monkeypatch.setattr(name, lambda figure, *_: figures.append(figure))
    return figures


def trained(row: Row, epochs: int, **changes: Any) -> Row:
    return change(row, training={"epochs": epochs}, **changes)


def test_a_heading_says_what_was_attacked_how_often_and_on_what() -> None:
    rows = [trained(make_row("none"), 8), trained(attacked("rse", 0.1), 8, num_draws=50)]
    assert heading_of(rows) == (
        "CIFAR-10, vgg16, Carlini-Wagner L2",
        "1,600 images, 8 epochs, 50 draws",
        "",
    )
    # What is not the same in all rows is a range, or left out.
    rows += [trained(make_row("rse", "fgsm", num_images=100, num_draws=1), 20)]
    assert heading_of(rows) == (
        "CIFAR-10, vgg16",
        "100 to 1,600 images, 8 to 20 epochs, 1 to 50 draws",
        "",
    )
    assert counts_of([make_row("none", num_images=1)]) == "1 image"


def test_norms_have_axes_of_their_own() -> None:
    rows = [
        make_row("x", "pgd", parameters={"epsilon": epsilon, "norm": norm})
        for norm, epsilons in (("linf", (0.1, 0.2)), ("l2", (1.0, 2.0)))
        for epsilon in epsilons
    ]
    figure = draw_accuracy_vs_strength(rows)
    assert figure.get_suptitle().startswith("CIFAR-10, vgg16, PGD\n")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["L-infinity", "L2"]


@pytest.mark.parametrize(
    "epochs, images, words",
    [
        (8, 100, ""),
        (1, 100, "Trial run (1 epoch)"),
        (8, 20, "Trial run (20 images)"),
        (1, 20, "Trial run (1 epoch, 20 images)"),
        (8, 1, ""),  # a single image is what the papers' Table 3 is of
    ],
)
def test_a_trial_run_says_so_in_every_picture(
    epochs: int, images: int, words: str, saved: list[Figure]
) -> None:
    rows = [trained(attacked("rse", 0.1), epochs, num_images=images)]
    pictures = np.zeros((1, 8, 8, 1))
    reporting.plot_accuracy_vs_strength(rows, "")
    reporting.plot_accuracy_vs_l2(rows, "")
    reporting.plot_gallery(Gallery("rse", pictures, pictures), "", rows=rows)
    for figure in saved:
        heading = figure.get_suptitle().replace("\n", " ")
        assert (words in heading) and ("Trial" in heading) == bool(words)


def test_a_stand_in_for_the_papers_network_says_so_in_the_figure() -> None:
    smoke = {"dataset": "mnist_5k", "model": "mnist_cnn", "num_images": 20}
    rows = [trained(make_row("rse", num_draws=n, **smoke), 1) for n in (1, 5)]
    figure = TABLES["rse/figure5"].figure(rows, [])
    assert figure is not None
    heading = figure.get_suptitle().replace("\n", " ")
    assert heading.startswith("Figure 5 of Liu et al. (2018)")
    assert "Trial run (1 epoch, 20 images)" in heading
    assert "dataset=mnist_5k instead of cifar10; model=mnist_cnn instead of vgg16" in heading
    real = TABLES["rse/figure5"].figure([trained(make_row(), 200)], [])
    assert real is not None and real.get_suptitle().endswith("\n1,600 images, 200 epochs, 50 draws")


def curves(figure: Figure) -> dict[str, Any]:
    (axes,) = figure.axes
    return {bars.get_label(): bars[0] for bars in axes.containers}


@pytest.mark.parametrize(
    "plot", [reporting.plot_accuracy_vs_strength, reporting.plot_accuracy_vs_l2]
)
def test_a_single_strength_is_a_point(plot: Any, saved: list[Figure]) -> None:
    def row(epsilon: float) -> Row:
        return make_row("x", "fgsm", parameters={"epsilon": epsilon}, rms_l2=epsilon)

    plot([make_row("x"), row(0.1)], "")
    plot([make_row("x"), row(0.1), row(0.2)], "")
    single, swept = (curves(figure)["x"].get_xdata() for figure in saved)
    assert [math.isnan(x) for x in single] == [False, True, False]  # parted: no line
    assert list(swept) == [0, 0.1, 0.2]


def test_a_single_strength_is_named_below_its_points(saved: list[Figure]) -> None:
    reporting.plot_accuracy_vs_strength([make_row("x"), attacked("x", 0.5)], "")
    labels = [text.get_text() for text in saved[0].axes[0].get_xticklabels()]
    assert labels == ["clean", "c = 0.5"]


def test_curves_that_lie_on_each_other_are_told_apart(saved: list[Figure]) -> None:
    values = {"low": (0.5, 0.25), "same": (0.5, 0.25), "touching": (0.9, 0.25), "apart": (1.0, 0.8)}
    rows = [
        attacked(name, const, accuracy)
        for name, pair in values.items()
        for const, accuracy in zip((0.1, 1.0), pair)
    ]
    reporting.plot_accuracy_vs_strength(rows, "")
    lines = curves(saved[0])
    widths = {name: (line.get_markersize(), line.get_linewidth()) for name, line in lines.items()}
    # Below two others at c = 1, and below one of them all along.
    assert widths["low"][0] > widths["same"][0] > widths["touching"][0] == widths["apart"][0]
    assert widths["low"][1] > widths["same"][1] == widths["touching"][1] == widths["apart"][1]
    assert lines["low"].get_zorder() < lines["same"].get_zorder() < lines["touching"].get_zorder()


def test_long_names_break_where_a_part_of_them_ends() -> None:
    name = "ensembles/table4/cifar10_bagging+adversarial_training"
    label = wrapped(f"{name}, gradient=mean_probability, no defense")
    lines = label.split("\n")
    assert max(map(len, lines)) <= 27
    assert "".join(lines).startswith(name) and lines[-1].endswith("defense")
    assert lines[0] == "ensembles/table4/"
    assert "num_draws=50" in wrapped("a label, num_draws=50").split("\n")[0]


@pytest.mark.parametrize("count", [2, 90])
def test_every_entry_of_a_legend_lies_within_the_figure(count: int, saved: list[Figure]) -> None:
    name = "ensembles/table4/cifar10_bagging+adversarial_training"
    rows = [change(make_row(), run=f"{name}/{number}") for number in range(count)]
    reporting.plot_accuracy_vs_strength(rows, "")
    (figure,) = saved
    FigureCanvasAgg(figure).draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y0 >= 0 and box.y1 <= figure.bbox.height
    assert figure.axes[0].bbox.height > 200  # the axes are not squeezed
    assert figure.get_figheight() < 0.5 * count or count < 10


def test_seventy_curves_all_look_different(saved: list[Figure]) -> None:
    reporting.plot_accuracy_vs_strength([make_row(f"d{i}") for i in range(70)], "")
    looks = {(line.get_color(), line.get_marker()) for line in curves(saved[0]).values()}
    assert len(looks) == 70


def test_the_interval_of_the_images_is_drawn_and_named(saved: list[Figure]) -> None:
    ends = {"accuracy_low": 0.25, "accuracy_high": 0.75}
    reporting.plot_accuracy_vs_strength([attacked("x", 1.0, 0.5, **ends), make_row("x")], "")
    (axes,) = saved[0].axes
    bars = [path.vertices[:, 1].tolist() for part in axes.collections for path in part.get_paths()]
    assert [25, 75] in bars
    words = " ".join(text.get_text() for text in saved[0].legends[0].get_texts())
    assert "95 % interval over the choice of the images" in words.replace("\n", " ")


def test_heading_and_legend_lie_within_the_figure_and_apart(saved: list[Figure]) -> None:
    row = dataclasses.replace(trained(attacked("rse", 1.0), 1, num_images=20), run="a/long/name")
    reporting.plot_accuracy_vs_strength([row, change(row, run="another/long/name")], "")
    (figure,) = saved
    FigureCanvasAgg(figure).draw()
    (heading,) = [text for text in figure.texts if "Trial" in text.get_text()]
    title, legend = heading.get_window_extent(), figure.legends[0].get_window_extent()
    assert title.x0 >= 0 and title.x1 < legend.x0 and legend.x1 <= figure.bbox.width
    assert title.y1 <= figure.bbox.height and title.y0 > figure.axes[0].bbox.y1


def test_a_gallery_names_its_attack_and_marks_what_failed(saved: list[Figure]) -> None:
    clean = np.full((3, 8, 8, 1), 0.5)
    after = clean + np.array([0.25, -0.125, 0.0]).reshape(3, 1, 1, 1)
    names = {"labels": ["cat", "dog", "cow"], "predicted": ["dog", "dog", "cow"]}
    about = {
        "dataset": "cifar10",
        "model": "vgg16",
        "attack": "carlini_wagner",
        "strength": "const=10",
    }
    rows = [trained(attacked("rse", 10.0), 8)]
    reporting.plot_gallery(Gallery("rse", clean, after, **about, **names), "", rows=rows)
    aims = {**names, "targets": ["dog", "cow", "cow"]}
    reporting.plot_gallery(Gallery("rse", clean, after, **about, **aims), "")
    untargeted, targeted = saved
    assert untargeted.get_suptitle().splitlines() == [
        "RSE under Carlini-Wagner L2, c = 10",
        "CIFAR-10, vgg16, 1,600 images, 8 epochs, 50 draws",
    ]
    titles = [
        [text.get_text().replace("\n", " ") for text in figure.axes[0].get_xticklabels()]
        for figure in saved
    ]
    failed = "attack failed"
    assert titles[0] == ["cat → dog", f"dog → dog {failed}", f"cow → cow {failed}"]
    assert titles[1] == [
        "cat → dog (aim: dog)",
        f"dog → dog (aim: cow) {failed}",
        "cow → cow (aim: cow)",
    ]
    texts = [text.get_text() for text in untargeted.axes[0].texts]
    assert [text for text in texts if text] == ["L2 = 2", "L2 = 1", "unchanged"]  # 8 * |change|
    assert untargeted.axes[1].get_ylim() == (-0.25, 0.25)  # the colour bar


def test_the_same_figure_makes_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        reporting.plot_accuracy_vs_strength(
            [attacked()], tmp_path / folder / "x.png", reporting.FIGURE_FORMATS
        )
    for ending in reporting.FIGURE_FORMATS:
        first, second = ((tmp_path / folder / f"x.{ending}").read_bytes() for folder in "ab")
        assert first == second
    with pytest.raises(ValueError, match="png, pdf, svg. Received: .'gif'"):
        save_figure(Figure(), tmp_path / "x", ("gif",))
