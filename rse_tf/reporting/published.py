"""The numbers that both papers published, each with the settings it was measured with."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
import json
import math
from collections.abc import Mapping
from typing import Any

SWEEP = "Liu et al. 2018, authors' sweep"
TABLE_2 = "Liu et al. 2018, Table 2"
TABLE_3 = "Liu et al. 2018, Table 3"
ENSEMBLES_TABLE_2 = "Strauss et al. 2017, Table 2"
ENSEMBLES_TABLE_4 = "Strauss et al. 2017, Table 4"

# Marks a published number that was measured with other settings than the row beside it.
OTHER_SOURCE = "§"

# Settings in which a row may differ from a published number, which is then marked.
TRAINING = ("temperature", "training_epsilon", "rho", "retraining_epsilon", "image_noise")
_TOLERATED = ("init_noise_at", *TRAINING)
# Settings that no source used. A row must have none of them, or the value here.
_UNUSED: dict[str, Any] = {
    "abort_early": False,
    "attack_draws": 1,
    "bounds": [0.0, 1.0],
    "confidence": 0.0,
    "image_class": None,
    "stop_error": None,
    "substitute": None,
    "target": None,
    "targeted": False,
}
_KEY = ("dataset", "model", "defense", "attack")
_CLEAN = ("attack", "const", "steps", "learning_rate", "iterate", "targeted")


@dataclasses.dataclass(frozen=True)
class Published:
    """A published number.

    Attributes:
        source: where it is from, such as `SWEEP`.
        settings: what it was measured with, as far as the source says.
        accuracy: share of the images still predicted correctly under attack, None if the source
            has none.
        rms_l2: root mean square L2 distortion over all images, None if the source has none. Of a
            single image, it is the root of the squared norm that the paper prints.
    """

    source: str
    settings: dict[str, Any]
    accuracy: float | None
    rms_l2: float | None

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Whether a row with these settings may stand beside the number."""
        return all(
            is_same(settings.get(name), wanted)
            for name, wanted in self.settings.items()
            if name not in _TOLERATED
        ) and all(
            is_same(settings.get(name, value), value)
            for name, value in _UNUSED.items()
            if name not in self.settings
        )

    def differences(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Which settings were others, such as `"temperature=100 (ours: 40)"`.

        A setting that the row does not record is not among them.
        """
        return tuple(
            f"{name}={short(wanted)} (ours: {short(settings[name])})"
            for name, wanted in self.settings.items()
            if name in settings and not is_same(settings[name], wanted) and name in _TOLERATED
        )

    def to_json(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the number, as it stands beside a row with these settings."""
        return {
            "accuracy": self.accuracy,
            "rms_l2": self.rms_l2,
            "source": self.source,
            "differences": "; ".join(self.differences(settings)),
        }


def published(settings: Mapping[str, Any], source: str | None = None) -> Published | None:
    """Returns the published number for the settings of a row, or None.

    Every setting of the number must be that of the row, but for those of the training, which
    `Published.differences` names. How long a network was trained is not compared, nor on how
    many images. A clean row is set against c = 0 of the authors' sweep.

    Args:
        settings: `Row.settings`, or what a cell of a table asks for.
        source: where the number must be from. Default: the first of `SWEEP`, `TABLE_2`,
            `TABLE_3`, `ENSEMBLES_TABLE_2` and `ENSEMBLES_TABLE_4` that has one.
    """
    found = [n for n in published_numbers(settings) if source in (None, n.source)]
    return found[0] if found else None


def published_numbers(settings: Mapping[str, Any]) -> list[Published]:
    """Returns the numbers of all sources for the settings of a row (see `published`)."""
    candidates = _numbers().get(tuple(settings.get(name, "") for name in _KEY), [])
    return [number for number in candidates if number.matches(settings)]


@functools.cache
def _numbers() -> dict[tuple[str, ...], list[Published]]:
    """All numbers by data set, model, defense and attack, in the order of their sources."""
    file = importlib.resources.files(__package__).joinpath("published.csv")
    found: dict[tuple[str, ...], list[Published]] = {}
    for line in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
        settings = {name: _value(text) for name, text in line.items() if text}
        source, accuracy, rms_l2 = (
            settings.pop(name, None) for name in ("source", "accuracy", "rms_l2")
        )
        kinds = [settings]
        if settings.get("const") == 0:  # an attack of no strength: also their clean number
            kept = {name: value for name, value in settings.items() if name not in _CLEAN}
            kinds.append({"attack": "none", **kept})
        for kind in kinds:
            number = Published(source, kind, accuracy, rms_l2)
            found.setdefault(tuple(kind[name] for name in _KEY), []).append(number)
    return found


def is_same(value: Any, wanted: Any) -> bool:
    """Whether two settings are the same; a number may have been through float32."""
    if isinstance(wanted, (list, tuple)):
        is_list = isinstance(value, (list, tuple)) and len(value) == len(wanted)
        return is_list and all(map(is_same, value, wanted))
    numbers = [isinstance(x, (int, float)) and not isinstance(x, bool) for x in (value, wanted)]
    if all(numbers):
        return math.isclose(value, wanted, rel_tol=1e-6)
    return bool(value == wanted)


def short(value: Any) -> str:
    """Returns a setting as text for a reader."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a word
        return text
