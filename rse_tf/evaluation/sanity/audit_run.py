"""The parts of an audit: attacks, and the rows that their figures feed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rse_tf.attacks import Square
from rse_tf.attacks.base import Attack
from rse_tf.evaluation.certification import Certificate
from rse_tf.evaluation.sanity import (
    binarisation,
    comparison_rows,
    gradient_rows,
    model_rows,
    report_rows,
    settings_rows,
)
from rse_tf.evaluation.sanity.certificate_check import attacked_certificate
from rse_tf.evaluation.sanity.points import one_step
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.suite import Run, Suite
from rse_tf.evaluation.sanity.verdict import SanityRow
from rse_tf.layers import FrozenNoise

# Images of the rows whose attacks take long.
_FEW = 32
# Evaluations of the final images: E5 asks how many get through in ten.
_EVALUATIONS = 10
# As many steps as D3 takes at least (Athalye et al., 2018: an unbounded attack must not fail).
_UNBOUNDED_STEPS = 100


class AuditRun:
    """One audit: its parts, to be called in order, and the rows that they leave.

    Args:
        subject: the model and its images.
        attacks: what breaks them; the rows about settings look at the first.
        epsilon: radius of the ball, in pixel units.
        norm: `"linf"` or `"l2"`.
        substitute: a model that images are transferred from, or `None`.
        search_points: random points of the search without gradients.
        square_steps: queries of the Square attack, or 0 for none.
        loss: what the attacks follow, `"log_loss"` or `"cross_entropy"`.
        seed: of everything random.
        certificate: what `certify` returned for the images, or `None`.

    Attributes:
        parts: functions without arguments.
        rows: what the parts called so far have found.
        final: mask of the worst candidates, `[evaluations, number]`; `None` before the last part.
        why_not: why rows are missing, after the last part.
    """

    def __init__(
        self,
        subject: Subject,
        attacks: Sequence[Attack],
        epsilon: float,
        norm: str,
        substitute: Any,
        search_points: int,
        square_steps: int,
        loss: str,
        seed: int,
        certificate: Sequence[Certificate] | None,
    ) -> None:
        self.subject, self.attacks, self.main = subject, attacks, attacks[0]
        self.epsilon, self.norm, self.loss = epsilon, norm, loss
        self.substitute, self.search_points = substitute, search_points
        self.square_steps, self.certificate = square_steps, certificate
        self.suite = Suite(subject, norm, seed)
        self.rows: list[SanityRow] = []
        self.candidates: list[np.ndarray] = [subject.images]
        self.final: np.ndarray | None = None
        self.why_not = ""
        self.parts: list[Callable[[], None]] = [self.look, self.search]
        if subject.has_gradient:
            self.parts += [
                self.attack,
                self.control,
                self.settings,
                self.strength,
                self.frozen,
                self.transfer,
                self.binarise,
                self.certified,
            ]
        else:
            self.why_not = "TensorFlow knows no gradient of the logits"
        self.parts.append(self.report)

    def look(self) -> None:
        """Rows of the model and its gradients."""
        subject, pixel = self.subject, self.epsilon
        if self.norm == "l2":  # what every pixel may move by at once
            pixel /= math.sqrt(subject.images[0].size)
        self.rows += [
            model_rows.a1_logits(subject),
            model_rows.a2_randomness(subject),
            model_rows.a3_noise(subject),
            model_rows.a4_batch_coupling(subject),
            model_rows.a5_streams(),
            settings_rows.c7_complete(),
            gradient_rows.b1_gradients_exist(subject, pixel, self.loss),
            gradient_rows.b2_gradients_true(subject, pixel),
            gradient_rows.b3_gradient_signal(subject),
        ]

    def search(self) -> None:
        """The clean accuracy, and random points; without gradients the Square attack as well."""
        self.clean = self.suite.correct(self.subject.images)
        self.found = self.suite.random_search(self.epsilon, self.search_points)
        self.candidates.append(self.found)
        if not self.subject.has_gradient:
            self.square(self.suite.correct(self.found))

    def square(self, correct: np.ndarray) -> None:
        """The Square attack on some of the images that an earlier attack left."""
        left = np.flatnonzero(correct.mean(axis=0) > 0.5)[:_FEW]
        if not self.square_steps or not len(left):
            return
        attack = Square(
            self.subject.model,
            self.epsilon,
            norm=self.norm,
            bounds=self.subject.bounds,
            steps=self.square_steps,
        )
        moved = self._in_place(left, self.suite.run(attack, self.epsilon, rows=left).adversarial)
        self.found = self.suite.worst([self.found, moved])
        self.candidates.append(moved)

    def attack(self) -> None:
        """The attacks, those after the first on the images that are left; D4, C5 and C6."""
        self.run = self.suite.run(self.main, self.epsilon)
        found = [self.subject.images, self.run.adversarial, self.run.best]
        for attack in self.attacks[1:]:
            left = self.suite.unbroken(self.suite.worst(found), _EVALUATIONS)
            if len(left):
                run = self.suite.run(attack, self.epsilon, rows=left)
                found += [self._in_place(left, moved) for moved in (run.adversarial, run.best)]
        self.white = self.suite.worst(found)
        self.candidates.append(self.white)
        self.by_gradient = self.suite.correct(self.white)
        self.by_main = self._score(self.run)
        self.square(self.by_gradient)
        searched = self.suite.correct(self.found)
        self.rows.append(comparison_rows.d4_black_box(searched, self.by_gradient))
        if self.run.margins is None:
            why = "finished images left the batch, so the attack's path is not known"
            self.rows += [settings_rows.C5.not_run(why), settings_rows.C6.not_run(why)]
            return
        self.rows.append(settings_rows.c5_convergence(self.run.margins))
        broken = ~self.suite.correct(self.run.best, seeds=5, stream=1).any(axis=0)
        self.rows.append(settings_rows.c6_silent_success(broken, self.by_gradient))

    def control(self) -> None:
        """C1: the whole suite at epsilon 0, scored under other noise than the clean images.

        There no step moves an image, so one step does what many do.
        """
        found = [self.suite.random_search(0.0, 1)]
        for attack in self.attacks:
            fewer: dict[str, Any] = {"steps": 1} if hasattr(attack, "steps") else {}
            run = self.suite.run(attack, 0.0, **fewer)
            found += [run.adversarial, run.best]
        control = self.suite.correct(self.suite.worst(found), stream=2)
        self.rows.append(settings_rows.c1_control(self.clean, control))

    def settings(self) -> None:
        """C2 to C4: more draws, steps and starts of the first attack."""
        subject, run = self.subject, self.suite.run
        if subject.is_random:
            draws = {subject.attack_draws: self.by_main}
            more = math.ceil(2.5 * subject.attack_draws)  # 50 beside 20
            draws[more] = self._score(run(self.main, self.epsilon, subject.with_draws(more)))
            self.rows.append(settings_rows.c2_draws(draws))
        else:
            self.rows.append(settings_rows.C2.not_run("the model has no noise to average over"))
        steps = getattr(self.main, "steps", None)
        if steps is not None:
            doubled = run(self.main, self.epsilon, steps=2 * steps)
            self.rows.append(settings_rows.c3_steps(self.by_main, self._score(doubled)))
        else:
            self.rows.append(settings_rows.C3.not_run("the attack has no steps"))
        start = getattr(self.main, "seed", None)
        if start is not None and getattr(self.main, "random_start", True):
            again = run(self.main, self.epsilon, seed=start + 1)
            both = self._score(self.run, again)
            self.rows.append(settings_rows.c4_restarts(self.by_main, both))
        else:
            self.rows.append(settings_rows.C4.not_run("the attack has no random start"))

    def strength(self) -> None:
        """D1 to D3: one step, other radii, and no limit at all."""
        subject, norm, run = self.subject, self.norm, self.suite.run
        subject.seed(21)
        gradient = subject.mean_gradient(subject.images, subject.labels)
        assert gradient is not None  # or this part would not run
        moved = one_step(subject.images, gradient, self.epsilon, norm, subject.bounds)
        self.rows.append(comparison_rows.d1_iterative(self.suite.correct(moved), self.by_main))
        radii = {self.epsilon: self.by_main}
        for radius in (self.epsilon / 2, 2 * self.epsilon):
            radii[radius] = self._score(run(self.main, radius))
        self.rows.append(comparison_rows.d2_larger_epsilon(radii))
        far = subject.bounds[1] - subject.bounds[0]
        far *= math.sqrt(subject.images[0].size) if norm == "l2" else 1.0
        steps = getattr(self.main, "steps", None)
        longer = {} if steps is None else {"steps": max(_UNBOUNDED_STEPS, steps)}
        unbounded = run(self.main, far, rows=slice(_FEW), **longer)
        self.rows.append(comparison_rows.d3_unbounded(self._score(unbounded)))

    def frozen(self) -> None:
        """D6: the model under one draw of its noise, attacked and scored under that draw."""
        if not self.subject.is_random:
            self.rows.append(comparison_rows.D6.not_run("the model has no noise"))
            return
        model = FrozenNoise(self.subject.model)
        self.easier = self.suite.run(self.main, self.epsilon, model)
        correct = self.suite.margins(self.easier.adversarial, model) <= 0
        self.rows.append(comparison_rows.d6_frozen_noise(correct, self.by_main))

    def transfer(self) -> None:
        """D5: images made on another model."""
        if self.substitute is not None:
            made = self.suite.run(self.main, self.epsilon, self.substitute)
        elif self.subject.is_random:
            made = self.easier
        else:
            self.rows.append(comparison_rows.D5.not_run("no substitute is given"))
            return
        correct = self.suite.correct(made.adversarial)
        self.candidates.append(made.adversarial)
        self.rows.append(comparison_rows.d5_transfer(correct, self.by_gradient))

    def binarise(self) -> None:
        """D7, by the first attack."""
        row = binarisation.d7_binarisation
        self.rows.append(row(self.subject, self.main, self.epsilon, self.norm, _FEW))

    def certified(self) -> None:
        """E3: an attack on what the certificate is of."""
        if self.certificate is None:
            self.rows.append(report_rows.E3.not_run("no certificate is given"))
        else:
            self.rows.append(attacked_certificate(self.suite, self.certificate))

    def report(self) -> None:
        """The headline, and the rows about it."""
        subject = self.subject
        worst = self.suite.worst(self.candidates)
        self.final = self.suite.correct(worst, _EVALUATIONS, stream=3)
        rounded = self.suite.correct(
            report_rows.in_8_bits(worst, subject.bounds), _EVALUATIONS, stream=3
        )
        self.rows += [
            report_rows.e1_constraints(
                subject.images, worst, self.epsilon, self.norm, subject.bounds
            ),
            report_rows.e2_rounding(self.final, rounded),
            report_rows.e4_resolution(self.final),
        ]
        if subject.is_random:
            self.rows.append(report_rows.e5_resubmission(self.final))
        else:
            self.rows.append(report_rows.E5.not_run("the model always answers the same"))

    def _in_place(self, rows: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """All images, some of them moved."""
        images = self.subject.images.copy()
        images[rows] = moved
        return images

    def _score(self, *runs: Run) -> np.ndarray:
        """The deployed prediction on what some runs left, `[seeds, number]`."""
        return self.suite.correct(
            self.suite.worst([x for run in runs for x in (run.adversarial, run.best)])
        )
