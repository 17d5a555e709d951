"""The files of a finished run."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting.gallery import plot_gallery, save_gallery
from rse_tf.reporting.plots import plot_accuracy_vs_l2, plot_accuracy_vs_strength
from rse_tf.reporting.results import write_csv, write_json


def write_report(
    folder: pathlib.Path,
    rows: Sequence[Row],
    galleries: Sequence[Gallery],
    *,
    flags: Mapping[str, Any],
    versions: Mapping[str, str],
) -> list[pathlib.Path]:
    """Writes tables and plots into a folder and returns their paths.

    Args:
        folder: receives `result.json`, `result.csv`, `accuracy_vs_c.png` (or
            `accuracy_vs_epsilon.png`), `accuracy_vs_l2.png` and a gallery for each run and defense.
        rows: one for each defense and attack setting.
        galleries: images to show; empty ones, and images of neither 1 nor 3 channels, are
            left out.
        flags: settings of the run, for `result.json`.
        versions: versions of the software, likewise.
    """
    swept = {row.strength[0] for row in rows if row.strength}
    strength = "epsilon" if swept == {"epsilon"} else "c"
    paths = [
        folder / "result.json",
        folder / "result.csv",
        folder / f"accuracy_vs_{strength}.png",
        folder / "accuracy_vs_l2.png",
    ]
    write_json(rows, paths[0], flags=flags, versions=versions)
    write_csv(rows, paths[1])
    plot_accuracy_vs_strength(rows, paths[2])
    plot_accuracy_vs_l2(rows, paths[3])
    for gallery in galleries:
        # Images of any other number of channels are no pictures.
        if len(gallery.clean) and gallery.clean.shape[-1] in (1, 3):
            path = folder / f"{gallery.file_name}.png"
            plot_gallery(gallery, path)
            save_gallery(gallery, path.with_suffix(".npz"))
            paths.append(path)
    return paths
