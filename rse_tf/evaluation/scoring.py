"""The defense's own prediction, as often as an attacker asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.attacks.losses import Logits
from rse_tf.layers import is_random, seed_noise
from rse_tf.models import SelfEnsemble
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils import seeds
from rse_tf.utils.checks import checked_classes, checked_images, checked_integer
from rse_tf.utils.classifier import Classifier

# Independent answers that a persistent attacker waits for.
ANSWERS = 10
# Single draws behind every answer that `Answers.draws` looks at.
SINGLE_DRAWS = 10
# Probability with which `Answers.worst` may be wrong about an image.
_NEGLIGIBLE = 1e-4


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a deployed model answers, image by image.

    An answer is one prediction of the model as it is deployed: of a randomised one, the class of
    the mean probability of `num_draws` noisy passes.

    Attributes:
        correct: whether the answer is correct, for every evaluation seed: bool `[seeds, number]`.
        draws: share of single noisy passes that are correct, float `[seeds, number]`; `None`
            where it was not measured.
        worst: whether 10 independent answers are all correct, bool `[number]`; `None` where it
            was not measured. It is what a user of the model can rely on if an attacker may send
            an image again and again.
    """

    correct: np.ndarray
    draws: np.ndarray | None = None
    worst: np.ndarray | None = None


class Scorer:
    """Predicts as the defense does: the mean of `num_draws` passes where there is noise.

    Noise is what `NoiseLayer`s add; a model that is random in another way is taken for a
    deterministic one.

    Args:
        model: a `keras.Model` from images to logits, or any callable that is one; with several
            devices in the pool it must be a Keras model, to be copied to each.
        num_draws: passes that are averaged. Default 50 (Liu et al., 2018).
        eval_seeds: how often an accuracy is measured, each time with fresh noise. Default 3.
        batch_size: images that are predicted at a time.
        stop_error: as in `SelfEnsemble`. Default `None`: every prediction takes all draws.
        pool: who predicts. Default: this process, on the device of the model.

    Attributes:
        classifier: what predicts, a `SelfEnsemble` or the model itself.

    Raises:
        ValueError: if a count is not an integer of at least 1, if the model is known not to
            return logits, or as `SelfEnsemble`.
    """

    def __init__(
        self,
        model: keras.Model | Logits,
        num_draws: int = 50,
        eval_seeds: int = 3,
        batch_size: int = 128,
        stop_error: float | None = None,
        pool: DevicePool | None = None,
    ) -> None:
        num_draws = checked_integer("Scorer", "num_draws", num_draws)
        eval_seeds = checked_integer("Scorer", "eval_seeds", eval_seeds)
        self._batch_size = checked_integer("Scorer", "batch_size", batch_size)
        self.model = model
        self.is_random = is_random(model)
        # Without noise every draw and every seed is the same.
        self.num_draws = num_draws if self.is_random else 1
        self.seeds = range(eval_seeds if self.is_random else 1)
        self._pool = pool or DevicePool()
        self.classifier = model
        if self.is_random:
            self.classifier = SelfEnsemble(model, num_draws, stop_error=stop_error)
        self._checked = Classifier(self.classifier, "Scorer")
        self._stops_early = stop_error is not None
        self._predictors: dict[Any, list[Any]] = {}  # by kind and shape; one for each device

    def predictions(self, images: np.ndarray, *seed: int, label: str = "scoring") -> np.ndarray:
        """Predicted classes, int64 `[number]`.

        Args:
            images: floating-point `[number, height, width, channels]`, pixels as the model takes
                them.
            seed: numbers that the noise of a batch follows from, beside its place.
            label: what the progress bar says.

        Raises:
            ValueError: if the images are no floating-point numbers, or the model does not return
                logits for them.
        """
        return self.logits(images, seeds.SCORING, *seed, label=label).argmax(axis=-1)

    def logits(
        self, images: np.ndarray, stream: int, *seed: int, label: str = "scoring"
    ) -> np.ndarray:
        """The logits of one answer, float32 `[number, classes]`.

        Those of a randomised model are the log of its mean probability.

        Args:
            images: as for `predictions`.
            stream: which random numbers: one of the constants of `rse_tf.utils.seeds`.
            seed: as for `predictions`.
            label: what the progress bar says.

        Raises:
            ValueError: as `predictions`.
        """
        if not len(images):
            return np.zeros([0, 1], np.float32)
        images = checked_images("Scorer", images)
        shape = images.shape[1:]
        classes = self._checked.look(images).num_classes
        copies = self._pool.replicas(self.classifier, shape)
        predictors = self._compiled("answers", copies, shape)
        found = np.zeros([len(images), classes], np.float32)

        def predict(device: int, start: int) -> None:
            part = slice(start, start + self._batch_size)
            seed_noise(copies[device], stream, *seed, start)
            found[part] = predictors[device](tf.constant(images[part])).numpy()

        self._pool.map(predict, range(0, len(images), self._batch_size), label)
        return self._pool.all_reduce_sum(found)

    def correct(
        self, images: np.ndarray, labels: np.ndarray, *seed: int, label: str = "scoring"
    ) -> np.ndarray:
        """Which predictions are correct, for every evaluation seed: bool `[seeds, number]`.

        Args:
            images: as for `predictions`.
            labels: integer `[number]`, or one-hot `[number, classes]`.
            seed: numbers that the noise follows from, beside the evaluation seed.
            label: what the progress bar says.

        Raises:
            ValueError: if `labels` are neither, or as `predictions`.
        """
        rounds = [self.predictions(images, *seed, s, label=label) for s in self.seeds]
        return np.stack([found == self._classes(images, labels) for found in rounds])

    def answers(
        self, images: np.ndarray, labels: np.ndarray, *seed: int, label: str = "scoring"
    ) -> Answers:
        """All that is asked of a deployed model: see `Answers`, and `correct` for the arguments.

        The single draws, and the further answers that it takes to have 10, meet noise of their
        own. An image with a wrong answer needs no further one. Nor does one whose further
        answers, by the draws of those that are there, are all correct but for a probability of
        1e-4.

        Raises:
            ValueError: as `correct`.
        """
        labels = self._classes(images, labels)
        logits = [self.logits(images, seeds.SCORING, *seed, s, label=label) for s in self.seeds]
        correct = np.stack([each.argmax(axis=-1) == labels for each in logits])
        if not self.is_random or not len(images):
            return Answers(correct, correct.astype(np.float64), correct[0])
        draws = correct.astype(np.float64)
        if self.num_draws > 1:
            draws = np.stack(
                [self._draws(images, labels, *seed, s, label=label) for s in self.seeds]
            )
        worst = np.all(correct[:ANSWERS], axis=0)
        further = range(len(self.seeds), ANSWERS)
        unknown = np.flatnonzero(worst & ~self._is_settled(logits, len(further)))
        for s in further:
            found = self.predictions(images[unknown], *seed, s, label=label) == labels[unknown]
            worst[unknown[~found]] = False
            unknown = unknown[found]
        return Answers(correct, draws, worst)

    def _is_settled(self, logits: list[np.ndarray], further: int) -> np.ndarray:
        """Whether so many further answers are as those that are there and agree: bool `[number]`.

        An answer is the class that has more than half of the mean probability of its n draws.
        Let the answers that are there have D draws together, and their class the mean probability
        p over these. The inequality of Hoeffding says of two such means that the other one is 1/2
        or less with a probability of exp(-2 (p - 1/2)^2 / (1 / n + 1 / D)) at most.
        """
        if self._stops_early:  # which draws an answer takes then hangs on what they are
            return np.zeros(len(logits[0]), bool)
        p = np.mean([np.exp(each.max(axis=-1).astype(np.float64)) for each in logits], axis=0)
        spread = (1 + 1 / len(logits)) / self.num_draws
        fails = np.exp(-2 * np.maximum(p - 0.5, 0) ** 2 / spread)
        return further * fails <= _NEGLIGIBLE

    def _draws(self, images: np.ndarray, labels: np.ndarray, *seed: int, label: str) -> np.ndarray:
        """Share of single draws that are correct, float64 `[number]`."""
        images = checked_images("Scorer", images)
        copies = self._pool.replicas(self.classifier, images.shape[1:])
        singles = [copy.model for copy in copies]
        predictors = self._compiled("draws", singles, images.shape[1:])
        found = np.zeros(len(images), np.float64)

        def predict(device: int, start: int) -> None:
            part = slice(start, start + self._batch_size)
            seed_noise(singles[device], seeds.SINGLE_DRAWS, *seed, start)
            some = tf.constant(images[part])
            for _ in range(SINGLE_DRAWS):
                classes = predictors[device](some).numpy().argmax(axis=-1)
                found[part] += (classes == labels[part]) / SINGLE_DRAWS

        self._pool.map(predict, range(0, len(images), self._batch_size), label)
        return self._pool.all_reduce_sum(found)

    def _classes(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if not len(images):
            return labels
        classes = self._checked.look(np.asarray(images)).num_classes
        return checked_classes("Scorer", "labels", labels, len(images), classes)

    def _compiled(
        self, kind: str, models: Sequence[keras.Model | Logits], shape: Sequence[int]
    ) -> list[Any]:
        """One compiled model for each device."""
        key = (kind, *shape)
        if key not in self._predictors:
            self._predictors[key] = [_predictor(model, shape) for model in models]
        return self._predictors[key]


def _predictor(classifier: keras.Model | Logits, image_shape: Sequence[int]) -> Any:
    checked = Classifier(classifier, "Scorer")
    return tf.function(
        lambda images: checked(images),
        input_signature=[tf.TensorSpec([None, *image_shape], tf.float32)],
        autograph=False,
    )
