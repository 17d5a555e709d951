"""The tables and figures of Liu et al. (2018), but for the rows that go into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rse_tf.reporting import grid as measures
from rse_tf.reporting import reference_rse as reference
from rse_tf.reporting.exhibit import Exhibit
from rse_tf.reporting.gallery import Gallery
from rse_tf.reporting.grid import LOOSE, Grid, Line
from rse_tf.reporting.paper_galleries import draw_perturbations
from rse_tf.reporting.paper_plots import draw_sweeps
from rse_tf.reporting.paper_zoo import ZOO
from rse_tf.reporting.rows import Row

_PAPER = "Liu et al. (2018)"
_UNTARGETED: dict[str, Any] = {
    "attack": "carlini_wagner",
    "attack_draws": 1,
    "confidence": 0.0,
    **reference.UNTARGETED,
}
_TARGETED = {**_UNTARGETED, **reference.TARGETED}
_VGG16: dict[str, Any] = {"dataset": "cifar10", "model": "vgg16"}
_DRAWS = (1, 2, 5, 10, 20, 50)
# As the paper names them, and as the data set does.
_TARGETS = {
    "bird": "bird",
    "car": "automobile",
    "cat": "cat",
    "deer": "deer",
    "dog": "dog",
    "frog": "frog",
    "horse": "horse",
    "plane": "airplane",
    "truck": "truck",
}
_PLACEMENT = (
    "The paper puts the initial noise before the first convolution; its authors' VGG16 code, and "
    "presumably its numbers, before the second. Lines that say so are ours, in the code's way."
)
_STRENGTH = "c is the constant of the attack; clean is set against c = 0 of the authors' sweep."


def _rse(dataset: str, model: str) -> dict[str, Any]:
    """What an RSE row of the paper's Table 1 is."""
    init_noise, inner_noise = reference.NOISE[dataset, model]
    return _noise(init_noise, inner_noise) | {"num_draws": reference.DRAWS}


def _noise(init_noise: float, inner_noise: float) -> dict[str, Any]:
    return {
        "defense": "rse",
        "init_noise": init_noise,
        "inner_noise": inner_noise,
        "distribution": "gaussian",
        "init_noise_at": "first_conv",
    }


def _authors_code(dataset: str = "cifar10", model: str = "vgg16") -> Line:
    wants = {**_rse(dataset, model), "init_noise_at": "second_conv"}
    return Line("RSE, init noise before 2nd convolution (ours)", wants, beyond=True)


def _defenses(dataset: str, model: str) -> list[Line]:
    """The defenses of Table 2 in its order."""
    return [
        Line("RSE", _rse(dataset, model)),
        Line("Adv retraining", {"defense": "adversarial_retraining"}),
        Line("Robust Opt+BReLU", {"defense": "robust_opt_brelu"}),
        Line("Distill", {"defense": "distillation"}),
        Line("No defense", {"defense": "none"}),
    ]


def _if_measured(line: Line, rows: Sequence[Row], wants: dict[str, Any]) -> list[Line]:
    """The line, if there is a row for it: it is not in the paper."""
    asks = measures.Setting({**wants, **line.wants})
    found = any(asks.differences(row, LOOSE) is not None for row in rows)
    return [line] if found else []


def _strengths(rows: Sequence[Row], wants: dict[str, Any]) -> tuple[Line, ...]:
    """Clean, and each c of the authors' sweep and of the rows."""
    asks = measures.Setting({**wants, "attack": "carlini_wagner", "targeted": False})
    fitting = [row for row in rows if asks.differences(row, LOOSE) is not None]
    consts = {row.strength[1] for row in fitting if row.strength and row.strength[0] == "const"}
    # A const that went through float32 is still the same.
    others = [c for c in consts if not any(abs(c - s) < 1e-6 * s for s in reference.SWEEP_CONSTS)]
    swept = sorted({*reference.SWEEP_CONSTS, *others} - {0})
    return (_clean(), *(_const(const) for const in swept))


def _clean() -> Line:
    return Line("clean", {"attack": "none"})


def _const(const: float) -> Line:
    return Line(f"c = {const:g}", {**_UNTARGETED, "const": float(const)}, at=float(const))


def _table_2(rows: Sequence[Row]) -> list[Grid]:
    consts = tuple(map(_const, reference.TABLE_2_CONSTS))
    first, *others = _defenses("cifar10", "vgg16")
    lines = (first, _authors_code(), *others)
    beside = "Beside the authors' published sweep"
    return [
        Grid("Accuracy (%)", "defense", lines, consts, _VGG16, source=reference.TABLE_2),
        Grid(
            f"{beside}: accuracy (%)",
            "defense",
            lines,
            (_clean(), *consts),
            _VGG16,
            source=reference.SWEEP,
        ),
        Grid(f"{beside}: RMS L2", "defense", lines, consts, _VGG16, measures.RMS_L2),
    ]


def _table_3(rows: Sequence[Row]) -> list[Grid]:
    targets = tuple(
        Line(label, {**_TARGETED, "target": name}) for label, name in _TARGETS.items()
    )
    lines = [
        Line("No defense", {"defense": "none"}),
        Line("Defensive distill", {"defense": "distillation"}),
        Line("Adv. retraining", {"defense": "adversarial_retraining"}),
        Line("Robust Opt. + BReLU", {"defense": "robust_opt_brelu"}),
        Line("RSE", _rse("cifar10", "vgg16")),
    ]
    lines += _if_measured(_authors_code(), rows, {**_VGG16, **_TARGETED})
    title = "Squared L2 norm of the perturbation, by target"
    return [Grid(title, "defense", tuple(lines), targets, _VGG16, measures.SQUARED_L2)]


def _figure_2(rows: Sequence[Row]) -> list[Grid]:
    curves = (
        Line("noise in training and test (RSE)", _rse("cifar10", "vgg16")),
        *_if_measured(_authors_code(), rows, _VGG16),
        Line("noise in training only", {"defense": "rse_train_noise_only"}),
        Line("noise in test only", {"defense": "rse_test_noise_only"}),
        Line("no noise (baseline)", {"defense": "none"}),
    )
    lines = _strengths(rows, _VGG16)
    return [Grid("CIFAR-10, VGG16: accuracy (%)", "attack", lines, curves, _VGG16)]


def _noise_levels(rows: Sequence[Row], attack: str) -> list[tuple[float, float]]:
    """The paper's noise and that of the rows, by rising strength.

    In Figure 5 one number of draws makes no curve: it comes from the rows of other figures.
    """
    wants = {**_VGG16, "attack": attack, "defense": "rse", "init_noise_at": "first_conv"}
    asks = measures.Setting(wants)
    draws: dict[tuple[float, float], set[int]] = {}
    for row in rows:
        known = {"init_noise", "inner_noise"} <= set(row.noise)
        if known and asks.differences(row, frozenset()) is not None:
            level = (row.noise["init_noise"], row.noise["inner_noise"])
            draws.setdefault(level, set()).add(row.num_draws)
    found = {level for level in draws if attack != "none" or len(draws[level]) > 1}
    return sorted({reference.NOISE["cifar10", "vgg16"], *found})


def _figure_3(rows: Sequence[Row]) -> list[Grid]:
    levels = _noise_levels(rows, "carlini_wagner")
    curves = [Line("no noise", {"defense": "none"})]
    curves += [
        Line(f"init {init:g}, inner {inner:g}", {**_noise(init, inner), "num_draws": 50})
        for init, inner in levels
    ]
    lines = _strengths(rows, _VGG16)
    return [Grid("CIFAR-10, VGG16: accuracy (%)", "attack", lines, tuple(curves), _VGG16)]


def _figure_4(rows: Sequence[Row]) -> list[Grid]:
    noise = _rse("cifar10", "vgg16")
    curves = tuple(
        Line(f"{count}-ensemble", {**noise, "num_draws": count}) for count in (1, reference.DRAWS)
    )
    lines, title = _strengths(rows, _VGG16), "CIFAR-10, VGG16: accuracy (%)"
    return [Grid(title, "attack", lines, curves, _VGG16, loose=LOOSE - {"num_draws"})]


def _figure_5(rows: Sequence[Row]) -> list[Grid]:
    clean = {**_VGG16, "attack": "none"}
    levels = _noise_levels(rows, "none")
    asks = measures.Setting({**clean, "defense": "rse"})
    found = {row.num_draws for row in rows if asks.differences(row, frozenset()) is not None}
    lines = tuple(
        Line(str(count), {"num_draws": count}, at=count) for count in sorted({*_DRAWS, *found})
    )
    curves = tuple(
        Line(f"init {init:g}, inner {inner:g}", _noise(init, inner)) for init, inner in levels
    )
    title = "CIFAR-10, VGG16: clean accuracy (%)"
    return [Grid(title, "draws", lines, curves, clean, loose=LOOSE - {"num_draws"})]


def _figure_6(rows: Sequence[Row]) -> list[Grid]:
    names = {"cifar10": "CIFAR-10", "stl10": "STL-10"}
    models = {"vgg16": "VGG16", "resnext29": "ResNeXt-29", "model_a": "Model A"}
    accuracies, distortions = [], []
    for dataset, model in reference.NOISE:
        wants = {"dataset": dataset, "model": model}
        curves = _defenses(dataset, model)
        curves += _if_measured(_authors_code(dataset, model), rows, wants)
        lines, name = _strengths(rows, wants), f"{names[dataset]}, {models[model]}"
        accuracies.append(Grid(f"{name}: accuracy (%)", "attack", lines, tuple(curves), wants))
        # Without an attack there is no distortion.
        distortions.append(
            Grid(f"{name}: RMS L2", "attack", lines[1:], tuple(curves), wants, measures.RMS_L2)
        )
    return accuracies + distortions


def _pictures(galleries: Sequence[Gallery]) -> dict[str, Any]:
    shown = [gallery for gallery in galleries if len(gallery.targets)]
    return {"": draw_perturbations(shown)} if shown else {}


_NO_CURVE = "The figure's own numbers are not printed; dashed is the authors' published sweep."

EXHIBITS = {
    "rse/table2": Exhibit(
        f"Table 2 of {_PAPER}: CIFAR-10 and VGG16 under C&W, by defense and c",
        _table_2,
        (_STRENGTH, _PLACEMENT),
    ),
    "rse/table3": Exhibit(
        f"Table 3 of {_PAPER}: distortion of targeted attacks on one ship",
        _table_3,
        (
            "The paper's ship is not known, so that only the order of the defenses compares; "
            "nor is its network, taken to be VGG16.",
            _PLACEMENT,
        ),
    ),
    "rse/figure2": Exhibit(
        f"Figure 2 of {_PAPER}: noise in training, in test, in both",
        _figure_2,
        (_STRENGTH, _NO_CURVE, _PLACEMENT),
        lambda rows, _: {"": draw_sweeps(_figure_2(rows), rows)},
    ),
    "rse/figure3": Exhibit(
        f"Figure 3 of {_PAPER}: levels of noise",
        _figure_3,
        (_STRENGTH, _NO_CURVE),
        lambda rows, _: {"": draw_sweeps(_figure_3(rows), rows)},
    ),
    "rse/figure4": Exhibit(
        f"Figure 4 of {_PAPER}: one draw against fifty",
        _figure_4,
        (_STRENGTH, _NO_CURVE),
        lambda rows, _: {"": draw_sweeps(_figure_4(rows), rows)},
    ),
    "rse/figure5": Exhibit(
        f"Figure 5 of {_PAPER}: clean accuracy by number of draws",
        _figure_5,
        ("Published is the clean point of the authors' sweep, with 50 draws.",),
        lambda rows, _: {"": draw_sweeps(_figure_5(rows), rows, axis="draws")},
    ),
    "rse/figure6": Exhibit(
        f"Figure 6 of {_PAPER}: accuracy and distortion by c, for three networks",
        _figure_6,
        (_STRENGTH, "RMS L2 is over all images, also those that the attack failed on."),
        lambda rows, _: {"": draw_sweeps(_figure_6(rows), rows, across=3)},
    ),
    "rse/figure7": Exhibit(
        f"Figure 7 of {_PAPER}: targeted attacks on one ship",
        _table_3,
        ("The table is Table 3, the distortion of what the figure shows.",),
        lambda _, galleries: _pictures(galleries),
    ),
    "rse/zoo": ZOO,
}
