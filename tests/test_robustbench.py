"""Entries in the form of RobustBench: their keys, their numbers, and what they do not claim."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from rows import make_row

from rse_tf import report
from rse_tf.evaluation import Row
from rse_tf.reporting import Comparison, robustbench, write_json
from rse_tf.reporting.robustbench import entries

# Those of model_info/cifar10/Linf/Bai2024MixedNUTS.json, which has all of them.
KEYS = (
    "link name authors additional_data number_forward_passes dataset venue architecture eps "
    "clean_acc reported autoattack_acc external footnote unreliable"
).split()
ENDS = {"accuracy_low": 0.25, "accuracy_high": 0.5, "worst_of_10": 0.3125}


def worst(defense: str, norm: str, epsilon: float, accuracy: float, **changes: Any) -> Row:
    parameters = {"epsilon": epsilon, "norm": norm, "suite_scale": "small"}
    return make_row(defense, "adaptive", accuracy, parameters=parameters, **changes)


ROWS = [
    make_row("none", accuracy=0.95),
    make_row("rse", accuracy=0.91234),
    worst("none", "linf", 8 / 255, 0.01),
    worst("rse", "linf", 0.03, 0.4),
    worst("rse", "l2", 0.5, 0.375, **ENDS),
    make_row("rse", "pgd", 0.35, parameters={"epsilon": 0.5, "norm": "l2", "suite_scale": "small"}),
]


def test_an_entry_for_each_worst_case(tmp_path: pathlib.Path) -> None:
    rows, found = zip(*entries(tmp_path, ROWS))
    assert list(rows) == ROWS[2:5]
    assert all(sorted(one) == sorted(KEYS) for one in found)
    none, rse, l2 = found
    assert [one["eps"] for one in found] == ["8/255", "0.03", "0.5"]
    assert [one["clean_acc"] for one in found] == ["95.00", "91.23", "91.23"]
    assert l2["reported"] == l2["autoattack_acc"] == l2["external"] == "37.50"
    assert (none["number_forward_passes"], rse["number_forward_passes"]) == (1, 50)
    assert (l2["dataset"], l2["architecture"], l2["name"]) == ("cifar10", "vgg16", "RSE")
    assert (l2["link"], l2["additional_data"], l2["unreliable"]) == ("", False, False)


def test_the_footnote_says_what_the_number_is(tmp_path: pathlib.Path) -> None:
    none, _, l2 = (entry["footnote"] for _, entry in entries(tmp_path, ROWS))
    assert l2 == (
        "Not AutoAttack: reported, autoattack_acc and external are the worst case of the adaptive "
        "suite of rse_tf (scale: small) over 1,600 test images, 95 % interval 25.0 to 50.0 %. "
        "Randomised: an answer is the class of the mean probability of 50 draws; RobustBench takes "
        "deterministic defenses. Correct in ten answers out of ten: 31.25 %. Sanity check: None "
        "was made."
    )
    assert none.startswith("Not AutoAttack: ") and "Randomised" not in none


def test_networks_of_an_ensemble_count_as_passes(tmp_path: pathlib.Path) -> None:
    facts: dict[str, Any] = {"members": 10, "model": "mine.keras"}
    rows = [
        make_row("ensemble_bagging", accuracy=0.5, scored="single", **facts),
        make_row("ensemble_bagging", accuracy=0.75, scored="ensemble", **facts),
        worst("ensemble_bagging", "l2", 1.0, 0.25, scored="ensemble", **facts),
    ]
    ((_, entry),) = entries(tmp_path, rows)
    assert (entry["number_forward_passes"], entry["clean_acc"]) == (10, "75.00")
    assert entry["additional_data"] is None  # nobody knows


@pytest.mark.parametrize("verdict", ["PASS", "WARN", "FAIL"])
def test_a_failed_check_makes_an_entry_unreliable(verdict: str, tmp_path: pathlib.Path) -> None:
    row = {"id": "D4", "question": "q", "figure": 1.0, "rule": "r", "verdict": verdict}
    audit = {"verdicts": [{"defense": "rse", "rows": [row]}]}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    found = [entry for _, entry in entries(tmp_path, ROWS)]
    assert [one["unreliable"] for one in found] == [False] + 2 * [verdict == "FAIL"]
    assert found[1]["footnote"].endswith(f"Sanity check: {verdict}.")


def test_a_certificate_that_the_suite_refutes_makes_an_entry_unreliable(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verdict in ("WARN", "FAIL"):
        monkeypatch.setattr(robustbench, "compare", lambda _: Comparison("rse", verdict=verdict))
        found = [entry["unreliable"] for _, entry in entries(tmp_path, ROWS)]
        assert found == [False] + 2 * [verdict == "FAIL"]


def test_the_command_line_writes_them_where_robustbench_has_them(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = tmp_path / "run", tmp_path / "report"
    write_json(ROWS, run / "result.json", flags={}, versions={})
    report.main(["report", str(run), f"--output={output}"])
    assert not (output / "robustbench").exists()
    report.main(["report", str(run), f"--output={output}", "--robustbench"])
    assert "link, authors and venue are for you to fill in" in capsys.readouterr().out
    folder = output / "robustbench/cifar10"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.json")} == {
        "Linf/none_vgg16_8_255.json",
        "Linf/rse_vgg16_0.03.json",
        "L2/rse_vgg16_0.5.json",
    }
    assert json.loads((folder / "L2/rse_vgg16_0.5.json").read_text())["autoattack_acc"] == "37.50"
    write_json(ROWS[:2], run / "result.json", flags={}, versions={})
    report.main(["report", str(run), f"--output={tmp_path / 'other'}", "--robustbench"])
    assert "no entry, for no run has the worst case" in capsys.readouterr().out
