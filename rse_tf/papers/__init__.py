"""Every table and figure of both papers, made from finished rows, with the papers' numbers."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rse_tf.evaluation import Gallery, Row
from rse_tf.papers import ensembles, rse
from rse_tf.papers.paper_table import PaperTable
from rse_tf.reporting import write_csv, write_json
from rse_tf.reporting.saving import save_figure
from rse_tf.utils.files import atomic_write_text

__all__ = ["PaperTable", "TABLES", "write_table"]

TABLES: dict[str, PaperTable] = {**rse.TABLES, **ensembles.TABLES}


def write_table(
    name: str,
    rows: Sequence[Row],
    folder: str | os.PathLike[str],
    head: str,
    galleries: Sequence[Gallery] = (),
    *,
    flags: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    formats: Sequence[str] = ("png",),
) -> list[pathlib.Path]:
    """Writes a table or figure of a paper and returns the paths.

    Args:
        name: a key of `TABLES`, such as `"rse/figure6"`.
        rows: finished rows; those of other tables are left out.
        folder: receives, for `"rse/figure6"`, `rse_figure6.md`, `.csv`, `.json` and `.png`.
        head: Markdown that stands below the title: the command, the scale, the versions.
        galleries: images. Without any, figures of images are not drawn.
        flags: settings of the runs, for the JSON file.
        versions: versions of the software, likewise.
        formats: of the figure, each one of `FIGURE_FORMATS`; the Markdown shows the first.

    Raises:
        ValueError: if there is no such table or figure, or a gallery lacks names.
    """
    if name not in TABLES:
        raise ValueError(f"name must be one of {', '.join(TABLES)}. Received: {name!r}")
    table, start = TABLES[name], pathlib.Path(folder) / name.replace("/", "_")
    paths = [start.with_name(f"{start.name}.{ending}") for ending in ("md", "csv", "json")]
    text, used = table.format(rows, head, galleries), table.rows(rows)
    figure = table.figure(rows, galleries)
    if figure is not None:
        text += f"\n![{table.title}]({start.name}.{formats[0]})\n"
    atomic_write_text(paths[0], text)
    write_csv(used, paths[1])
    write_json(used, paths[2], flags={"exhibit": name, **(flags or {})}, versions=versions or {})
    if figure is not None:
        paths += save_figure(figure, start.with_name(f"{start.name}.png"), formats)
    return paths
