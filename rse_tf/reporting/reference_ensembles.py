"""The numbers of Strauss et al. (2017), Tables 2 and 4."""

from __future__ import annotations

import functools
import math
from typing import Any

from rse_tf.reporting.reference_number import (
    IF_GIVEN,
    Published,
    RowLike,
    is_allowed,
    read_lines,
)

ENSEMBLES_TABLE_2 = "Strauss et al. 2017, Table 2"
ENSEMBLES_TABLE_4 = "Strauss et al. 2017, Table 4"

MEMBERS = 10
MODELS = {"mnist": "mnist_cnn", "cifar10": "cifar_cnn"}
# Section 4: the attacks' strength is that of the data set.
ATTACKS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "fgsm"): {"epsilon": 0.3},
    ("mnist", "bim"): {"epsilon": 0.2, "step_size": 0.025, "steps": 8},
    ("cifar10", "fgsm"): {"epsilon": 0.03},
    ("cifar10", "bim"): {"epsilon": 0.02, "step_size": 0.0025, "steps": 8},
}
_UNTARGETED = {**IF_GIVEN, "targeted": (None, False)}
# Table 4 attacks every ensemble with Grad. 2.
_GRADIENT = "mean_loss"


def numbers_by_source(row: RowLike) -> dict[str, Published]:
    """Returns the paper's numbers for the setting of `row`, by source: see `published`."""
    if row.model != MODELS.get(row.dataset) or not _is_their_attack(row):
        return {}
    given = row.parameters
    scored, gradient = given.get("scored"), given.get("gradient")
    if row.defense.startswith("ensemble_") and given.get("members") != MEMBERS:
        return {}
    key = (row.dataset, row.defense, row.attack)
    found = {
        ENSEMBLES_TABLE_2: _table_2().get((*key, scored or "", gradient or "")),
        ENSEMBLES_TABLE_4: _table_4().get((*key, scored or "", gradient or "")),
    }
    return {source: number for source, number in found.items() if number}


def _is_their_attack(row: RowLike) -> bool:
    if "image_class" in row.parameters:
        return False
    if row.attack == "none":
        return True
    expected = ATTACKS.get((row.dataset, row.attack))
    if expected is None or not is_allowed(row, _UNTARGETED):
        return False
    given = {name: row.parameters.get(name) for name in expected}
    return all(
        value is not None and math.isclose(value, expected[name], rel_tol=1e-6)
        for name, value in given.items()
    )


_Numbers = dict[tuple[str, str, str, str, str], Published]


@functools.cache
def _table_2() -> _Numbers:
    """Table 2: (dataset, defense, attack, scored, gradient) -> number."""
    numbers: _Numbers = {}
    for line in read_lines("ensembles_table2.csv"):
        key = (line["dataset"], line["defense"], line["attack"], line["scored"], line["gradient"])
        numbers[key] = Published(float(line["accuracy"]), None, ENSEMBLES_TABLE_2)
    return numbers


@functools.cache
def _table_4() -> _Numbers:
    """Table 4, likewise; a single network is neither scored in two ways nor has members."""
    numbers: _Numbers = {}
    for line in read_lines("ensembles_table4.csv"):
        is_ensemble = line["defense"].startswith("ensemble_")
        scored = "ensemble" if is_ensemble else ""
        gradient = _GRADIENT if is_ensemble and line["attack"] != "none" else ""
        key = (line["dataset"], line["defense"], line["attack"], scored, gradient)
        numbers[key] = Published(float(line["accuracy"]), None, ENSEMBLES_TABLE_4)
    return numbers
