"""Tests of the papers' tables: which row and which published number stand in which cell."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from rse_tf.reporting import PAPER, Gallery, Row, format_exhibit, read_json, write_exhibit
from rse_tf.reporting.grid import Grid, Line, Setting
from rse_tf.reporting.rows import plain

PROTOCOL = {"steps": 300, "learning_rate": 1e-3, "targeted": False, "iterate": "last"}
TARGETED = {**PROTOCOL, "targeted": True, "const": 100.0, "steps": 1000, "learning_rate": 1e-2}
DEFENSES = ("rse", "adversarial_retraining", "robust_opt_brelu", "distillation", "none")
CONSTS = (0.01, 0.03, 0.06, 0.1, 0.2)
STRENGTHS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "fgsm"): {"epsilon": 0.3},
    ("mnist", "bim"): {"epsilon": 0.2, "step_size": 0.025, "steps": 8},
    ("cifar10", "fgsm"): {"epsilon": 0.03},
    ("cifar10", "bim"): {"epsilon": 0.02, "step_size": 0.0025, "steps": 8},
}
METHODS = ("random_init", "mixed", "bagging", "gauss_noise")


def make_row(defense: str, attack: str = "none", accuracy: float = 0.5, **changes: Any) -> Row:
    """A row on CIFAR-10 and VGG16; RSE comes in the setting of the paper's Table 1."""
    is_rse = defense == "rse"
    noise = {"init_noise": 0.4, "inner_noise": 0.1, "distribution": "gaussian"}
    values: dict[str, Any] = {
        "dataset": "cifar10",
        "model": "vgg16",
        "parameters": {},
        "noise": {**noise, "init_noise_at": "first_conv"} if is_rse else {},
        "accuracy_std": 0.0,
        "rms_l2": 0.0,
        "mean_l2": None,
        "median_l2": None,
        "mean_linf": None,
        "max_linf": 0.1,
        "success_rate": 0.5,
        "misclassified_clean": 0.125,
        "num_images": 1600,
        "num_draws": 50 if is_rse else 1,
        "eval_seeds": 1,
        "seconds": 1.0,
    }
    return Row(defense=defense, attack=attack, accuracy=accuracy, **{**values, **changes})


def attacked(defense: str, const: float, accuracy: float = 0.5, **changes: Any) -> Row:
    parameters = {"const": const, **PROTOCOL, **changes.pop("parameters", {})}
    return make_row(defense, "carlini_wagner", accuracy, parameters=parameters, **changes)


def second_conv(row: Row) -> Row:
    return Row(**{**row.to_json(), "noise": {**row.noise, "init_noise_at": "second_conv"}})


def ensemble_rows() -> list[Row]:
    """All rows of the second paper's Table 2, each with an accuracy of its own."""
    rows = []
    for dataset, model in (("mnist", "mnist_cnn"), ("cifar10", "cifar_cnn")):
        for method in METHODS:
            settings: list[tuple[str, dict[str, Any]]] = [
                ("none", {"scored": "single"}),
                ("none", {"scored": "ensemble"}),
            ]
            for attack in ("fgsm", "bim"):
                common = {**STRENGTHS[dataset, attack], "targeted": False, "attack_draws": 1}
                settings.append((attack, {**common, "scored": "single", "gradient": "member"}))
                for gradient in ("member", "mean_loss", "mean_probability"):
                    own = {**common, "scored": "ensemble", "gradient": gradient}
                    settings.append((attack, own))
            for attack, parameters in settings:
                place = {"dataset": dataset, "model": model}
                given = {"parameters": {"members": 10, **parameters}, **place}
                accuracy = (len(rows) + 1) / 128  # exact in percent, to two decimals or three
                rows.append(make_row(f"ensemble_{method}", attack, accuracy, **given))
    return rows


def tables(text: str) -> list[list[list[str]]]:
    """The tables of Markdown: header and lines of cells."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|:"):
            continue
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return found[:-1] if not found[-1] else found


def test_the_catalogue_has_every_table_and_figure() -> None:
    rse = ["table2", "table3", *(f"figure{number}" for number in range(2, 8)), "zoo"]
    ensembles = ["table2", "table4", "figure1", "figure2"]
    assert set(PAPER) == {f"rse/{n}" for n in rse} | {f"ensembles/{n}" for n in ensembles}


@pytest.mark.parametrize("name", PAPER)
def test_without_rows_only_the_papers_numbers_stand(name: str, tmp_path: pathlib.Path) -> None:
    paths = write_exhibit(name, [], tmp_path, "to come")
    text = paths[0].read_text()
    assert text.startswith(f"# {PAPER[name].title}\n\nto come\n\n")
    assert "– has not been run." in text and "Images per measured number" not in text
    for table in tables(text):
        for line in table[1:]:
            for cell in line[1:]:
                assert cell in ("–", "") or cell.startswith("– (") or not cell[0].isdigit()


def test_rse_table_2_puts_each_row_beside_its_number() -> None:
    rows = [
        attacked(defense, const, (10 * i + j) / 64, rms_l2=i + j / 8)
        for i, defense in enumerate(DEFENSES)
        for j, const in enumerate(CONSTS)
    ]
    table, sweep, distortion = tables(format_exhibit("rse/table2", rows[::-1], "head"))
    assert table[0] == ["defense", *(f"c = {const:g}" for const in CONSTS)]
    labels = [line[0] for line in table[1:]]
    assert labels[0] == "RSE" and labels[2:] == [
        "Adv retraining", "Robust Opt+BReLU", "Distill", "No defense",
    ]  # fmt: skip
    assert "2nd convolution (ours)" in labels[1]
    # (10 i + j) / 64 of defense i and const j, and the table as printed.
    assert table[1][1:] == [
        "0.00 (90.00)", "1.56 (86.06)", "3.12 (79.44)", "4.69 (67.19)", "6.25 (34.75)",
    ]  # fmt: skip
    assert table[2][1:] == [f"– ({n})" for n in ("90.00", "86.06", "79.44", "67.19", "34.75")]
    assert table[4][2] == "32.81 (47.93)"  # i = 2, j = 1: 21 / 64
    assert table[6][5] == "68.75 (2.19)"  # i = 4, j = 4: 44 / 64
    # The sweep has a clean column, and another number for RSE.
    assert sweep[0][1] == "clean" and sweep[1][1] == "– (88.56)"
    assert sweep[1][5] == "4.69 (61.88)"
    assert distortion[6][5] == "4.500 (0.191)"  # 4 + 4 / 8


def test_the_authors_placement_has_a_line_of_its_own() -> None:
    row = second_conv(attacked("rse", 0.1, 0.25))
    (table, *_) = tables(format_exhibit("rse/table2", [row], ""))
    assert table[1][4] == "– (67.19)" and table[2][4] == "25.00 (67.19)"


def test_other_settings_are_marked_and_named() -> None:
    row = attacked("none", 0.1, 0.25, parameters={"steps": 100}, num_images=100)
    text = format_exhibit("rse/table2", [row], "")
    assert tables(text)[0][6][4] == "25.00† (3.56)"
    assert "† is not the paper's setting: steps=100 instead of 300." in text
    # sqrt(0.5 * 0.5 / 100) = 0.05
    assert "with 100 images up to 5.0 points" in text
    # Once the paper's own setting is there, it takes the place, whatever the order.
    same = attacked("none", 0.1, 0.75)
    for rows in ([row, same], [same, row]):
        text = format_exhibit("rse/table2", rows, "")
        assert tables(text)[0][6][4] == "75.00 (3.56)" and "†" not in text


@pytest.mark.parametrize(
    "row",
    [
        attacked("none", 0.1, dataset="stl10"),
        attacked("none", 0.1, model="resnext29"),
        attacked("none", 0.1, parameters={"targeted": True}),
        attacked("none", 0.1, parameters={"attack_draws": 10}),
        attacked("none", 0.15),
        attacked("rse", 0.1, noise={"init_noise": 0.2, "inner_noise": 0.1}),
        attacked("rse", 0.1, num_draws=1),
    ],
    ids=lambda row: f"{row.dataset}-{row.model}-{row.num_draws}-{row.noise}-{row.parameters}",
)
def test_rows_of_other_tables_stay_out(row: Row) -> None:
    assert PAPER["rse/table2"].rows([row]) == []


def test_more_images_take_the_place_of_fewer() -> None:
    rows = [attacked("none", 0.1, n / 1000, num_images=n) for n in (500, 900, 200)]
    assert PAPER["rse/table2"].rows(rows) == [rows[1]]


def test_spread_over_seeds_is_shown() -> None:
    row = attacked("rse", 0.1, 0.625, eval_seeds=3, accuracy_std=0.0125)
    text = format_exhibit("rse/table2", [row], "")
    assert tables(text)[0][1][4] == "62.50 ± 1.25 (67.19)"
    assert "± is the standard deviation" in text


@pytest.mark.parametrize("name", ["rse/table3", "rse/figure7"])
def test_table_3_squares_distortions(name: str) -> None:
    # The paper's order of classes, under the data set's names.
    targets = "bird automobile cat deer dog frog horse airplane truck".split()
    rows = [
        make_row(
            defense,
            "carlini_wagner",
            accuracy=float(defense == "rse" and target == "truck"),
            parameters={**TARGETED, "target": target},
            rms_l2=i + j / 8,
            num_images=1,
        )
        for i, defense in enumerate(reversed(DEFENSES))
        for j, target in enumerate(targets)
    ]
    text = format_exhibit(name, rows, "")
    (table,) = tables(text)
    assert table[0][1:] == "bird car cat deer dog frog horse plane truck".split()
    assert [line[0] for line in table[1:]] == [
        "No defense", "Defensive distill", "Adv. retraining", "Robust Opt. + BReLU", "RSE",
    ]  # fmt: skip
    assert table[1][1:3] == ["0.00 (1.94)", "0.02 (0.31)"]  # (1 / 8)**2
    assert table[2][3] == "1.56 (13.78)"  # distillation is i = 1, cat j = 2: (10 / 8)**2
    assert table[3][1] == "9.00 (2.58)"  # adversarial retraining is i = 3
    assert table[4][1] == "4.00 (17.11)"  # robust optimisation is i = 2
    assert table[5][9] == "25.00‡ (22.15)"  # (4 + 8 / 8)**2, and the image is still a ship
    assert "‡: the attack failed" in text


def test_figure_2_has_a_line_per_strength_and_a_column_per_kind_of_noise() -> None:
    names = ("rse", "rse_train_noise_only", "rse_test_noise_only", "none")
    rows = [make_row(name, "none", (i + 1) / 8) for i, name in enumerate(names)]
    rows += [attacked(name, 0.05, (i + 1) / 16) for i, name in enumerate(names)]
    (table,) = tables(format_exhibit("rse/figure2", rows, ""))
    assert len(table) == 1 + 17 + 1  # the sweep's strengths with c = 0, and ours
    assert table[1] == ["clean", "12.50 (88.56)", "25.00", "37.50", "50.00 (92.00)"]
    assert table[4] == ["c = 0.05", "6.25", "12.50", "18.75", "25.00"]
    assert table[5] == ["c = 0.06", "– (75.75)", "–", "–", "– (5.06)"]


def test_figure_3_has_a_column_per_level_of_noise() -> None:
    def noise(init_noise: float, inner_noise: float) -> dict[str, Any]:
        return {"init_noise": init_noise, "inner_noise": inner_noise, "distribution": "gaussian"}

    levels = [(0.4, 0.1), (0.1, 0.2), (0.1, 0.05)]
    rows = [attacked("rse", 1.0, (i + 1) / 8, noise=noise(*x)) for i, x in enumerate(levels)]
    (table,) = tables(format_exhibit("rse/figure3", rows, ""))
    assert table[0] == [
        "attack", "no noise", "init 0.1, inner 0.05", "init 0.1, inner 0.2", "init 0.4, inner 0.1",
    ]  # fmt: skip
    (line,) = [line for line in table if line[0] == "c = 1"]
    assert line == ["c = 1", "– (0.62)", "37.50", "25.00", "12.50 (0.75)"]


def test_figures_4_and_5_part_by_the_number_of_draws() -> None:
    rows = [attacked("rse", 0.1, n / 64, num_draws=n) for n in (1, 50)]
    (table,) = tables(format_exhibit("rse/figure4", rows, ""))
    (line,) = [line for line in table if line[0] == "c = 0.1"]
    assert line == ["c = 0.1", "1.56", "78.12 (61.88)"]

    rows = [make_row("rse", "none", n / 64, num_draws=n) for n in (1, 2, 7, 50)]
    (table,) = tables(format_exhibit("rse/figure5", rows, ""))
    assert table[0] == ["draws", "init 0.4, inner 0.1"]
    assert [line[0] for line in table[1:]] == ["1", "2", "5", "7", "10", "20", "50"]
    assert table[1][1] == "1.56" and table[3][1] == "–" and table[7][1] == "78.12 (88.56)"


def test_figure_6_has_two_tables_for_each_network() -> None:
    row = attacked("none", 4.0, 0.25, dataset="stl10", model="model_a", rms_l2=1.5)
    found = tables(format_exhibit("rse/figure6", [row], ""))
    assert len(found) == 6
    lines = [next(line for line in table if line[0] == "c = 4") for table in found]
    assert lines[2][-1] == "25.00 (3.94)" and lines[5][-1] == "1.500 (1.037)"
    assert all(line[-1].startswith("–") for line in (lines[0], lines[1], lines[3], lines[4]))


def test_ensembles_table_2_has_all_rows_in_the_papers_places() -> None:
    rows = ensemble_rows()
    found = tables(format_exhibit("ensembles/table2", rows[::-1], ""))
    number = 0
    for table, paper in zip(found, (("99.12", "90.76"), ("79.84", "67.68")), strict=True):
        assert [line[:2] for line in table[1:]] == [
            [attack if method == "Rand. Ini." else "", method]
            for attack in ("FGSM", "BIM")
            for method in ("Rand. Ini.", "Mix. Mod.", "Bagging", "Gauss Noise")
        ]
        for line in range(4):
            # As `ensemble_rows` makes them: 2 clean, then 4 of FGSM, then 4 of BIM.
            own = [f"{100 * (number + k + 1) / 128:.2f}" for k in range(10)]
            number += 10
            fgsm, bim = ([cell.split()[0] for cell in table[line + k][2:]] for k in (1, 5))
            assert fgsm == own[:2] + own[2:6] and bim == own[:2] + own[6:]
        assert table[1][2].endswith(f"({paper[0]})") and table[6][6].endswith(f"({paper[1]})")
        assert all("(" not in line[7] for line in table[1:])  # not in the paper


def test_ensembles_table_4_sets_single_networks_beside_ensembles() -> None:
    place = {"dataset": "cifar10", "model": "cifar_cnn"}
    strength = STRENGTHS["cifar10", "bim"]
    ensemble = {"members": 10, "scored": "ensemble"}
    rows = [
        make_row("distillation", "bim", 0.125, parameters=strength, **place),
        make_row("adversarial_training", "none", 0.25, **place),
        *(
            make_row(
                "ensemble_bagging+distillation",
                "bim",
                accuracy,
                parameters={**strength, **ensemble, "gradient": gradient},
                **place,
            )
            for gradient, accuracy in (("mean_loss", 0.5), ("mean_probability", 0.375))
        ),
        make_row("ensemble_bagging", "none", 0.625, parameters=ensemble, **place),
    ]
    main, ours = tables(format_exhibit("ensembles/table4", rows, ""))
    assert [line[0] for line in main[1:]] == [
        "Bagging", "Adv. Train.", "Def. Dist.", "Bagging + Adv. Train.", "Bagging + Def. Dist.",
    ]  # fmt: skip
    assert main[1][1:] == [
        "– (99.27)", "– (57.16)", "– (92.33)", "62.50 (84.15)", "– (35.71)", "– (71.66)",
    ]  # fmt: skip
    assert main[2][4] == "25.00 (77.12)" and main[3][6] == "12.50 (36.35)"
    assert main[5][6] == "50.00 (45.69)"
    assert ours[0][1:] == ["MNIST: FGSM", "MNIST: BIM", "CIFAR-10: FGSM", "CIFAR-10: BIM"]
    assert ours[3] == ["Bagging + Def. Dist.", "–", "–", "–", "37.50"]


def test_the_small_mnist_stands_in_for_the_whole_and_is_marked() -> None:
    row = next(row for row in ensemble_rows() if row.parameters.get("gradient") == "member")
    small = Row(**{**row.to_json(), "dataset": "mnist_5k"})
    text = format_exhibit("ensembles/table2", [small], "")
    assert tables(text)[0][1][4] == f"{100 * row.accuracy:.2f}† (37.91)"
    assert "dataset=mnist_5k instead of mnist" in text


def test_zoo_has_a_line_per_setting_and_what_is_missing() -> None:
    def zoo(defense: str, noise: str, **changes: Any) -> Row:
        return make_row(defense, "zoo", parameters={"const": 10.0, "noise": noise}, **changes)

    numbers = {"accuracy": 0.75, "success_rate": 0.25, "mean_l2": 0.5, "mean_queries": 1234.4}
    rows = [zoo("rse", "fresh", **numbers), zoo("none", "fresh", accuracy=0.125)]
    (table,) = tables(format_exhibit("rse/zoo", rows, ""))
    assert table[1:] == [
        ["no defense, noise=fresh, c = 10", "87.50", "12.50", "50.00", "–", "–"],
        ["RSE, noise=fresh, c = 10", "87.50", "75.00", "25.00", "0.500", "1234"],
        ["RSE, noise=common", "–", "–", "–", "–", "–"],
    ]


def test_zoo_keeps_settings_apart_and_in_order() -> None:
    rows = [
        make_row("rse", "zoo", parameters={"const": const, "noise": noise, "steps": steps})
        for noise in ("common", "fresh")
        for const, steps in ((10.0, 200), (1.0, 200), (1.0, 100))
    ]
    (table,) = tables(format_exhibit("rse/zoo", rows, ""))
    assert [line[0] for line in table[1:]] == [
        *(
            f"RSE, noise={noise}, steps={steps}, c = {const}"
            for noise in ("fresh", "common")
            for const, steps in ((1, 200), (1, 100), (10, 200))
        ),
        "no defense",
    ]


def test_rows_that_all_belong_elsewhere_are_named() -> None:
    text = format_exhibit("rse/table2", [make_row("none", dataset="mnist_5k", model="cnn")], "")
    assert "None of the 1 rows belongs here: they are of mnist_5k with cnn." in text


def test_figure_1_lists_predictions() -> None:
    images = np.zeros((2, 4, 4, 1))
    gallery = Gallery(
        "none", images, images, ["", ""], dataset="mnist", labels="01", predicted="68"
    )
    text = format_exhibit("ensembles/figure1", [], "", [gallery])
    assert "Ours, MNIST, class → prediction: 0 → 6, 1 → 8." in text
    assert "The paper's ten MNIST images are predicted: 6, 8, 1, 5, 9, 3, 0, 2, 2, 4." in text


def test_csv_and_json_hold_the_rows_of_the_table_alone(tmp_path: pathlib.Path) -> None:
    rows = [attacked("none", 0.1, 0.25), attacked("none", 0.15), make_row("none", "none", 0.5)]
    flags = {"seed": 3}
    paths = write_exhibit("rse/table2", rows, tmp_path, "", flags=flags, versions={"x": "1"})
    assert [path.name for path in paths] == [
        f"rse_table2.{ending}" for ending in ("md", "csv", "json")
    ]
    assert paths == sorted(tmp_path.iterdir(), key=lambda path: "mcj".index(path.suffix[1]))
    with open(paths[1], newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    # The table of strengths first; clean numbers come with the sweep below it.
    assert [float(line["accuracy"]) for line in lines] == [0.25, 0.5]
    assert float(lines[0]["published_accuracy"]) == 0.035625
    result = read_json(paths[2])
    assert result == ([rows[0], rows[2]], {"exhibit": "rse/table2", "seed": 3}, {"x": "1"})
    assert json.loads(paths[2].read_text())["rows"][0]["published"]["accuracy"] == 0.035625


def test_unknown_exhibits_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="rse/table2, .*Received: 'rse/table9'"):
        format_exhibit("rse/table9", [], "")
    with pytest.raises(ValueError, match="Received: 'table2'"):
        write_exhibit("table2", [], tmp_path, "")


def test_a_setting_looks_like_a_row_and_a_grid_lets_columns_win() -> None:
    setting = Setting({"defense": "rse", "init_noise": 0.4, "const": 1.0, "num_draws": 50})
    assert (setting.defense, setting.num_draws) == ("rse", 50)
    assert setting.noise == {"init_noise": 0.4} and setting.parameters == {"const": 1.0}
    line = Line("line", {"attack": "fgsm", "epsilon": 0.3})
    column = Line("column", {"attack": "none", "epsilon": None})
    grid = Grid("title", "corner", (line,), (column,), {"defense": "none"})
    row = make_row("none")
    assert grid.cells([row])[0][0].row is row
    assert plain(setting.parameters, "parameters") == {"const": 1.0}
