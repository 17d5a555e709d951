"""The files of a run's report, and of several runs in one."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
from rows import attacked, make_row

from rse_tf import report
from rse_tf.config import ConfigError
from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting import load_galleries, read_json, save_gallery, write_json, write_report

ROW = make_row("none", "fgsm", parameters={"epsilon": 0.1}, dataset="digits", model="cnn")


def make_gallery(defense: str, number: int = 2, channels: int = 3, value: float = 0.5) -> Gallery:
    images = np.full((number, 4, 4, channels), value)
    return Gallery(defense, images, images, labels=["1"] * number, predicted=["2"] * number)


def test_the_report_names_its_files_and_leaves_out_what_is_no_picture(
    tmp_path: pathlib.Path,
) -> None:
    galleries = [make_gallery("shown"), make_gallery("empty", 0), make_gallery("spectral", 2, 4)]
    paths = write_report(tmp_path, [ROW], galleries, flags={}, versions={})
    assert [path.name for path in paths] == [
        "result.json",
        "result.csv",
        "accuracy_vs_epsilon.png",
        "accuracy_vs_l2.png",
        "gallery_shown.png",
    ]
    # Besides, the pictures as numbers, for figures that are made of several runs.
    names = {path.name for path in paths} | {"gallery_shown.npz"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_gallery_comes_back_from_its_file(tmp_path: pathlib.Path) -> None:
    clean, adversarial = np.random.default_rng(0).uniform(size=(2, 3, 4, 4, 1))
    first = Gallery(
        "b",
        clean,
        adversarial,
        "digits",
        ["x"] * 3,
        ["y"] * 3,
        ["y"] * 3,
        "run",
        "cnn",
        "bim",
        "epsilon=0.1",
    )
    second = Gallery("a", adversarial, clean)
    for gallery in (first, second):
        save_gallery(gallery, tmp_path / f"gallery_{gallery.run}_{gallery.defense}.npz")
    found = load_galleries(tmp_path)
    for loaded, saved in zip(found, (second, first), strict=True):
        for name, value in vars(saved).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(loaded, name), value)
            else:
                assert getattr(loaded, name) == (value if isinstance(value, str) else list(value))


def test_a_gallery_of_an_earlier_version_is_read(tmp_path: pathlib.Path) -> None:
    images = np.zeros((1, 4, 4, 1))
    np.savez(
        tmp_path / "gallery_rse.npz",
        defense="rse",
        clean=images,
        adversarial=images,
        titles=["a -> b"],
        labels=["a"],
    )
    (gallery,) = load_galleries(tmp_path)
    assert (gallery.defense, list(gallery.labels), gallery.run) == ("rse", ["a"], "")


def test_several_runs_are_told_apart_and_keep_their_pictures(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {"a/one": 0.25, "two": 0.75}
    for name, value in runs.items():
        folder = tmp_path / "runs" / name
        row = attacked("none", 1.0, value)
        write_json(
            [row, make_row("none", "none", value)], folder / "result.json", flags={}, versions={}
        )
        save_gallery(make_gallery("none", value=value), folder / "gallery_none.npz")
    output = tmp_path / "report"
    # A run that is named twice counts once.
    both = [str(tmp_path / "runs"), str(tmp_path / "runs" / "two")]
    report.main(["report", *both, f"--output={output}"])
    rows = read_json(output / "result.json").rows
    assert [(row.run, row.score.accuracy) for row in rows] == [
        (name, value) for name, value in runs.items() for _ in range(2)
    ]
    galleries = {gallery.run: gallery for gallery in load_galleries(output)}
    for name, value in runs.items():
        assert (galleries[name].clean == value).all()
        assert (output / f"gallery_{name.replace('/', '_')}_none.png").exists()
    table = capsys.readouterr().out
    assert table.startswith("run") and "a/one" in table
    # One run needs no name.
    report.main(["report", both[1], f"--output={output / 'single'}"])
    assert {row.run for row in read_json(output / "single" / "result.json").rows} == {""}
    assert (output / "single" / "gallery_none.png").exists()


def write_run(folder: pathlib.Path, rows: list[Row], **flags: Any) -> None:
    write_json(rows, folder / "result.json", flags=flags, versions={"keras": "3"})


def test_runs_are_compared_by_what_differs(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [make_row("none", "none", 0.9), attacked("none", 0.1, 0.5), attacked("none", 1.0, 0.25)]
    common = {"dataset": "cifar10", "const": [0.1, 1.0], "defense": ["none"]}
    # A flag that an earlier version had not is one that is not set.
    write_run(tmp_path / "one", rows, **common, epochs=8, workdir="one", stop_error=None)
    write_run(tmp_path / "two", rows[:1], **common, epochs=20, workdir="two", learning_rate=0.1)
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "flags.txt").touch()
    output = tmp_path / "report"
    for _ in range(2):  # the report itself, below the same folder, is no run
        report.main(["report", str(tmp_path), f"--output={output}"])
    with open(output / "runs.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [set(line) for line in lines] == 2 * [
        {"run", "epochs", "learning_rate", "defense", "clean %", "lowest %", "under"}
    ]
    assert [list(line.values()) for line in lines] == [
        ["one", "8", "-", "none", "90.00", "25.00", "carlini_wagner, c = 1"],
        ["two", "20", "0.1", "none", "90.00", "-", "-"],
    ]
    text = capsys.readouterr().out
    assert text.startswith("run") and f"not finished: {tmp_path / 'three'}" in text


def test_galleries_of_all_runs_and_attacks_have_files_of_their_own(tmp_path: pathlib.Path) -> None:
    places = [(run, attack) for run in ("a/b", "a_b") for attack in ("fgsm", "bim")]
    places.append(("", "fgsm"))
    galleries = [
        dataclasses.replace(make_gallery("none", value=0.1 * n), run=run, attack=attack)
        for n, (run, attack) in enumerate(places)
    ]
    paths = write_report(tmp_path, [ROW], galleries, flags={}, versions={})
    pictures = [path.stem for path in paths if path.stem.startswith("gallery")]
    assert len({*pictures}) == len(pictures) == len(places)
    assert "gallery_none" in pictures and "gallery_a_b_none_bim" in pictures
    found = {(one.run, one.attack): one.clean.max() for one in load_galleries(tmp_path)}
    assert found == {place: pytest.approx(0.1 * n) for n, place in enumerate(places)}


def test_a_report_has_the_formats_it_is_asked_for(tmp_path: pathlib.Path) -> None:
    write_run(tmp_path / "run", [ROW])
    save_gallery(make_gallery("none"), tmp_path / "run" / "gallery_none.npz")
    output = tmp_path / "report"
    report.main(["report", str(tmp_path / "run"), f"--output={output}", "--figure_format=pdf,svg"])
    starts = {".pdf": b"%PDF", ".svg": b"<?xml"}
    for name in ("accuracy_vs_epsilon", "accuracy_vs_l2", "gallery_none"):
        assert not (output / f"{name}.png").exists()
        for ending, start in starts.items():
            assert (output / f"{name}{ending}").read_bytes().startswith(start)
    with pytest.raises(ConfigError, match="--figure_format must be of png, pdf, svg.*'gif'"):
        report.main(["report", str(tmp_path / "run"), "--figure_format=gif"])


def test_a_table_of_the_papers_takes_rows_of_all_runs(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for const in (0.01, 0.1):
        file = tmp_path / str(const) / "result.json"
        write_json([attacked("none", const, const)], file, flags={}, versions={})
    report.main(["report", str(tmp_path), f"--output={tmp_path / 'as'}", "--table=rse/table2"])
    rows = read_json(tmp_path / "as" / "rse_table2.json").rows
    assert [(row.run, row.score.accuracy) for row in rows] == [("", 0.01), ("", 0.1)]
    assert "1.00 (30.38)" in capsys.readouterr().out
