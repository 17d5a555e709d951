"""The defense's own prediction, and what an attack did to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.attacks.losses import Logits
from rse_tf.evaluation.result import Score
from rse_tf.layers import is_random, seed_noise
from rse_tf.models import SelfEnsemble
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.checks import checked_classes, checked_images, checked_integer
from rse_tf.utils.classifier import Classifier

# Keeps the noise of the scoring apart from that of trainings and attacks.
_SCORING_NOISE = 0x5C0DE


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
        self._predictors: dict[tuple[int, ...], list[Any]] = {}  # by shape; one for each device

    def predictions(
        self, images: np.ndarray, *seed: int, label: str = "scoring"
    ) -> np.ndarray:
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
        if not len(images):
            return np.zeros([0], np.int64)
        images = checked_images("Scorer", images)
        shape = images.shape[1:]
        self._checked.look(images)
        copies = self._pool.replicas(self.classifier, shape)
        if shape not in self._predictors:
            self._predictors[shape] = [_predictor(copy, shape) for copy in copies]
        found = np.zeros([len(images)], np.int64)

        def predict(device: int, start: int) -> None:
            part = slice(start, start + self._batch_size)
            seed_noise(copies[device], _SCORING_NOISE, *seed, start)
            found[part] = self._predictors[shape][device](tf.constant(images[part])).numpy()

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
        if len(images):
            classes = self._checked.look(np.asarray(images)).num_classes
            labels = checked_classes("Scorer", "labels", labels, len(images), classes)
        return np.stack([found == labels for found in rounds])


def _predictor(classifier: keras.Model | Logits, image_shape: Sequence[int]) -> Any:
    checked = Classifier(classifier, "Scorer")
    return tf.function(
        lambda images: tf.argmax(checked(images), axis=-1),
        input_signature=[tf.TensorSpec([None, *image_shape], tf.float32)],
        autograph=False,
    )


def score(
    clean: np.ndarray,
    adversarial: np.ndarray,
    correct_clean: np.ndarray,
    correct_adversarial: np.ndarray,
) -> Score:
    """Scores one attack setting.

    Args:
        clean: the original images `[number, height, width, channels]`.
        adversarial: the images after the attack, likewise.
        correct_clean: which clean images are predicted correctly, bool `[seeds, number]`.
        correct_adversarial: which adversarial images are, bool `[seeds, number]`.
    """
    perturbation = (adversarial - clean).reshape(len(clean), -1).astype(np.float64)
    l2 = np.sqrt(np.sum(perturbation**2, axis=1))
    linf = np.max(np.abs(perturbation), axis=1)
    success = correct_clean & ~correct_adversarial
    # A success counts once for every evaluation seed that it fooled.
    l2_of_successes = np.broadcast_to(l2, success.shape)[success]
    linf_of_successes = np.broadcast_to(linf, success.shape)[success]
    accuracies = correct_adversarial.mean(axis=1)
    return Score(
        accuracy=float(accuracies.mean()),
        accuracy_std=_spread(accuracies),
        rms_l2=float(np.sqrt(np.mean(l2**2))),
        mean_l2=float(l2_of_successes.mean()) if success.any() else None,
        median_l2=float(np.median(l2_of_successes)) if success.any() else None,
        mean_linf=float(linf_of_successes.mean()) if success.any() else None,
        max_linf=float(linf.max()),
        success_rate=float(success.sum() / correct_clean.sum()) if correct_clean.any() else None,
        misclassified_clean=float(1 - correct_clean.mean()),
    )


def mean_score(
    clean: np.ndarray,
    adversarial: Sequence[np.ndarray],
    correct_clean: Sequence[np.ndarray],
    correct_adversarial: Sequence[np.ndarray],
) -> Score:
    """Averages over the members of an ensemble, of which each was attacked or scored by itself.

    `accuracy_std` is that of the mean, over the evaluation seeds; `accuracy_std_members` that of
    the members, each at its mean over the seeds. A number that one member lacks, such as the
    distortion of its successes, is averaged over the others.

    Args:
        clean: as for `score`.
        adversarial: for each member, as for `score`.
        correct_clean: likewise.
        correct_adversarial: likewise.
    """
    parts = zip(adversarial, correct_clean, correct_adversarial, strict=True)
    scores = [score(clean, *part) for part in parts]
    if len(scores) == 1:
        return scores[0]
    columns = {
        field.name: [getattr(one, field.name) for one in scores]
        for field in dataclasses.fields(Score)
    }
    means: dict[str, Any] = {}
    for name, column in columns.items():
        known = [value for value in column if value is not None]
        means[name] = float(np.mean(known)) if known else None
    # A member without noise has one seed, which stands for all.
    by_seed = np.broadcast_arrays(*(correct.mean(axis=1) for correct in correct_adversarial))
    means["accuracy_std"] = _spread(np.mean(by_seed, axis=0))
    means["accuracy_std_members"] = _spread(np.array(columns["accuracy"]))
    means["rms_l2"] = float(np.sqrt(np.mean(np.square(columns["rms_l2"]))))
    means["max_linf"] = max(columns["max_linf"])
    return Score(**means)


def _spread(accuracies: np.ndarray) -> float:
    return float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
