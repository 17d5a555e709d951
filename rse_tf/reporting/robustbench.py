"""Entries in the form of RobustBench: one JSON file for each defense, norm and distance.

Reference:
    Croce et al., RobustBench: a standardized adversarial robustness benchmark (2021),
    arXiv:2010.09670; the files of `model_info` at github.com/RobustBench/robustbench.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from rse_tf.evaluation import Row
from rse_tf.evaluation.sanity.verdict import FAIL
from rse_tf.evaluation.suite_rows import ADAPTIVE
from rse_tf.reporting.comparison import compare
from rse_tf.reporting.names import counted, display_name
from rse_tf.reporting.verdicts import read_verdicts
from rse_tf.utils.files import atomic_write_text

_THREATS = {"linf": "Linf", "l2": "L2"}
_LEVELS = 255


def write_entries(
    run: pathlib.Path, rows: Sequence[Row], folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes an entry for each adaptive worst case of a run, and returns the paths.

    A file is `DATASET/THREAT/RUN_DEFENSE_MODEL_EPS.json`, as in the `model_info` of RobustBench.

    Args:
        run: its folder, in which the verdict on its numbers is looked for.
        rows: of the run.
        folder: receives the files.

    Raises:
        FileError: if a file of the run is damaged.
    """
    paths = []
    for row, entry in entries(run, rows):
        names = (row.run, row.defense, pathlib.PurePath(row.model).stem, entry["eps"])
        name = "_".join(filter(None, names)).replace("/", "_")
        place = folder / pathlib.PurePath(row.dataset).stem / _THREATS[row.parameters["norm"]]
        paths.append(place / f"{name}.json")
        atomic_write_text(paths[-1], json.dumps(entry, indent=2, allow_nan=False) + "\n")
    return paths


def entries(run: pathlib.Path, rows: Sequence[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The worst cases of a run, each with its entry.

    The keys are those of RobustBench, and so are the forms of their values. What a run does not
    know of itself is empty: `link`, `authors` and `venue`. The robust accuracy is that of the
    adaptive suite, which the footnote says; `unreliable` is whether a sanity check failed, or the
    worst case is below a certificate.

    Args:
        run: its folder.
        rows: of the run.

    Raises:
        FileError: if a file of the run is damaged.
    """
    verdicts = {one["defense"]: one["overall"] for one in read_verdicts(run / "audit.json")}
    comparison = compare(run)
    contradicted = comparison.defense if comparison and comparison.verdict == FAIL else None
    for row in rows:
        if row.attack != ADAPTIVE:
            continue
        verdict = verdicts.get(row.defense, verdicts.get(None))
        robust = f"{100 * row.score.accuracy:.2f}"
        yield (
            row,
            {
                "link": "",
                "name": display_name(row.defense),
                "authors": "",
                # Of somebody's own file nobody here knows what it was trained on.
                "additional_data": None if row.model.endswith(".keras") else False,
                "number_forward_passes": row.num_draws * (row.members or 1),
                "dataset": row.dataset,
                "venue": "",
                "architecture": row.model,
                "eps": _eps(row),
                "clean_acc": _clean(row, rows),
                "reported": robust,
                "autoattack_acc": robust,
                "external": robust,
                "unreliable": verdict == FAIL or row.defense == contradicted,
                "footnote": _footnote(row, verdict),
            },
        )


def _eps(row: Row) -> str:
    """The distance as RobustBench writes it: `"8/255"` in L-infinity, `"0.5"` in L2."""
    epsilon = float(row.parameters["epsilon"])
    levels = round(_LEVELS * epsilon)
    if row.parameters["norm"] == "linf" and math.isclose(levels, _LEVELS * epsilon, rel_tol=1e-6):
        return f"{levels}/{_LEVELS}"
    return f"{epsilon:g}"


def _clean(row: Row, rows: Sequence[Row]) -> str | None:
    """Accuracy without an attack, as the same defense answers."""
    same = ("defense", "scored", "num_draws", "run")
    for one in rows:
        if one.attack == "none" and all(getattr(one, n) == getattr(row, n) for n in same):
            return f"{100 * one.score.accuracy:.2f}"
    return None


def _footnote(row: Row, verdict: str | None) -> str:
    score, scale = row.score, row.parameters.get("suite_scale", "")
    words = [
        "Not AutoAttack: reported, autoattack_acc and external are the worst case of the adaptive "
        f"suite of rse_tf (scale: {scale}) over {counted(row.num_images, 'test image')}"
    ]
    if score.accuracy_low is not None and score.accuracy_high is not None:
        ends = f"{100 * score.accuracy_low:.1f} to {100 * score.accuracy_high:.1f} %"
        words[0] += f", 95 % interval {ends}"
    if row.noise or row.num_draws > 1:
        words.append(
            f"Randomised: an answer is the class of the mean probability of {row.num_draws} draws; "
            "RobustBench takes deterministic defenses"
        )
        if score.worst_of_10 is not None:
            words.append(f"Correct in ten answers out of ten: {100 * score.worst_of_10:.2f} %")
    judged = "None was made" if verdict is None else verdict
    return ". ".join([*words, f"Sanity check: {judged}"]) + "."
