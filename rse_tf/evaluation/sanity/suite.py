"""A small suite of attacks, whose figures feed the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rse_tf.attacks.attack import Attack
from rse_tf.attacks.losses import Logits
from rse_tf.evaluation.sanity.path import PathRecorder, margins_of
from rse_tf.evaluation.sanity.points import random_points
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.scoring import Scorer
from rse_tf.layers import seed_noise
from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import Classifier

# Streams of their own, lest an image that won under one noise is scored under it again.
_ATTACKING, _SELECTING = 0xA77AC, 0x5E1EC


@dataclasses.dataclass(frozen=True)
class Run:
    """What one attack left.

    Attributes:
        adversarial: its images, float32 `[number, height, width, channels]`.
        best: for each image the point of its path with the largest margin; `adversarial` where
            the path is not known.
        margins: by how much the attack wins along its path, in logits, `[calls, number]`; `None`
            where the path is not known, as of attacks whose finished images leave the batch.
    """

    adversarial: np.ndarray
    best: np.ndarray
    margins: np.ndarray | None


def retargeted(attack: Attack, model: Logits, epsilon: float, **changes: Any) -> Attack:
    """The same attack on another model, with a ball of another radius.

    A step size that is given grows along with the radius.

    Args:
        attack: any attack with a field `epsilon`.
        model: what it differentiates.
        epsilon: the radius.
        **changes: other fields.
    """
    step = getattr(attack, "step_size", None)
    if step is not None:
        changes = {"step_size": step * epsilon / attack.epsilon, **changes}  # type: ignore
    return dataclasses.replace(attack, model=model, epsilon=epsilon, **changes)


class Suite:
    """Runs attacks on a subject, and scores what they leave.

    An attack on a randomised model averages its draws. Of its candidates the deployed prediction
    selects one an image, under noise that neither the attack nor the final score meets.

    Args:
        subject: the model and its images.
        norm: `"linf"` or `"l2"`.
        eval_seeds: how often a randomised model is scored. Default 10, for E5.
        seed: of everything random.
    """

    def __init__(
        self, subject: Subject, norm: str = "linf", eval_seeds: int = 10, seed: int = 0
    ) -> None:
        self.subject, self.norm, self.seed = subject, norm, seed
        self._scorer = Scorer(
            subject.model, subject.num_draws, eval_seeds, batch_size=subject.batch_size
        )
        self._recorders: dict[int, PathRecorder] = {}
        self._graphs: dict[int, Any] = {}

    def run(
        self, attack: Attack, epsilon: float, model: Logits | None = None, **changes: Any
    ) -> Run:
        """Runs an attack on all images.

        Args:
            attack: any attack with a field `epsilon`; its model is replaced.
            epsilon: the radius.
            model: what it differentiates. Default: `subject.attacked`.
            **changes: fields of the attack.
        """
        subject = self.subject
        model = subject.attacked if model is None else model
        # Kept, so that the same attack at another strength is not traced again.
        recorder = self._recorders.setdefault(id(model), PathRecorder(model, subject.caller))
        size = subject.batch_size
        attack = retargeted(attack, recorder, epsilon, batch_size=size, **changes)
        attack.check_model(subject.images)  # its look at the model is no part of a path
        parts = []
        for start in range(0, len(subject.images), size):
            images, labels = (a[start : start + size] for a in (subject.images, subject.labels))
            recorder.start(labels)
            seed_noise(subject.model, _ATTACKING, self.seed, start)
            adversarial = attack(images, labels).adversarial
            known = recorder.is_whole and recorder.best is not None
            best = recorder.best if known else adversarial
            parts.append((adversarial, best, recorder.margins if known else None))
        adversarials, bests, margins = zip(*parts)
        same = all(m is not None and len(m) == len(margins[0]) for m in margins)
        return Run(
            np.concatenate(adversarials),
            np.concatenate(bests),
            np.concatenate(margins, axis=1) if same else None,
        )

    def random_search(self, epsilon: float, number: int) -> np.ndarray:
        """For each image the best of so many random points of the ball, by its margin."""
        subject = self.subject
        best, largest = subject.images, np.full(len(subject.images), -np.inf)
        for point in range(number):
            images = random_points(
                subject.images, epsilon, self.norm, subject.bounds, [self.seed, point]
            )
            margins = self.margins(images, subject.attacked)
            better = margins > largest
            best = np.where(better[:, None, None, None], images, best)
            largest = np.maximum(margins, largest)
        return best

    def margins(self, images: np.ndarray, model: Logits | None = None) -> np.ndarray:
        """By how much an attack wins, in logits `[number]`, under the noise of the selection.

        Args:
            images: like those of the subject.
            model: what predicts. Default: `subject.deployed`.
        """
        subject = self.subject
        model = subject.deployed if model is None else model
        if id(model) not in self._graphs:
            signature = [tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
            logits = Classifier(model, subject.caller, stacked=True)
            self._graphs[id(model)] = tf.function(
                logits, input_signature=signature, autograph=False
            )
        found = []
        for start in range(0, len(images), subject.batch_size):
            part = slice(start, start + subject.batch_size)
            seed_noise(subject.model, _SELECTING, self.seed, start)
            logits = self._graphs[id(model)](tf.constant(images[part])).numpy()
            found.append(margins_of(logits, subject.labels[part]))
        return np.concatenate(found)

    def worst(self, candidates: Sequence[np.ndarray]) -> np.ndarray:
        """For each image the candidate that the deployed prediction stands worst."""
        margins = np.stack([self.margins(images) for images in candidates])
        rows = np.arange(margins.shape[1])
        return np.stack(candidates)[margins.argmax(axis=0), rows]

    def correct(self, images: np.ndarray) -> np.ndarray:
        """Which images the deployed prediction gets right, bool `[seeds, number]`."""
        return self._scorer.correct(images, self.subject.labels, self.seed)


def checked_attacks(
    caller: str, attacks: Sequence[Attack], norm: str, bounds: tuple[float, float]
) -> tuple[Attack, ...]:
    """Returns attacks that the rows can use.

    Raises:
        ValueError: if there is none, or one has no `epsilon`, another norm or other bounds.
    """
    if not attacks:
        raise argument_error(caller, "attacks", "at least one attack", attacks)
    for attack in attacks:
        if not isinstance(attack, Attack) or not hasattr(attack, "epsilon"):
            expected = "attacks of rse_tf.attacks with an epsilon"
            raise argument_error(caller, "attacks", expected, attack)
        if getattr(attack, "norm", "linf") != norm or attack.bounds != bounds:
            expected = f"attacks of norm={norm!r} and bounds={bounds}"
            raise argument_error(caller, "attacks", expected, attack)
    return tuple(attacks)
