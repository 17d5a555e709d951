"""What attacks and scores cost, in passes of one image through the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A pass forward counts as 1, a pass back as 2.
_GRADIENT = 3


def attack_passes(settings: Mapping[str, Any], attack_draws: int = 1) -> float:
    """The most that one image can take in an attack: images that are done leave before.

    Args:
        settings: the attack's hyperparameters in one row of a run.
        attack_draws: noise draws that are averaged at each step.
    """
    steps = int(settings.get("steps") or 1)
    restarts = int(settings.get("restarts") or 1)
    if "targeted" in str(settings.get("loss")):
        restarts *= int(settings.get("num_targets") or 1)
    searches = 1 if settings.get("const") is not None else settings.get("binary_search_steps") or 1
    evaluations = steps * restarts * int(searches) * attack_draws
    if settings.get("coordinates"):  # two queries for each, and no gradient
        return 2.0 * evaluations * int(settings["coordinates"])
    return float(_GRADIENT * evaluations)


def scoring_passes(num_draws: int, eval_seeds: int, rows: int) -> float:
    """What one image takes in the scoring of some rows, the clean one among them."""
    return float(num_draws * eval_seeds * rows)
