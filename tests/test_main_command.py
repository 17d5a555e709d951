"""The programs under one name, and the flag files wherever the package is installed."""

from __future__ import annotations

import pathlib
import re
import runpy
import shutil
import sys

import pytest

import rse_tf
from rse_tf import __main__ as programs
from rse_tf import flags
from rse_tf.config import ConfigError
from rse_tf.utils import flag_files

PACKAGE = pathlib.Path(rse_tf.__file__).parent


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["rse-tf", *arguments])
    programs.main()


def test_every_program_of_the_package_is_a_command() -> None:
    guarded = {path.stem for path in PACKAGE.glob("*.py") if "__name__ ==" in path.read_text()}
    assert set(programs.COMMANDS) == guarded - {"__main__"}


@pytest.mark.parametrize("name", programs.COMMANDS)
def test_a_command_is_the_program_of_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--help"])
    try:
        runpy.run_module(f"rse_tf.{name}", run_name="__main__")
    except SystemExit as end:
        assert not end.code
    alone = capsys.readouterr().out
    try:
        called(monkeypatch, name, "--help")
    except SystemExit as end:
        assert not end.code
    assert f"rse_tf.{name}" in alone
    assert capsys.readouterr().out.replace("rse-tf " + name, "program") == alone


def test_the_rest_of_the_line_goes_to_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        called(monkeypatch, "train", "--epochs=none_at_all")
    assert end.value.code == 2 and "none_at_all" in capsys.readouterr().err
    called(monkeypatch, "reproduce", "--list")
    assert "rse/table2" in capsys.readouterr().out


def test_help_names_the_commands_and_version_the_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch)
    text = capsys.readouterr().out
    for arguments in (["--help"], ["-h"]):
        called(monkeypatch, *arguments)
        assert capsys.readouterr().out == text
    for name in programs.COMMANDS:
        assert re.search(rf"^  {name} +\w.*\.$", text, re.MULTILINE)
    called(monkeypatch, "--version")
    assert capsys.readouterr().out == f"rse_tf {rse_tf.__version__}\n"


def test_an_unknown_command_says_which_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        called(monkeypatch, "attack", "--epochs=3")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "main, train, evaluate" in line and line.endswith("Received: 'attack'")


# Flag files.


@pytest.fixture
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("row", ["rse/table2/rse.flags", "ensembles/table2/mnist_bagging.flags"])
def test_the_own_flag_files_are_found_from_everywhere(row: str, elsewhere: pathlib.Path) -> None:
    here = flags.parse(["program", f"--flagfile=flags/{row}"], "")
    assert here == flags.parse(["program", "--flagfile", str(flag_files.FOLDER / row)], "")
    assert here.workdir == f"runs/{row.removesuffix('.flags')}"


def test_a_wheel_has_them_inside_the_package(
    elsewhere: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = flags.parse(["program", "--flagfile=flags/rse/table2/rse.flags"], "")
    installed = elsewhere.parent / "rse_tf" / "flag_files"
    shutil.copytree(flag_files.FOLDER, installed)
    utils = installed.parent / "utils"
    utils.mkdir()
    source = shutil.copy(PACKAGE / "utils" / "flag_files.py", utils)
    copy = runpy.run_path(source)
    assert copy["FOLDER"] == installed.resolve()
    monkeypatch.setattr(flag_files, "FOLDER", copy["FOLDER"])
    assert flags.parse(["program", "--flagfile=flags/rse/table2/rse.flags"], "") == expected


def test_a_file_of_the_reader_goes_first_but_not_for_the_packages_own(
    elsewhere: pathlib.Path,
) -> None:
    own = elsewhere / "flags" / "rse"
    own.mkdir(parents=True)
    (own / "base.flags").write_text("--epochs=3\n")
    assert flags.parse(["program", "--flagfile=flags/rse/base.flags"], "").epochs == 3
    assert flags.parse(["program", "--flagfile=flags/rse/table2/rse.flags"], "").epochs == 200
    # Below a file of the reader, names are the reader's again.
    (elsewhere / "mine.flags").write_text("--flagfile=flags/rse/base.flags\n")
    assert flags.parse(["program", "--flagfile=mine.flags"], "").epochs == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flagfile=flags/rse/table9.flags"], "flags/rse/table9.flags"),
        (["--flagfile"], "must name a file. Received: ''"),
        (["--flagfile=loop.flags"], "reads itself"),
    ],
)
def test_a_flag_file_that_cannot_be_read_is_named(
    arguments: list[str], message: str, elsewhere: pathlib.Path
) -> None:
    (elsewhere / "loop.flags").write_text("--epochs=3\n--flagfile=second.flags\n")
    (elsewhere / "second.flags").write_text("--flagfile=loop.flags\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        flags.parse(["program", *arguments], "")
