"""Training curves in TensorBoard's format, for those who want them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_folder: pathlib.Path | None = None
_writers: dict[str, Any] = {}


def write_curves_to(folder: str | os.PathLike[str]) -> None:
    """Lets every training of this process write its curves to a folder, from now on.

    `tensorboard --logdir=FOLDER` shows them, while they grow as well.
    """
    global _folder
    _folder = pathlib.Path(folder)
    _writers.clear()


def write_point(training: str, step: int, values: Mapping[str, float | None]) -> None:
    """Adds a point to the curves of a training, if they are wanted.

    Args:
        training: its name, that of its folder.
        step: the place on the horizontal axis.
        values: by the name of the curve; `None` is left out.
    """
    if _folder is None:
        return
    if training not in _writers:
        _writers[training] = tf.summary.create_file_writer(str(_folder / training))
    # TensorFlow no longer brings the package tensorboard, which tf.summary.scalar needs.
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    with _writers[training].as_default():
        for name, value in values.items():
            if value is not None:
                tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
    _writers[training].flush()
