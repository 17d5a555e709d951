"""The flag files against the papers: their protocols and the numbers that they quote."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from test_flag_files import EXPECTED, ROOT, ROWS, head, parse

from rse_tf.reporting import PAPER, Row
from rse_tf.reporting.reference import (
    ENSEMBLES_TABLE_2,
    ENSEMBLES_TABLE_4,
    SWEEP,
    TABLE_2,
    TABLE_3,
    published_by_source,
)
from rse_tf.reproduction import row_files
from rse_tf.settings import Config

TABLE_2_CONSTS = (0.01, 0.03, 0.06, 0.1, 0.2)
SWEEP_CONSTS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8, 1, 2, 3, 4, 7, 10, 30, 70, 100)
TARGETS = ("bird", "automobile", "cat", "deer", "dog", "frog", "horse", "airplane", "truck")
# Which numbers the rows of an exhibit quote.
SOURCES = {
    "rse/table2": {TABLE_2, SWEEP}, "rse/table3": {TABLE_3},
    **{f"rse/figure{number}": {SWEEP} for number in (2, 3, 4, 6)},
    "ensembles/table2": {ENSEMBLES_TABLE_2}, "ensembles/table4": {ENSEMBLES_TABLE_4},
}  # fmt: skip
RSE_ROWS = [n for n in ROWS if n.startswith("flags/rse/") and "/zoo/" not in n]
ENSEMBLE_ROWS = [n for n in ROWS if n.startswith("flags/ensembles/")]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def exhibit_of(name: str) -> str:
    return "/".join(name.split("/")[1:3])


# Protocols.


@pytest.mark.parametrize("name", RSE_ROWS)
def test_a_row_of_the_rse_paper_is_trained_as_published(name: str) -> None:
    row = parse(name)
    noise = {"vgg16": (0.4, 0.1), "resnext29": (0.1, 0.1), "model_a": (0.4, 0.1)}[str(row.model)]
    if levels := re.search(r"init_([\d.]+)_inner_([\d.]+)\.flags", name):
        noise = float(levels[1]), float(levels[2])
    elif name != "flags/rse/figure3/none.flags":
        assert (row.init_noise, row.inner_noise) == noise
    assert row.defense != ("rse",) or (row.init_noise, row.inner_noise) == noise
    assert row.dataset == ("stl10" if row.model == "model_a" else "cifar10")
    assert row.init_noise_at == ("second_conv" if "authors_code" in name else "first_conv")
    found = row.training_settings()
    assert (found.epochs, found.schedule, found.learning_rate) == (200, "paper", 0.1)
    assert (found.optimizer, found.momentum, found.batch_size) == ("sgd", 0.9, 128)
    assert (found.weight_decay, found.augmentation, found.dtype_policy) == (
        5e-4, "crop_flip", "float32")  # fmt: skip
    assert row.validation_fraction == 0.1  # the paper chose its checkpoints by the test images
    defenses = row.defense_settings()
    assert (defenses.temperature, defenses.retraining_epochs) == (40, 300)
    assert (defenses.retraining_epsilon, defenses.image_noise) == ((0.1, 0.3), 0.05)


@pytest.mark.parametrize("name", RSE_ROWS)
def test_a_row_of_the_rse_paper_is_attacked_as_published(name: str) -> None:
    row, exhibit = parse(name), exhibit_of(name)
    assert (row.attack_draws, row.targeted, row.substitute) == (1, False, None)
    if exhibit == "rse/figure5":
        assert (row.attacks, row.num_draws, row.num_images) == ((), (1, 2, 5, 10, 20, 50), 10_000)
        return
    consts, rate, steps, number = SWEEP_CONSTS, 1e-3, 300, 1600
    if exhibit == "rse/table2":
        consts = TABLE_2_CONSTS
    elif exhibit == "rse/table3":
        consts, rate, steps, number = (100.0,), 1e-2, 1000, 1
        assert (row.image_class, row.target_class) == ("ship", TARGETS)
    assert row.attack == ("carlini_wagner",)
    common = {"steps": steps, "learning_rate": rate, "iterate": "last", "confidence": 0.0}
    points = [{"const": float(const), **common} for const in consts]
    assert row.attack_points("carlini_wagner") == points
    assert row.num_draws == (1 if name.endswith("/1_ensemble.flags") else 50,)
    assert row.num_images == number


def test_the_zoo_rows_differ_in_the_defense_and_the_noise_of_the_queries() -> None:
    rows = {pathlib.Path(name).stem: parse(name) for name in ROWS if "/zoo/" in name}
    for row in rows.values():
        points = [{**point, "noise": None} for point in row.attack_points("zoo")]
        assert points == [
            {**point, "noise": None} for point in rows["none"].attack_points("zoo")]
        assert (row.dataset, row.model, row.attack) == ("mnist_5k", "mnist_cnn", ("zoo",))
    found = {name: (row.defense, row.query_noise) for name, row in rows.items()}
    assert found == {"none": (("none",), None), "rse_fresh_noise": (("rse",), "fresh"),
                     "rse_common_noise": (("rse",), "common")}  # fmt: skip


@pytest.mark.parametrize("name", ENSEMBLE_ROWS)
def test_a_row_of_the_ensembles_paper_is_its_protocol(name: str) -> None:
    row, exhibit = parse(name), exhibit_of(name)
    is_mnist = pathlib.Path(name).stem.partition("_")[0] == "mnist"
    assert (row.dataset, row.model) == (
        ("mnist", "mnist_cnn") if is_mnist else ("cifar10", "cifar_cnn"))  # fmt: skip
    found, defenses = row.training_settings(), row.defense_settings()
    assert found.epochs == (10 if is_mnist else 25)
    assert (found.optimizer, found.learning_rate, found.schedule) == ("adam", 1e-3, "constant")
    assert (found.weight_decay, found.augmentation) == (0, "none")
    assert (row.validation_fraction, row.num_images) == (0, 10_000)
    assert (defenses.members, defenses.temperature, defenses.rho) == (10, 10, 0.5)
    # Section 4: 0.3 and 0.03 for FGSM; 0.2, 0.025, 8 and 0.02, 0.0025, 8 for BIM.
    scale = 1 if is_mnist else 0.1
    assert defenses.training_epsilon == pytest.approx(0.3 * scale)
    assert row.attack_points("fgsm") == [{"epsilon": pytest.approx(0.3 * scale)}]
    assert row.attack_points("bim") == [{
        "epsilon": pytest.approx(0.2 * scale), "step_size": pytest.approx(0.025 * scale),
        "steps": 8}]  # fmt: skip
    assert row.attack == (("bim",) if exhibit == "ensembles/figure1" else ("fgsm", "bim"))
    if exhibit == "ensembles/table2":
        assert row.gradient == ("member", "mean_loss", "mean_probability")
    elif exhibit == "ensembles/table4":
        assert row.gradient == ("mean_loss", "mean_probability")


# What a row gives, and where it goes.


def results(run: Config) -> Iterator[Row]:
    """The rows of a run, but for what is measured."""
    (defense,) = run.defense
    ensemble, noisy = defense.startswith("ensemble_"), defense in ("rse", "rse_test_noise_only")
    noise = {"init_noise": run.init_noise, "inner_noise": run.inner_noise,
             "distribution": run.noise_distribution, "init_noise_at": run.init_noise_at}
    settings: list[tuple[str, dict[str, Any]]] = [("none", {})]
    for attack in run.attacks:
        for gradient in run.gradient if ensemble else (None,):
            for target in run.target_class or (None,):
                given = {"targeted": target is not None, "attack_draws": 1}
                given |= {"gradient": gradient} if gradient else {}
                given |= {"target": target} if target else {}
                settings += [(attack, {**point, **given}) for point in run.attack_points(attack)]
    for attack, parameters in settings:
        kinds: list[dict[str, Any]] = [{}]
        if ensemble:
            kinds = [{"scored": "ensemble", "members": run.members}]
            if attack == "none" or parameters["gradient"] == "member":
                kinds.append({"scored": "single", "members": run.members})
        for kind in kinds:
            for num_draws in run.num_draws if noisy else (1,):
                yield Row(
                    dataset=run.dataset, model=str(run.model), defense=defense, attack=attack,
                    parameters={**parameters, **kind}, noise=noise if noisy else {},
                    accuracy=0.5, accuracy_std=0.0, rms_l2=0.5, mean_l2=0.5, median_l2=0.5,
                    mean_linf=0.5, max_linf=0.5, success_rate=0.5, misclassified_clean=0.5,
                    num_images=1600, num_draws=num_draws, eval_seeds=1, seconds=1.0,
                )  # fmt: skip


@pytest.mark.parametrize("exhibit", PAPER)
def test_the_rows_of_an_exhibit_fill_it_at_the_papers_settings(exhibit: str) -> None:
    rows = [row for file in row_files(exhibit) for row in results(parse(file))]
    places = [
        (f"{line.name}, {column.name}", cell)
        for grid in PAPER[exhibit].grids(rows)
        for line, cells in zip(grid.lines, grid.cells(rows), strict=True)
        for column, cell in zip(grid.columns, cells, strict=True)
    ]
    assert [place for place, cell in places if cell.row is None] == []
    assert [cell.differences for _, cell in places if cell.differences] == []
    published = sum(cell.paper is not None for _, cell in places)
    assert (published > 0) == (exhibit not in ("rse/zoo", "ensembles/figure1"))


# The numbers at the head.


def percents(line: str) -> list[float]:
    return [float(number) / 100 for number in line.split()]


def sweeps(text: str, source: str) -> dict[tuple[Any, ...], float]:
    """The numbers in lines of c, accuracy and distortion."""
    consts, accuracies, distortions = (
        " ".join(re.findall(rf"^#   {label} +(.*)$", text, re.MULTILINE))
        for label in ("c", "accuracy", "RMS L2")
    )
    found = dict(zip(map(float, consts.split()), percents(accuracies), strict=True))
    numbers = {(source, const, "accuracy"): number for const, number in found.items()}
    if distortions:
        values = zip(found, map(float, distortions.split()), strict=True)
        numbers |= {(source, const, "rms_l2"): number for const, number in values}
    return numbers


def quoted(text: str) -> dict[tuple[Any, ...], float]:
    """Every number that the head of a row quotes."""
    printed, _, logs = text.partition("ublished logs")
    numbers = {**sweeps(printed, TABLE_2), **sweeps(logs, SWEEP)}
    for number in re.findall(r"\(clean accuracy (.*) %\)", text):
        numbers[SWEEP, "clean"] = float(number) / 100
    for names, squares in re.findall(r"^#((?: +[a-z]+){4,5})\n#((?: +[\d.]+){4,5})$", text, re.M):
        pairs = zip(names.split(), map(float, squares.split()), strict=True)
        numbers |= {(TABLE_3, target): math.sqrt(square) for target, square in pairs}
    single_or_not = r"^# +(?:(FGSM|BIM) +)?(single|ensemble) +([\d. ]+)$"
    group = ""
    for attack, scored, line in re.findall(single_or_not, text, re.MULTILINE):
        group = (attack or group).lower()
        clean, *attacked = percents(line)
        numbers[ENSEMBLES_TABLE_2, "none", scored, None] = clean
        for gradient, number in zip(("member", "mean_loss"), attacked):
            numbers[ENSEMBLES_TABLE_2, group, scored, gradient] = number
    if line := re.search(r"no attack ([\d.]+), FGSM ([\d.]+), BIM ([\d.]+)$", text, re.M):
        for attack, number in zip(("none", "fgsm", "bim"), line.groups()):
            numbers[ENSEMBLES_TABLE_4, attack] = float(number) / 100
    return numbers


def reference(name: str) -> dict[tuple[Any, ...], float]:
    """Every number that the package sets beside the rows of a run."""
    numbers: dict[tuple[Any, ...], float | None] = {}
    for row in results(parse(name)):
        given = row.parameters
        for source, number in published_by_source(row).items():
            if source in (TABLE_2, SWEEP) and row.attack != "none":
                numbers[source, given["const"], "accuracy"] = number.accuracy
                numbers[source, given["const"], "rms_l2"] = number.rms_l2
            elif source == SWEEP:
                numbers[SWEEP, "clean"] = number.accuracy
            elif source == TABLE_3:
                numbers[TABLE_3, given["target"]] = number.rms_l2
            elif source == ENSEMBLES_TABLE_2:
                key = (row.attack, given["scored"], given.get("gradient"))
                numbers[ENSEMBLES_TABLE_2, *key] = number.accuracy
            elif source == ENSEMBLES_TABLE_4:
                numbers[ENSEMBLES_TABLE_4, row.attack] = number.accuracy
    sources = SOURCES.get(exhibit_of(name), set())
    return {key: n for key, n in numbers.items() if n is not None and key[0] in sources}


@pytest.mark.parametrize("name", ROWS)
def test_the_numbers_at_the_head_are_all_that_were_published_and_no_others(name: str) -> None:
    found, expected = quoted(head(name)), reference(name)
    assert found.keys() == expected.keys()
    for key, number in found.items():
        # Printed with two digits of a percentage, and three of a distance.
        digit = 1e-3 if key[-1] == "rms_l2" else 1e-4
        assert number == pytest.approx(expected[key], abs=0.5001 * digit), key


def test_exhibits_with_numbers_quote_them_somewhere() -> None:
    quoting = {exhibit_of(name) for name in ROWS if quoted(head(name))}
    assert quoting == set(SOURCES) <= set(EXPECTED)
