"""Rows as a table for the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tabulate

from rse_tf.evaluation import Row, plain
from rse_tf.evaluation.suite_rows import ADAPTIVE
from rse_tf.reporting.heading import warning_of
from rse_tf.reporting.published import OTHER_SOURCE, published, published_numbers
from rse_tf.reporting.series import describe_settings, distinguishing_settings
from rse_tf.utils.files import atomic_write_text

SCHEMA = 1
# More than rounding to the two decimals of the printed table can explain.
_ROUNDING = 1e-4
LEFT = ("run", "dataset", "model", "defense", "attack", "strength")
# Fields of a row that become CSV columns with a prefix.
_PREFIXES = {"parameters": "param", "noise": "noise", "training": "training"}
_INTERVAL, _AVERAGE, _WORST = "95 % interval", "average %", "worst of 10 %"
_ACCURACY_NOTES = {
    _INTERVAL: "95 % interval: Clopper-Pearson, of accuracy %, over the choice of the images",
    _AVERAGE: "average %: a single noisy pass answers, where accuracy % is the vote of all draws",
    _WORST: "worst of 10 %: ten answers of the defense to an image are all correct, which is what "
    "holds if an attacker may send it ten times",
}


class Result(NamedTuple):
    """What `read_json` returns: the rows, the flags of the run, and versions of software."""

    rows: list[Row]
    flags: dict[str, Any]
    versions: dict[str, Any]


class Table(NamedTuple):
    """Rows as text: the names of the columns, a line for each row, and notes."""

    headers: list[str]
    lines: list[list[str]]
    notes: list[str]


def table_of(rows: Sequence[Row]) -> Table:
    """Returns the rows as text, one line each.

    Accuracies are percentages; distortions are in pixel units; "L2 of successes" is a mean. Run,
    data set and model are columns only if the rows differ in them. Notes say what a spread is of
    and how large the sampling error is. Published numbers appear only beside rows of their
    protocol, and are marked where they were measured with other settings.
    """
    names = {
        attack: distinguishing_settings([row for row in rows if row.attack == attack])
        for attack in dict.fromkeys(row.attack for row in rows)
    }
    lines = [_cells(row, names[row.attack]) for row in rows]
    for name in ("run", "dataset", "model"):
        if len({getattr(row, name) for row in rows}) < 2:
            for line in lines:
                del line[name]
    headers = list(dict.fromkeys(name for line in lines for name in line))
    notes = [*_measured_notes(rows), *_published_notes(rows), *filter(None, [warning_of(rows)])]
    return Table(headers, [[line.get(name, "-") for name in headers] for line in lines], notes)


def format_table(rows: Sequence[Row]) -> str:
    """Returns `table_of` as plain text for the terminal, the notes below it."""
    headers, lines, notes = table_of(rows)
    table = tabulate.tabulate(
        lines,
        headers,
        disable_numparse=True,  # it would cut the zeros of 90.00
        colalign=["left" if header in LEFT else "right" for header in headers] or None,
    )
    return "\n".join([table, *([""] if notes else []), *notes])


def write_csv(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Writes all fields of the rows, and the published numbers, as CSV.

    A parameter has the column `param_<name>`, a noise setting `noise_<name>`, a setting of the
    defense `training_<name>`. None is an empty cell, a list is JSON.
    """
    lines = []
    for row in rows:
        data = row.to_json()
        groups = {prefix: data.pop(name) for name, prefix in _PREFIXES.items()}
        lines.append({"": data, **groups, "published": _published_json(row) or {}})
    headers = [
        (group, name)
        for group in ("", *_PREFIXES.values(), "published")
        for name in dict.fromkeys(name for line in lines for name in line[group])
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{group}_{name}" if group else name for group, name in headers])
    for line in lines:
        writer.writerow([_csv_cell(line[group].get(name)) for group, name in headers])
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
    """Reads what `write_json` wrote, now or in an earlier version.

    Raises:
        ValueError: if the file is not JSON or does not follow this schema.
    """
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(
            f"read_json: {os.fspath(path)} must have schema {SCHEMA}. Received: schema={schema!r}"
        )
    rows, flags = [], document["flags"]
    for row in document["rows"]:
        row.pop("published", None)  # it is looked up anew, never read back
        if flags.get("epochs"):  # an earlier version told them among the flags only
            row["training"] = {"epochs": flags["epochs"], **row.get("training", {})}
        rows.append(Row.from_json(row))
    return Result(rows, flags, document["versions"])


def sampling_error(num_images: int) -> float:
    """Returns the largest standard error, in points, of an accuracy over so many images."""
    return 50 / num_images**0.5  # of p = 1/2; in general sqrt(p (1 - p) / N)


def _cells(row: Row, settings: tuple[str, ...]) -> dict[str, str]:
    strength = f"{row.strength[0]}={row.strength[1]:g}" if row.strength else ""
    accuracy = _percent(row.score.accuracy)
    if row.eval_seeds > 1:
        accuracy += f" +- {_percent(row.score.accuracy_std)}"
    line = {
        "run": row.run,
        "dataset": row.dataset,
        "model": row.model,
        "defense": row.defense,
        "attack": row.attack,
        "strength": ", ".join(filter(None, (strength, describe_settings(row, settings)))) or "-",
        "accuracy %": accuracy,
        **_further_accuracies(row),
        "RMS L2": _distance(row.score.rms_l2),
        "L2 of successes": _distance(row.score.mean_l2),
        "images": str(row.num_images),
        "seconds": "-" if row.seconds is None else f"{row.seconds:.1f}",
    }
    if row.score.accuracy_std_members is not None:
        line["over members"] = _percent(row.score.accuracy_std_members)
    if number := published(row.settings):
        mark = OTHER_SOURCE if number.differences(row.settings) else ""
        line["paper acc."] = "-" if number.accuracy is None else _percent(number.accuracy) + mark
        line["paper RMS L2"] = "-" if number.rms_l2 is None else _distance(number.rms_l2) + mark
    return line


def _further_accuracies(row: Row) -> dict[str, str]:
    score = row.score
    found = {}
    if score.accuracy_low is not None and score.accuracy_high is not None:
        found[_INTERVAL] = f"{100 * score.accuracy_low:.1f}-{100 * score.accuracy_high:.1f}"
    others = {_AVERAGE: score.average, _WORST: score.worst_of_10}
    # A deterministic model has one accuracy.
    if row.num_draws > 1 or row.eval_seeds > 1 or {*others.values()} - {None, score.accuracy}:
        found |= {name: _percent(share) for name, share in others.items() if share is not None}
    return found


def _measured_notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    if any(row.eval_seeds > 1 for row in rows):
        notes.append(
            "+-: standard deviation over the evaluation seeds, that is over the noise of the "
            "defense alone"
        )
    if any(row.attack == ADAPTIVE for row in rows):
        notes.append(
            f"{ADAPTIVE}: of each image, the worst that the attacks below it and at smaller "
            "distances found; each of these met the images that those above it had left"
        )
    shown = {name for row in rows for name in _further_accuracies(row)}
    notes += [note for name, note in _ACCURACY_NOTES.items() if name in shown]
    if any(row.score.accuracy_std_members is not None for row in rows):
        notes.append("over members: standard deviation of the accuracy over the members, in points")
    bare = [row for row in rows if row.score.accuracy_low is None]
    if counts := [row.num_images for row in bare if row.num_images > 1]:
        fewest = min(counts)
        notes.append(
            f"sampling: the standard error of an accuracy over {fewest} images is up to "
            f"{sampling_error(fewest):.1f} points; no spread above includes it"
        )
    return notes


def _published_notes(rows: Sequence[Row]) -> list[str]:
    found = [(row, number) for row in rows if (number := published(row.settings))]
    if not found:
        return []
    sources = dict.fromkeys(number.source for _, number in found)
    notes = [f"paper acc., paper RMS L2: {', '.join(sources)}"]
    differences = dict.fromkeys(
        f"{row.defense}: {difference}"
        for row, number in found
        for difference in number.differences(row.settings)
    )
    if differences:
        notes.append(f"{OTHER_SOURCE} published with other settings: {'; '.join(differences)}")
    others = dict.fromkeys(
        f"{other.source} has {_percent(other.accuracy)} for {row.defense} at "
        f"{row.strength[0]}={row.strength[1]:g}"
        for row, number in found
        for other in published_numbers(row.settings)
        if other.accuracy is not None
        and number.accuracy is not None
        and row.strength
        and abs(other.accuracy - number.accuracy) > _ROUNDING
    )
    return notes + [f"otherwise: {'; '.join(others)}"] * bool(others)


def _published_json(row: Row) -> dict[str, Any] | None:
    number = published(row.settings)
    return number.to_json(row.settings) if number else None


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _csv_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value
