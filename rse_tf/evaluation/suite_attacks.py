"""Runs one attack of a suite: on what it differentiates, at one distance, on some images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import keras
import numpy as np

from rse_tf.attacks import ATTACKS, AttackResult
from rse_tf.attacks.base import Attack
from rse_tf.attacks.losses import Logits
from rse_tf.attacks.norms import rounding_of
from rse_tf.evaluation.attacking import attack_in_batches
from rse_tf.evaluation.model_facts import model_digest
from rse_tf.evaluation.suites import Step
from rse_tf.layers import NOISE_VERSION, FrozenNoise, NoiseOff, is_random
from rse_tf.models import MeanLogits, MeanProbability, ReweightedMembers, StackedDraws
from rse_tf.training.device_pool import DevicePool

# Part of the name of every folder: raise it when the same step no longer gives the same images.
_FORMAT = 1
# How far an image may be out of its ball, beside the rounding of its pixels.
_RELATIVE = 1e-5
# Rounding of the pixels must not carry an image out of the ball.
_INSIDE = 1 - 1e-6


@dataclasses.dataclass(frozen=True)
class Found:
    """What a step found.

    Attributes:
        candidates: one or several arrays of images `[number, height, width, channels]`, all
            within the distance.
        seconds: time that it took, added up over all devices.
        queries: mean calls of the model for an image.
        beyond: what attacks that know no distance found, wherever it lies; likewise arrays.
    """

    candidates: list[np.ndarray]
    seconds: float
    queries: float
    beyond: list[np.ndarray]


class SuiteAttacks:
    """Runs the attacks of a suite on one model.

    Args:
        model: the model, without the averaging of its draws.
        is_random: whether it has noise.
        directory: where finished batches are kept; it must belong to this model.
        seed: of the attacks.
        max_rows: images that go through the model at a time, all draws counted.
        bounds: smallest and largest pixel value.
        pool: who attacks.
        substitute: what images are transferred from, or `None`.
    """

    def __init__(
        self,
        model: keras.Model | Logits,
        is_random: bool,
        directory: pathlib.Path,
        seed: int,
        max_rows: int,
        bounds: tuple[float, float],
        pool: DevicePool,
        substitute: keras.Model | None = None,
    ) -> None:
        self._model, self._is_random, self._directory = model, is_random, directory
        self._substitute = substitute
        self._seed, self._max_rows, self._bounds, self._pool = seed, max_rows, bounds, pool
        self._attacks: dict[Any, Attack] = {}  # compiled once for all distances

    def run(
        self,
        step: Step,
        norm: str,
        epsilon: float,
        images: np.ndarray,
        labels: np.ndarray,
        label: str,
    ) -> Found:
        """Attacks images, or looks up what was found before.

        Args:
            step: the attack.
            norm: `"linf"` or `"l2"`.
            epsilon: the distance.
            images: float `[number, height, width, channels]`, at least one.
            labels: integer `[number]`.
            label: what the progress bar says.
        """
        members = getattr(self._model, "members", [self._model])
        others = {"member": members, "substitute": [self._substitute]}
        models = others.get(step.source, [self._model])
        candidates, beyond, seconds, queries = [], [], 0.0, 0.0
        for number, model in enumerate(models):
            replicas = self._pool.replicas(model, images.shape[1:])
            attacks = [self._attack(step, norm, epsilon, replica) for replica in replicas]
            result, took = attack_in_batches(
                attacks,
                replicas,
                pool=self._pool,
                images=images,
                labels=labels,
                targets=None,
                directory=self._folder(step, attacks[0], number),
                seed=self._seed,
                description=label,
            )
            candidates += self._candidates(step, norm, epsilon, images, result)
            beyond += [] if _has_epsilon(step) else [result.adversarial]
            seconds, queries = seconds + took, queries + float(result.queries.mean())
        return Found(candidates, seconds, queries, beyond)

    def _attack(self, step: Step, norm: str, epsilon: float, model: Any) -> Attack:
        cls = ATTACKS[step.attack]
        fields = {field.name for field in dataclasses.fields(cls)}
        at: dict[str, Any] = {"epsilon": epsilon} if "epsilon" in fields else {}
        key = (step, norm, id(model))
        if key not in self._attacks:
            seed = self._seed % 2**31  # what TensorFlow takes
            given: dict[str, Any] = {"norm": norm, "seed": seed, **at}
            settings = {name: value for name, value in given.items() if name in fields}
            self._attacks[key] = cls(
                self._differentiated(step, model),
                bounds=self._bounds,
                batch_size=max(1, self._max_rows // step.draws),
                **settings,
                **dict(step.options),
            )
        return dataclasses.replace(self._attacks[key], **at)

    def _differentiated(self, step: Step, model: Any) -> Logits:
        """What the attack differentiates instead of the model."""
        if step.source == "frozen":
            return FrozenNoise(model, self._seed)
        if step.source == "noise_off":
            return NoiseOff(model)
        # Of a random ensemble, a member may have no noise.
        if step.draws > 1 and is_random(model):
            stacked: Any = StackedDraws(model, step.draws)
        elif step.source in ("model", "member", "substitute") or self._is_random:
            return model
        else:
            stacked = model.stacked_logits
        sources: dict[str, Any] = {
            "mean_probability": MeanProbability,
            # Of an ensemble, an image leaves when the defense itself no longer is correct.
            "mean_logits": lambda members: MeanLogits(members, not self._is_random),
            "reweighted": lambda members: ReweightedMembers(members, step.share),
        }
        return sources[step.source](stacked) if step.source in sources else stacked

    def _folder(self, step: Step, attack: Attack, number: int) -> pathlib.Path:
        """A folder for the batches of one step, named after all they follow from."""
        known = attack.hyperparameters()
        # Settings that are no flags, such as where PGD starts.
        others = {name: value for name, value in step.options if name not in known}
        facts = [
            _FORMAT,
            step.attack,
            step.source,
            step.draws,
            step.share,
            known,
            attack.batch_size,
            attack.bounds,
            self._seed,
            number,
            type(attack).cache_version,
            NOISE_VERSION if self._is_random else None,
            *(["own prediction"] if step.source == "mean_logits" and not self._is_random else []),
            *([others] if others else []),
            *([model_digest(self._substitute)] if step.source == "substitute" else []),
        ]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        return self._directory / f"suite_{digest.hexdigest()[:16]}"

    def _candidates(
        self, step: Step, norm: str, epsilon: float, images: np.ndarray, result: AttackResult
    ) -> list[np.ndarray]:
        adversarial = result.adversarial
        if not _has_epsilon(step):
            # The nearest adversarial image, and one further out on the same line: on the edge of
            # the ball a randomised model is fooled more often.
            way = adversarial - images
            length = _lengths(way, norm)
            factor = np.divide(
                _INSIDE * epsilon, length, out=np.zeros_like(length), where=length > 0
            )
            pushed = np.clip(images + factor[:, None, None, None] * way, *self._bounds)
            pushed = pushed.astype(np.float32)
            near = np.where((length <= epsilon)[:, None, None, None], adversarial, pushed)
            found = [near, pushed]
        else:
            found = [adversarial]
        allowed = epsilon * (1 + _RELATIVE) + rounding_of(norm, self._bounds, images[0].size)
        for candidate in found:
            furthest = float(_lengths(candidate - images, norm).max())
            if furthest > allowed:
                raise ValueError(
                    f"{step.attack} must stay within {norm} distance {epsilon:g}. "
                    f"Received: an image at {furthest:g}"
                )
        return found


def _has_epsilon(step: Step) -> bool:
    return any(field.name == "epsilon" for field in dataclasses.fields(ATTACKS[step.attack]))


def _lengths(way: np.ndarray, norm: str) -> np.ndarray:
    flat = way.reshape(len(way), -1).astype(np.float64)
    return np.abs(flat).max(axis=1) if norm == "linf" else np.sqrt((flat**2).sum(axis=1))
