"""A published number, and what of a row decides whether it belongs beside it."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
from collections.abc import Mapping
from typing import Any, Protocol

# A setting of an attack that may be left out of a row, which then means one of these.
IF_GIVEN: dict[str, tuple[Any, ...]] = {
    "attack_draws": (None, 1),
    "bounds": (None, [0.0, 1.0], (0.0, 1.0)),
    "confidence": (None, 0),
    "substitute": (None,),
}


class RowLike(Protocol):
    """What `published` looks at; a `Row` has it all."""

    @property
    def dataset(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def defense(self) -> str: ...

    @property
    def attack(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...

    @property
    def noise(self) -> Mapping[str, Any]: ...

    @property
    def training(self) -> Mapping[str, Any]: ...

    @property
    def num_draws(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Published:
    """A published number.

    Args:
        accuracy: share of the images still predicted right under attack, None if the source
            has none.
        rms_l2: root mean square L2 distortion over all images, None if the source has none.
        source: name of the source, such as `reference.SWEEP`.
    """

    accuracy: float | None
    rms_l2: float | None
    source: str


def read_lines(name: str) -> list[dict[str, str]]:
    """Returns the lines of a CSV file of this package, by the names of its columns."""
    file = importlib.resources.files(__package__).joinpath(name)
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def is_allowed(row: RowLike, allowed: Mapping[str, tuple[Any, ...]]) -> bool:
    """Whether the settings of the row's attack are among the allowed ones; None is absent."""
    return all(row.parameters.get(name) in values for name, values in allowed.items())
