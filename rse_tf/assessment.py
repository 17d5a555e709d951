"""Attacks a trained defense in every setting of a run, scores it, and returns rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from rse_tf import data
from rse_tf.attacks import AttackResult
from rse_tf.crew import Crew
from rse_tf.evaluation import (
    Score,
    Scorer,
    mean_score,
    measure_regularity,
    measure_stopping,
    score,
)
from rse_tf.layers import is_random, noise_layers
from rse_tf.models import AveragedEnsemble
from rse_tf.progress import say
from rse_tf.reporting import Gallery, Row
from rse_tf.settings import Config
from rse_tf.victim import Setting, Victim

_GALLERY_IMAGES = 10


class Assessment:
    """One trained defense under all attacks of a run.

    Args:
        config: the run.
        defense: name of the defense.
        model: its classifier.
        dataset: its test images are attacked.
        substitute: the model to attack in its place, or `None` for the model itself.
        crew: who attacks and predicts. Default: this process, on one device.

    Raises:
        DataError: if the data set has no class of a name in the flags.
    """

    def __init__(
        self,
        config: Config,
        defense: str,
        model: keras.Model,
        dataset: data.Dataset,
        substitute: keras.Model | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._config, self._defense, self._model, self._dataset = config, defense, model, dataset
        self._test = _test_images(config, dataset)
        attacked = model if substitute is None else substitute
        self._crew = crew or Crew()
        self._victim = Victim(config, attacked, dataset, self._test, defense, self._crew)
        self._members = model.members if isinstance(model, AveragedEnsemble) else []
        # Without noise all numbers of draws are one and the same.
        draws = config.num_draws if is_random(model) else (1,)
        self._scorers = [self._scorer(model, number) for number in draws]
        self._kept: list[tuple[str | None, AttackResult]] = []
        # What several rows need.
        self._single: dict[int, list[Scorer]] = {}
        self._clean: dict[Scorer, np.ndarray] = {}

    def rows(self) -> list[Row]:
        """Attacks and scores; returns the clean rows, and one or more for each setting."""
        unharmed = [self._test.images] * max(len(self._members), 1)
        chosen = self._config.image_class
        narrowed = {} if chosen is None else {"image_class": chosen}
        rows = self._score("none", narrowed, unharmed, 0.0, None)
        if self._config.regularity:
            rows = [self._with_regularity(row) for row in rows]
        stop_error = self._config.stop_error
        if stop_error is not None and is_random(self._model):
            rows = [self._with_stopping(row, stop_error) for row in rows]
        for setting in self._victim.settings():
            rows += self._attack(setting)
        return rows

    def _with_regularity(self, row: Row) -> Row:
        # The loss of an ensemble is its own. And only the chief reports.
        if row.parameters.get("scored") == "single" or not self._crew.is_chief:
            return row
        found = measure_regularity(
            self._model, self._test.images, self._test.labels,
            num_draws=row.num_draws, seed=self._config.seed)  # fmt: skip
        say(
            f"{self._defense}: input gradient {found.gradient_norm:.4g} +- "
            f"{found.gradient_norm_std_error:.2g}, trace of the input Hessian "
            f"{found.hessian_trace:.4g} +- {found.hessian_trace_std_error:.2g}"
        )
        return dataclasses.replace(
            row, gradient_norm=found.gradient_norm, hessian_trace=found.hessian_trace
        )

    def _with_stopping(self, row: Row, stop_error: float) -> Row:
        if row.parameters.get("scored") == "single" or not self._crew.is_chief:
            return row
        found = measure_stopping(
            self._model, self._test.images, row.num_draws, stop_error, self._config.seed)
        say(
            f"{self._defense}: {found.mean_draws:.1f} of {row.num_draws} draws on average; the "
            f"others would change the class of {found.disagreement:.2%} of the images"
        )
        return dataclasses.replace(
            row, mean_draws=found.mean_draws, disagreement=found.disagreement
        )

    def galleries(self) -> list[Gallery]:
        """Attacked images to look at, after `rows`: one of each class, or one for each target.

        Of each class, it is one that is right when clean, as the last setting left it.
        """
        scorer, names, test = self._scorers[-1], self._dataset.class_names, self._test
        if not self._kept:
            return []
        right = np.flatnonzero(self._right_clean(scorer, "gallery")[0])
        if self._config.target_class:  # the first image with every target
            chosen = [(0, *kept) for kept in self._kept if kept[0]]
        else:
            _, first = np.unique(test.labels[right], return_index=True)
            indices = sorted(right[first][:_GALLERY_IMAGES])
            chosen = [(index, *self._kept[-1]) for index in indices]
        if not chosen:
            return []
        clean = np.stack([test.images[index] for index, _, _ in chosen])
        adversarial = np.stack([result.adversarial[index] for index, _, result in chosen])
        guesses = scorer.predictions(adversarial, self._config.seed, 2)
        labels = [names[test.labels[index]] for index, _, _ in chosen]
        predicted = [names[guess] for guess in guesses]
        titles = [f"{label} → {guess}" for label, guess in zip(labels, predicted)]
        targets = [target for _, target, _ in chosen if target]
        return [Gallery(self._defense, clean, adversarial, titles, self._config.dataset, labels,
                        predicted, targets)]  # fmt: skip

    def _attack(self, setting: Setting) -> list[Row]:
        results, seconds = self._victim.attack(setting)
        # Of all that was found, only what the gallery shows: images of large sets fill a memory.
        if setting.target is None:
            self._kept = [(None, results[0])]
        else:
            first = AttackResult(*(field[:1] for field in results[0]))
            self._kept.append((setting.target, first))
        images = [result.adversarial for result in results]
        queries = float(np.mean([result.queries.mean() for result in results]))
        parameters = self._victim.parameters(setting)
        targets = self._victim.targets(setting)
        rows = self._score(setting.attack, parameters, images, seconds, queries, targets)
        for row in rows:
            scored = row.parameters.get("scored", "")
            say(
                f"{self._defense}: {setting} {scored}  accuracy {row.accuracy:.1%}  "
                f"RMS L2 {row.rms_l2:.3f}"
            )
        return rows

    def _score(
        self,
        attack: str,
        parameters: dict[str, Any],
        images: list[np.ndarray],
        seconds: float,
        queries: float | None,
        targets: np.ndarray | None = None,
    ) -> list[Row]:
        """One row for each number of draws, and one of the single members where there are any.

        `images` are one array, or one for each member that was attacked by itself.
        """
        rows = []
        kinds: list[dict[str, Any]] = [{}]
        if self._members:
            kinds = [{"scored": "ensemble", "members": len(self._members)}]
            if attack == "none" or len(images) == len(self._members) > 1:
                kinds.insert(0, {"scored": "single", "members": len(self._members)})
        for scorer in self._scorers:
            for kind in kinds:
                if kind.get("scored") == "single":
                    pairs = list(zip(self._member_scorers(scorer.num_draws), images))
                elif attack == "none":
                    pairs = [(scorer, images[0])]
                else:
                    pairs = [(scorer, part) for part in images]
                label = f"{self._defense}: {attack} scoring"
                marks = mean_score([self._marks(*pair, label) for pair in pairs])
                reached = [] if targets is None else [
                    one.correct(part, targets, self._config.seed, 1).mean() for one, part in pairs
                ]
                rows.append(Row(
                    dataset=self._config.dataset,
                    model=_model_name(self._config),
                    defense=self._defense,
                    noise=_noise(self._model),
                    attack=attack,
                    parameters={**parameters, **kind, **self._stopping(scorer)},
                    num_images=len(self._test),
                    num_draws=scorer.num_draws,
                    eval_seeds=len(scorer.seeds),
                    seconds=seconds,
                    mean_queries=queries,
                    target_rate=float(np.mean(reached)) if reached else None,
                    training=self._config.defense_settings().of(self._defense),
                    **dataclasses.asdict(marks),
                ))  # fmt: skip
        return rows

    def _marks(self, scorer: Scorer, images: np.ndarray, label: str) -> Score:
        test = self._test
        right_clean = self._right_clean(scorer, label)
        right = right_clean
        if images is not test.images:
            right = scorer.correct(images, test.labels, self._config.seed, 1, label=label)
        return score(test.images, images, right_clean, right)

    def _right_clean(self, scorer: Scorer, label: str) -> np.ndarray:
        if scorer not in self._clean:
            images, labels = self._test.images, self._test.labels
            right = scorer.correct(images, labels, self._config.seed, 0, label=label)
            self._clean[scorer] = right
        return self._clean[scorer]

    def _scorer(self, model: keras.Model, num_draws: int) -> Scorer:
        config = self._config
        return Scorer(
            model, num_draws, config.eval_seeds, stop_error=config.stop_error, crew=self._crew
        )

    def _stopping(self, scorer: Scorer) -> dict[str, float]:
        stop_error = self._config.stop_error
        return {"stop_error": stop_error} if stop_error and scorer.is_random else {}

    def _member_scorers(self, num_draws: int) -> list[Scorer]:
        if num_draws not in self._single:
            self._single[num_draws] = [self._scorer(one, num_draws) for one in self._members]
        return self._single[num_draws]


def _test_images(config: Config, dataset: data.Dataset) -> data.Split:
    test = dataset.test
    if config.image_class is not None:
        test = test[test.labels == dataset.class_index(config.image_class)]
    test = test[: config.num_images]
    if len(test) < int(config.num_images or 0):
        say(f"{config.dataset} has {len(test)} such test images; all of them are attacked")
    return test


def _model_name(config: Config) -> str:
    # Another activation is another network, and none of the papers' own.
    plain = config.activation == "relu"
    return str(config.model) if plain else f"{config.model}+{config.activation}"


def _noise(model: keras.Model) -> dict[str, Any]:
    if not any(layer.stddev for layer in noise_layers(model)):
        return {}
    # The network's own, which for a defense with noise on its images only is not the run's.
    network = model.members[0] if isinstance(model, AveragedEnsemble) else model
    names = ("init_noise", "inner_noise", "distribution", "init_noise_at")
    return {name: network.get_config()[name] for name in names}
