"""The papers' own numbers: all of them are there, and beside which rows they may stand."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import json
import math

import numpy as np
import pytest
from rows import (
    NOISE,
    attacked,
    ensembles_row,
    make_row,
    second_conv,
    targeted,
    with_parameters,
)

from rse_tf import reporting
from rse_tf.evaluation import Row
from rse_tf.reporting import Published
from rse_tf.reporting.published import (
    ENSEMBLES_TABLE_2,
    ENSEMBLES_TABLE_4,
    SWEEP,
    TABLE_2,
    TABLE_3,
    TRAINING,
    published_numbers,
)

BAGGING = ensembles_row("mnist", "ensemble_bagging", "bim", "ensemble", "mean_loss")


def published(row: Row, source: str | None = None) -> Published | None:
    return reporting.published(row.settings, source)


def lines(source: str) -> list[dict[str, str]]:
    file = importlib.resources.files("rse_tf.reporting") / "published.csv"
    every = csv.DictReader(file.read_text().splitlines())
    return [line for line in every if line["source"] == source]


# The numbers.


def test_the_sweep_is_there_to_the_last_digit() -> None:
    sweep = lines(SWEEP)
    assert len(sweep) == 3 * 5 * 17  # networks, defenses, values of c
    # Sums over the authors' 255 lines.
    assert sum(float(line["accuracy"]) for line in sweep) == pytest.approx(43.221250, abs=1e-9)
    assert sum(float(line["rms_l2"]) for line in sweep) == pytest.approx(129.117430, abs=1e-9)


def test_the_file_holds_all_numbers_of_the_tables() -> None:
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
    names = ("dataset", "attack", "scored", "gradient")
    assert len(lines(ENSEMBLES_TABLE_2)) == 16 * 4
    for key, total in columns.items():
        own = [
            float(line["accuracy"])
            for line in lines(ENSEMBLES_TABLE_2)
            if tuple(map(line.get, names)) == key
        ]
        assert len(own) == 4 and sum(own) == pytest.approx(total, abs=1e-9)

    by_defense = {
        ENSEMBLES_TABLE_4: {
            "ensemble_bagging": 0.9927 + 0.5716 + 0.9233 + 0.8415 + 0.3571 + 0.7166,
            "adversarial_training": 0.9902 + 0.3586 + 0.5420 + 0.7712 + 0.1778 + 0.3107,
            "distillation": 0.9840 + 0.0798 + 0.3829 + 0.7140 + 0.1828 + 0.3635,
            "ensemble_bagging+adversarial_training": 0.9927
            + 0.8703
            + 0.9840
            + 0.8320
            + 0.5010
            + 0.7017,
            "ensemble_bagging+distillation": 0.9875 + 0.0954 + 0.4514 + 0.7323 + 0.1839 + 0.4569,
        },
        TABLE_2: {
            "rse": 0.9000 + 0.8606 + 0.7944 + 0.6719 + 0.3475,
            "adversarial_retraining": 0.2700 + 0.0981 + 0.0413 + 0.0369 + 0.0144,
            "robust_opt_brelu": 0.7506 + 0.4793 + 0.3094 + 0.2069 + 0.1350,
            "distillation": 0.4988 + 0.1769 + 0.0456 + 0.0313 + 0.0144,
            "none": 0.3038 + 0.0893 + 0.0506 + 0.0356 + 0.0219,
        },
        TABLE_3: {  # printed as squares
            "none": 1.94 + 0.31 + 0.74 + 4.72 + 7.99 + 3.66 + 9.22 + 0.75 + 1.32,
            "distillation": 6.55 + 0.70 + 13.78 + 2.54 + 13.90 + 2.56 + 11.36 + 0.66 + 3.54,
            "adversarial_retraining": 2.58 + 0.31 + 0.75 + 6.08 + 0.75 + 9.01 + 6.06 + 0.31 + 4.08,
            "robust_opt_brelu": 17.11 + 1.02 + 4.07 + 13.50 + 7.09 + 15.34 + 7.15 + 2.08 + 17.57,
            "rse": 12.87 + 2.61 + 12.47 + 21.47 + 31.90 + 19.09 + 9.45 + 10.21 + 22.15,
        },
    }
    for source, totals in by_defense.items():
        count = {ENSEMBLES_TABLE_4: 6, TABLE_2: 5, TABLE_3: 9}[source]
        assert len(lines(source)) == count * len(totals)
        for defense, total in totals.items():
            own = [line for line in lines(source) if line["defense"] == defense]
            values = [
                float(line["rms_l2"]) ** 2 if source == TABLE_3 else float(line["accuracy"])
                for line in own
            ]
            assert len(own) == count and sum(values) == pytest.approx(total, abs=1e-7)


def test_table_2_agrees_with_the_sweep_on_all_but_rse() -> None:
    for const in (0.01, 0.03, 0.06, 0.1, 0.2):
        for defense in ("none", "distillation", "adversarial_retraining", "robust_opt_brelu"):
            row = attacked(defense, const)
            table, sweep = published(row, TABLE_2), published(row, SWEEP)
            assert table is not None and sweep is not None and table.rms_l2 is None
            # Printed with two decimals of a percent, at times cut rather than rounded.
            assert abs(float(table.accuracy or 0) - float(sweep.accuracy or 0)) < 1e-4
    found = {number.source: number.accuracy for number in published_numbers(attacked().settings)}
    assert found == {SWEEP: 0.61875, TABLE_2: 0.6719}


# The rows that they stand beside.


@pytest.mark.parametrize(
    "row, source, accuracy",
    [
        (attacked(), SWEEP, 0.61875),
        (attacked("none", num_draws=50), SWEEP, 0.035625),  # draws of nothing random
        (attacked("rse", 100, dataset="stl10", model="model_a"), SWEEP, 0.015),
        (attacked("none", np.float32(0.1)), SWEEP, 0.035625),
        (make_row(), SWEEP, 0.885625),  # a clean row is set against c = 0
        (attacked("rse", 0.0), SWEEP, 0.885625),
        (
            attacked(
                parameters={
                    "confidence": 0.0,
                    "binary_search_steps": 9,
                    "abort_early": None,
                    "bounds": (0.0, 1.0),
                    "attack_draws": 1,
                }
            ),
            SWEEP,
            0.61875,
        ),
        (
            ensembles_row("mnist", "ensemble_gauss_noise", "bim", "ensemble", "member"),
            ENSEMBLES_TABLE_2,
            0.9152,
        ),
        (
            ensembles_row("mnist", "ensemble_mixed", "bim", "single", "member"),
            ENSEMBLES_TABLE_2,
            0.0582,
        ),
        (
            ensembles_row("cifar10", "ensemble_random_init", "fgsm", "ensemble", "mean_loss"),
            ENSEMBLES_TABLE_2,
            0.3302,
        ),
        (ensembles_row("cifar10", "ensemble_bagging", "none", "single"), ENSEMBLES_TABLE_2, 0.7815),
        (
            ensembles_row("cifar10", "ensemble_gauss_noise", "none", "ensemble"),
            ENSEMBLES_TABLE_2,
            0.7687,
        ),
        (with_parameters(BAGGING, epsilon=0.20000000298023224), ENSEMBLES_TABLE_2, 0.9233),
        (ensembles_row("cifar10", "distillation", "bim"), ENSEMBLES_TABLE_4, 0.3635),
        (
            ensembles_row("mnist", "ensemble_bagging+distillation", "none", "ensemble"),
            ENSEMBLES_TABLE_4,
            0.9875,
        ),
    ],
)
def test_a_row_finds_its_number(row: Row, source: str, accuracy: float) -> None:
    number = published(row)
    assert number is not None and (number.source, number.accuracy) == (source, accuracy)


@pytest.mark.parametrize(
    "row",
    [
        attacked(noise={**NOISE, "init_noise": 0.2}),
        attacked(noise={**NOISE, "distribution": "laplace"}),
        attacked(noise={}),
        attacked(num_draws=1),
        attacked(stop_error=0.05),
        attacked("none", parameters={"steps": 100}),
        attacked("none", parameters={"learning_rate": 1e-2}),
        attacked("none", parameters={"targeted": True}),
        attacked("none", parameters={"iterate": "best"}),
        attacked("none", parameters={"confidence": 5.0}),
        attacked("none", parameters={"substitute": "none"}),
        attacked("none", parameters={"image_class": "ship"}),
        attacked("none", parameters={"attack_draws": 10}),
        attacked("none", parameters={"bounds": (-0.5, 0.5)}),
        attacked("none", parameters={"abort_early": True}),
        attacked("none", parameters={"const": None}),
        attacked("none", parameters={"const": 0.5}),
        make_row("none", "carlini_wagner", parameters={"const": 0.1}),
        make_row("none", "fgsm", parameters={"epsilon": 0.03}),
        attacked("bagging"),
        attacked("none", model="resnext"),
        attacked("none", dataset="mnist_5k"),
        make_row(num_draws=1),
        make_row("none", parameters={"image_class": "ship"}),
        with_parameters(BAGGING, epsilon=0.3),
        with_parameters(BAGGING, step_size=0.02),
        with_parameters(BAGGING, steps=10),
        with_parameters(BAGGING, targeted=True),
        with_parameters(BAGGING, attack_draws=10),
        *(
            dataclasses.replace(BAGGING, **{name: value})
            for name, value in (
                ("gradient", "mean_probability"),
                ("scored", "single"),
                ("scored", None),
                ("members", 5),
                ("members", None),
                ("dataset", "mnist_5k"),
                ("model", "cifar_cnn"),
                ("attack", "fgsm"),
                ("defense", "ensemble_boosting"),
            )
        ),
        ensembles_row("mnist", "none", "none"),
        with_parameters(ensembles_row("mnist", "distillation", "fgsm"), epsilon=0.2),
        *(
            with_parameters(targeted("none", "cat"), **changes)
            for changes in (
                {"const": 10.0},
                {"steps": 300},
                {"targeted": False},
                {"target": "ship"},
                {"image_class": "frog"},
            )
        ),
    ],
    ids=lambda row: json.dumps(row.settings),
)
def test_other_protocols_have_no_number(row: Row) -> None:
    assert published(row) is None


@pytest.mark.parametrize(
    "defense, target, squared",
    [("none", "automobile", 0.31), ("rse", "dog", 31.90), ("robust_opt_brelu", "airplane", 2.08)],
)
def test_targeted_rows_have_the_root_of_table_3(defense: str, target: str, squared: float) -> None:
    number = published(targeted(defense, target))
    assert number is not None and number.source == TABLE_3 and number.accuracy is None
    assert number.rms_l2 == pytest.approx(math.sqrt(squared), rel=1e-9)


def test_bagging_is_in_both_tables_with_the_same_number() -> None:
    found = {number.source: number.accuracy for number in published_numbers(BAGGING.settings)}
    assert found == {ENSEMBLES_TABLE_2: 0.9233, ENSEMBLES_TABLE_4: 0.9233}
    number = published(BAGGING)
    assert number is not None and number.source == ENSEMBLES_TABLE_2


def test_reports_take_rows_of_every_source() -> None:
    text = reporting.format_table([BAGGING, targeted("none", "cat")])
    assert "92.33" in text and f"{math.sqrt(0.74):.4f}" in text
    assert f"{ENSEMBLES_TABLE_2}, {TABLE_3}" in text


# The settings that they were measured with.


@pytest.mark.parametrize(
    "row, source, difference",
    [
        # The authors' logs are of temperature 100, whatever the paper says.
        (
            attacked("distillation", training={"temperature": 40.0}),
            SWEEP,
            "temperature=100 (ours: 40)",
        ),
        (attacked("distillation", training={"temperature": 40.0}), TABLE_2, ""),
        (
            attacked("distillation", training={"temperature": 10.0}),
            TABLE_2,
            "temperature=40 (ours: 10)",
        ),
        (make_row("distillation", training={"temperature": 100.0}), SWEEP, ""),
        (attacked(), SWEEP, "init_noise_at=second_conv (ours: first_conv)"),
        (second_conv(attacked()), SWEEP, ""),
        (attacked(), TABLE_2, ""),
        (attacked("rse", 1.0, dataset="stl10", model="model_a"), SWEEP, ""),
        (
            attacked("robust_opt_brelu", training={"image_noise": 0.1}),
            SWEEP,
            "image_noise=0.05 (ours: 0.1)",
        ),
        (
            attacked(
                "adversarial_retraining",
                training={"retraining_epsilon": [0.1, 0.2], "retraining_epochs": 15},
            ),
            SWEEP,
            "retraining_epsilon=[0.1, 0.3] (ours: [0.1, 0.2])",
        ),
        (
            attacked("adversarial_retraining", training={"retraining_epsilon": [0.1, 0.3]}),
            SWEEP,
            "",
        ),
        (
            ensembles_row("mnist", "distillation", "none", training={"temperature": 40.0}),
            ENSEMBLES_TABLE_4,
            "temperature=10 (ours: 40)",
        ),
        (
            ensembles_row(
                "cifar10",
                "adversarial_training",
                "fgsm",
                training={"rho": 0.5, "training_epsilon": 0.3},
            ),
            ENSEMBLES_TABLE_4,
            "training_epsilon=0.03 (ours: 0.3)",
        ),
        (attacked("distillation"), SWEEP, ""),  # an older result does not say
    ],
)
def test_a_number_of_other_settings_is_marked(row: Row, source: str, difference: str) -> None:
    number = published(row, source)
    assert number is not None
    assert number.differences(row.settings) == ((difference,) if difference else ())
    if source == SWEEP:  # what the terminal and the files show
        mark = "§" if difference else ""
        text = reporting.format_table([row])
        assert f"{100 * float(number.accuracy or 0):.2f}{mark} " in text
        assert (difference in text) if difference else ("§" not in text)


def test_every_defense_with_settings_is_published_with_them() -> None:
    file = importlib.resources.files("rse_tf.reporting") / "published.csv"
    needed = {
        "distillation": "temperature",
        "adversarial_retraining": "retraining_epsilon",
        "robust_opt_brelu": "image_noise",
        "adversarial_training": "rho",
        "rse": "init_noise_at",
    }
    for line in csv.DictReader(file.read_text().splitlines()):
        for defense, name in needed.items():
            assert bool(line[name]) == (defense in line["defense"].split("+"))
    assert {*needed.values()} | {"training_epsilon"} == {*TRAINING, "init_noise_at"}
