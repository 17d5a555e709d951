"""The tables and figures of Strauss et al. (2017), but for the rows that go into them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from rse_tf.evaluation import Gallery, Row
from rse_tf.papers.figures import draw_attacked, draw_bars
from rse_tf.papers.paper_table import PaperTable
from rse_tf.papers.table import Header, Table
from rse_tf.reporting.published import ENSEMBLES_TABLE_2, ENSEMBLES_TABLE_4

_PAPER = "Strauss et al. (2017)"
_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
_MODELS = {"mnist": "mnist_cnn", "cifar10": "cifar_cnn"}
# Section 4: the attacks' strength is that of the data set.
_ATTACKS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "fgsm"): {"epsilon": 0.3},
    ("mnist", "bim"): {"epsilon": 0.2, "step_size": 0.025, "steps": 8},
    ("cifar10", "fgsm"): {"epsilon": 0.03},
    ("cifar10", "bim"): {"epsilon": 0.02, "step_size": 0.0025, "steps": 8},
}
_METHODS = {
    "Rand. Ini.": "ensemble_random_init",
    "Mix. Mod.": "ensemble_mixed",
    "Bagging": "ensemble_bagging",
    "Gauss Noise": "ensemble_gauss_noise",
}
_COMPARED = {
    "Bagging": "ensemble_bagging",
    "Adv. Train.": "adversarial_training",
    "Def. Dist.": "distillation",
    "Bagging + Adv. Train.": "ensemble_bagging+adversarial_training",
    "Bagging + Def. Dist.": "ensemble_bagging+distillation",
}
# Section 4, by what a defense ends in.
_TRAINING: dict[str, dict[str, Any]] = {
    "adversarial_training": {"rho": 0.5},
    "distillation": {"temperature": 10.0},
}
# Attack settings of a row header that a clean column ignores.
_NO_ATTACK: dict[str, Any] = dict.fromkeys(
    ("attack_draws", "epsilon", "gradient", "step_size", "steps", "targeted")
) | {"attack": "none"}
_MEAN_PROBABILITY = "Mean prob. (ours)"
# The ten predictions that the caption of Figure 1 lists, for images of the paper's choice.
_PREDICTED = {
    "mnist": "6 8 1 5 9 3 0 2 2 4",
    "cifar10": "deer cat deer ship bird deer deer frog automobile automobile",
}
_GRADIENTS = (
    "Grad. 1 is the gradient of one member's loss, Grad. 2 the mean of the members' gradients. "
    'Single is the mean over the members, each by itself. "Mean prob." is not in the paper: the '
    "gradient of the loss of the averaged probability, that is, of what the ensemble predicts by."
)


def _place(dataset: str) -> dict[str, Any]:
    # Only rows of adversarial training have a training epsilon.
    epsilon = _ATTACKS[dataset, "fgsm"]["epsilon"]
    return {"dataset": dataset, "model": _MODELS[dataset], "training_epsilon": epsilon}


def _attack(dataset: str, attack: str) -> dict[str, Any]:
    return {"attack": attack, "targeted": False, "attack_draws": 1, **_ATTACKS[dataset, attack]}


def _table_2(dataset: str, attacks: Sequence[str] = ("fgsm", "bim")) -> Table:
    lines = tuple(
        Header(label, {"defense": defense, **_attack(dataset, attack)}, group=attack.upper())
        for attack in attacks
        for label, defense in _METHODS.items()
    )

    def column(group: str, scored: str, gradient: str) -> Header:
        match = {"scored": scored, "gradient": gradient}
        ours_only = gradient == "mean_probability"
        return Header(scored.capitalize(), match, group, ours_only=ours_only)

    columns = (
        Header("Single", {**_NO_ATTACK, "scored": "single"}, "No Attack"),
        Header("Ensemble", {**_NO_ATTACK, "scored": "ensemble"}, "No Attack"),
        column("Grad. 1", "single", "member"),
        column("Grad. 1", "ensemble", "member"),
        column("Grad. 2", "ensemble", "mean_loss"),
        column(_MEAN_PROBABILITY, "ensemble", "mean_probability"),
    )
    title, match = f"{_NAMES[dataset]} accuracy (%)", {**_place(dataset), "members": 10}
    return Table(title, "Method", lines, columns, match, source=ENSEMBLES_TABLE_2)


def _table_4(rows: Sequence[Row]) -> list[Table]:
    """Columns by data set and attack; an ensemble is attacked by one of two gradients."""

    def lines(gradient: str) -> tuple[Header, ...]:
        found = []
        for label, defense in _COMPARED.items():
            # A single network has but one gradient, and does not name it.
            match = {"members": 10, "scored": "ensemble", "gradient": gradient}
            is_ensemble, last = defense.startswith("ensemble_"), defense.split("+")[-1]
            settings = {**(match if is_ensemble else {}), **_TRAINING.get(last, {})}
            if is_ensemble or gradient == "mean_loss":
                ours_only = gradient != "mean_loss"
                found.append(Header(label, {"defense": defense, **settings}, ours_only=ours_only))
        return tuple(found)

    clean = [Header("No Attack", {**_place(d), **_NO_ATTACK}, _NAMES[d]) for d in _MODELS]
    attacked = [
        Header(attack.upper(), {**_place(dataset), **_attack(dataset, attack)}, _NAMES[dataset])
        for dataset, attack in _ATTACKS
    ]
    columns, source = (clean[0], *attacked[:2], clean[1], *attacked[2:]), ENSEMBLES_TABLE_4
    return [
        Table("Accuracy (%)", "Methods", lines("mean_loss"), columns, source=source),
        Table(
            "Ours: Mean prob., accuracy (%)",
            "Methods",
            lines("mean_probability"),
            tuple(attacked),
            source=source,
        ),
    ]


def _figure_1(rows: Sequence[Row]) -> list[Table]:
    lines = tuple(
        Header(name, {**_place(dataset), **_attack(dataset, "bim"), "defense": "none"})
        for dataset, name in _NAMES.items()
    )
    columns = (Header("No Attack", _NO_ATTACK), Header("BIM"))
    return [Table("A single classifier: accuracy (%)", "Data set", lines, columns)]


def _predictions(galleries: Sequence[Gallery]) -> str:
    """The classes in the figure, and those of the paper's."""
    parts = []
    for gallery in galleries:
        if len(gallery.labels) and len(gallery.predicted):
            pairs = zip(gallery.labels, gallery.predicted, strict=True)
            shown = ", ".join(f"{label} → {guess}" for label, guess in pairs)
            name = _NAMES.get(gallery.dataset, gallery.dataset or gallery.defense)
            parts.append(f"Ours, {name}, class → prediction: {shown}.")
    for dataset, guesses in _PREDICTED.items():
        shown = ", ".join(guesses.split())
        parts.append(f"The paper's ten {_NAMES[dataset]} images are predicted: {shown}.")
    return "\n\n".join(parts)


def _bars(rows: Sequence[Row]) -> Figure:
    tables = []
    for dataset, attack in _ATTACKS:
        table, title = _table_2(dataset, (attack,)), f"{_NAMES[dataset]}, {attack.upper()}"
        # The order of the figure: what is attacked first.
        columns = (*table.columns[2:], *table.columns[:2])
        tables.append(dataclasses.replace(table, title=title, columns=columns))
    return draw_bars(tables, rows, across=2)


TABLES = {
    "ensembles/table2": PaperTable(
        f"Table 2 of {_PAPER}: ensembles of ten under FGSM and BIM",
        lambda rows: [_table_2(dataset) for dataset in _MODELS],
        (_GRADIENTS,),
    ),
    "ensembles/table4": PaperTable(
        f"Table 4 of {_PAPER}: ensembles, other defenses, and both together",
        _table_4,
        ("Ensembles are attacked with Grad. 2.", _GRADIENTS),
    ),
    "ensembles/figure1": PaperTable(
        f"Figure 1 of {_PAPER}: BIM on a single classifier",
        _figure_1,
        draw_images=draw_attacked,
        text=_predictions,
    ),
    "ensembles/figure2": PaperTable(
        f"Figure 2 of {_PAPER}: Table 2 as bars",
        lambda rows: [_table_2(dataset) for dataset in _MODELS],
        (_GRADIENTS,),
        lambda tables, rows: _bars(rows),
    ),
}
