"""Interleaved repeats and their medians."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Timing:
    """The repeats of one contestant.

    Attributes:
        seconds: one time per round, in order.
        result: what the last repeat returned.
    """

    seconds: tuple[float, ...]
    result: Any = None

    @property
    def median(self) -> float:
        """Median of the times, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The distance from the fastest to the slowest repeat, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def interleave(
    runs: Mapping[str, Callable[[], Any]],
    repeats: int,
    at_most: Mapping[str, int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times A, B, C, A, B, C, ...: what slows the machine down for a while hits all alike.

    Args:
        runs: what to time, by name. Each has been warmed up by the caller.
        repeats: number of rounds.
        at_most: rounds that a slow one takes part in, by name; by default all.
        clock: returns seconds.

    Raises:
        ValueError: if `repeats` is not a positive integer.
    """
    if repeats < 1:
        raise ValueError(f"interleave: repeats must be at least 1. Received: repeats={repeats}")
    limits = at_most or {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Any] = {}
    for round_ in range(repeats):
        for name, run in runs.items():
            if round_ < limits.get(name, repeats):
                start = clock()
                results[name] = run()
                seconds[name].append(clock() - start)
    return {name: Timing(tuple(seconds[name]), results[name]) for name in runs}
