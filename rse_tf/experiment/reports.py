"""What a run writes and prints at its end."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import keras

from rse_tf import data, evaluation, reporting
from rse_tf.config import Config
from rse_tf.evaluation import Gallery, Row, SuiteOutcome, Verdict, WorstCases
from rse_tf.evaluation.attack_points import audit_ball
from rse_tf.experiment.environment import versions
from rse_tf.utils.log import log


def worst_cases(
    config: Config,
    defense: str,
    model: keras.Model,
    dataset: data.Dataset,
    outcome: SuiteOutcome,
) -> WorstCases:
    """What a suite found, image by image."""
    numbers = config.evaluation_settings().image_numbers(dataset)
    test = dataset.test[numbers]
    return evaluation.worst_cases(
        outcome,
        test.images,
        test.labels,
        numbers,
        defense=defense,
        model=model,
        num_draws=config.num_draws[0],
    )


def report(
    config: Config,
    rows: list[Row],
    galleries: list[Gallery],
    verdicts: Mapping[str, Verdict],
    cases: Sequence[WorstCases] = (),
) -> None:
    """Writes the report of a run and prints its table and where everything is."""
    workdir = pathlib.Path(str(config.workdir))
    flags, formats = config.values(), config.figure_format
    paths = reporting.write_report(
        workdir, rows, galleries, flags=flags, versions=versions(), formats=formats
    )
    log(f"\n{reporting.format_table(rows)}\n")
    if len(config.defense) > 1 and any("const" in row.parameters for row in rows):
        log(
            "The same c is not the same distance: RMS L2 tells how far the attack went. At equal "
            "distance, accuracy_vs_l2.png compares the defenses.\n"
        )
    if verdicts:
        paths.append(reporting.write_verdicts(workdir, verdicts, *audit_ball(config)))
        log(f"{reporting.format_verdicts(verdicts)}\n")
    if cases:
        paths.append(reporting.write_worst_cases(workdir, cases, flags))
        paths += report_comparison(config)
    for path in paths:
        log(path)
    if config.attacks and not any(row.attack == "adaptive" for row in rows):
        log(
            "\nThese attacks are not the worst case: --suite=adaptive attacks each defense in "
            "every way that suits it."
        )
    log(f"A page of it all: python -m rse_tf.report {workdir} --html")


def report_comparison(config: Config) -> list[pathlib.Path]:
    """Prints the certificate of a workdir beside the worst case of its suite, if it has both.

    Returns the paths of the picture.
    """
    workdir = pathlib.Path(str(config.workdir))
    text, paths = reporting.write_comparison(workdir, formats=config.figure_format)
    if text:
        log(f"{text}\n")
    return paths
