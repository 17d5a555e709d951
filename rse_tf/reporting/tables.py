"""Rows as a table for the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tabulate

from rse_tf.files import atomic_write_text
from rse_tf.reporting.reference import SWEEP, TABLE_2, published, published_by_source
from rse_tf.reporting.rows import Row, plain
from rse_tf.reporting.series import describe_settings, distinguishing_settings

SCHEMA = 1
# More than rounding to the two decimals of the printed table can explain.
_ROUNDING = 1e-4


class Result(NamedTuple):
    """What `read_json` returns: the rows, the flags of the run, and versions of software."""

    rows: list[Row]
    flags: dict[str, Any]
    versions: dict[str, Any]


def format_table(rows: Sequence[Row]) -> str:
    """Returns the rows as plain text for the terminal, one line each.

    Accuracies are percentages, with the standard deviation where there were several seeds;
    distortions are in pixel units; "L2 of successes" is a mean. Data set and model are
    columns only if the rows differ in them. Published numbers appear only beside rows that
    repeat their protocol, and Table 2 of the paper below the table where it says something
    else than the authors' sweep.
    """
    headers = ["defense", "attack", "strength", "accuracy %", "RMS L2", "L2 of successes"]
    headers += ["images", "seconds"]
    settings = {
        attack: distinguishing_settings([row for row in rows if row.attack == attack])
        for attack in {row.attack for row in rows}
    }
    cells = [_cells(row, settings[row.attack]) for row in rows]
    for name in ("model", "dataset"):
        if len({getattr(row, name) for row in rows}) > 1:
            headers.insert(0, name)
            cells = [[getattr(row, name), *line] for row, line in zip(rows, cells, strict=True)]
    if any(published(row) for row in rows):
        headers += ["paper acc.", "paper RMS L2"]
        cells = [line + _paper_cells(row) for row, line in zip(rows, cells, strict=True)]
    left = ("dataset", "model", "defense", "attack", "strength")
    table = tabulate.tabulate(
        cells,
        headers,
        disable_numparse=True,  # it would cut the zeros of 90.00
        colalign=["left" if header in left else "right" for header in headers] if cells else None,
    )
    return "\n".join([table, *_footnotes(rows)])


def write_csv(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Writes all fields of the rows, and the published numbers, as CSV.

    A parameter has the column `param_<name>`, a noise setting `noise_<name>`, a setting of the
    defense `training_<name>`. None is an empty cell, a list is JSON.
    """
    mappings = {"param": "parameters", "noise": "noise", "training": "training"}
    names = [field.name for field in dataclasses.fields(Row)]
    fields = [name for name in names if name not in mappings.values()]
    headers = list(fields)
    for prefix, mapping in mappings.items():
        keys = dict.fromkeys(key for row in rows for key in getattr(row, mapping))
        headers += [f"{prefix}_{key}" for key in keys]
    headers += [f"published_{name}" for name in ("accuracy", "rms_l2", "source")]
    text = io.StringIO()
    writer = csv.DictWriter(text, headers, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        line = {name: getattr(row, name) for name in fields}
        for prefix, mapping in mappings.items():
            for key, value in getattr(row, mapping).items():
                line[f"{prefix}_{key}"] = _csv_cell(value)
        number = published(row)
        if number:
            values = dataclasses.asdict(number)
            line.update({f"published_{name}": value for name, value in values.items()})
        writer.writerow(line)
    atomic_write_text(path, text.getvalue())


def write_json(
    rows: Sequence[Row],
    path: str | os.PathLike[str],
    *,
    flags: Mapping[str, Any],
    versions: Mapping[str, Any],
) -> None:
    """Writes the rows, and what it takes to repeat them, as strict JSON.

    Args:
        rows: the rows; each also gets its published number, or null.
        path: the file.
        flags: all flags of the run, by name.
        versions: versions of the software, by name.

    Raises:
        TypeError: if `flags` or `versions` hold something that JSON has no form for.
    """
    document = {
        "schema": SCHEMA,
        "flags": plain(flags, "write_json: flags"),
        "versions": plain(versions, "write_json: versions"),
        "rows": [{**row.to_json(), "published": _published_json(row)} for row in rows],
    }
    atomic_write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Result:
    """Reads what `write_json` wrote.

    Raises:
        ValueError: if the file is not JSON or does not follow this schema.
    """
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(
            f"read_json: {os.fspath(path)} must have schema {SCHEMA}. Received: schema={schema!r}"
        )
    rows = []
    for row in document["rows"]:
        row.pop("published", None)  # it is looked up anew, never read back
        rows.append(Row.from_json(row))
    return Result(rows, document["flags"], document["versions"])


def _cells(row: Row, settings: tuple[str, ...]) -> list[str]:
    strength = f"{row.strength[0]}={row.strength[1]:g}" if row.strength else ""
    strength = ", ".join(filter(None, (strength, describe_settings(row, settings))))
    accuracy = _percent(row.accuracy)
    if row.eval_seeds > 1:
        accuracy += f" +- {_percent(row.accuracy_std)}"
    return [
        row.defense,
        row.attack,
        strength or "-",
        accuracy,
        _distance(row.rms_l2),
        _distance(row.mean_l2),
        str(row.num_images),
        f"{row.seconds:.1f}",
    ]


def _paper_cells(row: Row) -> list[str]:
    number = published(row)
    if number is None:
        return ["-", "-"]
    accuracy = "-" if number.accuracy is None else _percent(number.accuracy)
    return [accuracy, _distance(number.rms_l2)]


def _footnotes(rows: Sequence[Row]) -> list[str]:
    found = [(row, published_by_source(row)) for row in rows]
    sources = dict.fromkeys(number.source for row in rows if (number := published(row)))
    if not sources:
        return []
    different: dict[str, dict[str, None]] = {}  # no place twice
    for row, numbers in found:
        if {TABLE_2, SWEEP} <= set(numbers):
            table, sweep = numbers[TABLE_2].accuracy, numbers[SWEEP].accuracy
            if table is not None and sweep is not None and abs(table - sweep) > _ROUNDING:
                at = f"{_percent(table)} at const={row.parameters['const']:g}"
                different.setdefault(row.defense, {})[at] = None
    notes = [
        f"{TABLE_2} of the paper has other accuracies for {defense}: {', '.join(places)}"
        for defense, places in different.items()
    ]
    return ["", f"paper acc., paper RMS L2: {', '.join(sources)}", *notes]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _csv_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _published_json(row: Row) -> dict[str, Any] | None:
    number = published(row)
    return dataclasses.asdict(number) if number else None
