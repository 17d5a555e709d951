"""The examples run, in a folder of their own, and say what they are there to say."""

from __future__ import annotations

import pathlib
import re
import runpy

import pytest

import rse_tf

FOLDER = pathlib.Path(rse_tf.__file__).parents[1] / "examples"


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def percentages(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", line)]


@pytest.fixture(autouse=True)
def temporary_files_go_here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_all_examples_are_tested_and_short() -> None:
    files = {path.stem: path.read_text().splitlines() for path in FOLDER.glob("*.py")}
    assert files.keys() == {"own_model", "own_data", "ensemble_and_serving"}
    assert max(map(len, files.values())) < 60


def test_own_model(capsys: pytest.CaptureFixture[str]) -> None:
    plain, noisy = map(percentages, shown("own_model", capsys))
    # Of 100 images, the standard error of a share is at most 5 points.
    assert plain[0] > 85 and noisy[0] > 85
    assert noisy[1] > plain[1] + 15


def test_own_data(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    *_, plain, near, far, rse, rse_near, rse_far = shown("own_data", capsys)
    assert [line.split()[0] for line in (plain, near, far)] == ["none"] * 3
    assert [line.split()[1] for line in (rse, rse_near, rse_far)] == ["clean", "0.05", "0.1"]
    assert percentages(plain)[0] > 80 and percentages(rse)[0] > 80
    assert percentages(far)[0] < percentages(plain)[0]
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_ensemble_and_serving(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown("ensemble_and_serving", capsys)
    attacked, *members, served = [line for line in lines if "%" in line]
    assert len(members) == 3 and percentages(served)[0] > 80
    assert percentages(attacked)[0] > 10
    assert all(percentages(line)[0] > 5 for line in members)
