"""One page for a run, with everything in it: it can be sent by mail and read on a phone."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from rse_tf.evaluation import Gallery, Row
from rse_tf.evaluation.suite_rows import ADAPTIVE, is_single_attack
from rse_tf.reporting.comparison import HEADERS, Comparison, compare
from rse_tf.reporting.distances import draw_distances
from rse_tf.reporting.gallery import draw_gallery, pictures_of
from rse_tf.reporting.heading import counts_of, names_of, warning_of
from rse_tf.reporting.names import (
    NORM_NAMES,
    attack_name,
    display_name,
    norm_of,
    strength_text,
)
from rse_tf.reporting.plots import draw_accuracy_vs_l2, draw_accuracy_vs_strength
from rse_tf.reporting.results import LEFT, Result, table_of
from rse_tf.reporting.saving import png_bytes
from rse_tf.reporting.verdicts import read_verdicts
from rse_tf.utils.files import atomic_write_text, reading


class Figure(NamedTuple):
    """A number of the headline: what it is, its value, and what a reader must know of it."""

    name: str
    value: str
    note: str = ""


class Picture(NamedTuple):
    """A picture: what it shows, and its PNG as base64."""

    title: str
    data: str


def write_html(
    folder: str | os.PathLike[str],
    result: Result,
    galleries: Sequence[Gallery] = (),
    path: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
    """Writes the page of a run and returns its path.

    The page needs no other file. Its head has, for each defense, the accuracy without an attack,
    under the attacks of the run, under the adaptive worst case if the rows have it, and the
    certified one if there is a `certificate.json`. That is set beside the adaptive worst case in L2
    if there is a `worst_cases.json`, too. Beside them stands the verdict on the
    evaluation, from `audit.json`: what `write_verdicts` writes; or `Verdict.as_dict()` or its rows
    alone, for all defenses. Its rows, tables, plots, galleries, flags and versions follow.

    Args:
        folder: of the run; the three files are looked for here.
        result: what `read_json` returns for the run.
        galleries: its attacked images.
        path: the file. Default: `report.html` in the folder.

    Raises:
        FileError: if one of the three files is damaged.
        ValueError: if the result has no rows.
    """
    folder = pathlib.Path(folder)
    path = folder / "report.html" if path is None else pathlib.Path(path)
    # The page is of one run, which needs no name in it.
    rows = [dataclasses.replace(row, run="") for row in result.rows]
    galleries = [dataclasses.replace(gallery, run="") for gallery in galleries]
    certificate = _read(folder / "certificate.json", _checked_certificate)
    table, warning = table_of(rows), warning_of(rows)
    defenses = list(dict.fromkeys(row.defense for row in rows))
    audits = read_verdicts(folder / "audit.json")
    comparison = compare(folder)
    template = _environment().get_template("report.html.jinja")
    text = template.render(
        title=names_of(rows),
        counts=counts_of(rows),
        warning=warning,
        defenses=[_defense(name, rows, certificate, audits) for name in defenses],
        audits=[(one["defense"] and display_name(one["defense"]), one) for one in audits],
        certificate=certificate,
        comparison=comparison and _of_comparison(comparison),
        table=table._replace(notes=[note for note in table.notes if note != warning]),
        left=LEFT,
        pictures=_pictures(rows, galleries, comparison),
        flags={name: value for name, value in result.flags.items() if value is not None},
        versions=result.versions,
    )
    atomic_write_text(path, text)
    return path


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("rse_tf.reporting", "")
    return jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _defense(
    name: str,
    rows: Sequence[Row],
    certificate: Mapping[str, Any] | None,
    audits: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The head of one defense: its name, its verdict and its numbers."""
    figures, verdict = _headline(name, rows, certificate), None
    for one in audits:
        if one["defense"] in (None, name):
            verdict = one["overall"]
            figures += _of_audit(one)
    return {"name": display_name(name), "verdict": verdict, "figures": figures}


def _of_audit(audit: Mapping[str, Any]) -> list[Figure]:
    """The robust accuracy that an audit measured, if it did."""
    if audit["headline"] is None:
        return []
    words = [NORM_NAMES.get(audit["norm"], "")]
    words += [f"epsilon = {audit['epsilon']:g}"] if audit["epsilon"] is not None else []
    words += ["upper bound only" if audit["overall"] == "FAIL" else ""]
    return [Figure("in the audit", _percent(audit["headline"]), ", ".join(filter(None, words)))]


def _headline(
    defense: str, rows: Sequence[Row], certificate: Mapping[str, Any] | None
) -> list[Figure]:
    """The numbers of one defense that a reader looks for first."""
    # Of an ensemble, the ensemble's own, and not those of its members by themselves.
    own = [row for row in rows if row.defense == defense and row.scored != "single"]
    clean = [row for row in own if row.attack == "none"]
    adaptive = [row for row in own if row.attack == ADAPTIVE]
    attacked = [row for row in own if row.attack not in ("none", ADAPTIVE)]
    attacked = [row for row in attacked if not is_single_attack(row)]
    found = [Figure("without attack", *_accuracy(row)) for row in clean[-1:]]
    for name, group in (("under attack, the lowest", attacked), ("adaptive worst case", adaptive)):
        if group:
            lowest = min(group, key=lambda row: row.score.accuracy)
            value, note = _accuracy(lowest)
            words = [attack_name(lowest.attack)] if group is attacked else []
            words += [norm_of(lowest), strength_text(lowest.strength), note]
            found.append(Figure(name, value, ", ".join(filter(None, words))))
            if lowest.score.worst_of_10 not in (None, lowest.score.accuracy):
                share = _percent(float(lowest.score.worst_of_10 or 0.0))
                found.append(Figure("… ten times in a row", share, "an attacker may ask again"))
    if certificate is not None and certificate.get("defense", defense) == defense:
        shares = [line for line in certificate["certified_accuracy"] if line["radius"] > 0]
        for line in shares[:1]:
            # As the defense answers: by the mean probability of its draws.
            note = f"within L2 radius {line['radius']:g}, by mean probability"
            found.append(Figure("certified", _percent(line["mean_probability"]), note))
    return found


def _of_comparison(found: Comparison) -> dict[str, Any]:
    """What the page says of certified beside attacked accuracy."""
    return {
        "name": display_name(found.defense),
        "headers": HEADERS,
        "lines": [line.cells for line in found.lines],
        "verdict": found.verdict,
        "words": found.words,
        "notes": found.notes,
    }


def _accuracy(row: Row) -> tuple[str, str]:
    """An accuracy, and its interval."""
    score = row.score
    note = f"{row.num_images:,} images"
    if score.accuracy_low is not None and score.accuracy_high is not None:
        ends = f"{100 * score.accuracy_low:.1f} to {_percent(score.accuracy_high)}"
        note = f"95\N{NO-BREAK SPACE}% interval {ends}"
    return _percent(score.accuracy), note


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _pictures(
    rows: Sequence[Row], galleries: Sequence[Gallery], comparison: Comparison | None
) -> list[Picture]:
    found = [
        ("Accuracy by strength of the attack", draw_accuracy_vs_strength(rows)),
        ("Accuracy by distortion", draw_accuracy_vs_l2(rows)),
    ]
    if comparison is not None and comparison.points:
        found.append(("Attack distance and certified radius", draw_distances(comparison)))
    for one in pictures_of(galleries):
        words = (display_name(one.defense), one.attack and f"under {attack_name(one.attack)}")
        found.append((f"Attacked images: {' '.join(filter(None, words))}", draw_gallery(one, rows)))
    return [Picture(title, base64.b64encode(png_bytes(fig)).decode()) for title, fig in found]


def _read(path: pathlib.Path, check: Any) -> Any:
    """What a JSON file holds, as `check` returns it; None without the file."""
    if not path.exists():
        return None
    with reading(path, "delete it, or write it anew"):
        return check(json.loads(path.read_text(encoding="utf-8")))


def _checked_certificate(document: Any) -> dict[str, Any]:
    for line in document["certified_accuracy"]:
        for name in ("radius", "votes", "mean_probability"):
            float(line[name])
    return dict(document)
