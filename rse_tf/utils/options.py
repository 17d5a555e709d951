"""Options: fields of a dataclass that are flags of the command line as well."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rse_tf.utils.checks import ArgumentError, argument_error
from rse_tf.utils.rules import Rule, broken, one_of, too_long

T = TypeVar("T")

# Evaluating the types of a class takes long, and every flag needs them.
_types_of: Callable[[Any], dict[str, Any]] = functools.lru_cache(typing.get_type_hints)


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of the command line.

    Attributes:
        name: as it is written, without dashes.
        kind: its type as text, such as `"int"` or `"tuple[str, ...]"`.
        default: its value where it is not given.
        help: what `--help` says of it.
        choices: what it can be, or `None` for anything of its type.
        rule: what each of its values must be, or `None` where its owner checks that.
        group: its heading in `--help`.
    """

    name: str
    kind: str
    default: Any
    help: str
    choices: Sequence[str] | None = None
    rule: Rule | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Option:
    """Facts of a field that is a flag; see `option`."""

    help: str
    flag: str | None = None
    choices: tuple[str, ...] | None = None
    rule: Rule | None = None
    sweep: bool = False
    by_dataset: str | None = None
    is_length: bool = False
    quiet: bool = False
    randomised_only: bool = False


def option(default: Any = dataclasses.MISSING, *, help: str, **facts: Any) -> Any:
    """A field of a dataclass that is a flag as well.

    Args:
        default: of the field; without one, the field must be given, or follow the data set.
        help: what `--help` says of it.
        **facts: of `Option`, any other being a `TypeError`:
            flag: the name of the flag, where it is not the field's.
            choices: what it can be.
            rule: what it, or each of several values, must be; `check_options` checks that.
            sweep: whether the flag takes several values, one row each.
            by_dataset: which default of the data set it takes where no flag sets it.
            is_length: whether it is a distance between pixels, which lie in [0, 1] in a run.
            quiet: whether rows and the cache tell it only where a flag sets it. An option that is
                added to an attack is quiet, so that what the cache holds is still found.
            randomised_only: whether it matters to randomised models only; rows and the cache do
                not tell it of others.
    """
    metadata = {"option": Option(help, **facts)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def flag_field(
    group: str,
    default: Any,
    help_: str | Callable[[], str],
    choices: Callable[[], Sequence[str]] | None = None,
    rule: Rule | None = None,
) -> Any:
    """A field of a dataclass that is nothing but a flag; arguments as for `Flag`.

    What follows from a registry, `help_` or `choices`, is a function: more may be registered.
    """
    facts = {"group": group, "help": help_, "choices": choices, "rule": rule}
    return dataclasses.field(default=default, metadata={"flag": facts})


def field_flags(cls: type[Any]) -> dict[str, Flag]:
    """Returns the flags that the fields of a dataclass made by `flag_field` are, by name."""
    found = {}
    for field in dataclasses.fields(cls):
        if "flag" in field.metadata:
            facts = dict(field.metadata["flag"])
            choices = facts.pop("choices")
            kind = str(field.type).removesuffix(" | None")
            choices = choices() if choices else None
            if callable(facts["help"]):
                facts["help"] = facts["help"]()
            found[field.name] = Flag(field.name, kind, field.default, choices=choices, **facts)
    return found


def check_flag(flag: Flag, value: Any) -> None:
    """Checks a value by the type, the choices and the rule of its flag.

    Raises:
        ArgumentError: if it cannot be.
    """
    several = flag.kind.startswith("tuple") and value is not None
    if several and not isinstance(value, tuple):
        raise argument_error("Config", flag.name, "a tuple", value)
    choice = one_of(flag.choices) if flag.choices else None
    expected = broken(flag.rule or choice, value)
    if expected is not None:
        expected = choice.expected if choice else expected
        raise argument_error("Config", flag.name, expected, value)
    distinct = flag.kind.endswith(", ...]")  # a fixed number of values can be alike
    if several and (not value or distinct and len(set(value)) < len(value)):
        expected = "one or several values, each of them once"
        raise argument_error("Config", flag.name, expected, value)


def options_of(cls: type[Any]) -> dict[str, Option]:
    """Returns the options of a dataclass by the names of their fields."""
    fields = dataclasses.fields(cls)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}


def flag_of(cls: type[Any], field: str) -> Flag:
    """Returns the flag of an option; its default is `None`, or `False` for a yes or no."""
    own = options_of(cls)[field]
    kind = kind_of(_types_of(cls)[field])
    kind = f"tuple[{kind}, ...]" if own.sweep else kind
    default = False if kind == "bool" else None
    return Flag(own.flag or field, kind, default, own.help, own.choices)


def settings_flags(cls: type[Any]) -> dict[str, Flag]:
    """Returns the flags of a class of settings by the names of its options.

    Each shows the default of its field, or none where the data set may have another.
    """
    found = {}
    for field, own in options_of(cls).items():
        default = cls.__dataclass_fields__[field].default
        if own.by_dataset is not None or default is dataclasses.MISSING:
            default = None
        found[field] = dataclasses.replace(flag_of(cls, field), default=default)
    return found


def default_values(cls: type[Any], of_dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that may follow the data set, by the names of their flags.

    Args:
        cls: a class of settings.
        of_dataset: the defaults of the data set. An option that it has none for takes that of
            its field, if there is one.
    """
    found = {}
    for field, own in options_of(cls).items():
        default = cls.__dataclass_fields__[field].default
        if own.by_dataset is not None:
            default = of_dataset.get(own.by_dataset, default)
            if default is not dataclasses.MISSING:
                found[own.flag or field] = default
    return found


def union_of_flags(owners: Iterable[tuple[str, Mapping[str, Flag]]]) -> dict[str, Flag]:
    """Returns the flags of several classes by name; the help names the owners of each.

    Args:
        owners: the name of each class, and its flags.

    Raises:
        TypeError: if classes disagree on the type or the default of a flag.
    """
    found: dict[str, Flag] = {}
    named: dict[str, list[str]] = {}
    for owner, flags in owners:
        for flag in flags.values():
            first = found.setdefault(flag.name, flag)
            for what, own, other in (
                ("type", first.kind, flag.kind),
                ("default", first.default, flag.default),
            ):
                if own != other:
                    raise TypeError(
                        f"--{flag.name} must be of one {what}. Received: {own} of "
                        f"{named[flag.name][0]} and {other} of {owner}"
                    )
            named.setdefault(flag.name, []).append(owner)
    return {
        name: dataclasses.replace(flag, help=f"{', '.join(named[name])}: {flag.help}")
        for name, flag in found.items()
    }


def insert_flags(
    flags: Mapping[str, Flag], *further: tuple[str, str, Iterable[Flag]]
) -> dict[str, Flag]:
    """Returns flags by name, with further ones among them.

    Args:
        flags: the first ones by name.
        *further: the name of a flag that they stand behind, their group, and they.

    Raises:
        TypeError: if two share a name.
    """
    found: dict[str, Flag] = {}
    for first in flags.values():
        behind = [
            dataclasses.replace(flag, group=group)
            for name, group, others in further
            if name == first.name
            for flag in others
        ]
        for flag in (first, *behind):
            if flag.name in found:
                raise TypeError(
                    f"--{flag.name} must be of one owner. Received: {flag.help!r} and "
                    f"{found[flag.name].help!r}"
                )
            found[flag.name] = flag
    return found


def from_flags(cls: type[T], flags: Mapping[str, Any], **others: Any) -> T:
    """Builds settings from those flags that are theirs.

    Args:
        cls: the class of the settings.
        flags: values of flags by name; an option whose flag is missing has its default.
        **others: fields that are no options.

    Raises:
        ArgumentError: if an option cannot be. Its name is that of the flag.
    """
    own = settings_flags(cls)
    given = {field: flags[flag.name] for field, flag in own.items() if flag.name in flags}
    try:
        return cls(**given, **others)
    except ArgumentError as error:
        name = own[error.name].name if error.name in own else error.name
        raise ArgumentError(str(error), name, error.expected) from error


def check_options(settings: Any) -> None:
    """Checks the options of an object by their choices and rules, and lengths for [0, 1].

    Raises:
        ArgumentError: if one cannot be.
    """
    for name, own in options_of(type(settings)).items():
        value = getattr(settings, name)
        expected = broken(own.rule or (one_of(own.choices) if own.choices else None), value)
        if expected is None and own.is_length:
            expected = too_long(value)
        if expected is not None:
            raise argument_error(type(settings).__name__, name, expected, value)


def kind_of(hint: Any) -> str:
    """Returns a type as text, without the `None` that it may be beside it."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if type(None) in typing.get_args(hint):
        (hint,) = kinds
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def number(text: str) -> float:
    """Returns the value of `"0.1"` or of a fraction such as `"8/255"`.

    Raises:
        ValueError: if it is neither.
    """
    numerator, slash, denominator = text.partition("/")
    if not slash:
        return float(text)
    if float(denominator) == 0:
        raise ValueError(f"{text} divides by zero")
    return float(numerator) / float(denominator)


def as_text(value: Any) -> str:
    """Returns a value as one writes it behind a flag."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)
