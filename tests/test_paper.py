"""Tests of the papers' tables: what stands in a cell, and the files that are written."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import pytest

from rse_tf.reporting import PAPER, Row, format_exhibit, read_json, write_exhibit
from rse_tf.reporting.grid import Grid, Line, Setting
from rse_tf.reporting.rows import plain

PROTOCOL = {"steps": 300, "learning_rate": 1e-3, "targeted": False, "iterate": "last"}


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


def test_other_settings_are_marked_and_named() -> None:
    row = attacked("none", 0.1, 0.25, parameters={"steps": 100}, num_images=100)
    text = format_exhibit("rse/table2", [row], "")
    assert tables(text)[0][6][4] == "25.00† (3.56)"
    assert "† is not the paper's setting: steps=100 instead of 300." in text
    # sqrt(0.5 * 0.5 / 100) = 0.05
    assert "with 100 images up to 5.0 points" in text
    # Once the paper's own setting is there, it takes the place, whatever the order.
    same = attacked("none", 0.1, 0.75)
    more = attacked("none", 0.1, 0.5, parameters={"steps": 100}, num_images=5000)
    for rows in ([row, same, more], [more, same, row]):
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


def test_rows_that_all_belong_elsewhere_are_named() -> None:
    text = format_exhibit("rse/table2", [make_row("none", dataset="mnist_5k", model="cnn")], "")
    assert "None of the 1 rows belongs here: they are of mnist_5k with cnn." in text


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
