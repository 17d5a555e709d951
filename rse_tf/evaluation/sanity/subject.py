"""The model that is checked: its passes and gradients under a noise that can be replayed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.attacks.losses import Logits, cross_entropy, log_loss
from rse_tf.layers import CommonNoise, FrozenNoise, is_random, seed_noise
from rse_tf.models import SelfEnsemble
from rse_tf.utils import seeds
from rse_tf.utils.checks import (
    argument_error,
    checked_classes,
    checked_images,
    checked_integer,
)
from rse_tf.utils.classifier import Classifier

LOSSES = {"log_loss": log_loss, "cross_entropy": cross_entropy}


class Subject:
    """A model with the images that it is checked on.

    Args:
        model: a `keras.Model` from images to logits, or any callable that is one. Of a
            `SelfEnsemble` it is its network, and its number of draws is `num_draws`.
        images: floating-point `[number, height, width, channels]`, within `bounds`.
        labels: true classes, integer `[number]` or one-hot `[number, classes]`.
        bounds: smallest and largest pixel value. Default (0, 1).
        num_draws: passes that the deployed prediction of a randomised model averages. Default 50
            (Liu et al., 2018).
        attack_draws: draws that an attack on a randomised model averages. Default 10.
        batch_size: images that go through the model at a time.
        caller: what stands in front of errors.

    Attributes:
        declares_noise: whether the model has a noise layer that is alive at inference.
        is_random: whether it is scored as a `SelfEnsemble`.
        attacked: what an attack differentiates: the model, or if it is random its logits in
            `attack_draws` draws, whose losses are averaged.

    Raises:
        ProbabilitiesError: if the model returns probabilities.
        ValueError: if it returns something else that is no logits, or another argument is not one
            of the above.
    """

    def __init__(
        self,
        model: keras.Model | Logits,
        images: Any,
        labels: Any,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
        num_draws: int = 50,
        attack_draws: int = 10,
        batch_size: int = 128,
        caller: str = "Subject",
    ) -> None:
        if isinstance(model, SelfEnsemble):  # its network is checked, and predicts as it did
            model, num_draws = model.model, model.num_draws
        self.model: Any = model
        self.caller = caller
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.images = checked_images(caller, images, self.bounds)
        if self.images.ndim != 4:
            expected = "[number, height, width, channels]"
            raise argument_error(caller, "images", expected, self.images.shape)
        self.batch_size = checked_integer(caller, "batch_size", batch_size)
        self.num_draws = checked_integer(caller, "num_draws", num_draws)
        self.attack_draws = checked_integer(caller, "attack_draws", attack_draws)
        self.classifier = Classifier(model, caller)
        self.num_classes = self.classifier.look(self.images).num_classes
        self.labels = checked_classes(caller, "labels", labels, len(self.images), self.num_classes)
        self.is_random = is_random(model)
        self.declares_noise = self.is_random
        if isinstance(model, (FrozenNoise, CommonNoise)):
            self.declares_noise = is_random(model.model)
        self.attacked = self.with_draws(attack_draws)
        self._forward = self._compiled(self.classifier)
        self._gradients: dict[str, Any] = {}
        self._mean_gradients: dict[str, Any] = {}

    @property
    def has_gradient(self) -> bool:
        """Whether TensorFlow can differentiate the model; a black box it cannot."""
        return self.gradient(self.images[:1], self.labels[:1]) is not None

    def with_draws(self, draws: int) -> Logits:
        """What an attack differentiates to average so many draws; without noise, the model.

        Its losses are averaged, as those of expectation over transformation are (Athalye et al.,
        2018).
        """
        return SelfEnsemble(self.model, draws).stacked_logits if self.is_random else self.model

    def seed(self, *seed: int) -> None:
        """Restarts all random streams of the model that can be restarted."""
        seed_noise(self.model, seeds.SANITY, *seed)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits of one pass, float32 `[number, classes]`, under the noise that comes next."""
        parts = range(0, len(images), self.batch_size)
        found = [self._forward(tf.constant(images[i : i + self.batch_size])) for i in parts]
        return np.concatenate([part.numpy() for part in found])

    def gradient(
        self, images: np.ndarray, labels: np.ndarray, loss: str = "log_loss", scale: float = 1.0
    ) -> np.ndarray | None:
        """Gradients of a loss, like the images, of one pass; `None` without a gradient.

        Args:
            images: float32 `[number, height, width, channels]`.
            labels: integer `[number]`.
            loss: `"log_loss"`, which the attacks of this package follow, or `"cross_entropy"`.
            scale: what the logits are multiplied by.

        Raises:
            ValueError: if `loss` is neither.
        """
        found = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = images[part], labels[part]
            gradient = gradient_of(self.classifier, *batch, loss, self._gradients, scale)
            if gradient is None:
                return None
            found.append(gradient)
        return np.concatenate(found)

    def mean_gradient(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """As `gradient`, of `log_loss` in what an attack differentiates: the mean of its draws."""
        if not self.is_random:
            return self.gradient(images, labels)
        return gradient_of(self.attacked, images, labels, "log_loss", self._mean_gradients)

    def random_points(self, epsilon: float, *seed: int) -> np.ndarray:
        """Images moved to uniform points of the L-infinity ball, within the bounds."""
        noise = np.random.default_rng(list(seed)).uniform(-epsilon, epsilon, self.images.shape)
        return np.clip(self.images + noise, *self.bounds).astype(np.float32)

    def _compiled(self, logits: Logits) -> Any:
        signature = [tf.TensorSpec([None, *self.images.shape[1:]], tf.float32)]
        return tf.function(logits, input_signature=signature, autograph=False)


def gradient_of(
    logits: Logits,
    images: np.ndarray,
    labels: np.ndarray,
    loss: str,
    graphs: dict[str, Any],
    scale: float = 1.0,
) -> np.ndarray | None:
    """As `Subject.gradient`, of any logits function; `graphs` keeps what is compiled.

    Raises:
        ValueError: if `loss` is neither.
    """
    if loss not in LOSSES:
        raise argument_error("gradient_of", "loss", f"one of {sorted(LOSSES)}", loss)

    def run(x: tf.Tensor, y: tf.Tensor, factor: tf.Tensor) -> tf.Tensor | None:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = LOSSES[loss](factor * logits(x), y)
        return tape.gradient(value, x)

    if loss not in graphs:
        pixels = tf.TensorSpec([None, *images.shape[1:]], tf.float32)
        signature = [pixels, tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.float32)]
        graphs[loss] = tf.function(run, input_signature=signature, autograph=False)
    found = graphs[loss](tf.constant(images), tf.constant(labels), tf.constant(scale, tf.float32))
    return None if found is None else found.numpy()
