"""The flag files against the papers: their protocols and the numbers that they quote."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from rows import make_row
from test_flag_files import ROOT, ROWS, head, parse

from rse_tf.config import Config
from rse_tf.evaluation import Row
from rse_tf.papers import TABLES
from rse_tf.papers.reproduce import row_files
from rse_tf.reporting import Published, published
from rse_tf.reporting.published import (
    ENSEMBLES_TABLE_2,
    ENSEMBLES_TABLE_4,
    SWEEP,
    TABLE_2,
    TABLE_3,
)

TABLE_2_CONSTS = (0.01, 0.03, 0.06, 0.1, 0.2)
SWEEP_CONSTS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8, 1, 2, 3, 4, 7, 10, 30, 70, 100)
TARGETS = ("bird", "automobile", "cat", "deer", "dog", "frog", "horse", "airplane", "truck")
RSE_ROWS = [n for n in ROWS if n.startswith("flags/rse/") and "/zoo/" not in n]
ENSEMBLE_ROWS = [n for n in ROWS if n.startswith("flags/ensembles/")]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def table_of(name: str) -> str:
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
        5e-4,
        "crop_flip",
        "float32",
    )
    assert row.validation_fraction == 0.1  # the paper chose its checkpoints by the test images
    assert (row.temperature, row.retraining_epochs) == (40, 300)
    assert (row.retraining_epsilon, row.image_noise) == ((0.1, 0.3), 0.05)


@pytest.mark.parametrize("name", RSE_ROWS)
def test_a_row_of_the_rse_paper_is_attacked_as_published(name: str) -> None:
    row, table = parse(name), table_of(name)
    assert (row.attack_draws, row.targeted, row.substitute) == (1, False, None)
    if table == "rse/figure5":
        assert (row.attacks, row.num_draws, row.num_images) == ((), (1, 2, 5, 10, 20, 50), 10_000)
        return
    consts, rate, steps, number = SWEEP_CONSTS, 1e-3, 300, 1600
    if table == "rse/table2":
        consts = TABLE_2_CONSTS
    elif table == "rse/table3":
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
        assert points == [{**point, "noise": None} for point in rows["none"].attack_points("zoo")]
        assert (row.dataset, row.model, row.attack) == ("mnist_5k", "mnist_cnn", ("zoo",))
    found = {name: (row.defense, row.query_noise) for name, row in rows.items()}
    assert found == {
        "none": (("none",), None),
        "rse_fresh_noise": (("rse",), "fresh"),
        "rse_common_noise": (("rse",), "common"),
    }


@pytest.mark.parametrize("name", ENSEMBLE_ROWS)
def test_a_row_of_the_ensembles_paper_is_its_protocol(name: str) -> None:
    row, table = parse(name), table_of(name)
    is_mnist = pathlib.Path(name).stem.partition("_")[0] == "mnist"
    assert (row.dataset, row.model) == (
        ("mnist", "mnist_cnn") if is_mnist else ("cifar10", "cifar_cnn")
    )
    found = row.training_settings()
    assert found.epochs == (10 if is_mnist else 25)
    assert (found.optimizer, found.learning_rate, found.schedule) == ("adam", 1e-3, "constant")
    assert (found.weight_decay, found.augmentation) == (0, "none")
    assert (row.validation_fraction, row.num_images) == (0, 10_000)
    assert (row.members, row.temperature, row.rho) == (10, 10, 0.5)
    # Section 4: 0.3 and 0.03 for FGSM; 0.2, 0.025, 8 and 0.02, 0.0025, 8 for BIM.
    scale = 1 if is_mnist else 0.1
    assert row.training_epsilon == pytest.approx(0.3 * scale)
    assert row.attack_points("fgsm") == [{"epsilon": pytest.approx(0.3 * scale)}]
    assert row.attack_points("bim") == [
        {
            "epsilon": pytest.approx(0.2 * scale),
            "step_size": pytest.approx(0.025 * scale),
            "steps": 8,
        }
    ]
    assert row.attack == (("bim",) if table == "ensembles/figure1" else ("fgsm", "bim"))
    if table == "ensembles/table2":
        assert row.gradient == ("member", "mean_loss", "mean_probability")
    elif table == "ensembles/table4":
        assert row.gradient == ("mean_loss", "mean_probability")


# What a row gives, and where it goes.


def results(run: Config) -> Iterator[Row]:
    """The rows of a run, but for what is measured."""
    (defense,) = run.defense
    ensemble, noisy = defense.startswith("ensemble_"), defense in ("rse", "rse_test_noise_only")
    noise = {
        "init_noise": run.init_noise,
        "inner_noise": run.inner_noise,
        "distribution": run.noise_distribution,
        "init_noise_at": run.init_noise_at,
    }
    chosen = {"image_class": run.image_class} if run.image_class else {}
    settings: list[tuple[str, str | None, dict[str, Any]]] = [("none", None, chosen)]
    for attack in run.attacks:
        for gradient in run.gradient if ensemble else (None,):
            for target in run.target_class or (None,):
                given = {"targeted": target is not None, "attack_draws": 1, **chosen}
                given |= {"target": target} if target else {}
                for point in run.attack_points(attack):
                    settings.append((attack, gradient, {**point, **given}))
    for attack, gradient, parameters in settings:
        kinds: tuple[str | None, ...] = (None,)
        if ensemble:
            by_member = attack == "none" or gradient == "member"
            kinds = ("single", "ensemble") if by_member else ("ensemble",)
        for scored in kinds:
            for num_draws in run.num_draws if noisy else (1,):
                yield make_row(
                    defense,
                    attack,
                    dataset=run.dataset,
                    model=str(run.model),
                    parameters=parameters,
                    noise=noise if noisy else {},
                    num_draws=num_draws,
                    gradient=gradient,
                    scored=scored,
                    members=run.members if ensemble else None,
                    training=run.make_defense(defense).settings(),
                    rms_l2=0.5,
                    mean_l2=0.5,
                )


@pytest.mark.parametrize("table", TABLES)
def test_the_rows_of_a_table_fill_it_at_the_papers_settings(table: str) -> None:
    rows = [row for file in row_files(table) for row in results(parse(file))]
    places = [
        (f"{line.name}, {column.name}", cell)
        for part in TABLES[table].tables(rows)
        for line, cells in zip(part.lines, part.cells(rows), strict=True)
        for column, cell in zip(part.columns, cells, strict=True)
    ]
    assert [place for place, cell in places if cell.row is None] == []
    assert [cell.differences for _, cell in places if cell.differences] == []
    count = sum(cell.paper is not None for _, cell in places)
    assert (count > 0) == (table not in ("rse/zoo", "ensembles/figure1"))


# The numbers at the head.


def quote(name: str) -> str:
    """What the head of a row says of published numbers, empty without any."""
    rows, table = list(results(parse(name))), table_of(name)
    if table in ("ensembles/table2", "ensembles/table4"):
        return quote_ensembles(rows, table)
    if table == "rse/table3":
        pairs = [(row.parameters["target"], number) for row, number in found(rows, TABLE_3)]
        text = f"# Table 3{settings(rows, TABLE_3)}, squared L2 distortion:\n"
        for part in (pairs[:5], pairs[5:]):
            text += line("", [target for target, _ in part], 11)
            text += line("", [f"{float(number.rms_l2 or 0) ** 2:.2f}" for _, number in part], 11)
        return text
    text = ""
    if table == "rse/table2":
        text += f"# Table 2{settings(rows, TABLE_2)}, in %:\n" + sweep(rows, TABLE_2)
    if table != "rse/figure5" and (numbers := sweep(rows, SWEEP)):
        ((_, clean),) = found([row for row in rows if row.attack == "none"], SWEEP)
        others = settings(rows, SWEEP).strip(" ()")
        text += "# The authors' published logs, in % and pixel units "
        text += f"(clean accuracy {percent(clean)} %)"
        text += f",\n# of {others}:\n{numbers}" if others else f":\n{numbers}"
    return text


def quote_ensembles(rows: list[Row], table: str) -> str:
    if table.endswith("4"):
        kinds = {row.attack: percent(number) for row, number in found(rows, ENSEMBLES_TABLE_4)}
        words = f"no attack {kinds['none']}, FGSM {kinds['fgsm']}, BIM {kinds['bim']}"
        return f"# Table 4{settings(rows, ENSEMBLES_TABLE_4)}, accuracy in %: {words}\n"
    text = f"# Table 2, accuracy in %:\n#{'no attack':>27}   Grad. 1   Grad. 2\n"
    for attack in ("fgsm", "bim"):
        for scored in ("single", "ensemble"):
            own = [row for row in rows if row.attack in ("none", attack) and row.scored == scored]
            label = f"{attack.upper() if scored == 'single' else '':<6}{scored:<9}"
            text += line(label, [percent(n) for _, n in found(own, ENSEMBLES_TABLE_2)], 10, 9)
    return text


def found(rows: list[Row], source: str) -> list[tuple[Row, Published]]:
    return [(row, n) for row in rows if (n := published(row.settings, source))]


def settings(rows: list[Row], source: str) -> str:
    """The settings of a source that are not those of the rows."""
    others = {
        each.split(" (ours")[0]
        for row, number in found(rows, source)
        for each in number.differences(row.settings)
    }
    return f" ({', '.join(sorted(others))})" if others else ""


def sweep(rows: list[Row], source: str) -> str:
    """Lines of c, accuracy and distortion."""
    attacked = [pair for pair in found(rows, source) if pair[0].attack != "none"]
    text = ""
    for part in (attacked[:9], attacked[9:]) if attacked[9:] else (attacked,):
        text += line("c", [f"{row.parameters['const']:g}" for row, _ in part])
        text += line("accuracy", [percent(number) for _, number in part])
        if source == SWEEP:
            text += line("RMS L2", [f"{number.rms_l2:.3f}" for _, number in part])
    return text if attacked else ""


def line(label: str, cells: list[str], width: int = 7, padded: int = 9) -> str:
    label = f"{label:<{padded}}" if label else ""
    return f"#   {label}{''.join(f'{cell:>{width}}' for cell in cells)}\n"


def percent(number: Published) -> str:
    return f"{100 * float(number.accuracy or 0):.2f}"


@pytest.mark.parametrize("name", ROWS)
def test_a_head_quotes_all_that_was_published_and_nothing_else(name: str) -> None:
    numbers = quote(name)
    assert numbers in head(name) + "\n"
    rest = (head(name) + "\n").replace(numbers, "") if numbers else head(name)
    assert not re.search(r"^# +(accuracy|RMS L2|single|ensemble|[\d.]+ +[\d.]+)\b", rest, re.M)


def test_tables_with_numbers_quote_them_somewhere() -> None:
    quoting = {table_of(name) for name in ROWS if quote(name)}
    assert quoting == {
        *(
            f"rse/{name}"
            for name in ("table2", "table3", "figure2", "figure3", "figure4", "figure6")
        ),
        "ensembles/table2",
        "ensembles/table4",
    }
