"""When a vote is decided before all of its ballots are counted."""

from __future__ import annotations

import math
from typing import NamedTuple

# Looks at the vote before its end. More would stop a little earlier, and cost a stricter test.
_LOOKS = 4
# The lead at which the first look can decide.
_CLEAR_LEAD = 0.9


class Look(NamedTuple):
    """After `draws` draws, a lead of `lead` in mean probability decides."""

    draws: int
    lead: float


def looks(num_draws: int, num_classes: int, error: float) -> list[Look]:
    """When to look at the mean of a growing number of draws, and what lead decides.

    The draws of a self-ensemble are exchangeable: the first n of N are a sample without
    replacement of all N. If some class other than the leader of the first n is to lead after
    all N, then its difference to the leader, a number within [-1, 1] in every draw, has a mean
    over N of at least 0 and one over n of at most minus the lead. By the inequality of Hoeffding
    and Serfling that has at most the probability

        exp(-n lead^2 / (2 (1 - (n - 1) / N))).

    The lead is such that all these probabilities, over the looks and over the classes that might
    lead after all N, add up to `error` at most.

    Args:
        num_draws: N, the draws of the full ensemble.
        num_classes: number of classes.
        error: largest probability that an image's class is not that of the full ensemble.

    Returns:
        The looks in order, none of them at `num_draws`; empty if that few draws cannot decide.

    Reference:
        Serfling (1974), Probability inequalities for the sum in sampling without replacement,
        The Annals of Statistics 2 (1), Corollary 1.1.
    """
    log_odds = math.log(_LOOKS * (num_classes - 1) / error)

    def lead(draws: int) -> float:
        return math.sqrt(2 * (1 - (draws - 1) / num_draws) * log_odds / draws)

    first = next((n for n in range(1, num_draws) if lead(n) <= _CLEAR_LEAD), num_draws)
    growth = (num_draws / first) ** (1 / _LOOKS)
    counts = sorted({round(first * growth**k) for k in range(_LOOKS)})
    return [Look(n, lead(n)) for n in counts if n < num_draws]
