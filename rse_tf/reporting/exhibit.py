"""A table or figure of a paper, as what it takes to make ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from rse_tf.reporting.gallery import Gallery
from rse_tf.reporting.grid import FAILED, OTHER_SETTINGS, Cell, Grid, format_grid
from rse_tf.reporting.rows import Row

_FEW_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A table or figure of a paper.

    Args:
        title: what it is called, and what it shows.
        grids: makes its tables, from the rows: some tables have a line for each setting found.
        notes: what a reader must know, a sentence or more each.
        figures: makes its figures by a name that is added to the file's; empty for the only one.
        text: makes more Markdown from the galleries, to stand before the notes.
    """

    title: str
    grids: Callable[[Sequence[Row]], list[Grid]]
    notes: tuple[str, ...] = ()
    figures: Callable[[Sequence[Row], Sequence[Gallery]], dict[str, Figure]] = (
        lambda rows, galleries: {}
    )
    text: Callable[[Sequence[Gallery]], str] = lambda galleries: ""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Returns those of the rows that stand in a table, each once, in its order."""
        cells = [cell for grid in self.grids(rows) for cell in _cells(grid, rows)]
        found = [cell.row for cell in cells if cell.row is not None]
        return list({id(row): row for row in found}.values())

    def format(self, rows: Sequence[Row], head: str, galleries: Sequence[Gallery]) -> str:
        """Returns the tables and notes as Markdown; without tables that have no row, if any has."""
        grids = self.grids(rows)
        begun = [grid for grid in grids if any(cell.row for cell in _cells(grid, rows))]
        parts = [f"# {self.title}", head.strip()]
        for grid in begun or grids:
            parts += [f"## {grid.title}", format_grid(grid, rows)]
        parts.append(self.text(galleries).strip())
        cells = [cell for grid in begun or grids for cell in _cells(grid, rows)]
        notes = [*_strangers(rows, self.rows(rows)), *self._measured(cells)]
        missing = [grid.title for grid in grids if begun and grid not in begun]
        notes += [f"Not run: {'; '.join(missing)}."] if missing else []
        notes += self.notes
        parts.append("\n".join(f"- {note}" for note in notes))
        return "\n\n".join(filter(None, parts)) + "\n"

    def _measured(self, cells: list[Cell]) -> list[str]:
        """What the marks in the cells mean, as far as there are any."""
        notes = []
        sources = dict.fromkeys(cell.source for cell in cells if cell.source)
        if sources:
            notes.append(f"Each cell is ours (published). Published: {'; '.join(sources)}.")
        measured = [cell for cell in cells if cell.row is not None]
        if len(measured) < len(cells):
            notes.append("– has not been run.")
        differences = dict.fromkeys(each for cell in measured for each in cell.differences)
        if differences:
            notes.append(
                f"{OTHER_SETTINGS} is not the paper's setting: {'; '.join(differences)}."
            )
        if any(cell.row and cell.measure.failed(cell.row) for cell in measured):
            notes.append(f"{FAILED}: the attack failed, the image is still predicted right.")
        counts = sorted({cell.row.num_images for cell in measured if cell.row is not None})
        if counts:
            shown = ", ".join(f"{count:,}" for count in counts)
            notes.append(f"Images per measured number: {shown}.")
        if counts and 1 < counts[0] < _FEW_IMAGES:
            at_most = 50 / counts[0] ** 0.5
            notes.append(
                f"The standard error of an accuracy p over N images is sqrt(p (1 - p) / N): with "
                f"{counts[0]:,} images up to {at_most:.1f} points."
            )
        if any(cell.spread == cell.spread for cell in measured):
            notes.append("± is the standard deviation over the evaluation seeds.")
        return notes


def _cells(grid: Grid, rows: Sequence[Row]) -> list[Cell]:
    return [cell for line in grid.cells(rows) for cell in line]


def _strangers(rows: Sequence[Row], used: Sequence[Row]) -> list[str]:
    """Says so if there are rows and none of them has a place."""
    if used or not rows:
        return []
    kinds = dict.fromkeys(f"{row.dataset} with {row.model}" for row in rows)
    return [f"None of the {len(rows):,} rows belongs here: they are of {', '.join(kinds)}."]
