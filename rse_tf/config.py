"""All settings of a run: one frozen Config, and the absl flags made from it."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import keras
from absl import flags

from rse_tf import training
from rse_tf.attacks import ATTACKS
from rse_tf.data import AUGMENTATIONS, DATASETS, DataError
from rse_tf.defaults import ATTACK_FLAGS, run_defaults
from rse_tf.defenses import DEFENSES
from rse_tf.layers.noise import DISTRIBUTIONS
from rse_tf.models import INIT_NOISE_AT, MODELS


class ConfigError(ValueError):
    """A flag has a value that cannot be, alone or beside the others."""


def _flag(group: str, default: Any, help_: str, choices: Sequence[str] | None = None) -> Any:
    metadata = {"group": group, "help": help_, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


_DATA, _NETWORK, _DEFENSE, _TRAINING = "Data", "Network", "Defense", "Training"
_ATTACK, _SCORING, _RUN = "Attack", "Scoring", "Run"


@dataclasses.dataclass(frozen=True)
class Config:
    """A validated run. Every field is a flag of the same name.

    A field that is left at `None` takes the default of the data set or the attack (see
    `rse_tf.defaults`); after construction none but truly optional ones are `None`.

    Raises:
        ConfigError: if a value is impossible, alone or together with the others.
    """

    dataset: str = _flag(
        _DATA, "mnist_5k", "mnist_5k (needs no network), mnist, cifar10, stl10, another name of "
        "TensorFlow Datasets, or path/to/file.npz")  # fmt: skip
    data_dir: str | None = _flag(_DATA, None, "TensorFlow Datasets directory")
    image_size: int | None = _flag(_DATA, None, "resize TensorFlow Datasets images to this size")
    validation_fraction: float = _flag(_DATA, 0.1, "share of the training images held out")

    model: str | None = _flag(_NETWORK, None, "network", sorted(MODELS))
    activation: str = _flag(_NETWORK, "relu", "activation: relu, brelu, or a Keras name")
    init_noise: float | None = _flag(_NETWORK, None, "noise before the first convolution")
    inner_noise: float | None = _flag(_NETWORK, None, "noise before the other convolutions")
    noise_distribution: str = _flag(_NETWORK, "gaussian", "kind of the noise", DISTRIBUTIONS)
    init_noise_at: str = _flag(
        _NETWORK, "first_conv", "where init_noise goes: as the paper says, or as the authors' "
        "VGG16 code does", INIT_NOISE_AT)  # fmt: skip

    defense: tuple[str, ...] = _flag(
        _DEFENSE, ("none", "rse"), "one or several, with commas", sorted(DEFENSES))

    epochs: int | None = _flag(_TRAINING, None, "passes over the training images")
    batch_size: int = _flag(_TRAINING, 128, "images per step, over all devices")
    learning_rate: float | None = _flag(_TRAINING, None, "peak learning rate of SGD")
    schedule: str | None = _flag(_TRAINING, None, "learning rate schedule", training.SCHEDULES)
    weight_decay: float = _flag(_TRAINING, 5e-4, "factor of the weights in their gradient")
    augmentation: str | None = _flag(_TRAINING, None, "of the training images", AUGMENTATIONS)
    dtype_policy: str = _flag(
        _TRAINING, "float32", "precision of the training", training.DTYPE_POLICIES)
    strategy: str = _flag(_TRAINING, "auto", "devices; auto: all GPUs", training.STRATEGIES)

    attack: str = _flag(_ATTACK, "carlini_wagner", "attack", sorted(ATTACKS))
    const: tuple[float, ...] | None = _flag(_ATTACK, None, "C&W: one row for each c")
    binary_search: bool = _flag(_ATTACK, False, "C&W: search c for each image instead")
    binary_search_steps: int | None = _flag(_ATTACK, None, "C&W: steps of that search")
    initial_const: float | None = _flag(_ATTACK, None, "C&W: where the search starts")
    iterate: str | None = _flag(
        _ATTACK, None, "C&W: keep the last or the best iterate", ("last", "best"))
    confidence: float | None = _flag(_ATTACK, None, "C&W: margin to win by, in logits")
    epsilon: tuple[float, ...] | None = _flag(
        _ATTACK, None, "the others: one row for each L-infinity distance")
    step_size: float | None = _flag(
        _ATTACK, None, "bim, pgd, mim: length of a step; default epsilon / 8")
    attack_steps: int | None = _flag(_ATTACK, None, "steps of an iterative attack")
    attack_learning_rate: float | None = _flag(_ATTACK, None, "C&W: learning rate of its Adam")
    targeted: bool = _flag(_ATTACK, False, "aim at a random other class")
    attack_draws: int = _flag(
        _ATTACK, 1, "noise draws that the attacker averages at each step (the paper: 1)")
    num_images: int | None = _flag(_ATTACK, None, "test images to attack (the paper: 1600)")
    attack_batch_size: int = _flag(_ATTACK, 100, "images attacked at a time")

    num_draws: int = _flag(_SCORING, 50, "noise draws that the defense averages")
    eval_seeds: int = _flag(_SCORING, 3, "times each accuracy is measured, with fresh noise")

    seed: int = _flag(_RUN, 0, "everything random follows from it")
    workdir: str | None = _flag(_RUN, None, "folder of this run; default runs/<data>-<model>")
    export_dir: str | None = _flag(_RUN, None, "rse_tf.export: where the SavedModel goes")
    models_dir: str | None = _flag(_RUN, None, "trained models; default beside the workdir")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_choice(field)
        self._check_attack_flags()
        if self.dataset in DATASETS or self.dataset.endswith(".npz"):
            for name in ("image_size", "data_dir"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"--{name} does not apply to --dataset={self.dataset}")
        self._check_activation()
        self._fill_in()
        self._check_numbers()

    def attack_points(self) -> list[dict[str, Any]]:
        """The hyperparameters of each row: one per c, or one per epsilon."""
        names = {"attack_steps": "steps", "attack_learning_rate": "learning_rate"}
        swept = "const" if self.attack == "carlini_wagner" else "epsilon"
        common = {
            names.get(name, name): getattr(self, name)
            for name in ATTACK_FLAGS[self.attack]
            if name not in (swept, "binary_search") and getattr(self, name) is not None
        }
        values = getattr(self, swept)
        if values is None:
            return [common]
        points = [{swept: value, **common} for value in values]
        if "step_size" in ATTACK_FLAGS[self.attack] and self.step_size is None:
            # Strauss et al. (2017), section 4: alpha is an eighth of epsilon.
            points = [{**point, "step_size": point["epsilon"] / 8} for point in points]
        return points

    def as_flags(self) -> list[str]:
        """The flags that give this same run."""
        values = dataclasses.asdict(self)
        return [f"--{name}={_as_text(values[name])}" for name in values if values[name] is not None]

    def _check_choice(self, field: dataclasses.Field[Any]) -> None:
        choices, value = field.metadata["choices"], getattr(self, field.name)
        if _type(field).startswith("tuple") and not isinstance(value, (tuple, type(None))):
            raise self._error(field.name, "a tuple")
        for item in value if isinstance(value, tuple) else (value,):
            if choices and item is not None and item not in choices:
                raise self._error(field.name, f"one of {', '.join(choices)}")
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise self._error(field.name, "one or several values, each of them once")

    def _check_attack_flags(self) -> None:
        own = ATTACK_FLAGS[self.attack]
        for name in sorted({flag for names in ATTACK_FLAGS.values() for flag in names}):
            value = getattr(self, name)
            if name not in own and value is not None and value is not False:
                raise ConfigError(
                    f"--{name} does not apply to --attack={self.attack}, which has "
                    + ", ".join(f"--{flag}" for flag in own)
                )
        # iterate is "best" by nature in a search.
        verb = "does not go with" if self.binary_search else "needs"
        search_only = ("binary_search_steps", "initial_const")
        for name in ("const", "iterate") if self.binary_search else search_only:
            if getattr(self, name) is not None:
                raise ConfigError(f"--{name} {verb} --binary_search")

    def _check_activation(self) -> None:
        try:
            self.activation == "brelu" or keras.activations.get(self.activation)
        except ValueError:
            raise self._error("activation", "brelu or the name of a Keras activation") from None

    def _fill_in(self) -> None:
        defaults = run_defaults(self.dataset, self.model, self.attack, self.binary_search)
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.models_dir is None:
            beside = pathlib.PurePath(str(self.workdir)).parent / "models"
            object.__setattr__(self, "models_dir", str(beside))

    def _check_numbers(self) -> None:
        positive = ("image_size", "epochs", "batch_size", "attack_steps", "attack_draws",
                    "num_images", "attack_batch_size", "num_draws", "eval_seeds",
                    "binary_search_steps")  # fmt: skip
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise self._error(name, "at least 1")
        for name in ("learning_rate", "attack_learning_rate", "initial_const", "step_size"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise self._error(name, "greater than 0")
        for name in ("init_noise", "inner_noise", "weight_decay", "confidence", "const", "epsilon"):
            value = getattr(self, name)
            for item in value if isinstance(value, tuple) else (value,):
                if item is not None and not (math.isfinite(item) and item >= 0):
                    raise self._error(name, "0 or greater")
        if self.attack.startswith("cleverhans") and 0 in (self.epsilon or ()):
            raise self._error("epsilon", f"greater than 0 for --attack={self.attack}")
        if self.attack == "cleverhans_pgd" and (self.step_size or 0) > min(self.epsilon or ()):
            raise self._error("step_size", "at most --epsilon for --attack=cleverhans_pgd")
        if not 0 <= self.seed < 2**32:
            raise self._error("seed", "from 0 to 2**32 - 1")
        if not 0 < self.validation_fraction < 1:
            raise self._error("validation_fraction", "between 0 and 1")

    def _error(self, name: str, expected: str) -> ConfigError:
        return ConfigError(f"--{name} must be {expected}. Received: {getattr(self, name)!r}")


def parse(arguments: Sequence[str], description: str) -> Config:
    """Turns command-line arguments into a Config; `--help` prints the flags and exits.

    Args:
        arguments: as `sys.argv`, the program's name first.
        description: what `--help` says that the program does.

    Raises:
        ConfigError: if a flag is unknown, or a value impossible.
    """
    if {"--help", "-h", "-help"} & set(arguments[1:]):
        print(help_text(description))
        sys.exit(0)
    values = _define_flags()
    try:
        rest = values(list(arguments))[1:]
        if rest:
            raise ConfigError(f"flags look like --name=value. Received: {' '.join(rest)}")
        settings = {
            field.name: _convert(field, values[field.name].value)
            for field in dataclasses.fields(Config)
        }
    except (flags.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(error)) from error
    return Config(**settings)


def help_text(description: str) -> str:
    """The flags by group, a line or two each."""
    lines = [description.strip(), "", "Flags, with their defaults (--flagfile=FILE reads a file):"]
    group = None
    for field in dataclasses.fields(Config):
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"{group}"]
        default = _as_text(field.default)
        choices = field.metadata["choices"]
        text = field.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
        lines += textwrap.wrap(
            f"{f'--{field.name}={default}':<32}{text}",
            width=100, initial_indent="  ", subsequent_indent=" " * 34)  # fmt: skip
    return "\n".join(lines)


def launch(run: Callable[[Config], object], description: str) -> None:
    """Runs a program with the Config of its command line; mistakes end in one line."""
    try:
        run(parse(sys.argv, description))
    except ConfigError as error:
        sys.exit(_fail(error, 2))
    except (DataError, training.TrainingError) as error:
        sys.exit(_fail(error, 1))


def _fail(error: Exception, status: int) -> int:
    print(f"error: {' '.join(str(error).split())} (see --help)", file=sys.stderr)
    return status


def _define_flags() -> flags.FlagValues:
    # Flags of our own, not absl's global ones, which other libraries fill as well.
    values = flags.FlagValues()
    for field in dataclasses.fields(Config):
        kinds = {"bool": flags.DEFINE_bool, "int": flags.DEFINE_integer,
                 "float": flags.DEFINE_float, "str": flags.DEFINE_string}  # fmt: skip
        define = kinds.get(_type(field), flags.DEFINE_list)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        define(field.name, default, field.metadata["help"], flag_values=values)
    return values


def _type(field: dataclasses.Field[Any]) -> str:
    return str(field.type).removesuffix(" | None")


def _convert(field: dataclasses.Field[Any], value: Any) -> Any:
    if value is None or not _type(field).startswith("tuple"):
        return value
    if _type(field) == "tuple[str, ...]":
        return tuple(value)
    try:
        return tuple(float(item) for item in value)
    except ValueError as error:
        raise ConfigError(f"--{field.name} must be numbers. Received: {','.join(value)}") from error


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)
