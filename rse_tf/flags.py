"""The absl flags of a run, made from the fields of `Config`."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from rse_tf.config import Config, ConfigError, config_flags
from rse_tf.data import DataError
from rse_tf.experiment import dry_run
from rse_tf.training import TrainingError
from rse_tf.utils.curves import write_curves_to
from rse_tf.utils.files import FileError, disk_trouble
from rse_tf.utils.flag_files import FlagFileError, expand
from rse_tf.utils.log import is_verbose, log, silence, speak_at_length
from rse_tf.utils.options import Flag, as_text, field_flags, flag_field, number

_OUTPUT = "Output"


@dataclasses.dataclass(frozen=True)
class Output:
    """How a program speaks of what it does."""

    dry_run: bool = flag_field(
        _OUTPUT, False, "print the settings, which networks are trained, and the cost; do nothing"
    )
    quiet: bool = flag_field(_OUTPUT, False, "print mistakes only; the files are written")
    verbose: bool = flag_field(
        _OUTPUT, False, "print the settings first, and where in the code a mistake was found"
    )

    tensorboard: str | None = flag_field(
        _OUTPUT, None, "folder for training curves in TensorBoard's format"
    )

    @classmethod
    def take(cls, arguments: Sequence[str]) -> tuple[Output, list[str]]:
        """Takes its flags off a command line; the program's name stays first.

        Raises:
            ConfigError: if they are impossible.
        """
        values = _define_flags(field_flags(cls).values())
        try:
            rest = values([arguments[0], *expand(arguments[1:])], known_only=True)
        except (flags.Error, FlagFileError) as error:
            raise ConfigError(str(error)) from error
        output = cls(**{name: values[name].value for name in field_flags(cls)})
        if output.quiet and (output.verbose or output.dry_run):
            raise ConfigError("--quiet does not go together with --verbose or --dry_run")
        if output.quiet:
            silence()
        if output.verbose:
            speak_at_length()
        if output.tensorboard is not None:
            write_curves_to(os.path.expanduser(output.tensorboard))
        return output, rest


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
    values = _define_flags(config_flags().values())
    try:
        rest = values([arguments[0], *expand(arguments[1:])])[1:]
        if rest:
            raise ConfigError(f"flags look like --name=value. Received: {' '.join(rest)}")
        settings = {
            name: _convert(flag, values[name].value) for name, flag in config_flags().items()
        }
    except (flags.Error, FlagFileError) as error:
        raise ConfigError(str(error)) from error
    return Config(**settings)


def help_text(description: str) -> str:
    """The flags by group, a line or two each."""
    lines = [
        description.strip(),
        "",
        "Flags, with their defaults; a number may be 8/255 (--flagfile=FILE reads a file):",
    ]
    group = None
    for field in (*config_flags().values(), *field_flags(Output).values()):
        if field.group != group:
            group = field.group
            lines += ["", f"{group}"]
        default = as_text(field.default)
        text = field.help + (f": {', '.join(field.choices)}" if field.choices else "")
        lines += _entry(field.name, default, text)
    return "\n".join(lines)


def parse_own(
    arguments: Sequence[str], own: flags.FlagValues, known_only: bool = False
) -> tuple[Output, list[str]]:
    """Parses the line of a program with flags of its own; returns what is no flag.

    Args:
        arguments: as `sys.argv`, the program's name first.
        own: the flags, which receive their values.
        known_only: whether flags of other programs are returned, or refused.

    Raises:
        ConfigError: if a flag is unknown, or a value impossible.
    """
    output, rest = Output.take(arguments)
    try:
        return output, own(rest, known_only=known_only)[1:]
    except flags.Error as error:
        raise ConfigError(str(error)) from error


def own_help(description: str, values: flags.FlagValues) -> str:
    """The help of a program with flags of its own, and those of the output."""
    lines = [description.strip(), ""]
    for name in values:
        default = values[name].default
        text = as_text(tuple(default) if isinstance(default, list) else default)
        lines += _entry(name, text, values[name].help)
    for field in field_flags(Output).values():
        lines += _entry(field.name, as_text(field.default), field.help)
    return "\n".join(lines)


def _entry(name: str, default: Any, text: str) -> list[str]:
    first = f"{f'--{name}={default}':<32}{text}"
    return textwrap.wrap(first, 100, initial_indent="  ", subsequent_indent=" " * 34)


def launch(run: Callable[[Config], object], description: str) -> None:
    """Runs a program with the Config of its command line; mistakes end in one line."""

    def program() -> None:
        output, arguments = Output.take(sys.argv)
        config = parse(arguments, description)
        if output.dry_run:
            print(dry_run.plan(config))
            return
        if output.verbose:
            log("\n".join(config.as_flags()))
        run(config)

    report_mistakes(program)


def report_mistakes(program: Callable[[], object]) -> None:
    """Runs a program; the mistakes of its user end it in one line."""
    tf.get_logger().addFilter(_is_of_use)
    try:
        program()
    except ConfigError as error:
        sys.exit(_fail(error, 2))
    except (DataError, FileError, TrainingError) as error:
        sys.exit(_fail(error, 1))
    except OSError as error:  # of a library that writes files of its own
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        name = "" if error.filename is None else f" {error.filename}"
        sys.exit(_fail(FileError(f"cannot write{name}: {trouble}"), 1))


def _is_of_use(record: logging.LogRecord) -> bool:
    # TensorFlow counts the graphs of one line of code, and takes those of several models, each
    # of which needs its own, for needless repetitions.
    return "triggered tf.function retracing" not in record.getMessage()


def _fail(error: Exception, status: int) -> int:
    if is_verbose():
        traceback.print_exception(error)
    print(f"error: {' '.join(str(error).split())} (see --help)", file=sys.stderr)
    return status


class _Number(flags.FloatParser):
    """Reads a number, or a fraction such as 8/255."""

    def convert(self, argument: Any) -> float:
        return number(argument) if isinstance(argument, str) else super().convert(argument)


def _define_flags(fields: Iterable[Flag]) -> flags.FlagValues:
    # Flags of our own, not absl's global ones, which other libraries fill as well.
    values = flags.FlagValues()
    for field in fields:
        name, help_ = field.name, field.help
        if field.kind == "float":
            text = flags.ArgumentSerializer()
            flags.DEFINE(_Number(), name, field.default, help_, values, serializer=text)
            continue
        kinds = {"bool": flags.DEFINE_bool, "int": flags.DEFINE_integer, "str": flags.DEFINE_string}
        define = kinds.get(field.kind, flags.DEFINE_list)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        define(name, default, help_, flag_values=values)
    return values


def _convert(field: Flag, value: Any) -> Any:
    if value is None or not field.kind.startswith("tuple"):
        return value
    kind = {"tuple[str, ...]": str, "tuple[int, ...]": int}.get(field.kind, number)
    try:
        return tuple(kind(str(item)) for item in value)  # those of a default are no text
    except ValueError as error:
        raise ConfigError(f"--{field.name} must be numbers. Received: {','.join(value)}") from error
