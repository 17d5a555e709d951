"""Tests of the papers' own numbers in `rse_tf.reporting`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from rse_tf import reporting
from rse_tf.reporting import Row, published
from rse_tf.reporting.reference import (
    ENSEMBLES_TABLE_2,
    ENSEMBLES_TABLE_4,
    TABLE_3,
    published_by_source,
)
from rse_tf.reporting.reference_number import read_lines
from rse_tf.reporting.series import panels

STRENGTHS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "none"): {},
    ("mnist", "fgsm"): {"epsilon": 0.3},
    ("mnist", "bim"): {"epsilon": 0.2, "step_size": 0.025, "steps": 8},
    ("cifar10", "none"): {},
    ("cifar10", "fgsm"): {"epsilon": 0.03},
    ("cifar10", "bim"): {"epsilon": 0.02, "step_size": 0.0025, "steps": 8},
}
MODELS = {"mnist": "mnist_cnn", "cifar10": "cifar_cnn"}
TARGETED = {"const": 100.0, "steps": 1000, "learning_rate": 1e-2, "iterate": "last"}


def make_row(dataset: str, defense: str, attack: str, **parameters: Any) -> Row:
    """A row at the strength of Strauss et al. (2017), with further parameters."""
    return Row(
        dataset=dataset,
        model=MODELS[dataset],
        defense=defense,
        attack=attack,
        parameters={**STRENGTHS[dataset, attack], **parameters},
        noise={},
        accuracy=0.5,
        accuracy_std=0.0,
        rms_l2=1.0,
        mean_l2=None,
        median_l2=None,
        mean_linf=None,
        max_linf=0.1,
        success_rate=0.5,
        misclassified_clean=0.1,
        num_images=10_000,
        num_draws=1,
        eval_seeds=1,
        seconds=1.0,
    )


def ensemble_row(dataset: str, defense: str, attack: str, scored: str, gradient: str) -> Row:
    given = {"gradient": gradient} if gradient else {}
    return make_row(dataset, defense, attack, members=10, scored=scored, **given)


BAGGING = ensemble_row("mnist", "ensemble_bagging", "bim", "ensemble", "mean_loss")


def with_parameters(row: Row, **parameters: Any) -> Row:
    return dataclasses.replace(row, parameters={**row.parameters, **parameters})


def targeted_row(defense: str, target: str, **changes: Any) -> Row:
    row = make_row("cifar10", defense, "none", targeted=True, target=target, **TARGETED)
    noise: dict[str, Any] = {}
    if defense == "rse":
        noise = {"init_noise": 0.4, "inner_noise": 0.1, "distribution": "gaussian"}
    facts: dict[str, Any] = {"attack": "carlini_wagner", "model": "vgg16", "noise": noise}
    return dataclasses.replace(row, **{**facts, "num_draws": 50, "num_images": 1, **changes})


def test_the_files_hold_all_numbers_of_the_tables() -> None:
    """Sums computed from the tables as printed, column by column."""
    columns = {
        # MNIST, then CIFAR-10: no attack single and ensemble, then by attack.
        ("mnist", "none", "single", ""): 0.9912 + 0.9918 + 0.9900 + 0.9898,
        ("mnist", "none", "ensemble", ""): 0.9942 + 0.9942 + 0.9927 + 0.9920,
        ("mnist", "fgsm", "single", "member"): 0.3791 + 0.3522 + 0.4045 + 0.5587,
        ("mnist", "fgsm", "ensemble", "member"): 0.6100 + 0.5681 + 0.6738 + 0.7816,
        ("mnist", "fgsm", "ensemble", "mean_loss"): 0.4517 + 0.4609 + 0.5716 + 0.7043,
        ("mnist", "bim", "single", "member"): 0.0906 + 0.0582 + 0.1110 + 0.5429,
        ("mnist", "bim", "ensemble", "member"): 0.6518 + 0.6656 + 0.7068 + 0.9152,
        ("mnist", "bim", "ensemble", "mean_loss"): 0.8875 + 0.9076 + 0.9233 + 0.9768,
        ("cifar10", "none", "single", ""): 0.7984 + 0.7898 + 0.7815 + 0.7160,
        ("cifar10", "none", "ensemble", ""): 0.8448 + 0.8400 + 0.8415 + 0.7687,
        ("cifar10", "fgsm", "single", "member"): 0.1778 + 0.1643 + 0.1822 + 0.2966,
        ("cifar10", "fgsm", "ensemble", "member"): 0.4538 + 0.4339 + 0.4788 + 0.6097,
        ("cifar10", "fgsm", "ensemble", "mean_loss"): 0.3302 + 0.3140 + 0.3571 + 0.4707,
        ("cifar10", "bim", "single", "member"): 0.1192 + 0.1139 + 0.1280 + 0.3076,
        ("cifar10", "bim", "ensemble", "member"): 0.5232 + 0.5259 + 0.5615 + 0.6735,
        ("cifar10", "bim", "ensemble", "mean_loss"): 0.6826 + 0.6768 + 0.7166 + 0.7277,
    }
    lines = read_lines("ensembles_table2.csv")
    assert len(lines) == 16 * 4
    names = ("dataset", "attack", "scored", "gradient")
    for key, total in columns.items():
        own = [float(line["accuracy"]) for line in lines if tuple(map(line.get, names)) == key]
        assert len(own) == 4 and sum(own) == pytest.approx(total, abs=1e-9)

    rows = {
        "ensemble_bagging": 0.9927 + 0.5716 + 0.9233 + 0.8415 + 0.3571 + 0.7166,
        "adversarial_training": 0.9902 + 0.3586 + 0.5420 + 0.7712 + 0.1778 + 0.3107,
        "distillation": 0.9840 + 0.0798 + 0.3829 + 0.7140 + 0.1828 + 0.3635,
        "ensemble_bagging+adversarial_training": 0.9927 + 0.8703 + 0.9840
        + 0.8320 + 0.5010 + 0.7017,
        "ensemble_bagging+distillation": 0.9875 + 0.0954 + 0.4514 + 0.7323 + 0.1839 + 0.4569,
    }
    lines = read_lines("ensembles_table4.csv")
    assert len(lines) == 5 * 6
    for defense, total in rows.items():
        own = [float(line["accuracy"]) for line in lines if line["defense"] == defense]
        assert len(own) == 6 and sum(own) == pytest.approx(total, abs=1e-9)

    squares = {
        "none": 1.94 + 0.31 + 0.74 + 4.72 + 7.99 + 3.66 + 9.22 + 0.75 + 1.32,
        "distillation": 6.55 + 0.70 + 13.78 + 2.54 + 13.90 + 2.56 + 11.36 + 0.66 + 3.54,
        "adversarial_retraining": 2.58 + 0.31 + 0.75 + 6.08 + 0.75 + 9.01 + 6.06 + 0.31 + 4.08,
        "robust_opt_brelu": 17.11 + 1.02 + 4.07 + 13.50 + 7.09 + 15.34 + 7.15 + 2.08 + 17.57,
        "rse": 12.87 + 2.61 + 12.47 + 21.47 + 31.90 + 19.09 + 9.45 + 10.21 + 22.15,
    }
    lines = read_lines("rse_table3.csv")
    assert len(lines) == 5 * 9
    for defense, total in squares.items():
        own = [float(line["squared_l2"]) for line in lines if line["defense"] == defense]
        assert len(own) == 9 and sum(own) == pytest.approx(total, abs=1e-9)


def test_published_finds_every_line_of_the_ensembles() -> None:
    for line in read_lines("ensembles_table2.csv"):
        names = ("dataset", "defense", "attack", "scored", "gradient")
        number = published(ensemble_row(*(line[name] for name in names)))
        assert number is not None and number.source == ENSEMBLES_TABLE_2
        assert number.accuracy == float(line["accuracy"]) and number.rms_l2 is None
    for line in read_lines("ensembles_table4.csv"):
        place = (line["dataset"], line["defense"], line["attack"])
        row = make_row(*place)
        if line["defense"].startswith("ensemble_"):
            row = ensemble_row(*place, "ensemble", "" if line["attack"] == "none" else "mean_loss")
        number = published_by_source(row)[ENSEMBLES_TABLE_4]
        assert number.accuracy == float(line["accuracy"])


@pytest.mark.parametrize(
    "place, accuracy",
    [
        (("mnist", "ensemble_gauss_noise", "bim", "ensemble", "member"), 0.9152),
        (("mnist", "ensemble_mixed", "bim", "single", "member"), 0.0582),
        (("cifar10", "ensemble_random_init", "fgsm", "ensemble", "mean_loss"), 0.3302),
        (("cifar10", "ensemble_bagging", "none", "single", ""), 0.7815),
        (("cifar10", "ensemble_gauss_noise", "none", "ensemble", ""), 0.7687),
    ],
)
def test_numbers_of_the_ensembles_as_printed(place: Any, accuracy: float) -> None:
    number = published(ensemble_row(*place))
    assert number is not None and number.accuracy == accuracy


def test_bagging_is_in_both_tables_with_the_same_number() -> None:
    found = published_by_source(BAGGING)
    assert {source: number.accuracy for source, number in found.items()} == {
        ENSEMBLES_TABLE_2: 0.9233,
        ENSEMBLES_TABLE_4: 0.9233,
    }
    number = published(BAGGING)
    assert number is not None and number.source == ENSEMBLES_TABLE_2


@pytest.mark.parametrize(
    "row",
    [
        with_parameters(BAGGING, gradient="mean_probability"),
        with_parameters(BAGGING, scored="single"),
        with_parameters(BAGGING, scored=None),
        with_parameters(BAGGING, members=5),
        with_parameters(BAGGING, members=None),
        with_parameters(BAGGING, epsilon=0.3),
        with_parameters(BAGGING, step_size=0.02),
        with_parameters(BAGGING, steps=10),
        with_parameters(BAGGING, targeted=True),
        with_parameters(BAGGING, attack_draws=10),
        dataclasses.replace(BAGGING, dataset="mnist_5k"),
        dataclasses.replace(BAGGING, model="cifar_cnn"),
        dataclasses.replace(BAGGING, attack="fgsm"),
        dataclasses.replace(BAGGING, defense="ensemble_boosting"),
        make_row("mnist", "none", "none"),
        make_row("mnist", "distillation", "fgsm", epsilon=0.2),
    ],
    ids=lambda row: f"{row.dataset}-{row.defense}-{row.attack}-{row.parameters}",
)
def test_published_refuses_other_protocols(row: Row) -> None:
    assert published(row) is None


def test_epsilon_through_float32_still_matches() -> None:
    assert published(with_parameters(BAGGING, epsilon=0.20000000298023224)) == published(BAGGING)


@pytest.mark.parametrize(
    "defense, target, squared",
    [("none", "automobile", 0.31), ("rse", "dog", 31.90), ("robust_opt_brelu", "airplane", 2.08)],
)
def test_targeted_rows_have_the_root_of_table_3(
    defense: str, target: str, squared: float
) -> None:
    number = published(targeted_row(defense, target))
    assert number is not None and number.source == TABLE_3 and number.accuracy is None
    assert number.rms_l2 == math.sqrt(squared)


@pytest.mark.parametrize(
    "changes", [{"const": 10.0}, {"steps": 300}, {"targeted": False}, {"target": "ship"}]
)
def test_table_3_refuses_other_protocols(changes: dict[str, Any]) -> None:
    assert published(with_parameters(targeted_row("none", "cat"), **changes)) is None


def test_reports_take_rows_of_every_source() -> None:
    text = reporting.format_table([BAGGING, targeted_row("none", "cat")])
    assert "92.33" in text and f"{math.sqrt(0.74):.4f}" in text
    assert f"{ENSEMBLES_TABLE_2}, {TABLE_3}" in text


def test_rows_written_before_queries_were_counted_still_load() -> None:
    data = BAGGING.to_json()
    assert data.pop("mean_queries") is None
    assert Row.from_json(data) == BAGGING
    counted = dataclasses.replace(BAGGING, mean_queries=12)
    assert Row.from_json(counted.to_json()).mean_queries == 12.0


def test_clean_rows_join_the_curve_of_what_is_scored() -> None:
    place = ("mnist", "ensemble_bagging")
    rows = [
        ensemble_row(*place, attack, scored, "" if attack == "none" else "member")
        for scored in ("single", "ensemble")
        for attack in ("none", "fgsm")
    ]
    (panel,) = panels(rows)
    assert [(series.clean, series.rows) for series in panel.series] == [
        ((rows[0],), (rows[1],)),
        ((rows[2],), (rows[3],)),
    ]
