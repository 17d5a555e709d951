"""Which numbers a flag can have, alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

# The ranges of numeric flags; of a flag with several values, each must be in it.
RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("image_size", "epochs", "batch_size", "attack_draws", "num_images",
      "attack_batch_size", "num_draws", "eval_seeds", "members",
      "retraining_epochs"), lambda x: x >= 1, "at least 1"),
    (("learning_rate", "temperature"),
     lambda x: 0 < x < math.inf, "greater than 0"),
    (("init_noise", "inner_noise", "weight_decay", "member_noise",
      "image_noise", "training_epsilon", "retraining_epsilon"),
     lambda x: 0 <= x < math.inf, "0 or greater"),
    (("seed",), lambda x: 0 <= x < 2**32, "from 0 to 2**32 - 1"),
    (("validation_fraction",), lambda x: 0 <= x < 1, "0 or greater and below 1"),
    (("rho",), lambda x: 0 <= x <= 1, "from 0 to 1"),
    (("stop_error",), lambda x: 0 < x < 1, "greater than 0 and below 1"),
)  # fmt: skip
# Distances between images, whose pixels lie in [0, 1].
PIXEL_DISTANCES = ("training_epsilon", "retraining_epsilon")


def number(text: str) -> float:
    """Returns the value of `"0.1"` or of a fraction such as `"8/255"`.

    Raises:
        ValueError: if it is neither.
    """
    numerator, slash, denominator = text.partition("/")
    if not slash:
        return float(text)
    if float(denominator) == 0:
        raise ValueError(f"{text} divides by zero")
    return float(numerator) / float(denominator)


def out_of_range(name: str, value: Any) -> str | None:
    """Returns what a flag must be, or `None` if its value is that.

    Args:
        name: the flag, one of those in `RANGES`.
        value: a number, several of them, or `None`.
    """
    items = [item for item in (value if isinstance(value, tuple) else (value,)) if item is not None]
    for names, fits, expected in RANGES:
        if name in names and not all(fits(item) for item in items):
            return expected
    if name in PIXEL_DISTANCES and max(items, default=0) > 1:
        levels = f"{max(items):g}"
        return f"at most 1, for pixels lie in [0, 1]; {levels} of 255 levels is {levels}/255"
    return None
