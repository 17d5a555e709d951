"""All settings of a run: one frozen, validated Config."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from rse_tf import training
from rse_tf.attacks import ATTACKS
from rse_tf.attacks.facts import GRADIENTS
from rse_tf.data import AUGMENTATIONS, DATASETS
from rse_tf.defaults import attack_defaults, run_defaults
from rse_tf.defenses import DEFENSES, ENSEMBLES, DefenseSettings, is_defense
from rse_tf.evaluation import EvaluationSettings
from rse_tf.evaluation.attack_points import attack_flags, attack_points, flags_of
from rse_tf.layers.sampling import DISTRIBUTIONS, SAMPLERS
from rse_tf.models import INIT_NOISE_AT, MODELS
from rse_tf.reporting import FIGURE_FORMATS
from rse_tf.utils.checks import ArgumentError
from rse_tf.utils.options import Flag, as_text
from rse_tf.utils.ranges import RANGES, out_of_range


class ConfigError(ValueError):
    """A flag is invalid, by itself or in combination with others."""


def _flag(group: str, default: Any, help_: str, choices: Sequence[str] | None = None) -> Any:
    metadata = {"group": group, "help": help_, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


_DATA, _NETWORK, _DEFENSE, _TRAINING = "Data", "Network", "Defense", "Training"
_ATTACK, _SCORING, _RUN = "Attack", "Scoring", "Run"

_PATHS = ("data_dir", "workdir", "export_dir", "models_dir", "attacks_dir")


@dataclasses.dataclass(frozen=True, init=False)
class Config:
    """A validated run. Every field is a flag of the same name, but for `options`.

    `options` holds those flags of attacks that are set. `Config(epsilon=(0.1,))` sets one, and
    `config.epsilon` reads it: `None`, or `False` for a yes or no, where it is not set. Which
    there are follows from the registered attacks.

    A field of the data, the network, the defense or the training that is left at `None` takes
    the default of the data set (see `rse_tf.defaults`). Those of an attack stay as they are;
    `attack_points` has the values that they stand for. A path may begin with `~`.

    Raises:
        ConfigError: if a value is impossible, alone or together with the others.
    """

    dataset: str = _flag(
        _DATA, "mnist_5k", "mnist_5k (needs no network), mnist, cifar10, stl10, another name of "
        "TensorFlow Datasets, or path/to/file.npz")  # fmt: skip
    data_dir: str | None = _flag(_DATA, None, "TensorFlow Datasets directory")
    image_size: int | None = _flag(_DATA, None, "resize TensorFlow Datasets images to this size")
    validation_fraction: float = _flag(
        _DATA, 0.1, "share of the training images held out; with 0 the last epoch is kept")

    model: str | None = _flag(_NETWORK, None, "network", sorted(MODELS))
    activation: str = _flag(_NETWORK, "relu", "activation: relu, brelu, or a Keras name")
    init_noise: float | None = _flag(_NETWORK, None, "noise before the first convolution")
    inner_noise: float | None = _flag(_NETWORK, None, "noise before the other convolutions")
    noise_distribution: str = _flag(_NETWORK, "gaussian", "kind of the noise", DISTRIBUTIONS)
    noise_sampler: str = _flag(
        _NETWORK, "pool", "how noise is drawn: fast, or number by number", SAMPLERS)
    init_noise_at: str = _flag(
        _NETWORK, "first_conv", "where init_noise goes: as the paper says, or as the authors' "
        "VGG16 code does", INIT_NOISE_AT)  # fmt: skip

    defense: tuple[str, ...] = _flag(
        _DEFENSE, ("none", "rse"), "one or several, with commas; an ensemble goes with any way to "
        "train its members: ensemble_bagging+rse", sorted(DEFENSES | ENSEMBLES))  # fmt: skip
    members: int = _flag(_DEFENSE, 10, "networks in an ensemble")
    member_noise: float | None = _flag(
        _DEFENSE, None, "ensemble_gauss_noise: noise added once to the images of each member")
    temperature: float | None = _flag(_DEFENSE, None, "distillation: what logits are divided by")
    training_epsilon: float | None = _flag(
        _DEFENSE, None, "adversarial_training: L-infinity distance of its FGSM images")
    rho: float = _flag(_DEFENSE, 0.5, "adversarial_training: weight of the clean loss")
    retraining_epsilon: tuple[float, ...] = _flag(
        _DEFENSE, (0.1, 0.3), "adversarial_retraining: smallest and largest distance of FGSM")
    retraining_epochs: int | None = _flag(
        _DEFENSE, None, "adversarial_retraining: its epochs; default half as many again")
    image_noise: float = _flag(_DEFENSE, 0.05, "robust_opt_brelu: noise on training images")

    epochs: int | None = _flag(_TRAINING, None, "passes over the training images")
    batch_size: int = _flag(_TRAINING, 128, "images per step, over all devices")
    optimizer: str = _flag(_TRAINING, "sgd", "optimizer", training.OPTIMIZERS)
    learning_rate: float | None = _flag(_TRAINING, None, "peak learning rate")
    schedule: str | None = _flag(_TRAINING, None, "learning rate schedule", training.SCHEDULES)
    weight_decay: float = _flag(_TRAINING, 5e-4, "factor of the weights in their gradient")
    augmentation: str | None = _flag(_TRAINING, None, "of the training images", AUGMENTATIONS)
    dtype_policy: str = _flag(
        _TRAINING, "float32", "precision of the training", training.DTYPE_POLICIES)
    strategy: str = _flag(_TRAINING, "auto", "devices; auto: all GPUs here", training.STRATEGIES)

    attack: tuple[str, ...] = _flag(
        _ATTACK, ("carlini_wagner",), "one or several, with commas; none: clean images only")
    targeted: bool = _flag(_ATTACK, False, "aim at a random other class")
    target_class: tuple[str, ...] | None = _flag(
        _ATTACK, None, "aim at each of these classes in turn, by name")
    image_class: str | None = _flag(_ATTACK, None, "attack images of this class only, by name")
    gradient: tuple[str, ...] = _flag(
        _ATTACK, ("mean_probability",), "of an ensemble: of one member (Grad. 1), the mean of the "
        "members' losses (Grad. 2), or the loss of their mean probability", GRADIENTS)  # fmt: skip
    attack_draws: int = _flag(
        _ATTACK, 1, "noise draws that the attacker averages at each step (the paper: 1)")
    substitute: str | None = _flag(
        _ATTACK, None, "transfer: a defense, trained from another seed, to attack instead")
    num_images: int | None = _flag(_ATTACK, None, "test images to attack")
    attack_batch_size: int = _flag(_ATTACK, 100, "images attacked at a time")

    num_draws: tuple[int, ...] = _flag(
        _SCORING, (50,), "noise draws that the defense averages; several: rows for each")
    stop_error: float | None = _flag(
        _SCORING, None, "draw no more for an image once a change of its class is this unlikely")
    eval_seeds: int = _flag(_SCORING, 3, "times each accuracy is measured, with fresh noise")
    regularity: bool = _flag(_SCORING, False, "measure gradient and Hessian of the clean loss")

    seed: int = _flag(_RUN, 0, "everything random follows from it")
    workdir: str | None = _flag(_RUN, None, "its folder; default runs/<data>-<model>-<attack>")
    export_dir: str | None = _flag(_RUN, None, "rse_tf.export: where the SavedModel goes")
    models_dir: str | None = _flag(_RUN, None, "trained models; default beside the workdir")
    attacks_dir: str | None = _flag(_RUN, None, "attacked images; default inside the workdir")
    figure_format: tuple[str, ...] = _flag(_RUN, ("png",), "of the pictures", FIGURE_FORMATS)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __init__(self, *, options: Mapping[str, Any] | None = None, **flags: Any) -> None:
        known, static = config_flags(), _static_flags()
        unknown = [name for name in flags if name not in known]
        if unknown:
            raise TypeError(f"Config has no flag of this name. Received: {', '.join(unknown)}")
        values = {name: flag.default for name, flag in known.items()} | dict(options or {}) | flags
        for name in static:
            object.__setattr__(self, name, values[name])
        # One that is at what it is without being set, is not set.
        given = {name: values[name] for name in known if name not in static}
        given = {name: v for name, v in given.items() if v is not None and v is not False}
        object.__setattr__(self, "options", given)
        for flag in known.values():
            self._check_choice(flag)
        self._expand_paths()
        self._check_attack_flags()
        if self.dataset in DATASETS or self.dataset.endswith(".npz"):
            for name in ("image_size", "data_dir"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"--{name} does not apply to --dataset={self.dataset}")
        self._check_activation()
        self._fill_in()
        self._check_numbers()
        for attack in self.attacks:
            self.attack_points(attack)

    def __getattr__(self, name: str) -> Any:
        flag = attack_flags().get(name)
        if flag is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.get("options", {}).get(name, flag.default)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks to run: empty for clean images only."""
        return tuple(name for name in self.attack if name != "none")

    def attack_points(self, attack: str) -> list[dict[str, Any]]:
        """The hyperparameters of an attack in each row: one per c, or one per epsilon."""
        of_dataset = attack_defaults(self.dataset)
        try:
            return attack_points(attack, self.options, self.seed, of_dataset)
        except ArgumentError as error:
            raise self._error(error.name, f"{error.expected}, for --attack={attack}") from error

    def values(self) -> dict[str, Any]:
        """All flags of the run by name, in the order of `--help`."""
        return {name: getattr(self, name) for name in config_flags()}

    def training_settings(self) -> training.TrainingSettings:
        """How every network of the run is trained."""
        return self._part(training.TrainingSettings)

    def defense_settings(self) -> DefenseSettings:
        """What the defenses of the run are set to."""
        return self._part(DefenseSettings)

    def evaluation_settings(self) -> EvaluationSettings:
        """How the defenses of the run are attacked and scored."""
        # Another activation is another network, and none of the papers' own.
        model = f"{self.model}+{self.activation}".removesuffix("+relu")
        attacks = {name: self.attack_points(name) for name in self.attacks}
        return self._part(EvaluationSettings, model=model, attacks=attacks)

    def as_flags(self) -> list[str]:
        """The flags that give this same run."""
        values = self.values()
        return [f"--{name}={as_text(values[name])}" for name in values if values[name] is not None]

    def _part(self, kind: type[Any], **own: Any) -> Any:
        names = [field.name for field in dataclasses.fields(kind) if field.name not in own]
        return kind(**{name: getattr(self, name) for name in names if hasattr(self, name)}, **own)

    def _check_choice(self, field: Flag) -> None:
        choices, value = field.choices, getattr(self, field.name)
        if field.kind.startswith("tuple") and not isinstance(value, (tuple, type(None))):
            raise self._error(field.name, "a tuple")
        for item in value if isinstance(value, tuple) else (value,):
            if choices and item is not None and item not in choices:
                if field.name != "defense" or not is_defense(item):
                    raise self._error(field.name, f"one of {', '.join(choices)}")
        distinct = field.name != "retraining_epsilon"
        if isinstance(value, tuple) and (not value or distinct and len(set(value)) < len(value)):
            raise self._error(field.name, "one or several values, each of them once")

    def _check_attack_flags(self) -> None:
        if "none" in self.attack and len(self.attack) > 1:
            raise self._error("attack", "none, or one or several attacks")
        own = flags_of(self.attacks)
        # Without an attack, the settings of one that a flag file brings along lie idle.
        for name in sorted(self.options) if self.attacks else ():
            if name not in own:
                raise ConfigError(
                    f"--{name} does not apply to --attack={','.join(self.attack)}, which has "
                    + (", ".join(f"--{flag}" for flag in own) or "no flags")
                )
        if self.target_class is not None and (self.image_class is None or self.targeted):
            raise ConfigError("--target_class needs --image_class, and not --targeted")
        if self.image_class in (self.target_class or ()):
            raise self._error("target_class", "other classes than --image_class")
        for attack in self.attacks:
            if not ATTACKS[attack].has_targets and (self.targeted or self.target_class):
                raise ConfigError(f"--attack={attack} has no targets: leave out --targeted")
        if self.substitute is not None and not is_defense(self.substitute):
            raise self._error("substitute", "a defense")

    def _check_activation(self) -> None:
        try:
            self.activation == "brelu" or keras.activations.get(self.activation)
        except ValueError:
            raise self._error("activation", "brelu or the name of a Keras activation") from None

    def _fill_in(self) -> None:
        for name, value in run_defaults(self.dataset, self.model, self.attack).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.retraining_epochs is None:
            object.__setattr__(self, "retraining_epochs", math.ceil(1.5 * int(self.epochs or 0)))
        workdir = pathlib.PurePath(str(self.workdir))
        for name, folder in (("models_dir", workdir.parent / "models"),
                             ("attacks_dir", workdir / "attacks")):  # fmt: skip
            if getattr(self, name) is None:
                object.__setattr__(self, name, str(folder))

    def _expand_paths(self) -> None:
        for name in (*_PATHS, *(["dataset"] if self.dataset.endswith(".npz") else [])):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))

    def _check_numbers(self) -> None:
        for name in (name for names, _, _ in RANGES for name in names):
            expected = out_of_range(name, getattr(self, name))
            if expected is not None:
                raise self._error(name, expected)
        if len(span := self.retraining_epsilon) != 2 or span[0] > span[1]:
            raise self._error("retraining_epsilon", "two numbers, the smaller one first")

    def _error(self, name: str, expected: str) -> ConfigError:
        return ConfigError(f"--{name} must be {expected}. Received: {getattr(self, name)!r}")


def config_flags() -> dict[str, Flag]:
    """Returns all flags of a run by name, those of the registered attacks among them."""
    found: dict[str, Flag] = {}
    for name, flag in _static_flags().items():
        found[name] = flag
        if name == "attack":
            found[name] = dataclasses.replace(flag, choices=("none", *sorted(ATTACKS)))
            found |= {
                own: dataclasses.replace(flag, group=_ATTACK)
                for own, flag in attack_flags().items()
            }
    return found


def _static_flags() -> dict[str, Flag]:
    fields = [field for field in dataclasses.fields(Config) if field.name != "options"]
    return {
        field.name: Flag(
            field.name, str(field.type).removesuffix(" | None"), field.default, **field.metadata
        )
        for field in fields
    }
