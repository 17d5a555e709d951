"""What a suite found, image by image: for rows, and for whoever judges the suite itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rse_tf.evaluation.result import Score
from rse_tf.evaluation.scoring import Answers
from rse_tf.evaluation.suites import Step


@dataclasses.dataclass(frozen=True)
class StepOutcome:
    """What one attack of a suite did at one distance.

    Attributes:
        step: the attack.
        attacked: which images it attacked, bool `[number]`. The others were broken before, or are
            beyond the limit of the step.
        correct: which answers are still correct under its candidates, bool `[answers, number]`,
            by the noise of the selection. An image that it did not attack has those of the worst
            candidate before it.
        margin: mean probability of the true class less the largest of another, float `[number]`,
            NaN where it did not attack.
        adversarial: its candidates, `[attacked images, height, width, channels]`.
        nearest: L2 distance of the nearest image that it found and that the defense answers
            wrongly, by the noise of the selection: float `[attacked images]`, infinity without
            one. Of an attack that knows no distance it may lie further away than the candidates.
        seconds: time of the attack, added up over all devices.
        queries: mean calls of the model for an image that it attacked.
        score: what a row says of the attack, by `correct`.
    """

    step: Step
    attacked: np.ndarray
    correct: np.ndarray
    margin: np.ndarray
    adversarial: np.ndarray
    nearest: np.ndarray
    seconds: float
    queries: float
    score: Score


@dataclasses.dataclass(frozen=True)
class SuiteCell:
    """What a suite found at one distance.

    Attributes:
        norm: `"linf"` or `"l2"`.
        epsilon: the distance.
        adversarial: the worst candidate of every image, `[number, height, width, channels]`.
        source: where each is from: the name of a step, `"clean"`, or a smaller distance.
        answers: what the defense answers for these, under noise that none of them was chosen by.
        score: the accuracies.
        steps: what each attack did, in their order.
        raw_violations: images that the attacks on everyone broke at the next smaller distance and
            not at this one; `None` at the smallest, or if they had no time. The accuracies do not
            show it, for the candidates of smaller distances are candidates here too.
        left_out: names of the steps that did not fit into the time.
    """

    norm: str
    epsilon: float
    adversarial: np.ndarray
    source: np.ndarray
    answers: Answers
    score: Score
    steps: tuple[StepOutcome, ...]
    raw_violations: int | None
    left_out: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Time of all attacks, added up over all devices."""
        return sum(outcome.seconds for outcome in self.steps)

    @property
    def queries(self) -> float:
        """Mean calls of the model for an image, in all attacks together."""
        return float(sum(one.queries * one.attacked.mean() for one in self.steps))


@dataclasses.dataclass(frozen=True)
class SuiteOutcome:
    """What a suite found.

    Attributes:
        kind: which suite it was: `"randomised"`, `"ensemble"` or `"deterministic"`.
        scale: `"small"` or `"full"`.
        clean: what the defense answers for the images without an attack.
        cells: one for each distance, the smallest first.
        bounds: smallest and largest pixel value.
    """

    kind: str
    scale: str
    clean: Answers
    cells: tuple[SuiteCell, ...]
    bounds: tuple[float, float] = (0.0, 1.0)


def attacks_on_everyone(*distances: Sequence[StepOutcome]) -> list[list[StepOutcome]]:
    """For each of some distances, its attacks on all images that ran at every one of them."""
    names = [{one.step.name for one in steps if one.step.everyone} for steps in distances]
    everywhere = set.intersection(*names)
    return [[one for one in steps if one.step.name in everywhere] for steps in distances]


def raw_violations(smaller: Sequence[StepOutcome], larger: Sequence[StepOutcome]) -> int | None:
    """How many images the attacks on everyone broke at the smaller distance alone."""
    both = attacks_on_everyone(smaller, larger)
    if not both[0]:
        return None
    before, after = (
        np.array([one.correct.any(axis=0) for one in steps]).all(axis=0) for steps in both
    )
    return int(np.sum(~before & after))
