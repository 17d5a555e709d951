"""Tests of rows, and of what is written of them: tables, CSV, JSON."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import attacked, change, make_row, with_parameters

from rse_tf import reporting
from rse_tf.evaluation import Row, Score
from rse_tf.reporting.published import SWEEP, TABLE_2
from rse_tf.utils import files


def test_row_survives_json() -> None:
    parameters = {"const": np.float32(0.5), "bounds": (0.0, 1.0), "norm": math.inf, "x": math.nan}
    numbers = {"accuracy": np.float64(0.5), "num_images": np.int64(7), "mean_l2": math.nan}
    row = change(attacked(), parameters=parameters, **numbers)
    text = json.dumps(row.to_json(), allow_nan=False)  # raises on NaN and on NumPy types
    assert Row.from_json(json.loads(text)) == row
    assert row.score.mean_l2 is None
    assert row.parameters == {"const": 0.5, "bounds": [0.0, 1.0], "norm": "inf", "x": None}
    assert type(row.score.accuracy) is float and type(row.num_images) is int


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"accuracy": math.nan}, "accuracy=nan"),
        ({"rms_l2": None}, "rms_l2"),
        ({"accuracy": 1.5}, "accuracy=1.5"),
        ({"success_rate": -0.1}, "success_rate=-0.1"),
        ({"seconds": math.inf}, "seconds=inf"),
        ({"num_draws": 0}, "num_draws=0"),
        ({"num_images": 2.5}, "num_images=2.5"),
    ],
)
def test_row_refuses_impossible_numbers(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        change(make_row(), **changes)


def test_row_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match=r"parameters\['model'\]"):
        with_parameters(make_row(), model=object())


def test_from_json_names_missing_and_unknown_fields() -> None:
    data = make_row().to_json()
    with pytest.raises(ValueError, match=r"missing=\[\], unknown=\['acuracy'\]"):
        Row.from_json({**data, "acuracy": 0.5})
    del data["accuracy"]
    with pytest.raises(ValueError, match=r"missing=\['accuracy'\], unknown=\[\]"):
        Row.from_json(data)


@pytest.mark.parametrize(
    "parameters, strength",
    [
        ({"epsilon": 0.03, "steps": 8}, ("epsilon", 0.03)),
        ({"const": 3}, ("const", 3.0)),
        ({"const": None, "steps": 1000}, None),
    ],
)
def test_strength(parameters: dict[str, Any], strength: tuple[str, float] | None) -> None:
    assert make_row(parameters=parameters).strength == strength


def test_what_a_row_is_scored_on_stands_among_its_parameters_in_a_file() -> None:
    facts = {"gradient": "member", "scored": "single", "members": 10, "stop_error": 0.05}
    row = attacked(**facts)
    data = row.to_json()
    assert facts.items() <= data["parameters"].items() and not facts.keys() & data.keys()
    assert Row.from_json(data) == row and facts.items() <= row.settings.items()


def test_rows_of_earlier_versions_still_load() -> None:
    row = attacked(mean_queries=None, members=10)
    data = row.to_json()
    for name in ("mean_queries", "accuracy_std_members", "target_rate", "training"):
        del data[name]
    assert Row.from_json(data) == row
    # They had clean rows take no time at all.
    clean = make_row()
    assert Row.from_json({**clean.to_json(), "seconds": 0.0}) == clean
    assert clean.seconds is None


def test_numbers_are_written_with_ten_digits(tmp_path: Path) -> None:
    row = attacked(accuracy=0.1 * 3, parameters={"step_size": 0.1 * 0.1})
    assert 0.1 * 3 != 0.3 and 0.1 * 0.1 != 0.01
    reporting.write_json([row], tmp_path / "r.json", flags={"x": (0.1 * 3,)}, versions={})
    reporting.write_csv([row], tmp_path / "r.csv")
    texts = [(tmp_path / name).read_text() for name in ("r.json", "r.csv")]
    assert all("0000000" not in text and "0.3" in text and "0.01" in text for text in texts)
    assert reporting.read_json(tmp_path / "r.json").rows == [row]


def test_table_shows_numbers_spread_and_paper() -> None:
    rows = [make_row(accuracy=0.9), attacked(accuracy=0.625, eval_seeds=3, accuracy_std=0.0123)]
    lines = reporting.format_table(rows).splitlines()
    for header in ("accuracy %", "RMS L2", "L2 of successes", "paper acc.", "paper RMS L2"):
        assert header in lines[0]
    assert "dataset" not in lines[0] and "members" not in lines[0] and "run" not in lines[0]
    # The authors' sweep has its noise before the second convolution, which is said.
    assert lines[2].split() == "rse none - 90.00 0.0000 - 1600 - 88.56§ 0.0000§".split()
    cells = "rse carlini_wagner const=0.1 62.50 +- 1.23 0.3456 0.4567 1600 12.3 61.88§ 0.3625§"
    assert lines[3].split() == cells.split()
    notes = "\n".join(lines[4:])
    other = f"{TABLE_2} has 67.19 for rse at const=0.1"
    assert SWEEP in notes and other in notes
    assert "§ published with other settings: rse: init_noise_at=second_conv (ours: " in notes
    assert "+-: standard deviation over the evaluation seeds" in notes
    # sqrt(0.5 * 0.5 / 1600) = 0.0125
    assert "over 1600 images is up to 1.2 points" in notes


def test_the_table_says_where_its_numbers_mean_little() -> None:
    rows = [attacked(training={"epochs": 1}), attacked("none", training={"epochs": 8})]
    assert "Trial runs are among these (1 epoch)" in reporting.format_table(rows)
    assert "Trial" not in reporting.format_table(rows[1:])
    # What the interval of a row holds is no longer missing from every spread.
    ends = {"accuracy_low": 0.4, "accuracy_high": 0.6}
    assert "sampling" not in reporting.format_table([attacked(**ends)])


def test_epochs_of_an_earlier_version_come_from_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    rows = [attacked(), attacked(training={"epochs": 3})]
    reporting.write_json(rows, path, flags={"epochs": 8}, versions={})
    assert [row.training for row in reporting.read_json(path).rows] == [
        {"epochs": 8},
        {"epochs": 3},
    ]


def test_the_spread_over_members_has_a_column_of_its_own() -> None:
    spreads = {"accuracy_std_members": 0.125, "accuracy_std": 0.01, "eval_seeds": 3}
    rows = [attacked(**spreads), attacked("x")]
    header, _, first, second, *notes = reporting.format_table(rows).splitlines()
    at = header.index("over members")
    assert first[at:].split()[0] == "12.50" and "+- 1.00" in first
    assert second[at:].split()[0] == "-" and "+-" not in second
    assert any(note.startswith("over members: standard deviation") for note in notes)


def test_table_without_published_numbers_has_no_paper_columns() -> None:
    other = make_row("rse", "fgsm", dataset="stl10", parameters={"epsilon": 0.03})
    rows = [attacked(parameters={"steps": 100}), other]
    text = reporting.format_table(rows)
    assert "paper" not in text and "61.88" not in text
    assert text.startswith("dataset") and "stl10" in text and "epsilon=0.03" in text


def test_table_says_what_tells_rows_apart() -> None:
    rows = [attacked(), attacked(parameters={"steps": 100}), attacked(num_draws=1)]
    text = reporting.format_table(rows)
    assert "const=0.1, steps=100, num_draws=50" in text and "num_draws=1" in text
    rows = [make_row("distillation", training={"temperature": t}) for t in (10.0, 40.0)]
    lines = reporting.format_table(rows).splitlines()[2:4]
    assert "temperature=10" in lines[0] and "temperature=40" in lines[1]
    rows = [dataclasses.replace(make_row(), run=run) for run in ("first", "second")]
    lines = reporting.format_table(rows).splitlines()
    assert [lines[i].split()[0] for i in (0, 2, 3)] == ["run", "first", "second"]


def test_csv_has_all_fields_parameters_and_published(tmp_path: Path) -> None:
    parameters = {"bounds": (0, 1), "steps": 100}
    rows = [attacked(), make_row(model="other"), attacked(parameters=parameters)]
    reporting.write_csv(rows, tmp_path / "result.csv")
    with open(tmp_path / "result.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    fields = {field.name for kind in (Row, Score) for field in dataclasses.fields(kind)}
    # What is scored, and by which gradient, is among the parameters, where there is a choice.
    fields -= {"parameters", "noise", "training", "score", "run"}
    fields -= {"gradient", "scored", "members", "stop_error"}
    assert fields <= set(lines[0])
    assert float(lines[0]["noise_init_noise"]) == 0.4
    assert float(lines[0]["param_const"]) == 0.1 and lines[0]["param_targeted"] == "False"
    assert lines[0]["param_steps"] == "300"
    assert float(lines[0]["published_accuracy"]) == 0.61875
    assert float(lines[0]["published_rms_l2"]) == 0.362506
    assert lines[0]["published_source"] == SWEEP
    assert lines[0]["published_differences"] == "init_noise_at=second_conv (ours: first_conv)"
    assert lines[1]["param_const"] == lines[1]["mean_l2"] == lines[1]["published_accuracy"] == ""
    assert lines[1]["seconds"] == ""
    assert lines[2]["param_bounds"] == "[0, 1]" and lines[2]["published_source"] == ""


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    rows = [attacked("none"), make_row(success_rate=None), attacked(parameters={"steps": 100})]
    reporting.write_json(rows, path, flags={"c": (0.1, 1.0)}, versions={"python": "3.11"})
    assert reporting.read_json(path) == (rows, {"c": [0.1, 1.0]}, {"python": "3.11"})
    document = json.loads(path.read_text())
    assert document["schema"] == 1
    number = {"accuracy": 0.035625, "rms_l2": 0.17665, "source": SWEEP, "differences": ""}
    assert document["rows"][0]["published"] == number
    assert document["rows"][1]["success_rate"] is None
    assert document["rows"][2]["published"] is None


def test_read_json_refuses_another_schema(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"schema": 2, "rows": []}')
    with pytest.raises(ValueError, match="schema=2"):
        reporting.read_json(path)


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.atomic_write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        with files.atomic_path(path) as temporary:
            temporary.write_text("half of the ne")
            assert path.read_text() == "old"
            raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path, second_name = tmp_path / "text", tmp_path / "second name"
    files.atomic_write_text(path, "old")
    os.link(path, second_name)
    files.atomic_write_text(path, "new")
    assert path.read_text() == "new"
    assert second_name.read_text() == "old"  # the old file itself was never written to


def test_failing_writers_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError, match=r"flags\['f'\]"):
        reporting.write_json([make_row()], path, flags={"f": object()}, versions={})
    with pytest.raises(ValueError, match="at least one row"):
        reporting.plot_accuracy_vs_strength([], path)
    with pytest.raises(FileNotFoundError), files.atomic_path(path):
        pass  # writes nothing
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_atomic_write_makes_folders_and_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "text"
    files.atomic_write_text(path, "ü\n")
    assert path.read_bytes() == "ü\n".encode()
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
