"""Tests of the first paper's tables: which row and which number stand in which cell."""

from __future__ import annotations

from typing import Any

import pytest
from rows import NOISE, attacked, make_row, second_conv, targeted
from test_paper import tables

from rse_tf.evaluation import Row
from rse_tf.papers import TABLES

DEFENSES = ("rse", "adversarial_retraining", "robust_opt_brelu", "distillation", "none")
CONSTS = (0.01, 0.03, 0.06, 0.1, 0.2)


def test_rse_table_2_puts_each_row_beside_its_number() -> None:
    rows = [
        attacked(defense, const, (10 * i + j) / 64, rms_l2=i + j / 8)
        for i, defense in enumerate(DEFENSES)
        for j, const in enumerate(CONSTS)
    ]
    table, sweep, distortion = tables(TABLES["rse/table2"].format(rows[::-1], "head"))
    assert table[0] == ["defense", *(f"c = {const:g}" for const in CONSTS)]
    labels = [line[0] for line in table[1:]]
    assert labels[0] == "RSE" and labels[2:] == [
        "Adv retraining",
        "Robust Opt+BReLU",
        "Distill",
        "No defense",
    ]
    assert "2nd convolution (ours)" in labels[1]
    # (10 i + j) / 64 of defense i and const j, and the table as printed.
    assert table[1][1:] == [
        "0.00 (90.00)",
        "1.56 (86.06)",
        "3.12 (79.44)",
        "4.69 (67.19)",
        "6.25 (34.75)",
    ]
    # The table's noise is said to be before the first convolution, the sweep's is not.
    assert table[2][1:] == [f"– ({n}§)" for n in ("90.00", "86.06", "79.44", "67.19", "34.75")]
    assert table[4][2] == "32.81 (47.93)"  # i = 2, j = 1: 21 / 64
    assert table[6][5] == "68.75 (2.19)"  # i = 4, j = 4: 44 / 64
    # The sweep has a clean column, and another number for RSE.
    assert sweep[0][1] == "clean" and sweep[1][1] == "– (88.56§)"
    assert sweep[1][5] == "4.69 (61.88§)"
    assert distortion[6][5] == "4.500 (0.191)"  # 4 + 4 / 8


def test_the_authors_placement_has_a_line_of_its_own() -> None:
    row = second_conv(attacked("rse", 0.1, 0.25))
    (table, *_) = tables(TABLES["rse/table2"].format([row], ""))
    assert table[1][4] == "– (67.19)" and table[2][4] == "25.00 (67.19§)"


@pytest.mark.parametrize("name", ["rse/table3", "rse/figure7"])
def test_table_3_squares_distortions(name: str) -> None:
    # The paper's order of classes, under the data set's names.
    targets = "bird automobile cat deer dog frog horse airplane truck".split()
    rows = [
        targeted(
            defense,
            target,
            accuracy=float(defense == "rse" and target == "truck"),
            rms_l2=i + j / 8,
        )
        for i, defense in enumerate(reversed(DEFENSES))
        for j, target in enumerate(targets)
    ]
    text = TABLES[name].format(rows, "")
    (table,) = tables(text)
    assert table[0][1:] == "bird car cat deer dog frog horse plane truck".split()
    assert [line[0] for line in table[1:]] == [
        "No defense",
        "Defensive distill",
        "Adv. retraining",
        "Robust Opt. + BReLU",
        "RSE",
    ]
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
    (table,) = tables(TABLES["rse/figure2"].format(rows, ""))
    assert len(table) == 1 + 17 + 1  # the sweep's strengths with c = 0, and ours
    assert table[1] == ["clean", "12.50 (88.56§)", "25.00", "37.50", "50.00 (92.00)"]
    assert table[4] == ["c = 0.05", "6.25", "12.50", "18.75", "25.00"]
    assert table[5] == ["c = 0.06", "– (75.75§)", "–", "–", "– (5.06)"]


def test_figure_3_has_a_column_per_level_of_noise() -> None:
    def noise(init_noise: float, inner_noise: float) -> dict[str, Any]:
        return {**NOISE, "init_noise": init_noise, "inner_noise": inner_noise}

    levels = [(0.4, 0.1), (0.1, 0.2), (0.1, 0.05)]
    rows = [attacked("rse", 1.0, (i + 1) / 8, noise=noise(*x)) for i, x in enumerate(levels)]
    (table,) = tables(TABLES["rse/figure3"].format(rows, ""))
    assert table[0] == [
        "attack",
        "no noise",
        "init 0.1, inner 0.05",
        "init 0.1, inner 0.2",
        "init 0.4, inner 0.1",
    ]
    (line,) = [line for line in table if line[0] == "c = 1"]
    assert line == ["c = 1", "– (0.62)", "37.50", "25.00", "12.50 (0.75§)"]


def test_figures_4_and_5_part_by_the_number_of_draws() -> None:
    rows = [attacked("rse", 0.1, n / 64, num_draws=n) for n in (1, 50)]
    (table,) = tables(TABLES["rse/figure4"].format(rows, ""))
    (line,) = [line for line in table if line[0] == "c = 0.1"]
    assert line == ["c = 0.1", "1.56", "78.12 (61.88§)"]

    rows = [make_row("rse", "none", n / 64, num_draws=n) for n in (1, 2, 7, 50)]
    (table,) = tables(TABLES["rse/figure5"].format(rows, ""))
    assert table[0] == ["draws", "init 0.4, inner 0.1"]
    assert [line[0] for line in table[1:]] == ["1", "2", "5", "7", "10", "20", "50"]
    assert table[1][1] == "1.56" and table[3][1] == "–" and table[7][1] == "78.12 (88.56§)"


def test_figure_6_has_two_tables_for_each_network() -> None:
    found = tables(TABLES["rse/figure6"].format([], ""))
    lines = [next(line for line in table if line[0] == "c = 4") for table in found]
    assert len(lines) == 6 and all(line[-1].startswith("–") for line in lines)
    # Of the networks, only those with rows.
    row = attacked("none", 4.0, 0.25, dataset="stl10", model="model_a", rms_l2=1.5)
    text = TABLES["rse/figure6"].format([row], "")
    lines = [next(line for line in table if line[0] == "c = 4") for table in tables(text)]
    assert [line[-1] for line in lines] == ["25.00 (3.94)", "1.500 (1.037)"]
    assert text.count("- Not run: CIFAR-10, VGG16: accuracy (%); ") == 1


def test_zoo_has_a_line_per_setting_and_what_is_missing() -> None:
    def zoo(defense: str, noise: str, **changes: Any) -> Row:
        return make_row(defense, "zoo", parameters={"const": 10.0, "noise": noise}, **changes)

    numbers = {"accuracy": 0.75, "success_rate": 0.25, "mean_l2": 0.5, "mean_queries": 1234.4}
    rows = [zoo("rse", "fresh", **numbers), zoo("none", "fresh", accuracy=0.125)]
    (table,) = tables(TABLES["rse/zoo"].format(rows, ""))
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
    (table,) = tables(TABLES["rse/zoo"].format(rows, ""))
    assert [line[0] for line in table[1:]] == [
        *(
            f"RSE, noise={noise}, steps={steps}, c = {const}"
            for noise in ("fresh", "common")
            for const, steps in ((1, 200), (1, 100), (10, 200))
        ),
        "no defense",
    ]
