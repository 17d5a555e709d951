"""All settings of a run: one frozen, validated Config."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rse_tf import defenses
from rse_tf.attacks import ATTACKS
from rse_tf.config.fields import ATTACK, CERTIFICATION, DEFENSE, NETWORK, TRAINING, RunFields
from rse_tf.data import comes_from_tfds, dataset_defaults
from rse_tf.defenses import DEFENSES, ENSEMBLES, Defense
from rse_tf.evaluation import CertificationSettings, EvaluationSettings, SuiteSettings
from rse_tf.evaluation.attack_points import attack_flags, attack_points, check_attack_flags
from rse_tf.models import NoiseSettings
from rse_tf.training import TrainingSettings
from rse_tf.utils.checks import ArgumentError
from rse_tf.utils.options import (
    Flag,
    as_text,
    check_flag,
    default_values,
    field_flags,
    from_flags,
    insert_flags,
    options_of,
    settings_flags,
)


class ConfigError(ValueError):
    """A flag is invalid, by itself or in combination with others."""


_PATHS = ("data_dir", "workdir", "export_dir", "models_dir", "attacks_dir")


@dataclasses.dataclass(frozen=True, init=False)
class Config(RunFields):
    """A validated run. Every field is a flag of the same name, but for `options`.

    `options` holds the flags that are made of the options of others: of `NoiseSettings`, of
    `TrainingSettings`, of `CertificationSettings`, of the registered defenses and of the
    registered attacks. Those are there that are not at the default that `--help` shows.
    `Config(epsilon=(0.1,), temperature=10.0)` sets two of them, and `config.epsilon` reads one.

    A flag of the data, the network, the defense or the training that is left at `None` takes
    the default of the data set (see `rse_tf.data.DATASETS`). Those of an attack stay as they
    are; `attack_points` has the values that they stand for. A path may begin with `~`.

    Raises:
        ConfigError: if a value is impossible, alone or together with the others.
    """

    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __init__(self, *, options: Mapping[str, Any] | None = None, **flags: Any) -> None:
        known = config_flags()
        unknown = [name for name in flags if name not in known]
        if unknown:
            raise TypeError(f"Config has no flag of this name. Received: {', '.join(unknown)}")
        given = dict(options or {}) | flags
        given = {name: value for name, value in given.items() if value is not None}
        self._fill_in(given)
        for name, value in self.values().items():
            self._build(check_flag, known[name], value)
        self.suite_settings()
        try:
            check_attack_flags(self)
        except ArgumentError as error:
            raise ConfigError(str(error)) from error
        for name in ("image_size", "data_dir"):
            if getattr(self, name) is not None and not comes_from_tfds(self.dataset):
                raise ConfigError(f"--{name} does not apply to --dataset={self.dataset}")
        # Classes check their own options.
        self.noise_settings()
        self.training_settings()
        for defense in ENSEMBLES | DEFENSES:
            self.make_defense(defense)
        for attack in self.attacks:
            self.attack_points(attack)
        self.certification_settings()

    def __getattr__(self, name: str) -> Any:
        flag = _option_flags().get(name)
        if flag is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.get("options", {}).get(name, flag.default)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks to run by themselves: empty for clean images only, or a suite only."""
        return tuple(n for n in self.attack if n != "none" and self.suite != "adaptive")

    def noise_settings(self) -> NoiseSettings:
        """Where the network of RSE is noisy, and how much."""
        return self._build(from_flags, NoiseSettings, self.options)

    def make_defense(self, name: str) -> Defense:
        """Returns a defense with the settings of the run."""
        names = self.options.keys() & defenses.defense_flags().keys()
        return self._build(defenses.make, name, {own: self.options[own] for own in names})

    def training_settings(self) -> TrainingSettings:
        """How every network of the run is trained."""
        return self._build(from_flags, TrainingSettings, self.options, seed=self.seed)

    def attack_points(self, attack: str) -> list[dict[str, Any]]:
        """The hyperparameters of an attack in each row: one per c, or one per epsilon."""
        of_dataset = dataset_defaults(self.dataset, self.model)
        try:
            return attack_points(attack, self.options, self.seed, of_dataset)
        except ArgumentError as error:
            raise self._error(error.name, f"{error.expected}, for --attack={attack}") from error

    def evaluation_settings(self) -> EvaluationSettings:
        """How the defenses of the run are attacked and scored."""
        # Another activation is another network, and none of the papers' own.
        model = f"{pathlib.PurePath(str(self.model)).stem}+{self.activation}".removesuffix("+relu")
        attacks = {name: self.attack_points(name) for name in self.attacks}
        own: dict[str, Any] = {"model": model, "attacks": attacks}
        own["suite_epsilons"] = self.suite_epsilons
        names = {field.name for field in dataclasses.fields(EvaluationSettings)} - own.keys()
        return EvaluationSettings(**{name: getattr(self, name) for name in names}, **own)

    def suite_settings(self) -> SuiteSettings:
        """Which attacks the run has."""
        return self._build(from_flags, SuiteSettings, self.options)

    @property
    def suite_epsilons(self) -> dict[str, tuple[float, ...]]:
        """The distances of the adaptive suite by norm: empty without it."""
        usual = dataset_defaults(self.dataset, self.model)["epsilon"]
        return self.suite_settings().epsilons(self.epsilon or (usual,))

    def certification_settings(self) -> CertificationSettings:
        """How the defense of the run is certified."""
        return self._build(from_flags, CertificationSettings, self.options)

    def values(self) -> dict[str, Any]:
        """All flags of the run by name, in the order of `--help`."""
        found = {**vars(self), **self.options}
        return {name: found.get(name, flag.default) for name, flag in config_flags().items()}

    def as_flags(self) -> list[str]:
        """The flags that give this same run."""
        values = self.values()
        return [f"--{name}={as_text(values[name])}" for name in values if values[name] is not None]

    def _fill_in(self, given: Mapping[str, Any]) -> None:
        """Sets all fields to what is given, or the data set's default, or that of the flag."""
        own = {name: given.get(name, flag.default) for name, flag in field_flags(Config).items()}
        own |= {name: os.path.expanduser(own[name]) for name in _PATHS if own[name] is not None}
        for name in ("dataset", "model"):
            if own[name] is not None and own[name].endswith((".npz", ".keras", ".h5")):
                own[name] = os.path.expanduser(own[name])
        of_dataset = dataset_defaults(own["dataset"], own["model"])
        if unknown := sorted(set(of_dataset) - _with_dataset_defaults()):
            raise TypeError(
                f"DATASETS[{own['dataset']!r}]: defaults must be of flags, or of options by their "
                f"by_dataset. Received: {', '.join(unknown)}"
            )
        own |= {
            name: of_dataset[name] for name in own.keys() & of_dataset.keys() if own[name] is None
        }
        options = {
            **default_values(NoiseSettings, of_dataset),
            **default_values(TrainingSettings, of_dataset),
            **defenses.run_defaults(of_dataset, given.get("epochs", of_dataset["epochs"])),
            **given,
        }
        own["options"] = {
            name: options[name]
            for name, flag in _option_flags().items()
            if name in options and options[name] != flag.default
        }
        data, model = (pathlib.PurePath(own[name]).stem for name in ("dataset", "model"))
        names = (*own["attack"], "adaptive") if options.get("suite") == "full" else own["attack"]
        names = ("adaptive",) if options.get("suite") == "adaptive" else names
        own["workdir"] = own["workdir"] or f"runs/{data}-{model}-{'+'.join(names)}"
        workdir = pathlib.PurePath(own["workdir"])
        own["models_dir"] = own["models_dir"] or str(workdir.parent / "models")
        own["attacks_dir"] = own["attacks_dir"] or str(workdir / "attacks")
        for name, value in own.items():
            object.__setattr__(self, name, value)

    def _build(self, make: Callable[..., Any], *arguments: Any, **others: Any) -> Any:
        """Calls a function of the options; an argument that it refuses is a wrong flag."""
        try:
            return make(*arguments, **others)
        except ArgumentError as error:
            raise self._error(error.name, error.expected) from error

    def _error(self, name: str, expected: str) -> ConfigError:
        return ConfigError(f"--{name} must be {expected}. Received: {getattr(self, name)!r}")


def _with_dataset_defaults() -> set[str]:
    """Names of the defaults that a data set can have: flags without, and `by_dataset`."""
    owners = (
        NoiseSettings,
        TrainingSettings,
        *ENSEMBLES.values(),
        *DEFENSES.values(),
        *ATTACKS.values(),
    )
    options = [option for owner in owners for option in options_of(owner).values()]
    own = {name for name, flag in field_flags(Config).items() if flag.default is None}
    return own | {option.by_dataset for option in options if option.by_dataset}


def config_flags() -> dict[str, Flag]:
    """Returns all flags of a run by name in the order of `--help`, those of options among them.

    Raises:
        TypeError: if two kinds of things, such as a defense and an attack, share a flag.
    """
    return insert_flags(
        field_flags(Config),
        ("activation", NETWORK, settings_flags(NoiseSettings).values()),
        ("defense", DEFENSE, defenses.defense_flags().values()),
        ("defense", TRAINING, settings_flags(TrainingSettings).values()),
        ("attack", ATTACK, settings_flags(SuiteSettings).values()),
        ("attack", ATTACK, attack_flags().values()),
        ("audit", CERTIFICATION, settings_flags(CertificationSettings).values()),
    )


def _option_flags() -> dict[str, Flag]:
    own = field_flags(Config)
    return {name: flag for name, flag in config_flags().items() if name not in own}
