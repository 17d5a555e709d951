"""How figures are saved: in several formats, each file whole or not at all."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from rse_tf.utils.files import atomic_path


def _png(figure: Figure, file: Any) -> None:
    FigureCanvasAgg(figure).print_png(file)


def _pdf(figure: Figure, file: Any) -> None:
    FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None})


def _svg(figure: Figure, file: Any) -> None:
    # With a salt of its own, Matplotlib gives the parts of equal figures equal names.
    with matplotlib.rc_context({"svg.hashsalt": "rse_tf"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})


_WRITERS: dict[str, Callable[[Figure, Any], None]] = {"png": _png, "pdf": _pdf, "svg": _svg}
FIGURE_FORMATS = tuple(_WRITERS)


def png_bytes(figure: Figure) -> bytes:
    """Returns a figure as the content of a PNG file."""
    file = io.BytesIO()
    _png(figure, file)
    return file.getvalue()


def save_figure(
    figure: Figure, path: str | os.PathLike[str], formats: Sequence[str] = ("png",)
) -> list[pathlib.Path]:
    """Saves a figure at its own size, and returns the paths.

    The same figure makes the same bytes: no file tells when it was written.

    Args:
        figure: the figure.
        path: the file; its ending is replaced by each format.
        formats: of `FIGURE_FORMATS`.

    Raises:
        ValueError: if a format is none of these.
    """
    unknown = [name for name in formats if name not in _WRITERS]
    if unknown or not formats:
        raise ValueError(
            f"formats must be one or several of {', '.join(_WRITERS)}. Received: {formats!r}"
        )
    paths = [pathlib.Path(path).with_suffix(f".{name}") for name in formats]
    for name, target in zip(formats, paths, strict=True):
        # The canvas's own method: savefig would follow the reader's rcParams.
        with atomic_path(target) as temporary, open(temporary, "wb") as file:
            _WRITERS[name](figure, file)
    return paths
