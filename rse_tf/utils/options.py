"""Options: fields of a dataclass that are flags of the command line as well."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of the command line.

    Attributes:
        name: as it is written, without dashes.
        kind: its type as text, such as `"int"` or `"tuple[str, ...]"`.
        default: its value where it is not given.
        help: what `--help` says of it.
        choices: what it can be, or `None` for anything of its type.
        group: its heading in `--help`.
    """

    name: str
    kind: str
    default: Any
    help: str
    choices: Sequence[str] | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Option:
    """Facts of a field that is a flag; see `option`."""

    help: str
    flag: str | None = None
    choices: tuple[str, ...] | None = None
    sweep: bool = False
    by_dataset: str | None = None
    is_length: bool = False
    quiet: bool = False


def option(default: Any = dataclasses.MISSING, *, help: str, **facts: Any) -> Any:
    """A field of a dataclass that is a flag as well.

    Args:
        default: of the field; without one, the field must be given, or follow the data set.
        help: what `--help` says of it.
        **facts: of `Option`, any other being a `TypeError`:
            flag: the name of the flag, where it is not the field's.
            choices: what it can be.
            sweep: whether the flag takes several values, one row each.
            by_dataset: which default of the data set it takes where no flag sets it.
            is_length: whether it is a distance between pixels, which lie in [0, 1] in a run.
            quiet: whether rows and the cache tell it only where a flag sets it. An option that is
                added to an attack is quiet, so that what the cache holds is still found.
    """
    metadata = {"option": Option(help, **facts)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(cls: type[Any]) -> dict[str, Option]:
    """Returns the options of a dataclass by the names of their fields."""
    fields = dataclasses.fields(cls)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}


def flag_of(cls: type[Any], field: str) -> Flag:
    """Returns the flag of an option; its default is `None`, or `False` for a yes or no."""
    own = options_of(cls)[field]
    kind = kind_of(typing.get_type_hints(cls)[field])
    kind = f"tuple[{kind}, ...]" if own.sweep else kind
    default = False if kind == "bool" else None
    return Flag(own.flag or field, kind, default, own.help, own.choices)


def kind_of(hint: Any) -> str:
    """Returns a type as text, without the `None` that it may be beside it."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if type(None) in typing.get_args(hint):
        (hint,) = kinds
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def as_text(value: Any) -> str:
    """Returns a value as one writes it behind a flag."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)
