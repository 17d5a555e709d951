"""What a suite found, image by image: the file of a run that holds it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rse_tf.evaluation import CaseCell, WorstCases, plain
from rse_tf.reporting.certificates import OF_NETWORK
from rse_tf.utils.files import atomic_write_text, reading

SCHEMA = 1


def write_worst_cases(
    folder: pathlib.Path, cases: Sequence[WorstCases], flags: Mapping[str, Any]
) -> pathlib.Path:
    """Writes `worst_cases.json` into the folder of a run and returns its path.

    Args:
        folder: of the run.
        cases: one for each defense.
        flags: of the run; those that its networks follow from are kept.
    """
    kept = {name: flags.get(name) for name in OF_NETWORK}
    defenses = [dataclasses.asdict(one) for one in cases]
    content = plain({"schema": SCHEMA, "flags": kept, "defenses": defenses}, "write_worst_cases")
    path = folder / "worst_cases.json"
    atomic_write_text(path, json.dumps(content, allow_nan=False) + "\n")
    return path


def read_worst_cases(path: pathlib.Path) -> tuple[dict[str, Any], list[WorstCases]]:
    """Reads what `write_worst_cases` wrote: the flags, and the defenses; none without the file.

    Raises:
        FileError: if the file is damaged.
    """
    if not path.exists():
        return {}, []
    with reading(path, "delete it, and evaluate anew"):
        content = json.loads(path.read_text(encoding="utf-8"))
        cases = []
        for one in content["defenses"]:
            cells = tuple(CaseCell(**cell) for cell in one["cells"])
            cases.append(WorstCases(**{**one, "cells": cells}))
        return dict(content["flags"]), cases
