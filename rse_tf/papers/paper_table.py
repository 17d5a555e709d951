"""A table or figure of a paper: what it takes to lay out our rows as the paper does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from matplotlib.figure import Figure

from rse_tf.evaluation import Gallery, Row
from rse_tf.papers.table import FAILED, MISSING, OTHER_SETTINGS, Cell, Table
from rse_tf.reporting.heading import add_heading, heading_of
from rse_tf.reporting.published import OTHER_SOURCE
from rse_tf.reporting.results import sampling_error

_FEW_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table or figure of a paper.

    Args:
        title: what it is called, and what it shows.
        tables: makes its tables, from the rows: some have a line for each setting found.
        notes: what a reader must know, a sentence or more each.
        draw: draws its tables with the rows, in the order in which they stand.
        draw_images: draws the galleries instead; None if there is nothing to see in them.
        text: makes more Markdown from the galleries, to stand before the notes.
    """

    title: str
    tables: Callable[[Sequence[Row]], list[Table]]
    notes: tuple[str, ...] = ()
    draw: Callable[[Sequence[Table], Sequence[Row]], Figure] | None = None
    draw_images: Callable[[Sequence[Gallery]], Figure | None] = lambda galleries: None
    text: Callable[[Sequence[Gallery]], str] = lambda galleries: ""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Returns those of the rows that stand in a table, each once, in its order."""
        found = [cell.row for table in self.tables(rows) for cell in _cells(table, rows)]
        return list({id(row): row for row in found if row is not None}.values())

    def figure(self, rows: Sequence[Row], galleries: Sequence[Gallery]) -> Figure | None:
        """Returns the figure, None if it is a table, or one of images and there are none.

        It says what it is, on how many images, and where that is not the paper's setting.
        """
        tables = self.tables(rows)
        figure = self.draw(tables, rows) if self.draw else self.draw_images(galleries)
        if figure is not None:
            others = _joined(
                each
                for table in tables
                for cell in _cells(table, rows)
                if cell.row is not None
                for each in cell.differences
            )
            heading = heading_of(self.rows(rows), self.title)
            apart = f"Not the paper's setting: {others}." if others else ""
            warning = " ".join(filter(None, (heading.warning, apart)))
            add_heading(figure, heading._replace(warning=warning))
        return figure

    def format(self, rows: Sequence[Row], head: str, galleries: Sequence[Gallery] = ()) -> str:
        """Returns the tables and notes as Markdown; without tables that have no row, if any has.

        Args:
            rows: finished rows; those of other tables are left out, those to come shown as such.
            head: Markdown that stands below the title: the command, the scale, the versions.
            galleries: images of the figures that have any.
        """
        tables = self.tables(rows)
        begun = [table for table in tables if any(cell.row for cell in _cells(table, rows))]
        shown = begun or tables
        parts = [f"# {self.title}", head.strip()]
        for table in shown:
            parts += [f"## {table.title}", table.to_markdown(rows)]
        parts.append(self.text(galleries).strip())
        notes = [] if begun or not rows else [_strangers(rows)]
        notes += _notes([cell for table in shown for cell in _cells(table, rows)])
        missing = [table.title for table in tables if table not in shown]
        notes += [f"Not run: {'; '.join(missing)}."] if missing else []
        parts.append("\n".join(f"- {note}" for note in (*notes, *self.notes)))
        return "\n\n".join(filter(None, parts)) + "\n"


def _notes(cells: list[Cell]) -> list[str]:
    """Explains the marks in the cells."""
    notes = []
    if sources := _joined(cell.source for cell in cells if cell.source):
        notes.append(f"Each cell is ours (published). Published: {sources}.")
    if apart := _joined(each for cell in cells for each in cell.paper_differences):
        notes.append(f"{OTHER_SOURCE} was published with other settings: {apart}.")
    measured = [cell for cell in cells if cell.row is not None]
    if len(measured) < len(cells):
        notes.append(f"{MISSING} has not been run.")
    if others := _joined(each for cell in measured for each in cell.differences):
        notes.append(f"{OTHER_SETTINGS} is not the paper's setting: {others}.")
    if any(cell.failed for cell in measured):
        notes.append(f"{FAILED}: the attack failed, the image is still predicted correctly.")
    counts = sorted({cell.row.num_images for cell in measured if cell.row is not None})
    if counts:
        shown = ", ".join(f"{count:,}" for count in counts)
        notes.append(f"Images per measured number: {shown}.")
    if counts and 1 < counts[0] < _FEW_IMAGES:
        notes.append(
            f"The standard error of an accuracy p over N images is sqrt(p (1 - p) / N): with "
            f"{counts[0]:,} images up to {sampling_error(counts[0]):.1f} points."
        )
    if over := {cell.spread[1] for cell in cells if cell.spread[1]}:
        words = "over evaluation seeds, and over members where a cell is a mean over these"
        notes.append(f"± is the standard deviation {words if len(over) > 1 else over.pop()}.")
    return notes


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(parts))


def _cells(table: Table, rows: Sequence[Row]) -> list[Cell]:
    return [cell for line in table.cells(rows) for cell in line]


def _strangers(rows: Sequence[Row]) -> str:
    kinds = dict.fromkeys(f"{row.dataset} with {row.model}" for row in rows)
    return f"None of the {len(rows):,} rows belongs here: they are of {', '.join(kinds)}."
