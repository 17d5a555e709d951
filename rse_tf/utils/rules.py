"""Rules for single values, with the words that an error has for them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on a value.

    Attributes:
        fits: whether a value is that.
        expected: the same in words, behind "must be".
    """

    fits: Callable[[Any], bool]
    expected: str


AT_LEAST_1 = Rule(lambda x: x >= 1, "at least 1")
POSITIVE = Rule(lambda x: 0 < x < math.inf, "greater than 0")
NOT_NEGATIVE = Rule(lambda x: 0 <= x < math.inf, "0 or greater")
SHARE = Rule(lambda x: 0 <= x <= 1, "from 0 to 1")
SHARE_BELOW_1 = Rule(lambda x: 0 <= x < 1, "0 or greater and below 1")
PROBABILITY = Rule(lambda x: 0 < x < 1, "greater than 0 and below 1")
SEED = Rule(lambda x: 0 <= x < 2**32, "from 0 to 2**32 - 1")


def one_of(choices: Any) -> Rule:
    """Returns the rule that a value is one of several."""
    return Rule(lambda x: x in choices, f"one of {', '.join(map(str, choices))}")


def broken(rule: Rule | None, value: Any) -> str | None:
    """Returns what a value, or each of several, must be; `None` if it is that, or is `None`."""
    items = value if isinstance(value, tuple) else (value,)
    if rule is None or all(item is None or rule.fits(item) for item in items):
        return None
    return rule.expected


def too_long(value: Any) -> str | None:
    """Returns what a distance between pixels in [0, 1] must be; `None` if it is that."""
    items = [item for item in (value if isinstance(value, tuple) else (value,)) if item is not None]
    largest = max(items, default=0)
    if not largest > 1:
        return None
    levels = f"{largest:g}"
    return f"at most 1, for pixels lie in [0, 1]; {levels} of 255 levels is {levels}/255"
