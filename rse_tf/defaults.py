"""What a run does where its flags say nothing: by data set and by attack."""

from __future__ import annotations

import dataclasses
import pathlib
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
    const: tuple[float, ...] = (0.1, 0.4, 1.0, 4.0)
    epsilon: tuple[float, ...] = (0.02,)
    attack_learning_rate: float = 1e-3
    num_images: int = 200


# Strauss et al. (2017): epsilon 0.3 for FGSM and 0.2 for BIM on digits. The noise, the short
# training and the faster attack for digits are ours: neither paper runs RSE on them.
_DIGITS = DatasetDefaults(
    model="mnist_cnn",
    init_noise=0.4,
    inner_noise=0.1,
    epochs=8,
    learning_rate=0.05,
    schedule="one_cycle",
    augmentation="none",
    const=(1.0, 3.0, 10.0),
    epsilon=(0.1, 0.2, 0.3),
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

_ITERATIVE = ("epsilon", "step_size", "attack_steps")

# The flags that each attack has, in the order of its arguments.
ATTACK_FLAGS: dict[str, tuple[str, ...]] = {
    "bim": _ITERATIVE,
    "carlini_wagner": (
        "const",
        "iterate",
        "binary_search",
        "binary_search_steps",
        "initial_const",
        "attack_steps",
        "attack_learning_rate",
        "confidence",
    ),
    "cleverhans_fgm": ("epsilon",),
    "cleverhans_mim": _ITERATIVE,
    "cleverhans_pgd": _ITERATIVE,
    "fgsm": ("epsilon",),
}


def run_defaults(
    dataset: str, model: str | None, attack: str, binary_search: bool
) -> dict[str, Any]:
    """Returns the defaults of a run's flags: by data set, network and attack.

    Args:
        dataset: `--dataset`.
        model: `--model`, or `None` for the data set's own.
        attack: `--attack`.
        binary_search: `--binary_search`.
    """
    of_dataset = DATASET_DEFAULTS.get(dataset, DatasetDefaults())
    defaults = dataclasses.asdict(of_dataset)
    for name in ("const", "epsilon", "attack_learning_rate"):
        del defaults[name]
    model = model or of_dataset.model
    defaults |= _NETWORK_NOISE.get((dataset, model), {})
    defaults |= attack_defaults(attack, of_dataset, binary_search)
    defaults["workdir"] = f"runs/{pathlib.PurePath(dataset).stem}-{model}-{attack}"
    return defaults


def attack_defaults(attack: str, dataset: DatasetDefaults, binary_search: bool) -> dict[str, Any]:
    """Returns the defaults of an attack's flags on a data set.

    C&W with a fixed c follows Liu et al. (2018), with the binary search Carlini and Wagner
    (2017) but for 1,000 steps instead of 10,000. Eight steps are those of Strauss et al. (2017).
    """
    if attack != "carlini_wagner":
        steps = 8 if "attack_steps" in ATTACK_FLAGS[attack] else None
        return {"epsilon": dataset.epsilon, "attack_steps": steps}
    if binary_search:
        return {
            "binary_search_steps": 9,
            "initial_const": 1e-3,
            "attack_steps": 1000,
            "attack_learning_rate": 1e-2,
            "confidence": 0.0,
        }
    return {
        "const": dataset.const,
        "iterate": "last",
        "attack_steps": 300,
        "attack_learning_rate": dataset.attack_learning_rate,
        "confidence": 0.0,
    }
