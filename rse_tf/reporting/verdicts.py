"""The verdicts on the defenses of a run: as a table for the terminal, and as a file."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from rse_tf.evaluation import Verdict
from rse_tf.evaluation.sanity.verdict import VERDICTS
from rse_tf.reporting.names import display_name
from rse_tf.utils.files import atomic_write_text, reading

SCHEMA = 1
_KEYS = ("id", "question", "figure", "rule", "verdict")


def format_verdicts(verdicts: Mapping[str, Verdict]) -> str:
    """The tables of all defenses, each under its name."""
    return "\n\n".join(
        f"{display_name(defense)}: {verdict.format()}" for defense, verdict in verdicts.items()
    )


def write_verdicts(
    folder: pathlib.Path, verdicts: Mapping[str, Verdict], norm: str, epsilon: float
) -> pathlib.Path:
    """Writes `audit.json` into the folder of a run and returns its path.

    Args:
        folder: of the run.
        verdicts: one for each defense, by its name.
        norm: of the ball that the attacks searched.
        epsilon: its radius.
    """
    entries = [{"defense": name, **one.as_dict()} for name, one in verdicts.items()]
    content = {"schema": SCHEMA, "norm": norm, "epsilon": epsilon, "verdicts": entries}
    path = folder / "audit.json"
    atomic_write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def read_verdicts(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what a page needs of an `audit.json`; nothing where there is none.

    Args:
        path: a file of `write_verdicts`, of `Verdict.as_dict`, or of the rows alone. The latter
            two are of no defense in particular.

    Returns:
        For each verdict `defense` (or `None`), `rows`, `overall`, `counts` of the rows by their
        verdict, and `headline`, `norm` and `epsilon`, each of which may be `None`.

    Raises:
        FileError: if the file is damaged.
    """
    if not path.exists():
        return []
    with reading(path, "delete it, or write it anew"):
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            document = {"rows": document}
        entries = document["verdicts"] if "verdicts" in document else [document]
        ball = {name: document.get(name) for name in ("norm", "epsilon")}
        return [_entry(one, ball) for one in entries]


def _entry(one: Mapping[str, Any], ball: Mapping[str, Any]) -> dict[str, Any]:
    rows = [_row(row) for row in one["rows"]]
    return {
        **ball,
        "defense": one.get("defense"),
        "headline": one.get("headline"),
        "overall": max((row["verdict"] for row in rows), key=VERDICTS.index, default="NOT_RUN"),
        "counts": {v: sum(row["verdict"] == v for row in rows) for v in VERDICTS[::-1]},
        "rows": rows,
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    if missing := [name for name in _KEYS if name not in row]:
        raise ValueError(f"a row must have {', '.join(missing)}. Received: {row!r}")
    if row["verdict"] not in VERDICTS:
        expected = ", ".join(VERDICTS)
        raise ValueError(f"verdict must be one of {expected}. Received: {row['verdict']!r}")
    return {"reason": "", **row}
