"""Tests of `rse_tf.reporting`."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rse_tf import files, reporting
from rse_tf.reporting import Row, published
from rse_tf.reporting.reference import SWEEP, TABLE_2, published_by_source

PAPER = {"steps": 300, "learning_rate": 1e-3, "targeted": False, "iterate": "last"}

NOISE = {"init_noise": 0.4, "inner_noise": 0.1, "distribution": "gaussian"}


def make_row(**changes: Any) -> Row:
    """An RSE row in the protocol of the paper, at c = 0.1 where nothing else is said."""
    values: dict[str, Any] = {
        "dataset": "cifar10",
        "model": "vgg16",
        "defense": "rse",
        "attack": "carlini_wagner",
        "parameters": {"const": 0.1, **PAPER},
        "noise": NOISE,
        "accuracy": 0.625,
        "accuracy_std": 0.0,
        "rms_l2": 0.3456,
        "mean_l2": 0.4567,
        "median_l2": 0.4,
        "mean_linf": 0.03,
        "max_linf": 0.1,
        "success_rate": 0.25,
        "misclassified_clean": 0.125,
        "num_images": 1600,
        "num_draws": 50,
        "eval_seeds": 1,
        "seconds": 12.34,
    }
    return Row(**{**values, **changes})


def clean_row(**changes: Any) -> Row:
    nothing = {"mean_l2": None, "median_l2": None, "mean_linf": None, "rms_l2": 0.0}
    return make_row(**{"attack": "none", "parameters": {}, **nothing, **changes})


def with_parameters(**changes: Any) -> Row:
    return make_row(parameters={"const": 0.1, **PAPER, **changes})


def test_row_survives_json() -> None:
    parameters = {"const": np.float32(0.5), "bounds": (0.0, 1.0), "norm": math.inf, "x": math.nan}
    numbers = {"accuracy": np.float64(0.5), "num_images": np.int64(7), "mean_l2": math.nan}
    row = make_row(parameters=parameters, **numbers)
    text = json.dumps(row.to_json(), allow_nan=False)  # raises on NaN and on NumPy types
    assert Row.from_json(json.loads(text)) == row
    assert row.mean_l2 is None
    assert row.parameters == {"const": 0.5, "bounds": [0.0, 1.0], "norm": "inf", "x": None}
    assert type(row.accuracy) is float and type(row.num_images) is int


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
        make_row(**changes)


def test_row_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match=r"parameters\['model'\]"):
        with_parameters(model=object())


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


def test_published_finds_every_line_of_the_sweep() -> None:
    file = importlib.resources.files("rse_tf.reporting") / "rse_authors_cw_sweep.csv"
    lines = list(csv.DictReader(file.read_text().splitlines()))
    assert len(lines) == 3 * 5 * 17  # networks, defenses, values of c
    for line in lines:
        name = {"resnext": "resnext29"}.get(line["model"], line["model"])
        row = make_row(
            dataset=line["dataset"],
            model=name,
            defense=line["defense"],
            parameters={"const": float(line["c"]), **PAPER},
            noise={**NOISE, "init_noise": 0.1 if name == "resnext29" else 0.4},
        )
        number = published(row)
        assert number is not None
        assert number.accuracy == float(line["accuracy"])
        assert number.rms_l2 == float(line["rms_l2_distortion"])
        assert number.source == SWEEP


def test_clean_row_is_set_against_c_0() -> None:
    number = published(clean_row())
    assert number is not None and number.accuracy == 0.885625


def test_const_through_float32_still_matches() -> None:
    assert published(with_parameters(const=np.float32(0.1))) == published(make_row())


@pytest.mark.parametrize(
    "row",
    [
        make_row(noise={**NOISE, "init_noise": 0.2}),
        make_row(noise={**NOISE, "distribution": "laplace"}),
        with_parameters(steps=100),
        with_parameters(learning_rate=1e-2),
        with_parameters(targeted=True),
        with_parameters(iterate="best"),
        with_parameters(confidence=5.0),
        with_parameters(substitute="none"),
        with_parameters(attack_draws=10),
        with_parameters(bounds=(-0.5, 0.5)),
        with_parameters(abort_early=True),
        with_parameters(const=None),
        with_parameters(const=0.5),
        make_row(parameters={"const": 0.1}),
        make_row(parameters={"epsilon": 0.03}, attack="fgsm"),
        make_row(defense="bagging"),
        make_row(model="resnext"),
        make_row(dataset="mnist_5k"),
        make_row(num_draws=1),
        clean_row(num_draws=1),
    ],
    ids=lambda row: f"{row.attack}-{row.defense}-{row.model}-{row.num_draws}-{row.parameters}",
)
def test_published_refuses_other_protocols(row: Row) -> None:
    assert published(row) is None


def test_defaults_spelled_out_are_the_same_protocol() -> None:
    row = with_parameters(
        confidence=0.0, binary_search_steps=9, abort_early=None, bounds=(0.0, 1.0), attack_draws=1
    )
    assert published(row) == published(make_row()) is not None


def test_one_draw_is_enough_where_nothing_is_random() -> None:
    number = published(make_row(defense="none", num_draws=1))
    assert number is not None and number.accuracy == 0.035625


def test_table_2_agrees_with_the_sweep_on_all_but_rse() -> None:
    for const in (0.01, 0.03, 0.06, 0.1, 0.2):
        for defense in ("none", "distillation", "adversarial_retraining", "robust_opt_brelu"):
            row = make_row(defense=defense, parameters={"const": const, **PAPER})
            found = published_by_source(row)
            # Printed with two decimals of a percent, at times cut rather than rounded.
            assert abs(found[TABLE_2].accuracy - found[SWEEP].accuracy) < 1e-4
            assert found[TABLE_2].rms_l2 is None
    found = published_by_source(make_row())
    assert found[TABLE_2].accuracy == 0.6719 and found[SWEEP].accuracy == 0.61875


def test_table_shows_numbers_spread_and_paper() -> None:
    rows = [clean_row(accuracy=0.9), make_row(eval_seeds=3, accuracy_std=0.0123)]
    lines = reporting.format_table(rows).splitlines()
    for header in ("accuracy %", "RMS L2", "L2 of successes", "paper acc.", "paper RMS L2"):
        assert header in lines[0]
    assert "dataset" not in lines[0]
    assert lines[2].split() == "rse none - 90.00 0.0000 - 1600 12.3 88.56 0.0000".split()
    cells = "rse carlini_wagner const=0.1 62.50 +- 1.23 0.3456 0.4567 1600 12.3 61.88 0.3625"
    assert lines[3].split() == cells.split()
    assert SWEEP in lines[5] and "rse: 67.19 at const=0.1" in lines[6]


def test_table_without_published_numbers_has_no_paper_columns() -> None:
    rows = [with_parameters(steps=100), make_row(dataset="stl10", parameters={"epsilon": 0.03})]
    text = reporting.format_table(rows)
    assert "paper" not in text and "61.88" not in text
    assert text.startswith("dataset") and "stl10" in text and "epsilon=0.03" in text


def test_table_says_what_tells_rows_apart() -> None:
    text = reporting.format_table([make_row(), with_parameters(steps=100), make_row(num_draws=1)])
    assert "const=0.1, steps=100, num_draws=50" in text and "num_draws=1" in text


def test_csv_has_all_fields_parameters_and_published(tmp_path: Path) -> None:
    rows = [make_row(), clean_row(model="other"), with_parameters(bounds=(0, 1), steps=100)]
    reporting.write_csv(rows, tmp_path / "result.csv")
    with open(tmp_path / "result.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    fields = {field.name for field in dataclasses.fields(Row)}
    fields -= {"parameters", "noise", "training"}
    assert fields <= set(lines[0])
    assert float(lines[0]["noise_init_noise"]) == 0.4
    assert float(lines[0]["param_const"]) == 0.1 and lines[0]["param_targeted"] == "False"
    assert float(lines[0]["published_accuracy"]) == 0.61875
    assert float(lines[0]["published_rms_l2"]) == 0.362506
    assert lines[0]["published_source"] == SWEEP
    assert lines[1]["param_const"] == lines[1]["mean_l2"] == lines[1]["published_accuracy"] == ""
    assert lines[2]["param_bounds"] == "[0, 1]" and lines[2]["published_source"] == ""


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    rows = [make_row(), clean_row(success_rate=None), with_parameters(steps=100)]
    reporting.write_json(rows, path, flags={"c": (0.1, 1.0)}, versions={"python": "3.11"})
    assert reporting.read_json(path) == (rows, {"c": [0.1, 1.0]}, {"python": "3.11"})
    document = json.loads(path.read_text())
    assert document["schema"] == 1
    number = {"accuracy": 0.61875, "rms_l2": 0.362506, "source": SWEEP}
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
