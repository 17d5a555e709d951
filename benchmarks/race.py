"""A race: contestants that do the same work, and the ratios that are wanted between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.timing import Timing, interleave

NOT_INSTALLED = "not installed: pip install 'rse_tf[benchmarks]'"

# From adversarial images to their success, bool [number], and their distance, [number].
Judge = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Done:
    """What one run did: how much work, in the race's unit, and what came out of an attack."""

    work: float
    adversarial: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of the table of measurements.

    Attributes:
        name: its name in the tables.
        make: imports, compiles and warms up; returns what is timed.
        peer: the module of another library. If it is missing or fails, the tables say so and
            the race goes on. Errors of our own are never caught.
        at_most: rounds that it takes part in; by default all.
        note: what a reader has to know.
    """

    name: str
    make: Callable[[], Callable[[], Done]]
    peer: str | None = None
    at_most: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Goal:
    """A ratio of two contestants, or with `to=None` a number of one, and its target.

    Attributes:
        of: the name above the line.
        to: the name below the line.
        target: what is wanted; `None` shows the ratio alone.
        at_most: whether the target is an upper limit, and not a lower one.
        quantity: `"rate"`, `"seconds"`, `"megabytes"`, `"success"` or `"mean_distance"`. The last
            one is taken over the images that both broke, the last but one over those that
            both attacked.
    """

    of: str
    to: str | None
    target: float | None = None
    at_most: bool = False
    quantity: str = "rate"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one contestant showed.

    Attributes:
        contestant: its name.
        unit: of the work.
        work: done per run.
        timing: its repeats, if it was timed.
        success: bool `[number]`, judged anew by a forward pass of the returned images.
        distance: to the original images `[number]`, in L2 unless the setting names a norm.
        megabytes: peak memory of a process, if it was weighed.
        note: what a reader has to know, or why there is nothing.
    """

    contestant: str
    unit: str = ""
    work: float = 0.0
    timing: Timing | None = None
    success: np.ndarray | None = None
    distance: np.ndarray | None = None
    megabytes: float | None = None
    note: str = ""

    @property
    def seconds(self) -> float | None:
        return self.timing.median if self.timing else None

    @property
    def rate(self) -> float | None:
        return self.work / self.timing.median if self.timing else None

    @property
    def success_rate(self) -> float | None:
        return None if self.success is None else float(self.success.mean())

    def distance_of_successes(self, statistic: Callable[[np.ndarray], float]) -> float | None:
        """Mean or median distance of the successes; `None` without any."""
        if self.success is None or self.distance is None or not self.success.any():
            return None
        return float(statistic(self.distance[self.success]))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One row of the table of ratios.

    Attributes:
        ratio: what is divided by what.
        value: the ratio of the medians; `None` if there is none.
        low: the smallest ratio of a single round.
        high: the largest.
        target: the target with its relation, or nothing.
        met: whether it was reached.
        note: why there is no value.
    """

    ratio: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a case hands back: its setting in words, measurements and ratios."""

    setting: str
    measurements: list[Measurement]
    verdicts: list[Verdict]


def race(
    setting: str,
    contestants: Sequence[Contestant],
    goals: Sequence[Goal],
    *,
    unit: str,
    repeats: int,
    judge: Judge | None = None,
    rehearsal: bool = True,
) -> Outcome:
    """Times the contestants in turn.

    Args:
        setting: the case in words, with everything that was chosen.
        contestants: who takes part.
        goals: the ratios to report.
        unit: of the work.
        repeats: number of rounds.
        judge: the one scorer of what attacks return.
        rehearsal: whether a round goes uncounted before: once all contestants are in memory,
            the next run of each can take twice as long as those that follow.
    """
    runs, absent = {}, {}
    for one in contestants:
        try:
            runs[one.name] = one.make()
        except Exception as error:
            if one.peer is None:
                raise
            absent[one.name] = reason(error, one.peer)
    limits = {one.name: one.at_most for one in contestants if one.at_most}
    if rehearsal:
        interleave(runs, 1)
    timings = interleave(runs, repeats, limits)
    found = []
    for one in contestants:
        if one.name in absent:
            found.append(Measurement(one.name, unit, note=absent[one.name]))
            continue
        done: Done = timings[one.name].result
        success, distance = None, None
        if judge and done.adversarial is not None:
            success, distance = judge(done.adversarial)
        found.append(
            Measurement(
                one.name, unit, done.work, timings[one.name], success, distance, note=one.note
            )
        )
    return Outcome(setting, found, [verdict(goal, found) for goal in goals])


def reason(error: Exception, peer: str) -> str:
    """Why a peer is not in the race."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == peer:
        return NOT_INSTALLED
    return f"failed: {type(error).__name__}: {error}"


def verdict(goal: Goal, measurements: Sequence[Measurement]) -> Verdict:
    """Compares what was measured with what is wanted."""
    named = {one.contestant: one for one in measurements}
    of, to = named[goal.of], named[goal.to] if goal.to else None
    label = f"{goal.of} / {goal.to}" if goal.to else goal.of
    label = label if goal.quantity == "rate" else f"{label}: {goal.quantity}"
    relation = "" if goal.target is None else f"{'<=' if goal.at_most else '>='} {goal.target:g}"
    value = _value(goal.quantity, of, to)
    if value is None:
        absent = [f"{one.contestant} {one.note}" for one in (of, to) if one and not one.work]
        return Verdict(label, target=relation, note="; ".join(absent) or "nothing to compare")
    met = None
    if goal.target is not None:
        met = value <= goal.target if goal.at_most else value >= goal.target
    return Verdict(label, value, *_range(goal.quantity, of, to), relation, met)


def _value(quantity: str, of: Measurement, to: Measurement | None) -> float | None:
    if quantity in ("success", "mean_distance"):
        return _strength(quantity, of, to)
    above = getattr(of, quantity)
    below = getattr(to, quantity) if to else 1.0
    return above / below if above and below else None


def _strength(quantity: str, of: Measurement, to: Measurement | None) -> float | None:
    if to is None or any(one.success is None or one.distance is None for one in (of, to)):
        return None
    # A slow peer may have attacked the first few images alone.
    shared = slice(min(len(of.distance), len(to.distance)))  # type: ignore[arg-type]
    broken = [one.success[shared] for one in (of, to)]  # type: ignore[index]
    if quantity == "success":
        return float(broken[0].mean() / broken[1].mean()) if broken[1].any() else None
    both = broken[0] & broken[1]
    if not both.any():
        return None
    means = [one.distance[shared][both].mean() for one in (of, to)]  # type: ignore[index]
    return float(means[0] / means[1])


def _range(
    quantity: str, of: Measurement, to: Measurement | None
) -> tuple[float | None, float | None]:
    """The smallest and the largest ratio of a single round."""
    if quantity not in ("rate", "seconds") or of.timing is None or (to and to.timing is None):
        return None, None
    below = to.timing.seconds if to and to.timing else (1.0,) * len(of.timing.seconds)
    ratios = [a / b for a, b in zip(of.timing.seconds, below)]
    if quantity == "rate" and to:
        ratios = [of.work / to.work / ratio for ratio in ratios]
    return min(ratios), max(ratios)
