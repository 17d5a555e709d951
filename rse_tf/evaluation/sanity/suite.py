"""A small suite of attacks, whose figures feed the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rse_tf.attacks.base import Attack
from rse_tf.attacks.losses import Logits, joint_logits
from rse_tf.evaluation.sanity.path import PathRecorder, margins_of
from rse_tf.evaluation.sanity.points import random_points
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.layers import seed_noise
from rse_tf.models import SelfEnsemble
from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import Classifier
from rse_tf.utils.seeds import ATTACK, SCORING, SELECTION


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
        changes = {"step_size": step * epsilon / getattr(attack, "epsilon"), **changes}
    any_attack: Any = attack  # not every attack has an epsilon
    return dataclasses.replace(any_attack, model=model, epsilon=epsilon, **changes)


class Suite:
    """Runs attacks on a subject, and scores what they leave.

    An attack on a randomised model averages its draws. Of its candidates the deployed prediction
    selects one an image, under noise that neither the attack nor the final score meets.

    Args:
        subject: the model and its images.
        norm: `"linf"` or `"l2"`.
        seed: of everything random.

    Attributes:
        deployed: what predicts: the model, or where it is randomised a `SelfEnsemble`.
    """

    def __init__(self, subject: Subject, norm: str = "linf", seed: int = 0) -> None:
        self.subject, self.norm, self.seed = subject, norm, seed
        self.deployed: Any = subject.model
        if subject.is_random:
            self.deployed = SelfEnsemble(subject.model, subject.num_draws)
        self._recorders: dict[int, PathRecorder] = {}
        self._graphs: dict[int, Any] = {}

    def run(
        self,
        attack: Attack,
        epsilon: float,
        model: Logits | None = None,
        rows: np.ndarray | slice = slice(None),
        **changes: Any,
    ) -> Run:
        """Runs an attack.

        Args:
            attack: any attack with a field `epsilon`; its model is replaced.
            epsilon: the radius.
            model: what it differentiates. Default: `subject.attacked`.
            rows: which images it attacks, in this order. Default: all.
            **changes: fields of the attack.
        """
        subject = self.subject
        model = subject.attacked if model is None else model
        # Kept, so that the same attack at another strength is not traced again.
        if id(model) not in self._recorders:
            self._recorders[id(model)] = PathRecorder(model, subject.caller)
        recorder = self._recorders[id(model)]
        size = subject.batch_size
        attack = retargeted(attack, recorder, epsilon, batch_size=size, **changes)
        attack.check_model(subject.images)  # its look at the model is no part of a path
        parts = []
        every, classes = subject.images[rows], subject.labels[rows]
        for start in range(0, len(every), size):
            images, labels = every[start : start + size], classes[start : start + size]
            recorder.start(labels)
            seed_noise(subject.model, ATTACK, self.seed, start)
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
            images: in the place of those of the subject, from the first.
            model: what predicts. Default: the deployed prediction.
        """
        logits = self.logits(images, self.deployed if model is None else model, SELECTION)
        return margins_of(logits, self.subject.labels[: len(images)])

    def logits(self, images: np.ndarray, model: Logits, *seed: int) -> np.ndarray:
        """What a model says of images, float32 `[number, classes]`; stacked logits are averaged.

        Args:
            images: float32 `[number, height, width, channels]`.
            model: the subject's own one, or what averages it.
            seed: numbers that the noise follows from, beside the seed of the suite.
        """
        subject = self.subject
        if id(model) not in self._graphs:
            signature = [tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
            classifier = Classifier(model, subject.caller, stacked=True)
            graph = tf.function(
                lambda x: joint_logits(classifier(x)), input_signature=signature, autograph=False
            )
            self._graphs[id(model)] = graph, model  # the model is kept, lest another get its id
        found = []
        for start in range(0, len(images), subject.batch_size):
            seed_noise(subject.model, *seed, self.seed, start)
            part = tf.constant(images[start : start + subject.batch_size])
            found.append(self._graphs[id(model)][0](part).numpy())
        return np.concatenate(found)

    def worst(self, candidates: Sequence[np.ndarray]) -> np.ndarray:
        """For each image the candidate that the deployed prediction stands worst."""
        margins = np.stack([self.margins(images) for images in candidates])
        rows = np.arange(margins.shape[1])
        return np.stack(candidates)[margins.argmax(axis=0), rows]

    def correct(self, images: np.ndarray, seeds: int = 3, stream: int = 0) -> np.ndarray:
        """Which images the deployed prediction gets right, bool `[seeds, number]`.

        Args:
            images: in the place of those of the subject, from the first.
            seeds: how often a randomised model is asked. Default 3.
            stream: another number gives other noise.
        """
        rounds = range(seeds if self.subject.is_random else 1)
        logits = [self.logits(images, self.deployed, SCORING, stream, s) for s in rounds]
        return np.argmax(logits, axis=-1) == self.subject.labels[: len(images)]

    def unbroken(self, images: np.ndarray, answers: int) -> np.ndarray:
        """Which images the deployed prediction gets right at least once, integer `[number]`.

        Args:
            images: in the place of those of the subject.
            answers: how often a randomised model is asked, in the first seeds of `correct`. What
                a few answers have wrong may be luck, and is no reason to attack it no more.
        """
        wrong = np.arange(len(images))
        for s in range(answers if self.subject.is_random else 1):
            logits = self.logits(images[wrong], self.deployed, SCORING, 0, s)
            wrong = wrong[np.argmax(logits, axis=1) != self.subject.labels[wrong]]
            if not len(wrong):
                break
        return np.setdiff1d(np.arange(len(images)), wrong)


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
