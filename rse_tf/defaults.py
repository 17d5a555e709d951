"""What a run does where its flags say nothing: by data set."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
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
    l2_epsilon: float = 0.5
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
    l2_epsilon=1.5,
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

_OF_ATTACKS = ("const", "epsilon", "l2_epsilon", "single_step_epsilon", "attack_learning_rate")


def attack_defaults(dataset: str) -> dict[str, Any]:
    """Returns what the options of attacks follow that go by the data set."""
    of_dataset = DATASET_DEFAULTS.get(dataset, DatasetDefaults())
    return {name: getattr(of_dataset, name) for name in _OF_ATTACKS}


def run_defaults(dataset: str, model: str | None, attacks: Sequence[str]) -> dict[str, Any]:
    """Returns the defaults of a run's flags, but for those of its attacks.

    Args:
        dataset: `--dataset`.
        model: `--model`, or `None` for the data set's own.
        attacks: what the run's folder is named after.
    """
    of_dataset = DATASET_DEFAULTS.get(dataset, DatasetDefaults())
    defaults = dataclasses.asdict(of_dataset)
    for name in _OF_ATTACKS:
        del defaults[name]
    model = model or of_dataset.model
    defaults |= _NETWORK_NOISE.get((dataset, model), {})
    defaults["workdir"] = f"runs/{pathlib.PurePath(dataset).stem}-{model}-{'+'.join(attacks)}"
    return defaults
