"""What a run does where its flags say nothing: by data set and by attack."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class DatasetDefaults:
    """Defaults of one data set; as they stand here, those of any set not named below.

    Sources: noise and training are of Liu et al. (2018), Table 1 and section 4; `const` is a
    part of the values of their Figure 6, at their learning rate and number of steps.
    """

    model: str = "cifar_cnn"
    init_noise: float = 0.1
    inner_noise: float = 0.1
    epochs: int = 200
    learning_rate: float = 0.1
    schedule: str = "paper"
    augmentation: str = "crop_flip"
    temperature: float = 40.0
    training_epsilon: float = 0.03
    member_noise: float = 0.1
    const: tuple[float, ...] = (0.1, 0.4, 1.0, 4.0)
    single_step_epsilon: float = 0.03
    epsilon: float = 0.02
    attack_learning_rate: float = 1e-3
    num_images: int = 200


# Strauss et al. (2017), section 4: epsilon 0.3 for FGSM and 0.2 for BIM, temperature 10. The
# noise, the short training and the faster attack for digits are ours: neither paper runs RSE on
# them.
_DIGITS = DatasetDefaults(
    model="mnist_cnn",
    init_noise=0.4,
    inner_noise=0.1,
    epochs=8,
    learning_rate=0.05,
    schedule="one_cycle",
    augmentation="none",
    temperature=10.0,
    training_epsilon=0.3,
    const=(1.0, 3.0, 10.0),
    single_step_epsilon=0.3,
    epsilon=0.2,
    attack_learning_rate=1e-2,
    num_images=100,
)

DATASET_DEFAULTS = {
    "cifar10": DatasetDefaults(model="vgg16", init_noise=0.4, const=(0.01, 0.03, 0.06, 0.1, 0.2)),
    "mnist": _DIGITS,
    "mnist_5k": _DIGITS,
    "stl10": DatasetDefaults(model="model_a", init_noise=0.4),
}

# Liu et al. (2018), Table 1: less noise for one network than for the others on its data set.
_NETWORK_NOISE = {("cifar10", "resnext29"): {"init_noise": 0.1, "inner_noise": 0.1}}

# What of an ensemble the attacker differentiates; the first two are Grad. 1 and Grad. 2 of
# Strauss et al. (2017), section 3.
GRADIENTS = ("member", "mean_loss", "mean_probability")

_ITERATIVE = ("epsilon", "step_size", "attack_steps")
_MARGIN = (
    "const",
    "iterate",
    "binary_search",
    "binary_search_steps",
    "initial_const",
    "attack_steps",
    "attack_learning_rate",
    "confidence",
)
_ZOO = ("coordinates", "solver", "importance_sampling", "resize", "query_noise")

# The flags that each attack has.
ATTACK_FLAGS: dict[str, tuple[str, ...]] = {
    "bim": _ITERATIVE,
    "carlini_wagner": _MARGIN,
    "cleverhans_fgm": ("epsilon",),
    "cleverhans_mim": _ITERATIVE,
    "cleverhans_pgd": _ITERATIVE,
    "deepfool": ("attack_steps",),
    "fgsm": ("epsilon",),
    "mim": _ITERATIVE,
    "pgd": (*_ITERATIVE, "restarts", "norm"),
    "rand_fgsm": ("epsilon", "random_step"),
    "zoo": (*_MARGIN, *_ZOO),
}
_ARGUMENT = {
    "attack_steps": "steps",
    "attack_learning_rate": "learning_rate",
    "query_noise": "noise",
}
_SEEDED = ("pgd", "rand_fgsm", "zoo")
# Steps: Strauss et al. (2017), Madry et al. (2017), Dong et al. (2018), Moosavi-Dezfooli et al.
# (2016). Chen et al. (2017) run ZOO for 3,000 on MNIST and 1,000 on CIFAR-10.
_STEPS = {"bim": 8, "cleverhans_mim": 8, "cleverhans_pgd": 8, "deepfool": 50, "mim": 10,
          "pgd": 40, "zoo": 1000}  # fmt: skip
# Lengths of a step as a share of epsilon: Strauss et al. (2017); ours for pgd.
_STEP_SHARE = {"bim": 1 / 8, "cleverhans_mim": 1 / 8, "cleverhans_pgd": 1 / 8, "mim": 1 / 10,
               "pgd": 1 / 4}  # fmt: skip


def run_defaults(dataset: str, model: str | None, attacks: Sequence[str]) -> dict[str, Any]:
    """Returns the defaults of a run's flags, but for those of its attacks.

    Args:
        dataset: `--dataset`.
        model: `--model`, or `None` for the data set's own.
        attacks: `--attack`.
    """
    of_dataset = DATASET_DEFAULTS.get(dataset, DatasetDefaults())
    defaults = dataclasses.asdict(of_dataset)
    for name in ("const", "epsilon", "single_step_epsilon", "attack_learning_rate"):
        del defaults[name]
    model = model or of_dataset.model
    defaults |= _NETWORK_NOISE.get((dataset, model), {})
    defaults["workdir"] = f"runs/{pathlib.PurePath(dataset).stem}-{model}-{'+'.join(attacks)}"
    return defaults


def attack_points(attack: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the arguments of an attack in each row of a run: one per c, or one per epsilon.

    Args:
        attack: its name.
        given: the run's flags; those at `None` take their default here.
    """
    of_dataset = DATASET_DEFAULTS.get(given["dataset"], DatasetDefaults())
    defaults = _attack_defaults(attack, of_dataset, given["binary_search"])
    own = [name for name in ATTACK_FLAGS[attack] if name != "binary_search"]
    values = {name: given[name] for name in own if given[name] is not None}
    values = {name: value for name, value in defaults.items() if name not in values} | values
    common = {_ARGUMENT.get(name, name): value for name, value in values.items()}
    if attack in _SEEDED:
        common["seed"] = given["seed"] % 2**31  # what TensorFlow takes
    swept = next((name for name in ("const", "epsilon") if name in common), None)
    if swept is None:
        return [common]
    strengths = common.pop(swept)
    points = [{swept: strength, **common} for strength in strengths]
    if "step_size" in own and given["step_size"] is None:
        share = _STEP_SHARE[attack]
        points = [{**point, "step_size": share * point["epsilon"]} for point in points]
    return points


def _attack_defaults(
    attack: str, dataset: DatasetDefaults, binary_search: bool
) -> dict[str, Any]:
    """The defaults of an attack's flags on a data set.

    C&W with a fixed c follows Liu et al. (2018), with the binary search Carlini and Wagner
    (2017) but for 1,000 steps instead of 10,000; ZOO follows Chen et al. (2017).
    """
    steps = {"attack_steps": _STEPS[attack]} if attack in _STEPS else {}
    if attack == "deepfool":
        return steps
    if attack not in ("carlini_wagner", "zoo"):
        single = "step_size" not in ATTACK_FLAGS[attack]
        return {"epsilon": (dataset.single_step_epsilon if single else dataset.epsilon,), **steps}
    rate = 1e-2 if binary_search or attack == "zoo" else dataset.attack_learning_rate
    common = {"attack_learning_rate": rate, "confidence": 0.0}
    if binary_search:
        start = 1e-2 if attack == "zoo" else 1e-3
        search = {"binary_search_steps": 9, "initial_const": start}
        return search | {"attack_steps": 1000} | common | steps
    iterate = "best" if attack == "zoo" else "last"
    return {"const": dataset.const, "iterate": iterate, "attack_steps": 300} | common | steps
