"""Made-up rows of results, for the tests of tables, plots and reports."""

from __future__ import annotations

import dataclasses
from typing import Any

from rse_tf.evaluation import Row, Score

# The attack of Liu et al. (2018), and the noise of their RSE on VGG16.
PROTOCOL = {"steps": 300, "learning_rate": 1e-3, "targeted": False, "iterate": "last"}
TARGETED = {**PROTOCOL, "targeted": True, "const": 100.0, "steps": 1000, "learning_rate": 1e-2}
NOISE = {
    "init_noise": 0.4,
    "inner_noise": 0.1,
    "distribution": "gaussian",
    "init_noise_at": "first_conv",
}
# The attacks of Strauss et al. (2017).
STRENGTHS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "none"): {},
    ("mnist", "fgsm"): {"epsilon": 0.3, "targeted": False},
    ("mnist", "bim"): {"epsilon": 0.2, "step_size": 0.025, "steps": 8, "targeted": False},
    ("cifar10", "none"): {},
    ("cifar10", "fgsm"): {"epsilon": 0.03, "targeted": False},
    ("cifar10", "bim"): {"epsilon": 0.02, "step_size": 0.0025, "steps": 8, "targeted": False},
}
MODELS = {"mnist": "mnist_cnn", "cifar10": "cifar_cnn"}
_SCORE = {field.name for field in dataclasses.fields(Score)}


def change(row: Row, **changes: Any) -> Row:
    """The row with other fields, those of its score included."""
    score = dataclasses.replace(row.score, **{n: changes.pop(n) for n in _SCORE & {*changes}})
    return dataclasses.replace(row, score=score, **changes)


def with_parameters(row: Row, **parameters: Any) -> Row:
    """The row with further settings of its attack."""
    return dataclasses.replace(row, parameters={**row.parameters, **parameters})


def make_row(
    defense: str = "rse", attack: str = "none", accuracy: float = 0.5, **changes: Any
) -> Row:
    """A row on CIFAR-10 and VGG16; RSE comes in the setting of the paper's Table 1."""
    is_rse = defense == "rse"
    row = Row(
        dataset="cifar10",
        model="vgg16",
        defense=defense,
        attack=attack,
        parameters={},
        noise=NOISE if is_rse else {},
        num_images=1600,
        num_draws=50 if is_rse else 1,
        eval_seeds=1,
        seconds=None if attack == "none" else 12.34,
        score=Score(
            accuracy=accuracy,
            accuracy_std=0.0,
            rms_l2=0.0,
            mean_l2=None,
            median_l2=None,
            mean_linf=None,
            max_linf=0.1,
            success_rate=0.5,
            misclassified_clean=0.125,
        ),
    )
    return change(row, **changes)


def attacked(
    defense: str = "rse", const: float = 0.1, accuracy: float = 0.5, **changes: Any
) -> Row:
    """A row under C&W in the protocol of Liu et al. (2018)."""
    parameters = {"const": const, **PROTOCOL, **changes.pop("parameters", {})}
    changes = {"rms_l2": 0.3456, "mean_l2": 0.4567, **changes}
    return make_row(defense, "carlini_wagner", accuracy, parameters=parameters, **changes)


def targeted(defense: str, target: str, **changes: Any) -> Row:
    """A row of Table 3 of Liu et al. (2018)."""
    parameters = {**TARGETED, "target": target, "image_class": "ship"}
    return make_row(
        defense, "carlini_wagner", **{"parameters": parameters, "num_images": 1, **changes}
    )


def ensembles_row(
    dataset: str, defense: str, attack: str, scored: str = "", gradient: str = "", **changes: Any
) -> Row:
    """A row at the strength of Strauss et al. (2017), of ten networks if it says what is scored."""
    facts = {
        "scored": scored or None,
        "gradient": gradient or None,
        "members": 10 if scored else None,
    }
    given = {"dataset": dataset, "model": MODELS[dataset], "num_images": 10_000, **facts}
    parameters = STRENGTHS[dataset, attack]
    return make_row(defense, attack, **{**given, "parameters": parameters, **changes})


def second_conv(row: Row) -> Row:
    """The row with its noise where the authors' VGG16 code has it."""
    return dataclasses.replace(row, noise={**row.noise, "init_noise_at": "second_conv"})
