"""Attacks a trained defense in every setting of a run, scores it, and returns rows."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from rse_tf import data
from rse_tf.attacks import ATTACKS
from rse_tf.evaluation.attack_runner import AttackRunner, AttackSetting
from rse_tf.evaluation.gallery import Gallery, Kept, one_of_each_class
from rse_tf.evaluation.measurements import Measurements
from rse_tf.evaluation.metrics import mean_score
from rse_tf.evaluation.model_facts import model_digest, noise_settings
from rse_tf.evaluation.result import Row
from rse_tf.evaluation.scoring import Answers, Scorer
from rse_tf.evaluation.settings import EvaluationSettings
from rse_tf.evaluation.suite_outcome import SuiteOutcome
from rse_tf.evaluation.suite_rows import ADAPTIVE, suite_rows
from rse_tf.evaluation.suite_runner import SuiteRunner
from rse_tf.layers import is_random
from rse_tf.models import AveragedEnsemble
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.log import log


class Evaluator:
    """One trained defense under all attacks of a run.

    Args:
        settings: of the run.
        defense: name of the defense.
        model: its classifier.
        dataset: its test images are attacked.
        substitute: the model to attack in its place, or `None` for the model itself.
        pool: who attacks and predicts. Default: this process, on one device.
        training: settings of the defense, for the rows.

    Attributes:
        suite: what the adaptive suite found, after `rows`; `None` without one.

    Raises:
        DataError: if the data set has no class of a name in the flags.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        defense: str,
        model: keras.Model,
        dataset: data.Dataset,
        substitute: keras.Model | None = None,
        pool: DevicePool | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings, self._defense = settings, defense
        self._model, self._dataset = model, dataset
        self._training = dict(training or {})
        self._test = settings.test_images(dataset)
        self._substitute = substitute
        attacked = model if substitute is None else substitute
        self._pool = pool or DevicePool()
        self._runner = AttackRunner(settings, attacked, dataset, self._test, defense, self._pool)
        self._members = model.members if isinstance(model, AveragedEnsemble) else []
        # Without noise all numbers of draws are one and the same.
        draws = settings.num_draws if is_random(model) else (1,)
        self._scorers = [self._scorer(model, number) for number in draws]
        self._kept: dict[str, list[Kept]] = {}  # by attack
        self.suite: SuiteOutcome | None = None
        self._single: dict[int, list[Scorer]] = {}
        self._clean: dict[Scorer, Answers] = {}

    def rows(self) -> list[Row]:
        """Attacks and scores; returns the clean rows, and one or more for each setting.

        Every process of a run returns the same rows.
        """
        measurements = Measurements(
            self._settings, self._defense, self._model, self._test, self._pool
        )
        rows = [measurements.added_to(row) for row in self._clean_rows()]
        for setting in self._runner.settings():
            rows += self._attacked_rows(setting)
        if self._settings.suite_epsilons:
            rows += self._suite_rows()
        return rows

    def galleries(self) -> list[Gallery]:
        """Attacked images to look at, after `rows`: one gallery for each attack.

        Each shows one image of each class that is correct when clean, as the last setting of the
        attack left it, or one image with each target.
        """
        return [self._gallery(*kept) for kept in self._kept.items() if len(kept[1][-1].indices)]

    def _gallery(self, attack: str, kept: list[Kept]) -> Gallery:
        names, test = self._dataset.class_names, self._test
        indices = np.concatenate([one.indices for one in kept])
        adversarial = np.concatenate([one.adversarial for one in kept])
        guesses = self._scorers[-1].predictions(adversarial, self._settings.seed, 2)
        return Gallery(
            defense=self._defense,
            clean=test.images[indices],
            adversarial=adversarial,
            dataset=self._settings.dataset,
            labels=[names[label] for label in test.labels[indices]],
            predicted=[names[guess] for guess in guesses],
            targets=[one.target for one in kept if one.target],
            model=self._settings.model,
            attack=attack,
            strength=kept[-1].strength,
        )

    def _shown(self) -> np.ndarray:
        """Which images the galleries show."""
        correct = self._answers_clean(self._scorers[-1], "gallery").correct[0]
        return one_of_each_class(correct, self._test.labels)

    def _clean_rows(self) -> list[Row]:
        unharmed = [self._test.images] * max(len(self._members), 1)
        chosen = self._settings.image_class
        return self._rows("none", unharmed, {} if chosen is None else {"image_class": chosen})

    def _attacked_rows(self, setting: AttackSetting) -> list[Row]:
        outcome = self._runner.attack(setting)
        # Only the images that a gallery shows: all of them would use too much memory.
        indices = self._shown() if setting.target is None else np.array([0])
        words = str(dataclasses.replace(setting, target=None)).removeprefix(setting.attack)
        adversarial = outcome.results[0].adversarial[indices]
        kept = Kept(words.strip(), setting.target, indices, adversarial)
        before = self._kept.get(setting.attack, []) if setting.target else []
        self._kept[setting.attack] = [*before, kept]
        rows = self._rows(
            setting.attack,
            [result.adversarial for result in outcome.results],
            outcome.parameters,
            outcome.targets,
            seconds=outcome.seconds,
            gradient=outcome.gradient,
            mean_queries=float(np.mean([result.queries.mean() for result in outcome.results])),
        )
        for row in rows:
            log(
                f"{self._defense}: {setting} {row.scored or ''}  accuracy "
                f"{row.score.accuracy:.1%}  RMS L2 {row.score.rms_l2:.3f}"
            )
        return rows

    def _rows(
        self,
        attack: str,
        images: list[np.ndarray],
        parameters: dict[str, Any],
        targets: np.ndarray | None = None,
        **facts: Any,
    ) -> list[Row]:
        """One row for each number of draws, and one of the single members where there are any.

        Args:
            attack: its name.
            images: one array for all members, or one for each that was attacked by itself.
            parameters: settings of the attack.
            targets: the classes to reach.
            facts: further fields of the rows.
        """
        kinds: tuple[str | None, ...] = (None,)
        if self._members:
            by_member = len(images) == len(self._members) > 1
            by_member |= attack == "none" or ATTACKS[attack].on_random_member
            kinds = ("single", "ensemble") if by_member else ("ensemble",)
        rows = []
        for scorer in self._scorers:
            for scored in kinds:
                pairs = [(scorer, part) for part in images]
                if scored == "single":
                    members = self._member_scorers(scorer.num_draws)
                    pairs = list(zip(members, itertools.cycle(images)))
                elif attack == "none":
                    pairs = pairs[:1]
                label, seed = f"{self._defense}: {attack} scoring", self._settings.seed
                reached = []
                if targets is not None:
                    reached = [one.correct(part, targets, seed, 1).mean() for one, part in pairs]
                rows.append(
                    self._row(
                        scorer,
                        scored,
                        attack=attack,
                        parameters=parameters,
                        score=mean_score(
                            self._test.images,
                            [part for _, part in pairs],
                            [self._answers_clean(one, label).correct for one, _ in pairs],
                            [self._answers(one, part, label) for one, part in pairs],
                        ),
                        eval_seeds=len(scorer.seeds),
                        target_rate=float(np.mean(reached)) if reached else None,
                        **facts,
                    )
                )
        return rows

    def _row(self, scorer: Scorer, scored: str | None, **facts: Any) -> Row:
        """A row of this defense."""
        return Row(
            dataset=self._settings.dataset,
            model=self._settings.model,
            defense=self._defense,
            noise=noise_settings(self._model),
            num_images=len(self._test),
            num_draws=scorer.num_draws,
            scored=scored,
            members=len(self._members) or None,
            stop_error=self._settings.stop_error if scorer.is_random else None,
            training=self._training,
            **facts,
        )

    def _suite_rows(self) -> list[Row]:
        """The rows of the adaptive suite; the outcome behind them is kept."""
        settings, scorer = self._settings, self._scorers[0]
        runner = SuiteRunner(
            scorer,
            self._test.images,
            self._test.labels,
            scale=settings.suite_scale,
            seed=settings.seed,
            directory=pathlib.Path(settings.attacks_dir) / model_digest(self._model),
            pool=self._pool,
            clean=self._answers_clean(scorer, f"{self._defense}: scoring"),
            label=self._defense,
            substitute=self._substitute,
        )
        self.suite = runner.outcome(settings.suite_epsilons, None, settings.budget_minutes)
        cell, indices = self.suite.cells[-1], self._shown()
        words = f"{cell.norm} epsilon={cell.epsilon:g}"
        self._kept[ADAPTIVE] = [Kept(words, None, indices, cell.adversarial[indices])]
        scored = "ensemble" if self._members else None
        return [self._row(scorer, scored, **facts) for facts in suite_rows(self.suite)]

    def _answers(self, scorer: Scorer, images: np.ndarray, label: str) -> Answers:
        if images is self._test.images:
            return self._answers_clean(scorer, label)
        return scorer.answers(images, self._test.labels, self._settings.seed, 1, label=label)

    def _answers_clean(self, scorer: Scorer, label: str) -> Answers:
        if scorer not in self._clean:
            test, seed = self._test, self._settings.seed
            self._clean[scorer] = scorer.answers(test.images, test.labels, seed, 0, label=label)
        return self._clean[scorer]

    def _scorer(self, model: keras.Model, num_draws: int) -> Scorer:
        seeds, error = self._settings.eval_seeds, self._settings.stop_error
        return Scorer(model, num_draws, seeds, stop_error=error, pool=self._pool)

    def _member_scorers(self, num_draws: int) -> list[Scorer]:
        if num_draws not in self._single:
            self._single[num_draws] = [self._scorer(one, num_draws) for one in self._members]
        return self._single[num_draws]
