"""Several runs beside each other: which there are, and what differs between them."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tabulate

from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting import robustbench
from rse_tf.reporting.gallery import load_galleries, unused
from rse_tf.reporting.html import write_html
from rse_tf.reporting.names import strength_text
from rse_tf.reporting.report import write_comparison, write_report
from rse_tf.reporting.results import Result, format_table, read_json
from rse_tf.utils.files import atomic_write_text, reading
from rse_tf.utils.log import log

# Flags that change no number. What a defense is has a column of its own.
_NO_NUMBER = frozenset(
    ("attacks_dir", "data_dir", "defense", "export_dir", "figure_format", "models_dir", "workdir")
)
_DERIVED = "retraining_epochs"  # follows the epochs, and counts for one defense alone
_ADVICE = "delete it, and the command of its run writes it anew"


class Run(NamedTuple):
    """A finished run.

    Attributes:
        name: a short one, no two runs of a report have the same; empty for a single run.
        folder: where it lies.
        result: its rows, with its name in them, its flags and its versions.
        galleries: its attacked images, with its name as well.
    """

    name: str
    folder: pathlib.Path
    result: Result
    galleries: list[Gallery]


def find_runs(roots: Iterable[pathlib.Path]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns the folders of the finished runs below some folders, and of the unfinished ones."""
    finished, begun = set(), set()
    for root in roots:
        finished |= {file.resolve().parent for file in root.rglob("result.json")}
        begun |= {file.resolve().parent for file in root.rglob("flags.txt")}
    return sorted(finished), sorted(begun - finished)


def read_runs(folders: Sequence[pathlib.Path], named: bool = True) -> list[Run]:
    """Reads finished runs; a folder that holds a report of others is left out.

    Args:
        folders: each has a `result.json`.
        named: whether rows and galleries get the name of their run, where there are several.

    Raises:
        FileError: if a file is damaged.
    """
    results = {}
    for folder in folders:
        with reading(folder / "result.json", _ADVICE):
            results[folder] = read_json(folder / "result.json")
    own = {folder: result for folder, result in results.items() if "runs" not in result.flags}
    names = run_names(list(own)) if named else [""] * len(own)
    return [_run(name, *each) for name, each in zip(names, own.items(), strict=True)]


def _run(name: str, folder: pathlib.Path, result: Result) -> Run:
    with reading(folder / "gallery_*.npz", _ADVICE):
        galleries = load_galleries(folder)
    rows = [dataclasses.replace(row, run=name) for row in result.rows]
    galleries = [dataclasses.replace(gallery, run=name) for gallery in galleries]
    return Run(name, folder, result._replace(rows=rows), galleries)


def run_names(folders: Sequence[pathlib.Path]) -> list[str]:
    """Returns a short name for each of several runs, none for a single one."""
    if len(folders) < 2:
        return [""] * len(folders)
    common = os.path.commonpath([folder.absolute() for folder in folders])
    return [folder.absolute().relative_to(common).as_posix() for folder in folders]


def compare_runs(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Returns a line for each run and defense: what differs, and how far accuracy falls.

    A flag, or the version of a package, is in a line only if the runs differ in it. A flag that is
    not set is the same as one that an earlier version did not have.
    """
    flags = _differing({run.name: _set_flags(run.result) for run in runs})
    versions = _differing({run.name: run.result.versions for run in runs})
    return [
        {
            "run": run.name,
            **flags[run.name],
            **versions[run.name],
            "defense": defense,
            **_fall([row for row in run.result.rows if row.defense == defense]),
        }
        for run in runs
        for defense in dict.fromkeys(row.defense for row in run.result.rows)
    ]


def format_runs(runs: Sequence[Run]) -> str:
    """Returns `compare_runs` as plain text for the terminal."""
    headers, body = _grid(runs)
    return tabulate.tabulate(body, headers, disable_numparse=True)


def write_runs(
    runs: Sequence[Run],
    folder: pathlib.Path,
    *,
    flags: Mapping[str, Any],
    versions: Mapping[str, str],
    formats: Sequence[str],
) -> list[pathlib.Path]:
    """Prints the tables of runs, writes one report of all of them, and returns the paths.

    Args:
        runs: at least one. Several are compared, in `runs.csv`.
        folder: receives the files.
        flags: as for `write_report`.
        versions: likewise.
        formats: likewise.
    """
    paths = []
    if len(runs) > 1:
        log(f"{format_runs(runs)}\n")
        paths.append(folder / "runs.csv")
        _write_csv(runs, paths[0])
    rows = [row for run in runs for row in run.result.rows]
    galleries = [gallery for run in runs for gallery in run.galleries]
    log(format_table(rows))
    paths += _write_comparisons(runs, folder, formats)
    facts: Any = {"flags": flags, "versions": versions, "formats": formats}
    return paths + write_report(folder, rows, galleries, **facts)


def write_pages(runs: Sequence[Run], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `report.html` of a single run, or one for each run, and returns the paths."""
    return [
        write_html(run.folder, run.result, run.galleries, folder / f"{name}.html")
        for run, name in zip(runs, _file_names("report", runs), strict=True)
    ]


def write_entries(runs: Sequence[Run], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes entries in the form of RobustBench below `robustbench`, and returns the paths."""
    paths, place = [], folder / "robustbench"
    for run in runs:
        paths += robustbench.write_entries(run.folder, run.result.rows, place)
    if paths:
        log("\nrobustbench: link, authors and venue are for you to fill in")
    else:
        log("\nrobustbench: no entry, for no run has the worst case; run with --suite=adaptive")
    return paths


def _file_names(start: str, runs: Sequence[Run]) -> list[str]:
    """A file name for each run, all of them different."""
    names: list[str] = []
    for run in runs:
        parts = (start, run.name.replace("/", "_"))
        names.append(unused("_".join(filter(None, parts)), names))
    return names


def _write_comparisons(
    runs: Sequence[Run], folder: pathlib.Path, formats: Sequence[str]
) -> list[pathlib.Path]:
    """Prints the certificate of each run beside its worst case, and returns paths of pictures."""
    paths = []
    for run, name in zip(runs, _file_names("attack_vs_certificate", runs), strict=True):
        text, pictures = write_comparison(run.folder, folder, formats, name)
        if text:
            log("\n" + " ".join(filter(None, (run.name, text))))
        paths += pictures
    return paths


def _write_csv(runs: Sequence[Run], path: pathlib.Path) -> None:
    """Writes `compare_runs` as CSV."""
    headers, body = _grid(runs)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([headers, *body])
    atomic_write_text(path, text.getvalue())


def _grid(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    lines = compare_runs(runs)
    headers = list(dict.fromkeys(name for line in lines for name in line))
    return headers, [[line.get(header, "-") for header in headers] for line in lines]


def _set_flags(result: Result) -> dict[str, Any]:
    idle = set(_NO_NUMBER)
    if not any(_DERIVED in row.training for row in result.rows):
        idle.add(_DERIVED)
    return {
        name: value
        for name, value in result.flags.items()
        if name not in idle and value is not None and value is not False
    }


def _differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns of each run those settings, as text, in which not all are the same."""
    names = dict.fromkeys(name for own in settings.values() for name in own)
    texts = {run: {n: _text(own.get(n)) for n in names} for run, own in settings.items()}
    kept = [name for name in names if len({own[name] for own in texts.values()}) > 1]
    return {run: {name: own[name] for name in kept} for run, own in texts.items()}


def _fall(rows: Sequence[Row]) -> dict[str, str]:
    """Clean accuracy, and the lowest one under attack with what brought it about."""
    clean = [row.score.accuracy for row in rows if row.attack == "none"]
    attacked = [row for row in rows if row.attack != "none"]
    found = {"clean %": f"{100 * max(clean):.2f}" if clean else "-"}
    if attacked:
        lowest = min(attacked, key=lambda row: row.score.accuracy)
        words = filter(None, (lowest.attack, strength_text(lowest.strength)))
        found |= {"lowest %": f"{100 * lowest.score.accuracy:.2f}", "under": ", ".join(words)}
    return found


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
