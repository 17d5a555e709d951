"""The tables and figures of Strauss et al. (2017), but for the rows that go into them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from rse_tf.reporting.exhibit import Exhibit
from rse_tf.reporting.gallery import Gallery
from rse_tf.reporting.grid import Grid, Line
from rse_tf.reporting.paper_galleries import draw_attacked
from rse_tf.reporting.paper_plots import draw_bars
from rse_tf.reporting.reference import ENSEMBLES_TABLE_2, ENSEMBLES_TABLE_4
from rse_tf.reporting.reference_ensembles import ATTACKS, MEMBERS, MODELS
from rse_tf.reporting.rows import Row

_PAPER = "Strauss et al. (2017)"
_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
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
# In a column they take back what a line asks of an attack.
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


def _attack(dataset: str, attack: str) -> dict[str, Any]:
    return {"attack": attack, "targeted": False, "attack_draws": 1, **ATTACKS[dataset, attack]}


def _table_2(dataset: str, attacks: Sequence[str] = ("fgsm", "bim")) -> Grid:
    lines = tuple(
        Line(label, {"defense": defense, **_attack(dataset, attack)}, group=attack.upper())
        for attack in attacks
        for label, defense in _METHODS.items()
    )

    def column(group: str, scored: str, gradient: str) -> Line:
        wants = {"scored": scored, "gradient": gradient}
        return Line(scored.capitalize(), wants, group, beyond=gradient == "mean_probability")

    columns = (
        Line("Single", {**_NO_ATTACK, "scored": "single"}, "No Attack"),
        Line("Ensemble", {**_NO_ATTACK, "scored": "ensemble"}, "No Attack"),
        column("Grad. 1", "single", "member"),
        column("Grad. 1", "ensemble", "member"),
        column("Grad. 2", "ensemble", "mean_loss"),
        column(_MEAN_PROBABILITY, "ensemble", "mean_probability"),
    )
    wants = {"dataset": dataset, "model": MODELS[dataset], "members": MEMBERS}
    title = f"{_NAMES[dataset]} accuracy (%)"
    return Grid(title, "Method", lines, columns, wants, source=ENSEMBLES_TABLE_2)


def _table_4(rows: Sequence[Row]) -> list[Grid]:
    ensemble = {"members": MEMBERS, "scored": "ensemble"}
    lines = [
        Line(label, {"defense": name, **(ensemble if name.startswith("ensemble_") else {})})
        for label, name in _COMPARED.items()
    ]
    ensembles = tuple(line for line in lines if "members" in line.wants)
    attacked = [
        Line(attack.upper(), {**_place(dataset), **_attack(dataset, attack)}, _NAMES[dataset])
        for dataset in MODELS
        for attack in ("fgsm", "bim")
    ]
    clean = [
        Line("No Attack", {**_place(dataset), **_NO_ATTACK}, _NAMES[dataset]) for dataset in MODELS
    ]
    columns = (clean[0], *attacked[:2], clean[1], *attacked[2:])
    main = [
        # Asked for by the line: a single network has but one gradient, and does not name it.
        dataclasses.replace(line, wants={**line.wants, "gradient": "mean_loss"})
        if line in ensembles
        else line
        for line in lines
    ]
    ours = tuple(
        dataclasses.replace(
            line, wants={**line.wants, "gradient": "mean_probability"}, beyond=True
        )
        for line in ensembles
    )
    source = ENSEMBLES_TABLE_4
    return [
        Grid("Accuracy (%)", "Methods", tuple(main), columns, source=source),
        Grid("Ours: Mean prob., accuracy (%)", "Methods", ours, tuple(attacked), source=source),
    ]


def _place(dataset: str) -> dict[str, Any]:
    return {"dataset": dataset, "model": MODELS[dataset]}


def _figure_1(rows: Sequence[Row]) -> list[Grid]:
    lines = tuple(
        Line(_NAMES[dataset], {**_place(dataset), **_attack(dataset, "bim"), "defense": "none"})
        for dataset in MODELS
    )
    columns = (Line("No Attack", _NO_ATTACK), Line("BIM"))
    return [Grid("A single classifier: accuracy (%)", "Data set", lines, columns)]


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


def _pictures(galleries: Sequence[Gallery]) -> dict[str, Figure]:
    shown = [gallery for gallery in galleries if len(gallery.predicted)]
    return {"": draw_attacked(shown)} if shown else {}


def _bars(rows: Sequence[Row]) -> dict[str, Figure]:
    grids = []
    for dataset in MODELS:
        for attack in ("fgsm", "bim"):
            grid = _table_2(dataset, (attack,))
            # The order of the figure: what is attacked first.
            columns = (*grid.columns[2:], *grid.columns[:2])
            title = f"{_NAMES[dataset]}, {attack.upper()}"
            grids.append(dataclasses.replace(grid, title=title, columns=columns))
    return {"": draw_bars(grids, rows, across=2)}


EXHIBITS = {
    "ensembles/table2": Exhibit(
        f"Table 2 of {_PAPER}: ensembles of ten under FGSM and BIM",
        lambda rows: [_table_2(dataset) for dataset in MODELS],
        (_GRADIENTS,),
    ),
    "ensembles/table4": Exhibit(
        f"Table 4 of {_PAPER}: ensembles, other defenses, and both together",
        _table_4,
        ("Ensembles are attacked with Grad. 2.", _GRADIENTS),
    ),
    "ensembles/figure1": Exhibit(
        f"Figure 1 of {_PAPER}: BIM on a single classifier",
        _figure_1,
        figures=lambda _, galleries: _pictures(galleries),
        text=_predictions,
    ),
    "ensembles/figure2": Exhibit(
        f"Figure 2 of {_PAPER}: Table 2 as bars",
        lambda rows: [_table_2(dataset) for dataset in MODELS],
        (_GRADIENTS,),
        lambda rows, _: _bars(rows),
    ),
}
