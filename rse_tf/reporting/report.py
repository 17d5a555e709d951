"""The files of a finished run."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting.comparison import compare, format_comparison
from rse_tf.reporting.distances import plot_distances
from rse_tf.reporting.gallery import gallery_names, pictures_of, plot_gallery, save_gallery
from rse_tf.reporting.plots import plot_accuracy_vs_l2, plot_accuracy_vs_strength
from rse_tf.reporting.results import write_csv, write_json


def write_report(
    folder: pathlib.Path,
    rows: Sequence[Row],
    galleries: Sequence[Gallery],
    *,
    flags: Mapping[str, Any],
    versions: Mapping[str, str],
    formats: Sequence[str] = ("png",),
) -> list[pathlib.Path]:
    """Writes tables and plots into a folder and returns their paths.

    Args:
        folder: receives `result.json`, `result.csv`, `accuracy_vs_c.png` (or
            `accuracy_vs_epsilon.png`, or `accuracy_vs_strength.png` where attacks have both),
            `accuracy_vs_l2.png` and a gallery for each run, defense and attack.
        rows: one for each defense and attack setting.
        galleries: images to show; empty ones, and images of neither 1 nor 3 channels, are
            left out.
        flags: settings of the run, for `result.json`.
        versions: versions of the software, likewise.
        formats: of the pictures, each one of `FIGURE_FORMATS`.
    """
    swept = {row.strength[0] for row in rows if row.strength}
    strength = (
        {"const": "c", "epsilon": "epsilon"}[swept.pop()]
        if len(swept) == 1
        else ("strength" if swept else "c")
    )
    paths = [folder / "result.json", folder / "result.csv"]
    write_json(rows, paths[0], flags=flags, versions=versions)
    write_csv(rows, paths[1])
    paths += plot_accuracy_vs_strength(rows, folder / f"accuracy_vs_{strength}.png", formats)
    paths += plot_accuracy_vs_l2(rows, folder / "accuracy_vs_l2.png", formats)
    shown = pictures_of(galleries)
    for gallery, name in zip(shown, gallery_names(shown), strict=True):
        paths += plot_gallery(gallery, folder / f"{name}.png", formats, rows)
        save_gallery(gallery, folder / f"{name}.npz")
    return paths


def write_comparison(
    run: pathlib.Path,
    folder: pathlib.Path | None = None,
    formats: Sequence[str] = ("png",),
    name: str = "attack_vs_certificate",
) -> tuple[str, list[pathlib.Path]]:
    """Sets the certificate of a run beside its adaptive worst case in L2: in words and a picture.

    Args:
        run: its folder.
        folder: receives the picture. Default: that of the run.
        formats: of the picture, each one of `FIGURE_FORMATS`.
        name: of the picture, without an ending.

    Returns:
        The text for the terminal, and the paths; empty ones of a run that has not both.

    Raises:
        FileError: if a file of the run is damaged.
    """
    found = compare(run)
    if found is None:
        return "", []
    text = format_comparison(found)
    if not found.points:
        return text, []
    return text, plot_distances(found, (folder or run) / f"{name}.png", formats)
