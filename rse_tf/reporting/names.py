"""Names as a reader expects them, where those of the flags are shorter."""

from __future__ import annotations

from rse_tf.evaluation import Row

_DEFENSES = {
    "none": "no defense",
    "rse": "RSE",
    "robust_opt_brelu": "robust opt. + BReLU",
    "pgd_training": "PGD training",
}
_ATTACKS = {
    "none": "no attack",
    "adaptive": "adaptive worst case",
    "carlini_wagner": "Carlini-Wagner L2",
    "deepfool": "DeepFool",
    "rand_fgsm": "R+FGSM",
}
_DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "stl10": "STL-10"}
NORM_NAMES = {"linf": "L-infinity", "l2": "L2"}
_ACRONYM = 4  # letters of a name that is one, such as FGSM
_STRENGTHS = {"const": "c"}


def display_name(defense: str) -> str:
    """Returns the name of a defense, or of several with `+` between them."""
    parts = defense.split("+")
    return "+".join(_DEFENSES.get(part, part.replace("_", " ")) for part in parts)


def attack_name(attack: str) -> str:
    """Returns the name of an attack."""
    short = attack.upper() if len(attack) <= _ACRONYM else attack.replace("_", " ")
    return _ATTACKS.get(attack, short)


def norm_of(row: Row) -> str:
    """Returns the norm that an attack was set to, empty where it has but one."""
    norm = row.parameters.get("norm", "")
    return NORM_NAMES.get(norm, str(norm))


def dataset_name(dataset: str) -> str:
    """Returns the name of a data set."""
    return _DATASETS.get(dataset, dataset)


def strength_text(strength: tuple[str, float] | None) -> str:
    """Returns for example `"c = 0.1"` of `Row.strength`, and nothing of None."""
    return f"{_STRENGTHS.get(strength[0], strength[0])} = {strength[1]:g}" if strength else ""


def counted(number: int, noun: str) -> str:
    """Returns for example `"1 image"` or `"1,600 images"`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
