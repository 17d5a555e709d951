"""A model under all attacks of a run."""

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
from rse_tf.attacks.base import Attack
from rse_tf.evaluation.attacking import attack_in_batches
from rse_tf.evaluation.model_facts import without_names
from rse_tf.evaluation.settings import EvaluationSettings
from rse_tf.layers import NOISE_VERSION, CommonNoise, is_random
from rse_tf.models import AveragedEnsemble, SelfEnsemble, gradient_source
from rse_tf.training import weights_digest
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.options import options_of

# Part of every attack's folder: raise it when the same settings no longer give the same images of
# all attacks; and the package's version with it, by which finished tables are known.
_FORMAT = 2
# Gradients that an attack's folder tells by name; the others are older than that.
_NAMED_GRADIENTS = ("mean_logits", "reweighted")


@dataclasses.dataclass(frozen=True)
class AttackSetting:
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
        options = options_of(ATTACKS[self.attack])
        swept = [name for name, own in options.items() if own.sweep]
        strength = next((name for name in (*swept, "steps") if name in self.point), None)
        value = f"{strength}={self.point[strength]:g}" if strength else None
        parts = [self.attack, value, self.target]
        if self.gradient != "mean_probability":
            parts.append(f"gradient={self.gradient}")
        return " ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class AttackOutcome:
    """The result of one attack setting.

    Attributes:
        results: one, or one for each member if it is attacked by the gradient of its members.
        seconds: time of the attacks, added up over all devices.
        parameters: what a row says of its attack, but for the gradient.
        gradient: what was differentiated, or `None` where there is no choice.
        targets: the classes to reach, integer `[number]`, or `None` for an untargeted attack.
    """

    results: list[AttackResult]
    seconds: float
    parameters: dict[str, Any]
    gradient: str | None
    targets: np.ndarray | None


class AttackRunner:
    """Attacks one model in every setting of a run, and keeps what it found.

    Args:
        settings: of the run.
        model: the model to attack: a defense, or a substitute for one.
        dataset: where the images are from.
        test: the images.
        label: what the progress lines call it.
        pool: who attacks the batches.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        model: keras.Model,
        dataset: data.Dataset,
        test: data.Split,
        label: str,
        pool: DevicePool,
    ) -> None:
        self._settings, self._model, self._dataset = settings, model, dataset
        self._test, self._label, self._pool = test, label, pool
        self._draws = settings.attack_draws if is_random(model) else 1
        self._attacks: dict[Any, Attack] = {}  # compiled once for all strengths

    def settings(self) -> Iterator[AttackSetting]:
        """All attack settings of the run, in the order of its rows."""
        gradients: tuple[str, ...] = ("mean_probability",)
        if isinstance(self._model, AveragedEnsemble):
            gradients = self._settings.gradient
        elif self._draws > 1:  # no members, but draws
            gradients = tuple(g for g in self._settings.gradient if g != "member") or gradients
        for attack, points in self._settings.attacks.items():
            known = ATTACKS[attack].gradients
            default = "mean_probability" if "mean_probability" in known else known[0]
            own = tuple(g for g in gradients if g in known) or (default,)
            for gradient in own:
                for target in self._settings.target_class or (None,):
                    for point in points:
                        point = ATTACKS[attack].for_model(point, is_random(self._model))
                        yield AttackSetting(attack, point, gradient, target)

    def attack(self, setting: AttackSetting) -> AttackOutcome:
        """Attacks all images, or looks up what was found before."""
        one_by_one = setting.gradient == "member"
        models = self._model.members if one_by_one else [self._model]
        targets = self._targets(setting)
        results, seconds = [], 0.0
        for number, model in enumerate(models, start=1):
            label = f"{self._label}: {setting}"
            label += f" {number}/{len(models)}" if one_by_one else ""
            result, took = self._attack(setting, model, targets, label)
            results.append(result)
            seconds += took
        has_choice = isinstance(self._model, AveragedEnsemble) or self._draws > 1
        gradient = setting.gradient if has_choice else None
        return AttackOutcome(results, seconds, self._parameters(setting), gradient, targets)

    def _parameters(self, setting: AttackSetting) -> dict[str, Any]:
        """The attack settings that a row records, except the gradient."""
        settings = self._settings
        found = {
            **setting.point,
            "targeted": settings.targeted or setting.target is not None,
            "attack_draws": self._draws,
            "target": setting.target,
            "image_class": settings.image_class,
            "substitute": settings.substitute,
        }
        optional = ("target", "image_class", "substitute")
        return {k: value for k, value in found.items() if k not in optional or value is not None}

    def _targets(self, setting: AttackSetting) -> np.ndarray | None:
        """The classes to reach, integer `[number]`, or `None` for an untargeted attack."""
        if setting.target is not None:
            return np.full(len(self._test), self._dataset.class_index(setting.target))
        if not self._settings.targeted:
            return None
        count = self._dataset.num_classes
        shift = np.random.default_rng(self._settings.seed).integers(1, count, len(self._test))
        return (self._test.labels + shift) % count

    def _attack(
        self, setting: AttackSetting, model: keras.Model, targets: np.ndarray | None, label: str
    ) -> tuple[AttackResult, float]:
        test = self._test
        copies = self._pool.replicas(model, self._dataset.image_shape)
        return attack_in_batches(
            [self._attack_on(copy, setting) for copy in copies],
            copies,
            pool=self._pool,
            images=test.images,
            labels=test.labels,
            targets=targets,
            directory=self._folder(setting, model),
            seed=self._settings.seed,
            description=label,
        )

    def _attack_on(self, victim: keras.Model, setting: AttackSetting) -> Attack:
        """The attack on a victim; all its strengths share one compiled graph."""
        key = (setting.attack, id(victim), setting.gradient)
        if key not in self._attacks:
            members = victim.members if isinstance(victim, AveragedEnsemble) else [victim]
            model = victim
            if self._draws > 1:
                members = [SelfEnsemble(member, self._draws) for member in members]
                model = members[0] if len(members) == 1 else AveragedEnsemble(members)
            logits = gradient_source(model, setting.gradient)
            if setting.point.get("noise") == "common":
                logits = CommonNoise(model)
            size = self._settings.attack_batch_size
            self._attacks[key] = ATTACKS[setting.attack](logits, batch_size=size, **setting.point)
        return dataclasses.replace(self._attacks[key], **setting.point)

    def _folder(self, setting: AttackSetting, victim: keras.Model) -> pathlib.Path:
        """A folder for the batches of one attack setting, named after all they follow from."""
        network = without_names(victim.get_config())
        mean_loss = setting.gradient == "mean_loss"
        version = ATTACKS[setting.attack].cache_version
        facts = [
            _FORMAT,
            setting.attack,
            setting.point,
            self._draws,
            mean_loss,
            self._settings.seed,
            network,
            weights_digest(victim),
            *([version] if version else []),
            *([{"gradient": setting.gradient}] if setting.gradient in _NAMED_GRADIENTS else []),
            *([{"noise": NOISE_VERSION}] if is_random(victim) else []),
        ]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        return pathlib.Path(self._settings.attacks_dir) / digest.hexdigest()[:16]
