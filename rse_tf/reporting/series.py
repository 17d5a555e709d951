"""Sorts rows into panels and curves, and says what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rse_tf.evaluation import Row
from rse_tf.reporting.names import display_name, norm_of

_IDENTITY = ("run", "dataset", "model", "defense", "attack", "strength")


class Series(NamedTuple):
    """One curve: its attacked rows by rising strength, and clean ones of the same network."""

    label: str
    rows: tuple[Row, ...]
    clean: tuple[Row, ...]


class Panel(NamedTuple):
    """The curves that belong in one pair of axes.

    Attributes:
        strength: what the attack is swept over, None if it has no strength.
        series: the curves.
    """

    strength: str | None
    series: tuple[Series, ...]

    @property
    def rows(self) -> list[Row]:
        """All rows of its curves; a clean one may start several."""
        return [row for one in self.series for row in (*one.clean, *one.rows)]


def distinguishing_settings(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the settings by which rows of one attack differ at the same strength.

    Two rows with the same run, data set, model, defense, attack and strength differ in something
    else, such as the number of steps or of draws. A setting that only follows the strength,
    such as a step size of epsilon / 4, is not among them.
    """
    names = dict.fromkeys(name for row in rows for name in row.settings if name not in _IDENTITY)
    values = {name: {_setting(row, name) for row in rows} for name in names}
    # Distances in two norms are never the same strength.
    chosen: tuple[str, ...] = ("norm",) if len(values.get("norm", ())) > 1 else ()
    different = len({_identity(row, chosen) for row in rows})
    # Few values first: of steps and a step size that depends on them, steps is the reason.
    for name in sorted(values, key=lambda name: (len(values[name]), name == "num_draws")):
        told_apart = len({_identity(row, (*chosen, name)) for row in rows})
        if told_apart > different:
            chosen, different = (*chosen, name), told_apart
    return chosen


def describe_settings(row: Row, names: Iterable[str]) -> str:
    """Returns for example `"steps=300, num_draws=50"`; leaves out what the row has not."""
    found = {name: _setting(row, name) for name in names}
    return ", ".join(f"{name}={value}" for name, value in found.items() if value is not None)


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Sorts rows into panels, one per data set, model, attack, norm and kind of strength.

    Clean rows go to the panels in which their network is attacked. Those of a network that nobody
    attacked have a panel of their own.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError(f"panels: rows must hold at least one row. Received: rows={rows!r}")
    attacked: dict[tuple[str, str, str, str, str | None], list[Row]] = {}
    for row in rows:
        if row.attack != "none":
            kind, norm = row.strength[0] if row.strength else None, norm_of(row)
            attacked.setdefault((row.dataset, row.model, row.attack, norm, kind), []).append(row)
    networks = {_network(row) for row in rows if row.attack != "none"}
    clean = [row for row in rows if row.attack == "none"]
    for row in clean:
        if _network(row) not in networks:
            attacked.setdefault((row.dataset, row.model, "none", "", None), []).append(row)
    return [Panel(kind, _series(group, clean)) for (*_, kind), group in attacked.items()]


def _series(group: list[Row], clean: list[Row]) -> tuple[Series, ...]:
    """Sorts the rows of one panel into curves, each with the clean rows of its network."""
    names = distinguishing_settings(group)
    curves: dict[str, list[Row]] = {}
    for row in group:
        parts = (row.run, display_name(row.defense), describe_settings(row, names))
        curves.setdefault(", ".join(filter(None, parts)), []).append(row)
    found = []
    for label, rows in curves.items():
        attacked = [row for row in rows if row.attack != "none"]
        own = [row for row in clean if _network(row) == _network(rows[0])]
        attacked.sort(key=lambda row: row.strength[1] if row.strength else 0.0)
        found.append(Series(label, tuple(attacked), tuple(own)))
    return tuple(found)


def _network(row: Row) -> tuple[Any, ...]:
    """Which network of which run a row is about, and how it predicts."""
    settings = json.dumps([row.noise, row.training], sort_keys=True)
    place = row.run, row.dataset, row.model, row.defense
    return *place, row.num_draws, row.scored, settings


def _identity(row: Row, names: tuple[str, ...]) -> tuple[Any, ...]:
    settings = tuple(_setting(row, name) for name in names)
    return *(getattr(row, name) for name in _IDENTITY), *settings


def _setting(row: Row, name: str) -> str | None:
    """Returns a setting as text, None if the row has no such setting or it is its strength."""
    value = row.settings.get(name)
    if value is None or (row.strength and name == row.strength[0]):
        return None
    return value if isinstance(value, str) else json.dumps(value)
