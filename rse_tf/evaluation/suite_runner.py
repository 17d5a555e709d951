"""Runs a suite of attacks on a model, and keeps the worst for every image."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from rse_tf.evaluation.batch_mates import check_batch_mates
from rse_tf.evaluation.candidates import Candidates, Selector
from rse_tf.evaluation.metrics import l2_lengths, score
from rse_tf.evaluation.scoring import Answers, Scorer
from rse_tf.evaluation.suite_attacks import SuiteAttacks
from rse_tf.evaluation.suite_budget import Budget
from rse_tf.evaluation.suite_outcome import StepOutcome, SuiteCell, SuiteOutcome, raw_violations
from rse_tf.evaluation.suites import SCALES, Step, kind_of_model, suite_steps
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.checks import argument_error, checked_classes, checked_images, checked_number
from rse_tf.utils.classifier import Classifier
from rse_tf.utils.log import log

# What the noise of a scoring follows from, beside the seed: clean images, and attacked ones.
_CLEAN, _ATTACKED = 0, 1
_MAX_ROWS = {"small": 256, "full": 2048}


class SuiteRunner:
    """Runs a suite on the images of one model; see `evaluate_suite` for the arguments.

    Args:
        clean: what `scorer` answers for the images with the seeds `(seed, 0)`, where that is known.
        label: what the progress lines call the model.

    Attributes:
        kind: which suite it is.
        scale: `"small"` or `"full"`.
        clean: what the defense answers for the images without an attack.
    """

    def __init__(
        self,
        scorer: Scorer,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        scale: str,
        seed: int,
        directory: pathlib.Path,
        pool: DevicePool,
        bounds: tuple[float, float] = (0.0, 1.0),
        max_rows: int | None = None,
        clean: Answers | None = None,
        label: str = "suite",
        substitute: keras.Model | None = None,
    ) -> None:
        if scale not in SCALES:
            expected = f"one of {', '.join(SCALES)}"
            raise argument_error("evaluate_suite", "scale", expected, scale)
        model = scorer.model
        self._bounds = (float(bounds[0]), float(bounds[1]))
        self._images = checked_images("evaluate_suite", images, bounds)
        checked = Classifier(model, "evaluate_suite")
        self._classes = checked.look(self._images).num_classes
        self._labels = checked_classes(
            "evaluate_suite", "labels", labels, len(self._images), self._classes
        )
        if not scorer.is_random and checked.is_random(self._images):
            expected = "random by NoiseLayers only, which say how it is deployed"
            raise argument_error("evaluate_suite", "model", expected, "calls that differ")
        check_batch_mates("evaluate_suite", checked, self._images, self._bounds)
        self.kind = kind_of_model(model, scorer.is_random)
        self._has_members = scorer.is_random and hasattr(model, "members")
        self._scorer, self.scale, self._seed, self._label = scorer, scale, seed, label
        self._devices, self._has_substitute = pool.num_devices, substitute is not None
        self._attacks = SuiteAttacks(
            model,
            scorer.is_random,
            directory,
            seed,
            max_rows or _MAX_ROWS[scale],
            bounds,
            pool,
            substitute,
        )
        self._selector = Selector(scorer, self._labels, seed)
        self.clean = clean or scorer.answers(self._images, self._labels, seed, _CLEAN)
        self._clean = self._selector.judge(self._images, np.arange(len(self._images)))

    def outcome(
        self,
        epsilons: Mapping[str, Sequence[float]],
        steps: Sequence[Step] | None = None,
        budget_minutes: float | None = None,
    ) -> SuiteOutcome:
        """Runs the suite at every distance of every norm.

        Args:
            epsilons: the distances by norm.
            steps: the attacks, in all norms. Default: those of the suite.
            budget_minutes: time for all attacks; `None` for no limit.

        Raises:
            ValueError: if a norm is none, if a distance is negative or there twice, or if there is
                no time.
        """
        if budget_minutes is not None:
            checked_number("evaluate_suite", "budget_minutes", budget_minutes, positive=True)
        distances = sum(len(some) for some in epsilons.values())
        budget = Budget(budget_minutes, distances, self._devices)
        cells = [
            cell for norm, some in epsilons.items() for cell in self._run(norm, some, steps, budget)
        ]
        return SuiteOutcome(self.kind, self.scale, self.clean, tuple(cells), self._bounds)

    def _run(
        self,
        norm: str,
        epsilons: Sequence[float],
        steps: Sequence[Step] | None,
        budget: Budget,
    ) -> list[SuiteCell]:
        """Runs the suite in one norm."""
        epsilons = sorted(float(epsilon) for epsilon in epsilons)
        if not epsilons or epsilons[0] < 0 or len(set(epsilons)) < len(epsilons):
            expected = "one or several distances of at least 0, each of them once"
            raise argument_error("evaluate_suite", "epsilons", expected, epsilons)
        has = self._has_members, self._has_substitute
        own = suite_steps(self.kind, norm, self.scale, self._classes, *has)
        steps = own if steps is None else tuple(steps)
        self._say_what_it_takes(norm, steps, epsilons)
        cells: list[SuiteCell] = []
        for epsilon in epsilons:
            smaller = cells[-1] if cells else None
            cells.append(self._cell(norm, epsilon, steps, smaller, budget))
        return cells

    def _say_what_it_takes(
        self, norm: str, steps: Sequence[Step], epsilons: Sequence[float]
    ) -> None:
        number = len(self._images)
        passes = sum(self._passes(step, min(number, step.limit or number)) for step in steps)
        log(
            f"{self._label}: {self.kind} suite, {self.scale}, {norm} "
            f"{', '.join(f'{epsilon:g}' for epsilon in epsilons)}: {len(steps)} attacks of "
            f"{number} images, {passes * len(epsilons):,} gradients at most; images that are "
            "broken leave"
        )

    def _passes(self, step: Step, images: int) -> int:
        """Passes of the model that a step takes at most for so many images together."""
        members = len(getattr(self._scorer.model, "members", [0]))
        return step.passes * images * (members if step.source == "member" else 1)

    def _cell(
        self,
        norm: str,
        epsilon: float,
        steps: Sequence[Step],
        smaller: SuiteCell | None,
        budget: Budget,
    ) -> SuiteCell:
        """The suite at one distance."""
        everyone = np.arange(len(self._images))
        candidates = Candidates(self._selector, self._images, self._clean)
        if smaller is not None:
            found = self._selector.judge(smaller.adversarial, everyone)
            name = f"{norm} {smaller.epsilon:g}"
            candidates.add(name, smaller.adversarial, everyone, found)
        outcomes: list[StepOutcome] = []
        left_out: list[str] = []
        budget.begin_distance()
        for step in steps:
            left = ~self._clean.broken if step.everyone else ~candidates.broken
            rows = np.flatnonzero(left)[: step.limit]
            if not budget.allows(self._passes(step, len(rows))):
                left_out.append(step.name)
                log(f"{self._label}: {norm} {epsilon:g}, {step.name}: left out, no time is left")
                continue
            outcome = self._step(step, norm, epsilon, rows, candidates)
            budget.spend(outcome.queries * len(rows), outcome.seconds)
            outcomes.append(outcome)
            log(
                f"{self._label}: {norm} {epsilon:g}, {step.name}: {len(rows)} attacked, "
                f"{np.sum(~candidates.broken)} of {len(everyone)} left"
            )
        adversarial, source = candidates.choose()
        answers = self._scorer.answers(adversarial, self._labels, self._seed, _ATTACKED)
        return SuiteCell(
            norm=norm,
            epsilon=epsilon,
            adversarial=adversarial,
            source=source,
            answers=answers,
            score=score(self._images, adversarial, self.clean.correct, answers),
            steps=tuple(outcomes),
            raw_violations=raw_violations(smaller.steps, outcomes) if smaller else None,
            left_out=tuple(left_out),
        )

    def _step(
        self, step: Step, norm: str, epsilon: float, rows: np.ndarray, candidates: Candidates
    ) -> StepOutcome:
        # What it does not attack stays as the attacks before it left it.
        correct, adversarial = candidates.correct.copy(), candidates.worst.copy()
        margin = np.full(len(self._images), np.nan)
        attacked = np.zeros(len(self._images), bool)
        attacked[rows] = True
        seconds = queries = 0.0
        nearest = np.full(len(rows), np.inf)
        if len(rows):
            label = f"{self._label}: {norm} {epsilon:g}, {step.name}"
            images, labels = self._images[rows], self._labels[rows]
            found = self._attacks.run(step, norm, epsilon, images, labels, label)
            seconds, queries = found.seconds, found.queries
            judged = [self._selector.judge(moved, rows) for moved in found.candidates]
            for moved, one in zip(found.candidates, judged):
                candidates.add(step.name, moved, rows, one)
            every = [*found.candidates, *found.beyond]
            wrong = [*judged, *(self._selector.judge(one, rows) for one in found.beyond)]
            for moved, one in zip(every, wrong):
                far = l2_lengths(moved - images)
                nearest = np.minimum(nearest, np.where(one.margin < 0, far, np.inf))
            worst = np.stack([one.key for one in judged]).argmin(axis=0)
            correct[:, rows] = _chosen([one.correct.T for one in judged], worst).T
            margin[rows] = _chosen([one.margin for one in judged], worst)
            adversarial[rows] = _chosen(found.candidates, worst)
        figures = score(self._images, adversarial, self._clean.correct, Answers(correct))
        own = adversarial[rows]
        return StepOutcome(step, attacked, correct, margin, own, nearest, seconds, queries, figures)


def _chosen(arrays: Sequence[np.ndarray], which: np.ndarray) -> np.ndarray:
    return np.stack(arrays)[which, np.arange(len(which))]
