"""Sorts rows into panels and curves, and says what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rse_tf.evaluation import Row

_NAMES = {
    "none": "no defense",
    "rse": "RSE",
    "robust_opt_brelu": "robust opt. + BReLU",
}
_IDENTITY = ("run", "dataset", "model", "defense", "attack", "strength")


class Series(NamedTuple):
    """One curve: its attacked rows by rising strength, and clean ones of the same network."""

    label: str
    rows: tuple[Row, ...]
    clean: tuple[Row, ...]


class Panel(NamedTuple):
    """The curves that belong in one pair of axes; `strength` is None without a sweep."""

    title: str
    strength: str | None
    series: tuple[Series, ...]


def distinguishing_settings(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the settings by which rows of one attack differ at the same strength.

    Two rows with the same run, data set, model, defense, attack and strength differ in something
    else, such as the number of steps or of draws. A setting that only follows the strength,
    such as a step size of epsilon / 4, is not among them. Distances in two norms are never the
    same strength.
    """
    names = dict.fromkeys(name for row in rows for name in row.settings if name not in _IDENTITY)
    values = {name: {_setting(row, name) for row in rows} for name in names}
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


def display_name(defense: str) -> str:
    """Returns the name of a defense as a reader expects it."""
    return _NAMES.get(defense, defense.replace("_", " "))


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Sorts rows into panels, one per data set, model, attack, kind of strength and norm.

    Clean rows go to every panel of their data set and model. Without any attacked row there,
    they get a panel of their own.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError(f"panels: rows must hold at least one row. Received: rows={rows!r}")
    clean: dict[tuple[str, str], list[Row]] = {}
    attacked: dict[tuple[str, str, str, str | None, str], list[Row]] = {}
    for row in rows:
        if row.attack == "none":
            clean.setdefault((row.dataset, row.model), []).append(row)
        else:
            kind = row.strength[0] if row.strength else None
            norm = ", L2" if row.parameters.get("norm") == "l2" else ""
            attacked.setdefault((row.dataset, row.model, row.attack, kind, norm), []).append(row)
    for dataset, model in clean:
        if (dataset, model) not in {key[:2] for key in attacked}:
            attacked[dataset, model, "clean", None, ""] = []
    return [
        Panel(
            title=f"{dataset}, {model}, {attack.replace('_', ' ')}{norm}",
            strength=kind,
            series=_series(group, clean.get((dataset, model), [])),
        )
        for (dataset, model, attack, kind, norm), group in attacked.items()
    ]


def _series(attacked: list[Row], clean: list[Row]) -> tuple[Series, ...]:
    """Sorts the rows of one panel into curves, `label -> attacked, clean`."""
    curves: dict[str, tuple[list[Row], list[Row]]] = {}

    def curve(row: Row, names: tuple[str, ...]) -> tuple[list[Row], list[Row]]:
        parts = (row.run, display_name(row.defense), describe_settings(row, names))
        return curves.setdefault(", ".join(filter(None, parts)), ([], []))

    names = distinguishing_settings(attacked)
    for row in attacked:
        curve(row, names)[0].append(row)
    # A clean row knows no attack settings: it starts every curve of its network and draws.
    kinds = {_network(row) for row in attacked}
    others = [row for row in clean if _network(row) not in kinds]
    for row in clean:
        own = [
            pair for pair in curves.values() if pair[0] and _network(pair[0][0]) == _network(row)
        ]
        for _, starts in own or [curve(row, distinguishing_settings(others))]:
            starts.append(row)
    return tuple(
        Series(
            label=label,
            rows=tuple(sorted(rows, key=lambda row: row.strength[1] if row.strength else 0.0)),
            clean=tuple(starts),
        )
        for label, (rows, starts) in curves.items()
    )


def _network(row: Row) -> tuple[Any, ...]:
    """Which network of which run a row is about, and how it predicts."""
    settings = json.dumps([row.noise, row.training], sort_keys=True)
    return row.run, row.defense, row.num_draws, row.scored, settings


def _identity(row: Row, names: tuple[str, ...]) -> tuple[Any, ...]:
    settings = tuple(_setting(row, name) for name in names)
    return *(getattr(row, name) for name in _IDENTITY), *settings


def _setting(row: Row, name: str) -> str | None:
    """Returns a setting as text, None if the row has no such setting or it is its strength."""
    value = row.settings.get(name)
    if value is None or (row.strength and name == row.strength[0]):
        return None
    return value if isinstance(value, str) else json.dumps(value)
