"""Tests of the papers' tables: what stands in a cell, and the files that are written."""

from __future__ import annotations

import csv
import json
import pathlib

import pytest
from rows import attacked, make_row

from rse_tf.evaluation import Row
from rse_tf.papers import TABLES, write_table
from rse_tf.papers.table import Header, Table
from rse_tf.reporting import read_json


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
    assert set(TABLES) == {f"rse/{n}" for n in rse} | {f"ensembles/{n}" for n in ensembles}


@pytest.mark.parametrize("name", TABLES)
def test_without_rows_only_the_papers_numbers_stand(name: str, tmp_path: pathlib.Path) -> None:
    paths = write_table(name, [], tmp_path, "to come")
    text = paths[0].read_text()
    assert text.startswith(f"# {TABLES[name].title}\n\nto come\n\n")
    assert "– has not been run." in text and "Images per measured number" not in text
    for table in tables(text):
        for line in table[1:]:
            for cell in line[1:]:
                assert cell in ("–", "") or cell.startswith("– (") or not cell[0].isdigit()


def test_other_settings_are_marked_and_named() -> None:
    row = attacked("none", 0.1, 0.25, parameters={"steps": 100}, num_images=100)
    text = TABLES["rse/table2"].format([row], "")
    assert tables(text)[0][6][4] == "25.00† (3.56)"
    assert "† is not the paper's setting: steps=100 instead of 300." in text
    # sqrt(0.5 * 0.5 / 100) = 0.05
    assert "with 100 images up to 5.0 points" in text
    # Once the paper's own setting is there, it takes the place, whatever the order.
    same = attacked("none", 0.1, 0.75)
    more = attacked("none", 0.1, 0.5, parameters={"steps": 100}, num_images=5000)
    for rows in ([row, same, more], [more, same, row]):
        text = TABLES["rse/table2"].format(rows, "")
        assert tables(text)[0][6][4] == "75.00 (3.56)" and "†" not in text


@pytest.mark.parametrize(
    "row",
    [
        attacked("none", 0.1, dataset="stl10"),
        attacked("none", 0.1, parameters={"image_class": "ship"}),
        attacked("none", 0.1, parameters={"substitute": "none"}),
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
    assert TABLES["rse/table2"].rows([row]) == []


def test_more_images_take_the_place_of_fewer() -> None:
    rows = [attacked("none", 0.1, n / 1000, num_images=n) for n in (500, 900, 200)]
    assert TABLES["rse/table2"].rows(rows) == [rows[1]]


def test_spread_over_seeds_is_shown() -> None:
    row = attacked("rse", 0.1, 0.625, eval_seeds=3, accuracy_std=0.0125)
    text = TABLES["rse/table2"].format([row], "")
    assert tables(text)[0][1][4] == "62.50 ± 1.25 (67.19)"


def test_rows_that_all_belong_elsewhere_are_named() -> None:
    text = TABLES["rse/table2"].format([make_row("none", dataset="mnist_5k", model="cnn")], "")
    assert "None of the 1 rows belongs here: they are of mnist_5k with cnn." in text


def test_csv_and_json_hold_the_rows_of_the_table_alone(tmp_path: pathlib.Path) -> None:
    rows = [attacked("none", 0.1, 0.25), attacked("none", 0.15), make_row("none", "none", 0.5)]
    flags = {"seed": 3}
    paths = write_table("rse/table2", rows, tmp_path, "", flags=flags, versions={"x": "1"})
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


def test_an_unknown_table_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="rse/table2, .*Received: 'table2'"):
        write_table("table2", [], tmp_path, "")


def test_a_column_has_its_way_and_drops_what_a_line_asks() -> None:
    line = Header("line", {"attack": "fgsm", "epsilon": 0.3})
    column = Header("column", {"attack": "none", "epsilon": None})
    table = Table("title", "index", (line,), (column,), {"defense": "none"})
    row = make_row("none")
    assert table.cells([row])[0][0].row is row


@pytest.mark.parametrize("temperature", [10.0, 40.0, 100.0])
def test_settings_of_a_defense_are_compared_with_the_papers_and_the_sources(
    temperature: float,
) -> None:
    row = make_row("distillation", "none", 0.75, training={"temperature": temperature})
    text = TABLES["rse/table2"].format([row], "")
    # The paper's Table 1 says 40, the authors' logs 100.
    marks = ("" if temperature == 40 else "†", "" if temperature == 100 else "§")
    assert f"| 75.00{marks[0]} (84.12{marks[1]}) |" in text.replace("  ", " ")
    said = f"temperature={temperature:g} instead of 40"
    assert (said in text) == bool(marks[0])
    assert (f"temperature=100 (ours: {temperature:g})" in text) == bool(marks[1])
    # The nearest row is taken, and one that does not say stands there unmarked.
    same = make_row("distillation", "none", 0.5, training={"temperature": 40.0})
    assert TABLES["rse/table2"].rows([row, same]) == [same]
    silent = TABLES["rse/table2"].format([make_row("distillation")], "")
    assert "| 50.00 (84.12) |" in silent.replace("  ", " ")


def test_a_spread_says_what_it_is_over() -> None:
    seeds = attacked("none", 0.1, 0.5, eval_seeds=3, accuracy_std=0.0125)
    members = attacked("distillation", 0.1, 0.5, accuracy_std_members=0.25, eval_seeds=3)
    texts = [
        TABLES["rse/table2"].format(rows, "") for rows in ([seeds], [members], [seeds, members])
    ]
    notes = [
        "over evaluation seeds.",
        "over members.",
        "over evaluation seeds, and over members where a cell is a mean over these.",
    ]
    for text, note in zip(texts, notes, strict=True):
        assert f"± is the standard deviation {note}" in text
    assert "50.00 ± 1.25" in texts[2] and "50.00 ± 25.00" in texts[2]
