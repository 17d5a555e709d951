"""Section 3.3 of Liu et al. (2018), a claim without numbers, as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from matplotlib.figure import Figure

from rse_tf.reporting import grid as measures
from rse_tf.reporting.exhibit import Exhibit
from rse_tf.reporting.gallery import Gallery
from rse_tf.reporting.grid import Grid, Line
from rse_tf.reporting.paper_plots import draw_bars
from rse_tf.reporting.rows import Row
from rse_tf.reporting.series import describe_settings, display_name, distinguishing_settings

_MEASURES = (
    measures.CLEAN_ACCURACY,
    measures.ACCURACY,
    measures.SUCCESS_RATE,
    measures.MEAN_L2,
    measures.QUERIES,
)
# Defense, and what noise the two sides of a finite difference see.
_EXPECTED = (("none", None), ("rse", "fresh"), ("rse", "common"))


def _grid(rows: Sequence[Row]) -> Grid:
    """One line for each setting found, and for each of the expected ones that is not there."""
    found = sorted((row for row in rows if row.attack == "zoo"), key=_order)
    names = dict.fromkeys(("noise", *distinguishing_settings(found)))
    several = len({(row.dataset, row.model) for row in found}) > 1
    lines = {}
    for row in found:
        facts = ("dataset", "model", "defense", "num_draws")
        wants = {name: getattr(row, name) for name in facts}
        parts = [row.dataset, row.model] if several else []
        parts.append(display_name(row.defense))
        parts.append(describe_settings(row, names))
        parts.append(f"c = {row.strength[1]:g}" if row.strength else "")
        label = ", ".join(filter(None, parts))
        lines[label] = Line(label, {**wants, **row.noise, **row.parameters})
    for defense, noise in _EXPECTED:
        if not any(row.defense == defense and noise in (None, _noise(row)) for row in found):
            label = display_name(defense) + (f", noise={noise}" if noise else "")
            lines[label] = Line(label, {"defense": defense, "noise": noise})
    columns = tuple(Line(measure.name, measure=measure) for measure in _MEASURES)
    return Grid("ZOO", "defense", tuple(lines.values()), columns, {"attack": "zoo"})


def _order(row: Row) -> tuple[int, float]:
    """Expected settings first, in their order, each by rising strength."""
    kinds = [(defense, noise or _noise(row)) for defense, noise in _EXPECTED]
    kind = (row.defense, _noise(row))
    place = kinds.index(kind) if kind in kinds else len(kinds)
    return place, row.strength[1] if row.strength else 0.0


def _noise(row: Row) -> str | None:
    noise = row.parameters.get("noise")
    return None if noise is None else str(noise)


def _bars(rows: Sequence[Row], _: Sequence[Gallery]) -> dict[str, Figure]:
    grid = _grid(rows)
    shares = tuple(column for column in grid.columns if column.name.endswith("(%)"))
    return {"": draw_bars([dataclasses.replace(grid, columns=shares)], rows)}


ZOO = Exhibit(
    "Section 3.3 of Liu et al. (2018): the black-box attack ZOO",
    lambda rows: [_grid(rows)],
    (
        "The paper claims, without numbers, that ZOO does not converge against RSE: the two "
        "sides of its finite difference see different noise (fresh). Whether the noise itself "
        "protects, or only that it differs, shows where they see the same (common).",
    ),
    _bars,
)
