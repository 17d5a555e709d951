"""Every table and figure of both papers, made from finished rows, with the paper's numbers."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rse_tf.files import atomic_write_text
from rse_tf.reporting import paper_ensembles, paper_rse
from rse_tf.reporting.drawing import save_png
from rse_tf.reporting.exhibit import Exhibit
from rse_tf.reporting.gallery import Gallery
from rse_tf.reporting.rows import Row
from rse_tf.reporting.tables import write_csv, write_json

PAPER: dict[str, Exhibit] = {**paper_rse.EXHIBITS, **paper_ensembles.EXHIBITS}


def format_exhibit(
    name: str, rows: Sequence[Row], head: str, galleries: Sequence[Gallery] = ()
) -> str:
    """Returns a table or figure of a paper as Markdown, ours beside the published numbers.

    Args:
        name: a key of `PAPER`, such as `"rse/table2"`.
        rows: finished rows; those of other tables are left out, those to come are shown as such.
        head: Markdown that stands below the title: the command, the scale, the versions.
        galleries: images of the exhibits that have any.

    Raises:
        ValueError: if there is no such table or figure.
    """
    return _exhibit(name).format(rows, head, galleries)


def write_exhibit(
    name: str,
    rows: Sequence[Row],
    folder: str | os.PathLike[str],
    head: str,
    galleries: Sequence[Gallery] = (),
    *,
    flags: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
) -> list[pathlib.Path]:
    """Writes a table or figure of a paper and returns the paths.

    Args:
        name: as for `format_exhibit`.
        rows: likewise.
        folder: receives, for `"rse/figure6"`, `rse_figure6.md`, `.csv`, `.json` and `.png`.
        head: as for `format_exhibit`.
        galleries: likewise. Without any, figures of images are not drawn.
        flags: settings of the runs, for the JSON file.
        versions: versions of the software, likewise.

    Raises:
        ValueError: if there is no such table or figure, or a gallery lacks names.
    """
    exhibit = _exhibit(name)
    start = pathlib.Path(folder) / name.replace("/", "_")
    used = exhibit.rows(rows)
    figures = {
        start.with_name("_".join(filter(None, (start.name, part))) + ".png"): figure
        for part, figure in exhibit.figures(rows, galleries).items()
    }
    pictures = "".join(f"\n![{exhibit.title}]({path.name})\n" for path in figures)
    paths = [start.with_name(f"{start.name}.{ending}") for ending in ("md", "csv", "json")]
    atomic_write_text(paths[0], exhibit.format(rows, head, galleries) + pictures)
    write_csv(used, paths[1])
    settings = {"exhibit": name, **(flags or {})}
    write_json(used, paths[2], flags=settings, versions=versions or {})
    for path, figure in figures.items():
        save_png(figure, path)
    return [*paths, *figures]


def _exhibit(name: str) -> Exhibit:
    if name not in PAPER:
        raise ValueError(f"name must be one of {', '.join(PAPER)}. Received: {name!r}")
    return PAPER[name]
