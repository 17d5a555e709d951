"""The tables and figures of Liu et al. (2018), but for the rows that go into them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rse_tf.evaluation import Row
from rse_tf.papers import table as metrics
from rse_tf.papers.figures import draw_perturbations, draw_sweeps
from rse_tf.papers.paper_table import PaperTable
from rse_tf.papers.table import TOLERATED, Header, Table, differences
from rse_tf.papers.zoo import ZOO
from rse_tf.reporting.published import SWEEP, TABLE_2

_PAPER = "Liu et al. (2018)"
_UNTARGETED: dict[str, Any] = {
    "attack": "carlini_wagner",
    "attack_draws": 1,
    "confidence": 0.0,
    "targeted": False,
    "steps": 300,
    "learning_rate": 1e-3,
    "iterate": "last",
}
_TARGETED = {
    **_UNTARGETED,
    "targeted": True,
    "const": 100.0,
    "steps": 1000,
    "learning_rate": 1e-2,
    "image_class": "ship",
}
TABLE_2_CONSTS = (0.01, 0.03, 0.06, 0.1, 0.2)
SWEEP_CONSTS = (*TABLE_2_CONSTS, 0.4, 0.8, 1, 2, 3, 4, 7, 10, 30, 70, 100)
_VGG16: dict[str, Any] = {"dataset": "cifar10", "model": "vgg16"}
# Table 1: standard deviation of the initial and of the inner noise.
_NOISE = {
    ("cifar10", "vgg16"): (0.4, 0.1),
    ("cifar10", "resnext29"): (0.1, 0.1),
    ("stl10", "model_a"): (0.4, 0.1),
}
_NAMES = ("CIFAR-10, VGG16", "CIFAR-10, ResNeXt-29", "STL-10, Model A")
# Table 1, the authors' published scripts, and Zantedeschi et al. (2017).
_TRAINING: dict[str, dict[str, Any]] = {
    "adversarial_retraining": {"retraining_epsilon": [0.1, 0.3]},
    "distillation": {"temperature": 40.0},
    "robust_opt_brelu": {"image_noise": 0.05},
}
_CLEAN = Header("clean", {"attack": "none"})
_DRAWS = (1, 2, 5, 10, 20, 50)
# As the paper names them; the data set has longer names for two.
_TARGETS = ("bird", "car", "cat", "deer", "dog", "frog", "horse", "plane", "truck")
_LONG_NAMES = {"car": "automobile", "plane": "airplane"}
_PLACEMENT = (
    "The paper puts the initial noise before the first convolution; its authors' VGG16 code, and "
    "presumably its numbers, before the second. Lines that say so are ours, in the code's way."
)
_TEMPERATURE = (
    "The paper's Table 1 says temperature 40 for distillation; the authors' published logs, which "
    "have the same numbers, say 100."
)
_STRENGTH = "c is the constant of the attack; clean is set against c = 0 of the authors' sweep."
_NO_CURVE = "The figure's own numbers are not printed; dashed is the authors' published sweep."


def _defense(label: str, defense: str) -> Header:
    return Header(label, {"defense": defense, **_TRAINING.get(defense, {})})


def _noise(init_noise: float, inner_noise: float) -> dict[str, Any]:
    return {
        "defense": "rse",
        "init_noise": init_noise,
        "inner_noise": inner_noise,
        "distribution": "gaussian",
        "init_noise_at": "first_conv",
    }


def _rse(dataset: str = "cifar10", model: str = "vgg16") -> dict[str, Any]:
    """The RSE row of the paper's Table 1."""
    return {**_noise(*_NOISE[dataset, model]), "num_draws": 50}


def _authors_code(dataset: str = "cifar10", model: str = "vgg16") -> Header:
    match = {**_rse(dataset, model), "init_noise_at": "second_conv"}
    return Header("RSE, init noise before 2nd convolution (ours)", match, ours_only=True)


def _if_measured(header: Header, rows: Sequence[Row], match: dict[str, Any]) -> list[Header]:
    """The header, if there is a row for it: it is not in the paper."""
    asked = {**match, **header.match}
    return [header] if any(differences(asked, row) is not None for row in rows) else []


def _const(const: float) -> Header:
    return Header(f"c = {const:g}", {**_UNTARGETED, "const": float(const)}, x=float(const))


def _strengths(rows: Sequence[Row], match: dict[str, Any]) -> tuple[Header, ...]:
    """Clean, and each c of the authors' sweep and of the rows."""
    asked = {**match, "attack": "carlini_wagner", "targeted": False}
    fitting = [row for row in rows if differences(asked, row) is not None]
    consts = {row.strength[1] for row in fitting if row.strength and row.strength[0] == "const"}
    # A const that went through float32 is still the same.
    others = [c for c in consts if not any(abs(c - s) < 1e-6 * s for s in SWEEP_CONSTS)]
    swept = sorted({*SWEEP_CONSTS, *others} - {0})
    return (_CLEAN, *map(_const, swept))


_BASELINES = (
    _defense("Adv retraining", "adversarial_retraining"),
    _defense("Robust Opt+BReLU", "robust_opt_brelu"),
    _defense("Distill", "distillation"),
    _defense("No defense", "none"),
)


def _table_2(rows: Sequence[Row]) -> list[Table]:
    consts = tuple(map(_const, TABLE_2_CONSTS))
    lines = (Header("RSE", _rse()), _authors_code(), *_BASELINES)
    sweep, distances = "Beside the authors' published sweep: accuracy (%)", "RMS L2"
    return [
        Table("Accuracy (%)", "defense", lines, consts, _VGG16, source=TABLE_2),
        Table(sweep, "defense", lines, (_CLEAN, *consts), _VGG16, source=SWEEP),
        Table(
            sweep.replace("accuracy (%)", distances),
            "defense",
            lines,
            consts,
            _VGG16,
            metrics.RMS_L2,
        ),
    ]


def _table_3(rows: Sequence[Row]) -> list[Table]:
    targets = tuple(
        Header(label, {**_TARGETED, "target": _LONG_NAMES.get(label, label)}) for label in _TARGETS
    )
    lines = (
        _defense("No defense", "none"),
        _defense("Defensive distill", "distillation"),
        _defense("Adv. retraining", "adversarial_retraining"),
        _defense("Robust Opt. + BReLU", "robust_opt_brelu"),
        Header("RSE", _rse()),
        *_if_measured(_authors_code(), rows, {**_VGG16, **_TARGETED}),
    )
    title = "Squared L2 norm of the perturbation, by target"
    return [Table(title, "defense", lines, targets, _VGG16, metrics.SQUARED_L2)]


def _curves(
    rows: Sequence[Row], curves: Sequence[Header], tolerated: frozenset[str] = TOLERATED
) -> list[Table]:
    """Accuracy of VGG16 against c, a curve per column."""
    title, lines = "CIFAR-10, VGG16: accuracy (%)", _strengths(rows, _VGG16)
    return [Table(title, "attack", lines, tuple(curves), _VGG16, tolerated=tolerated)]


def _figure_2(rows: Sequence[Row]) -> list[Table]:
    curves = [
        Header("noise in training and test (RSE)", _rse()),
        *_if_measured(_authors_code(), rows, _VGG16),
        _defense("noise in training only", "rse_train_noise_only"),
        _defense("noise in test only", "rse_test_noise_only"),
        _defense("no noise (baseline)", "none"),
    ]
    return _curves(rows, curves)


def _levels(rows: Sequence[Row], attack: str) -> list[Header]:
    """A header for the paper's noise and each of the rows', by rising strength.

    In Figure 5 one number of draws makes no curve: it comes from the rows of other figures.
    """
    match = {**_VGG16, "attack": attack, "defense": "rse", "init_noise_at": "first_conv"}
    draws: dict[tuple[float, float], set[int]] = {}
    for row in rows:
        known = {"init_noise", "inner_noise"} <= set(row.noise)
        if known and differences(match, row, frozenset()) is not None:
            level = (row.noise["init_noise"], row.noise["inner_noise"])
            draws.setdefault(level, set()).add(row.num_draws)
    found = {level for level in draws if attack != "none" or len(draws[level]) > 1}
    levels = sorted({_NOISE["cifar10", "vgg16"], *found})
    return [
        Header(f"init {init:g}, inner {inner:g}", _noise(init, inner)) for init, inner in levels
    ]


def _figure_3(rows: Sequence[Row]) -> list[Table]:
    levels = _levels(rows, "carlini_wagner")
    noisy = [Header(level.label, {**level.match, "num_draws": 50}) for level in levels]
    return _curves(rows, [_defense("no noise", "none"), *noisy])


def _figure_4(rows: Sequence[Row]) -> list[Table]:
    curves = [Header(f"{n}-ensemble", {**_rse(), "num_draws": n}) for n in (1, 50)]
    return _curves(rows, curves, TOLERATED - {"num_draws"})


def _figure_5(rows: Sequence[Row]) -> list[Table]:
    clean = {**_VGG16, "attack": "none"}
    match = {**clean, "defense": "rse"}
    found = {row.num_draws for row in rows if differences(match, row, frozenset()) is not None}
    lines = [Header(str(n), {"num_draws": n}, x=n) for n in sorted({*_DRAWS, *found})]
    title, tolerated = "CIFAR-10, VGG16: clean accuracy (%)", TOLERATED - {"num_draws"}
    columns = tuple(_levels(rows, "none"))
    return [Table(title, "draws", tuple(lines), columns, clean, tolerated=tolerated)]


def _figure_6(rows: Sequence[Row]) -> list[Table]:
    accuracies, distortions = [], []
    for name, (dataset, model) in zip(_NAMES, _NOISE, strict=True):
        match = {"dataset": dataset, "model": model}
        curves = (
            Header("RSE", _rse(dataset, model)),
            *_BASELINES,
            *_if_measured(_authors_code(dataset, model), rows, match),
        )
        lines = _strengths(rows, match)
        accuracies.append(Table(f"{name}: accuracy (%)", "attack", lines, curves, match))
        # Without an attack there is no distortion.
        distortions.append(
            Table(f"{name}: RMS L2", "attack", lines[1:], curves, match, metrics.RMS_L2)
        )
    return accuracies + distortions


TABLES = {
    "rse/table2": PaperTable(
        f"Table 2 of {_PAPER}: CIFAR-10 and VGG16 under C&W, by defense and c",
        _table_2,
        (_STRENGTH, _PLACEMENT, _TEMPERATURE),
    ),
    "rse/table3": PaperTable(
        f"Table 3 of {_PAPER}: distortion of targeted attacks on one ship",
        _table_3,
        (
            "The paper's ship is not known, so that only the order of the defenses compares; "
            "nor is its network, taken to be VGG16.",
            _PLACEMENT,
        ),
    ),
    "rse/figure2": PaperTable(
        f"Figure 2 of {_PAPER}: noise in training, in test, in both",
        _figure_2,
        (_STRENGTH, _NO_CURVE, _PLACEMENT),
        draw_sweeps,
    ),
    "rse/figure3": PaperTable(
        f"Figure 3 of {_PAPER}: levels of noise",
        _figure_3,
        (_STRENGTH, _NO_CURVE),
        draw_sweeps,
    ),
    "rse/figure4": PaperTable(
        f"Figure 4 of {_PAPER}: one draw against fifty",
        _figure_4,
        (_STRENGTH, _NO_CURVE),
        draw_sweeps,
    ),
    "rse/figure5": PaperTable(
        f"Figure 5 of {_PAPER}: clean accuracy by number of draws",
        _figure_5,
        ("Published is the clean point of the authors' sweep, with 50 draws.",),
        functools.partial(draw_sweeps, axis="draws"),
    ),
    "rse/figure6": PaperTable(
        f"Figure 6 of {_PAPER}: accuracy and distortion by c, for three networks",
        _figure_6,
        (
            _STRENGTH,
            "RMS L2 is over all images, also those that the attack failed on.",
            _TEMPERATURE,
        ),
        functools.partial(draw_sweeps, across=3),
    ),
    "rse/figure7": PaperTable(
        f"Figure 7 of {_PAPER}: targeted attacks on one ship",
        _table_3,
        ("The table is Table 3, the distortion of what the figure shows.",),
        draw_images=draw_perturbations,
    ),
    "rse/zoo": ZOO,
}
