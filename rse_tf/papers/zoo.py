"""Section 3.3 of Liu et al. (2018), a claim without numbers, as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from matplotlib.figure import Figure

from rse_tf.evaluation import Row
from rse_tf.papers import table as metrics
from rse_tf.papers.figures import draw_bars
from rse_tf.papers.paper_table import PaperTable
from rse_tf.papers.table import Header, Table
from rse_tf.reporting.names import display_name
from rse_tf.reporting.series import describe_settings, distinguishing_settings

_METRICS = (
    metrics.CLEAN_ACCURACY,
    metrics.ACCURACY,
    metrics.SUCCESS_RATE,
    metrics.MEAN_L2,
    metrics.QUERIES,
)
# Defense, and what noise the two sides of a finite difference see.
_EXPECTED = (("none", None), ("rse", "fresh"), ("rse", "common"))


def _table(rows: Sequence[Row]) -> Table:
    """One line for each setting found, and for each of the expected ones that is not there."""
    found = sorted((row for row in rows if row.attack == "zoo"), key=_order)
    names = dict.fromkeys(("noise", *distinguishing_settings(found)))
    several = len({(row.dataset, row.model) for row in found}) > 1
    lines = {}
    for row in found:
        parts = [row.dataset, row.model] if several else []
        parts += [display_name(row.defense), describe_settings(row, names)]
        parts.append(f"c = {row.strength[1]:g}" if row.strength else "")
        label = ", ".join(filter(None, parts))
        lines[label] = Header(label, row.settings)
    for defense, noise in _EXPECTED:
        if not any(row.defense == defense and noise in (None, _noise(row)) for row in found):
            label = display_name(defense) + (f", noise={noise}" if noise else "")
            lines[label] = Header(label, {"defense": defense, "noise": noise})
    columns = tuple(Header(metric.name, metric=metric) for metric in _METRICS)
    return Table("ZOO", "defense", tuple(lines.values()), columns, {"attack": "zoo"})


def _order(row: Row) -> tuple[int, float]:
    """Expected settings first, in their order, each by rising strength."""
    kinds = [(defense, noise or _noise(row)) for defense, noise in _EXPECTED]
    kind = (row.defense, _noise(row))
    place = kinds.index(kind) if kind in kinds else len(kinds)
    return place, row.strength[1] if row.strength else 0.0


def _noise(row: Row) -> str | None:
    return row.parameters.get("noise")


def _bars(tables: Sequence[Table], rows: Sequence[Row]) -> Figure:
    shares = tuple(column for column in tables[0].columns if column.name.endswith("(%)"))
    return draw_bars([dataclasses.replace(tables[0], columns=shares)], rows)


ZOO = PaperTable(
    "Section 3.3 of Liu et al. (2018): the black-box attack ZOO",
    lambda rows: [_table(rows)],
    (
        "The paper claims, without numbers, that ZOO does not converge against RSE: the two "
        "sides of its finite difference see different noise (fresh). Whether the noise itself "
        "protects, or only that it differs, shows where they see the same (common).",
    ),
    _bars,
)
