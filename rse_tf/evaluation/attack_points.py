"""The flags of a run's attacks: the options of the registered classes, and what they come to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rse_tf.attacks import ATTACKS
from rse_tf.attacks.base import Attack
from rse_tf.utils.checks import ArgumentError
from rse_tf.utils.options import Flag, flag_of, options_of, union_of_flags
from rse_tf.utils.rules import NOT_NEGATIVE, broken, too_long


def attack_flags() -> dict[str, Flag]:
    """Returns the flags of all registered attacks by name.

    Raises:
        TypeError: if attacks disagree on the type of a flag.
    """
    return _flags(tuple(ATTACKS.items()))


@functools.lru_cache
def _flags(attacks: tuple[tuple[str, type[Attack]], ...]) -> dict[str, Flag]:
    return union_of_flags((name, own_flags(cls)) for name, cls in attacks)


def own_flags(cls: type[Attack]) -> dict[str, Flag]:
    """Returns the flags of an attack by the names of its options and switches."""
    fields = {field: flag_of(cls, field) for field in options_of(cls)}
    switches = {
        name: Flag(own.flag or name, "bool", False, own.help) for name, own in cls.switches.items()
    }
    return fields | switches


def flags_of(attacks: Sequence[str]) -> list[str]:
    """Returns the names of the flags that one of these attacks has, sorted."""
    return sorted({flag.name for name in attacks for flag in own_flags(ATTACKS[name]).values()})


def check_attack_flags(run: Any) -> None:
    """Checks which flags of attacks go together.

    Args:
        run: has the flags of a run as attributes, as a `rse_tf.config.Config` does.

    Raises:
        ArgumentError: if some do not.
    """
    if "none" in run.attack and len(run.attack) > 1:
        raise _flag_error(run, "attack", "none, or one or several attacks")
    own = flags_of(run.attacks) + ["epsilon"] * (run.suite == "full")
    # Without an attack, the settings of one that a flag file brings along lie idle.
    for name in sorted(run.options.keys() & attack_flags().keys()) if run.attacks else ():
        if name not in own:
            raise ArgumentError(
                f"--{name} does not apply to --attack={','.join(run.attack)}, which has "
                + (", ".join(f"--{flag}" for flag in own) or "no flags")
            )
    if run.target_class is not None and (run.image_class is None or run.targeted):
        raise ArgumentError("--target_class needs --image_class, and not --targeted")
    if run.image_class in (run.target_class or ()):
        raise _flag_error(run, "target_class", "other classes than --image_class")
    for attack in run.attacks:
        if not ATTACKS[attack].has_targets and (run.targeted or run.target_class):
            raise ArgumentError(f"--attack={attack} has no targets: leave out --targeted")
    if run.suite != "paper":
        _check_suite(run)


def _check_suite(run: Any) -> None:
    if len(run.num_draws) > 1:
        raise _flag_error(run, "num_draws", f"one number for --suite={run.suite}")
    if run.epsilon is not None and "linf" not in run.norms and not run.attacks:
        raise ArgumentError("--epsilon does not apply to --norms=l2, which has --l2_epsilon")
    for name in ("substitute", "targeted", "target_class"):
        if getattr(run, name):
            raise ArgumentError(f"--{name} does not apply to --suite={run.suite}")
    linf = run.suite_epsilons.get("linf")
    expected = broken(NOT_NEGATIVE, linf) or too_long(linf)
    if expected is not None:
        raise _flag_error(run, "epsilon", expected)


def _flag_error(run: Any, name: str, expected: str) -> ArgumentError:
    received = getattr(run, name)
    return ArgumentError(f"--{name} must be {expected}. Received: {received!r}", name, expected)


def attack_points(
    attack: str, flags: Mapping[str, Any], seed: int, of_dataset: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Returns the arguments of an attack in each row of a run: one per c, or one per epsilon.

    Args:
        attack: its name.
        flags: the flags of attacks that are set.
        seed: of the run.
        of_dataset: the defaults of its data set.

    Raises:
        ArgumentError: if an option cannot be. Its name is that of the flag.
    """
    cls = ATTACKS[attack]
    own = own_flags(cls)
    given = {name: flags[flag.name] for name, flag in own.items() if flag.name in flags}
    try:
        return _points(cls, given, seed, of_dataset)
    except ArgumentError as error:
        name = own[error.name].name if error.name in own else error.name
        raise ArgumentError(str(error), name, error.expected) from error


def _points(
    cls: type[Attack], given: dict[str, Any], seed: int, of_dataset: Mapping[str, Any]
) -> list[dict[str, Any]]:
    values = cls.run_defaults(of_dataset, given) | given
    values = {name: value for name, value in values.items() if name not in cls.switches}
    options = options_of(cls)
    swept = next((name for name, own in options.items() if own.sweep), None)
    points = []
    for strength in values.pop(swept, (None,)) if swept else (None,):
        settings = values if strength is None or swept is None else {swept: strength} | values
        built = cls(_AnyModel(), **settings)
        _check_lengths(built, settings)
        found = built.hyperparameters()
        point = {name: found[name] for name in settings if name in found}
        if any(field.name == "seed" for field in dataclasses.fields(cls)):
            point["seed"] = seed % 2**31  # what TensorFlow takes
        points.append(point)
    return points


def _check_lengths(attack: Attack, settings: Mapping[str, Any]) -> None:
    if getattr(attack, "norm", "linf") == "l2":  # opposite corners are further away than 1
        return
    for name, own in options_of(type(attack)).items():
        value = settings.get(name)
        expected = too_long(value) if own.is_length else None
        if expected is not None:
            raise ArgumentError(f"{name} must be {expected}", name, expected)


class _AnyModel:
    """Stands for the model of a run that is not there yet: nothing calls it."""

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def redraw(self) -> None:
        """A model has it that lets its queries share their noise."""
