"""The flag files of a table's rows, and the scales that go on top of them."""

from __future__ import annotations

import fnmatch
import pathlib

from rse_tf.config import ConfigError
from rse_tf.papers import TABLES
from rse_tf.utils.flag_files import FOLDER

SCALES = ("smoke", "cpu", "paper")
# These show the rows of another one in another way.
_SAME_ROWS = {"ensembles/figure2": "ensembles/table2", "rse/figure7": "rse/table3"}
_COST = "# Cost: "


def row_files(table: str, pattern: str = "*") -> list[pathlib.Path]:
    """Returns the flag files of a table's rows, in a fixed order.

    Args:
        table: a key of `TABLES`.
        pattern: which rows, by their names below the table's folder, such as `"mnist_*"`.

    Raises:
        ConfigError: if there is no such table or row, or the files are not here.
    """
    if table not in TABLES:
        raise ConfigError(f"--table must be one of {', '.join(TABLES)}. Received: {table!r}")
    folder = FOLDER / _SAME_ROWS.get(table, table)
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}: install rse_tf anew, it comes with the package")
    files = sorted(folder.rglob("*.flags"))
    names = {path: path.relative_to(folder).with_suffix("").as_posix() for path in files}
    rows = [path for path in files if path.stem not in {"base", *SCALES}]
    chosen = [path for path in rows if fnmatch.fnmatchcase(names[path], pattern)]
    if not chosen:
        raise ConfigError(
            f"--rows must match one of {', '.join(names[path] for path in rows)}. "
            f"Received: {pattern!r}"
        )
    return chosen


def scale_file(row: pathlib.Path, scale: str) -> pathlib.Path:
    """Returns the scale that goes on top of a row: the nearest one above it, or the common one."""
    for folder in row.parents:
        if folder == FOLDER:
            break
        if (folder / f"{scale}.flags").exists():
            return folder / f"{scale}.flags"
    return FOLDER / "scale" / f"{scale}.flags"


def list_tables() -> str:
    """Returns the names of all tables and figures, what they show, and what they cost."""
    lines = []
    for name, table in TABLES.items():
        files = row_files(name)
        lines += [f"{name:<20}{table.title} ({len(files)} runs)"]
        if name in _SAME_ROWS:
            lines.append(f"{'':<20}the runs of {_SAME_ROWS[name]}")
            continue
        bases = sorted({path.with_name("base.flags") for path in files})
        for base in (path for path in bases if path.exists()):
            costs = [line for line in base.read_text().splitlines() if line.startswith(_COST)]
            lines += [f"{'':<20}{line.removeprefix(_COST)}" for line in costs]
    return "\n".join(lines)
