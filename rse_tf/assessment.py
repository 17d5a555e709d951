"""Attacks a trained defense in every setting of a run, scores it, and returns rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from rse_tf import data
from rse_tf.attacks import ATTACKS, AttackResult
from rse_tf.attacks.attack import Attack
from rse_tf.evaluation import Score, Scorer, attack_in_batches, mean_score, score
from rse_tf.layers import CommonNoise, is_random, noise_layers
from rse_tf.models import AveragedEnsemble, SelfEnsemble
from rse_tf.reporting import Gallery, Row
from rse_tf.settings import Config
from rse_tf.training import weights_digest

_GALLERY_IMAGES = 10
# Part of every attack's folder: raise it when the same settings no longer give the same images.
_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class _Setting:
    """One attack setting: a row, or two for the single members of an ensemble.

    Attributes:
        attack: the attack's name.
        point: its arguments.
        gradient: what of an ensemble or of many draws is differentiated, one of `GRADIENTS`.
        target: the class to reach, or `None`.
    """

    attack: str
    point: dict[str, Any]
    gradient: str
    target: str | None

    def __str__(self) -> str:
        strength = next((n for n in ("const", "epsilon") if n in self.point), "steps")
        parts = [self.attack, f"{strength}={self.point[strength]:g}", self.target]
        if self.gradient != "mean_probability":
            parts.append(f"gradient={self.gradient}")
        return " ".join(part for part in parts if part)


class Assessment:
    """One trained defense under all attacks of a run.

    Args:
        config: the run.
        defense: name of the defense.
        model: its classifier.
        dataset: its test images are attacked.
        substitute: the model to attack in its place, or `None` for the model itself.

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
    ) -> None:
        self._config, self._defense, self._model, self._dataset = config, defense, model, dataset
        self._victim = model if substitute is None else substitute
        self._test = _test_images(config, dataset)
        self._members = model.members if isinstance(model, AveragedEnsemble) else []
        # Without noise all numbers of draws are one and the same.
        draws = config.num_draws if is_random(model) else (1,)
        self._scorers = [Scorer(model, number, config.eval_seeds) for number in draws]
        self._draws = config.attack_draws if is_random(self._victim) else 1
        self._kept: list[tuple[str | None, AttackResult]] = []
        # What several rows need: compiled attacks, scorers of the members, clean predictions.
        self._attacks: dict[Any, Attack] = {}
        self._single: dict[int, list[Scorer]] = {}
        self._clean: dict[Scorer, np.ndarray] = {}

    def rows(self) -> list[Row]:
        """Attacks and scores; returns the clean rows, and one or more for each setting."""
        unharmed = [self._test.images] * max(len(self._members), 1)
        rows = self._score("none", {}, unharmed, 0.0, None)
        for setting in self._settings():
            rows += self._attack(setting)
        return rows

    def galleries(self) -> list[Gallery]:
        """Attacked images to look at, after `rows`: one of each class, or one for each target.

        They are images that are right when clean, as the last setting left them.
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

    def _settings(self) -> Iterator[_Setting]:
        gradients: tuple[str, ...] = ("mean_probability",)
        if isinstance(self._victim, AveragedEnsemble):
            gradients = self._config.gradient
        elif self._draws > 1:  # no members, but draws
            gradients = tuple(g for g in self._config.gradient if g != "member") or gradients
        for attack in self._config.attacks:
            for gradient in gradients:
                for target in self._config.target_class or (None,):
                    for point in self._config.attack_points(attack):
                        if "noise" in point and not is_random(self._victim):
                            point = {**point, "noise": "fresh"}  # nothing to have in common
                        yield _Setting(attack, point, gradient, target)

    def _attack(self, setting: _Setting) -> list[Row]:
        one_by_one = setting.gradient == "member"
        victims = self._victim.members if one_by_one else [self._victim]
        results, seconds = [], 0.0
        for number, victim in enumerate(victims):
            label = f"{self._defense}: {setting}"
            if one_by_one:
                label += f" {number + 1}/{len(victims)}"
            result, took = self._run(setting, victim, label)
            results.append(result)
            seconds += took
        self._kept.append((setting.target, results[0]))
        images = [result.adversarial for result in results]
        queries = float(np.mean([result.queries.mean() for result in results]))
        rows = self._score(setting.attack, self._parameters(setting), images, seconds, queries)
        for row in rows:
            scored = row.parameters.get("scored", "")
            print(
                f"{self._defense}: {setting} {scored}  accuracy {row.accuracy:.1%}  "
                f"RMS L2 {row.rms_l2:.3f}", flush=True)  # fmt: skip
        return rows

    def _run(
        self, setting: _Setting, victim: keras.Model, label: str
    ) -> tuple[AttackResult, float]:
        config, test = self._config, self._test
        targets = None
        if setting.target is not None:
            targets = np.full(len(test), self._dataset.class_index(setting.target))
        elif config.targeted:
            count = self._dataset.num_classes
            shift = np.random.default_rng(config.seed).integers(1, count, len(test))
            targets = (test.labels + shift) % count
        return attack_in_batches(
            self._attack_on(victim, setting),
            victim,
            images=test.images,
            labels=test.labels,
            targets=targets,
            directory=self._folder(setting, victim),
            seed=config.seed,
            description=label,
        )

    def _attack_on(self, victim: keras.Model, setting: _Setting) -> Attack:
        """The attack on a victim; all its strengths share one compiled graph."""
        key = (setting.attack, id(victim), setting.gradient)
        if key not in self._attacks:
            members = victim.members if isinstance(victim, AveragedEnsemble) else [victim]
            model = victim
            if self._draws > 1:
                members = [SelfEnsemble(member, self._draws) for member in members]
                model = members[0] if len(members) == 1 else AveragedEnsemble(members)
            logits = model.stacked_logits if setting.gradient == "mean_loss" else model
            if setting.point.get("noise") == "common":
                logits = CommonNoise(model)
            size = self._config.attack_batch_size
            self._attacks[key] = ATTACKS[setting.attack](logits, batch_size=size, **setting.point)
        return dataclasses.replace(self._attacks[key], **setting.point)

    def _score(
        self,
        attack: str,
        parameters: dict[str, Any],
        images: list[np.ndarray],
        seconds: float,
        queries: float | None,
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
                rows.append(Row(
                    dataset=self._config.dataset,
                    model=_model_name(self._config),
                    defense=self._defense,
                    noise=_noise(self._config, self._model),
                    attack=attack,
                    parameters={**parameters, **kind},
                    num_images=len(self._test),
                    num_draws=scorer.num_draws,
                    eval_seeds=len(scorer.seeds),
                    seconds=seconds,
                    mean_queries=queries,
                    **dataclasses.asdict(marks),
                ))  # fmt: skip
        return rows

    def _marks(self, scorer: Scorer, images: np.ndarray, label: str) -> Score:
        test = self._test
        right_clean = self._right_clean(scorer, label)
        right = right_clean
        if images is not test.images:
            right = scorer.right(images, test.labels, self._config.seed, 1, label=label)
        return score(test.images, images, right_clean, right)

    def _right_clean(self, scorer: Scorer, label: str) -> np.ndarray:
        if scorer not in self._clean:
            images, labels = self._test.images, self._test.labels
            right = scorer.right(images, labels, self._config.seed, 0, label=label)
            self._clean[scorer] = right
        return self._clean[scorer]

    def _member_scorers(self, num_draws: int) -> list[Scorer]:
        if num_draws not in self._single:
            seeds = self._config.eval_seeds
            self._single[num_draws] = [Scorer(one, num_draws, seeds) for one in self._members]
        return self._single[num_draws]

    def _parameters(self, setting: _Setting) -> dict[str, Any]:
        """What a row says of its attack."""
        config = self._config
        targeted = config.targeted or setting.target is not None
        found: dict[str, Any] = {**setting.point, "targeted": targeted, "attack_draws": self._draws}
        if isinstance(self._victim, AveragedEnsemble) or self._draws > 1:
            found["gradient"] = setting.gradient
        if setting.target is not None:
            found["target"] = setting.target
        if config.substitute is not None:
            found["substitute"] = config.substitute
        return found

    def _folder(self, setting: _Setting, victim: keras.Model) -> pathlib.Path:
        """A folder for the batches of one attack setting, named after all they follow from."""
        # But for the model's name, which Keras numbers by what else the process has built.
        settings = {name: value for name, value in victim.get_config().items() if name != "name"}
        mean_loss = setting.gradient == "mean_loss"
        facts = [
            _FORMAT, setting.attack, setting.point, self._draws, mean_loss,
            self._config.seed, settings, weights_digest(victim),
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        return pathlib.Path(str(self._config.attacks_dir)) / digest.hexdigest()[:16]


def _test_images(config: Config, dataset: data.Dataset) -> data.Split:
    test = dataset.test
    if config.image_class is not None:
        test = test[test.labels == dataset.class_index(config.image_class)]
    test = test[: config.num_images]
    if len(test) < int(config.num_images or 0):
        print(f"{config.dataset} has {len(test)} such test images; all of them are attacked")
    return test


def _model_name(config: Config) -> str:
    # Another activation is another network, and none of the papers' own.
    plain = config.activation == "relu"
    return str(config.model) if plain else f"{config.model}+{config.activation}"


def _noise(config: Config, model: keras.Model) -> dict[str, Any]:
    if not any(layer.stddev for layer in noise_layers(model)):
        return {}
    return {
        "init_noise": config.init_noise,
        "inner_noise": config.inner_noise,
        "distribution": config.noise_distribution,
        "init_noise_at": config.init_noise_at,
    }
