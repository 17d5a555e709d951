"""Early stopping of a self-ensemble: after how many draws the class is settled."""

from __future__ import annotations

import math
from typing import NamedTuple

# Checks before the last draw. More would stop a little earlier, but need a stricter test.
_LOOKS = 4
# The lead at which the first check can decide.
_CLEAR_LEAD = 0.9


class Look(NamedTuple):
    """After `draws` draws, a class decides that leads by `lead` over all others together."""

    draws: int
    lead: float


def looks(num_draws: int, error: float) -> list[Look]:
    """When to look at the mean of a growing number of draws, and what lead decides.

    The draws of a self-ensemble are exchangeable: the first n of N are a sample without
    replacement of all N. A class that leads by p over all others together, with a mean
    probability of 1/2 + p/2, is not the class of all N draws only if its mean over them is
    m <= 1/2. By the inequality of Hoeffding and Serfling that has at most the probability

        f(m) = exp(-2 n (1/2 + p/2 - m)^2 / (1 - (n - 1) / N)).

    It could be any class but the one of all N, and the means m of these add up to 1 at most.
    Where f is convex, as it is for p^2 > (1 - (n - 1) / N) / n, their f(m) add up to 2 f(1/2) at
    most and f(0) for each of the others, which for 1,000 classes and errors up to a third is less
    than another 1 %. The lead p is such that 2.02 f(1/2), summed over the looks, is `error`. So
    only a class with more than half of the mean probability is ever settled early.

    Args:
        num_draws: N, the draws of the full ensemble.
        error: largest probability that an image's class is not that of the full ensemble.

    Returns:
        The looks in order, none of them at `num_draws`; empty if that few draws cannot decide.

    Reference:
        Serfling (1974), Probability inequalities for the sum in sampling without replacement,
        The Annals of Statistics 2 (1), Corollary 1.1.
    """
    log_odds = math.log(_LOOKS * 2.02 / error)

    def lead(draws: int) -> float:
        return math.sqrt(2 * (1 - (draws - 1) / num_draws) * log_odds / draws)

    first = next((n for n in range(1, num_draws) if lead(n) <= _CLEAR_LEAD), num_draws)
    growth = (num_draws / first) ** (1 / _LOOKS)
    counts = sorted({round(first * growth**k) for k in range(_LOOKS)})
    return [Look(n, lead(n)) for n in counts if n < num_draws]
