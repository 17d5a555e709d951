"""Flag files: where those of the package are, and a command line with its files read."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# A wheel carries the folder inside the package, a checkout has it beside the package.
FOLDER = next(
    (folder for folder in (_PACKAGE / "flag_files", _PACKAGE.parent / "flags") if folder.is_dir()),
    _PACKAGE / "flag_files",
)
# How files and commands write that folder, wherever it is.
_ALIAS = "flags"
_OPTION = "flagfile"


class FlagFileError(ValueError):
    """A flag file cannot be read."""


def short_name(file: pathlib.Path) -> str:
    """Returns the name of a file of `FOLDER` as commands write it: `flags/rse/table2/rse.flags`."""
    return (_ALIAS / file.relative_to(FOLDER)).as_posix()


def find(name: str, named_in: pathlib.Path | None = None) -> pathlib.Path:
    """Returns the path of a flag file.

    Args:
        name: a path. One that begins with `flags/` is also looked for among the package's own.
        named_in: the flag file that names it. Files of the package name each other.

    Raises:
        FlagFileError: if there is no such file.
    """
    path = pathlib.Path(name.strip()).expanduser()
    places = [path]
    if path.parts[:1] == (_ALIAS,):
        own = FOLDER.joinpath(*path.parts[1:])
        is_own = named_in is not None and named_in.resolve().is_relative_to(FOLDER)
        places = [own] if is_own else [path, own]
    for place in places:
        if place.is_file():
            return place
    tried = ", ".join(map(str, places))
    raise FlagFileError(f"--{_OPTION} must name a file. Received: {name!r}; looked for {tried}")


def expand(arguments: Sequence[str]) -> list[str]:
    """Returns a command line in which the lines of each flag file stand in its place.

    Args:
        arguments: flags, without the program's name.

    Raises:
        FlagFileError: if a file is missing, is no text, or names itself.
    """
    return list(_expand(arguments, ()))


def _expand(arguments: Sequence[str], inside: tuple[pathlib.Path, ...]) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        flag, has_value, name = argument.partition("=")
        if flag.strip() not in (f"--{_OPTION}", f"-{_OPTION}"):
            yield argument
            continue
        if not has_value:
            name = next(rest, "")
        file = find(name, inside[-1] if inside else None)
        if file in inside:
            raise FlagFileError(f"--{_OPTION}={name} stands in a file that it reads itself")
        yield from _expand(_lines(file), (*inside, file))


def _lines(file: pathlib.Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FlagFileError(f"--{_OPTION}={file} cannot be read: {error}") from error
    return [line for line in lines if line and not line.startswith(("#", "//"))]
