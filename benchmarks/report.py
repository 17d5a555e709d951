"""The command line of both benchmarks, their tables and their JSON."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tabulate
import tensorflow as tf

from benchmarks.race import Measurement, Outcome
from rse_tf.utils.files import atomic_write_text

PACKAGES = (
    "rse_tf",
    "tensorflow",
    "keras",
    "numpy",
    "foolbox",
    "adversarial-robustness-toolbox",
    "cleverhans",
    "pyautoattack",
    "torch",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """How large the cases are. `None` leaves the size to the case.

    Attributes:
        repeats: rounds per case.
        steps: gradient steps of an attack.
        binary_search_steps: descents of C&W's binary search.
        images: images, also of a forward pass or a training step.
        art_images: images for the attacks of the Adversarial Robustness Toolbox, which takes
            ten times as long per image as all others together.
    """

    repeats: int = 5
    steps: int | None = None
    binary_search_steps: int | None = None
    images: int | None = None
    art_images: int | None = None


Case = Callable[[Options], Outcome]


def main(
    cases: Mapping[str, Case], description: str, argv: Sequence[str] | None = None
) -> dict[str, Any]:
    """Runs the chosen cases, prints the tables, and returns what `--output` stores.

    Args:
        cases: all cases by name.
        description: what `--help` says.
        argv: the command line without the program; by default the process's own.
    """
    parser = _parser(description)
    given = parser.parse_args(argv)
    chosen = [name for name in cases if fnmatch.fnmatch(name, given.only)]
    if not chosen:
        parser.error(f"--only={given.only!r} matches none of {', '.join(cases)}")
    if given.list:
        print("\n".join(chosen))
        return {}
    options = Options(
        **{field.name: getattr(given, field.name) for field in dataclasses.fields(Options)}
    )
    # The peers call what is deprecated, and compile more often than TensorFlow likes.
    tf.get_logger().setLevel("ERROR")
    found: dict[str, Outcome] = {}
    record: dict[str, Any] = {}
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = cases[name](options)
        record = to_record(found, argv, options)
        # After every case, so that a killed run keeps what it has.
        if given.output:
            atomic_write_text(given.output, json.dumps(record, indent=1) + "\n")
    print(tables(found))
    return record


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by name, with * ?")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--output", metavar="FILE", help="where to store everything, as JSON")
    parser.add_argument("--repeats", type=_positive, default=Options.repeats)
    for name in ("steps", "binary_search_steps", "images", "art_images"):
        parser.add_argument(f"--{name}", type=_positive, help="instead of the case's own")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer. Received: {text!r}")
    return int(text)


# The tables.


def tables(found: Mapping[str, Outcome]) -> str:
    """The ratios beside their targets, the measurements behind them, and the settings."""
    ratios = [
        [
            case,
            one.ratio,
            _number(one.value) or one.note,
            _between(one.low, one.high),
            one.target,
            {True: "met", False: "MISSED", None: ""}[one.met],
        ]
        for case, outcome in found.items()
        for one in outcome.verdicts
    ]
    measured = [
        [case, *_cells(one)] for case, outcome in found.items() for one in outcome.measurements
    ]
    columns = ("case", "ratio", "value", "single rounds", "target", "")
    details = (
        "case",
        "contestant",
        "median s",
        "spread",
        "per s",
        "unit",
        "MB",
        "success",
        "mean distance",
        "median distance",
        "note",
    )
    parts = [
        tabulate.tabulate(ratios, columns, "pipe", disable_numparse=True),
        tabulate.tabulate(measured, details, "pipe", disable_numparse=True),
        "\n".join(f"{case}: {outcome.setting}" for case, outcome in found.items()),
    ]
    return "\n\n".join(parts)


def _cells(one: Measurement) -> list[str]:
    spread = one.timing and f"{one.timing.spread:.0%}"
    success = None if one.success_rate is None else f"{one.success_rate:.1%}"
    return [
        one.contestant,
        _number(one.seconds),
        spread or "",
        _number(one.rate),
        one.unit,
        _number(one.megabytes),
        success or "",
        _number(one.distance_of_successes(np.mean)),
        _number(one.distance_of_successes(np.median)),
        one.note,
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or low == high else f"{_number(low)} to {_number(high)}"


# The JSON.


def to_record(
    found: Mapping[str, Outcome], argv: Sequence[str] | None, options: Options
) -> dict[str, Any]:
    """Everything there is to know about a run, ready for JSON."""
    arguments = sys.argv[1:] if argv is None else argv
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {module.name}" if module else "python"
    return {
        "command": f"{program} {shlex.join(arguments)}".strip(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "cpus": os.cpu_count(),
        "options": dataclasses.asdict(options),
        "cases": {
            case: {
                "setting": outcome.setting,
                "ratios": [dataclasses.asdict(one) for one in outcome.verdicts],
                "measurements": [_measured(one) for one in outcome.measurements],
            }
            for case, outcome in found.items()
        },
    }


def version(package: str) -> str | None:
    """The installed version, or `None`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _measured(one: Measurement) -> dict[str, Any]:
    return {
        "contestant": one.contestant,
        "unit": one.unit,
        "work": one.work,
        "seconds": one.timing and list(one.timing.seconds),
        "median_seconds": one.seconds,
        "spread": one.timing and one.timing.spread,
        "rate": one.rate,
        "megabytes": one.megabytes,
        "images": None if one.success is None else len(one.success),
        "success": one.success_rate,
        "mean_distance": one.distance_of_successes(np.mean),
        "median_distance": one.distance_of_successes(np.median),
        "note": one.note,
    }
