"""Row D7: does the attack find an adversarial example that is known to exist?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.attacks.base import Attack
from rse_tf.evaluation.sanity.points import random_points
from rse_tf.evaluation.sanity.subject import Subject
from rse_tf.evaluation.sanity.suite import retargeted
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, WARN, Rule, SanityRow
from rse_tf.layers import noise_state, seed_noise, set_noise_state
from rse_tf.utils import seeds
from rse_tf.utils.classifier import is_plain_graph

# Points labelled 0 around every image, the image itself among them, and how far out they lie.
_INNER, _INNER_RADIUS = 200, 0.95
# Where the boundary lies between the outermost of them (0) and the planted example (1).
_CLOSENESS = 0.9
# Ridge of the read-out, relative to the mean variance of a feature.
_RIDGE = 1e-3
_TRIES = 5

D7 = Rule(
    "D7",
    "Does the attack find a planted adversarial example?",
    "found at least 95 % PASS, 80 % WARN, else FAIL; WARN if random points find half",
)

Features = Callable[[tf.Tensor], tf.Tensor]


def d7_binarisation(
    subject: Subject, attack: Attack, epsilon: float, norm: str = "linf", num_images: int = 32
) -> SanityRow:
    """The binarisation test: around each image, a two-class problem with a known answer.

    Points inside 0.95 epsilon are labelled 0 and one point on the epsilon sphere is labelled 1. A
    linear read-out of the frozen last hidden features tells them apart, so an adversarial example
    exists. An attack that is fit for the network finds one. The row also tells how often random
    points of the sphere, as many as there are inner points, do; where they often do, the test is
    too easy to say much.

    Two things differ from the authors' code. The read-out is the ridge solution instead of a
    logistic regression, for it needs no iterations. A randomised network is asked under one
    frozen draw of its noise, the same for all points: what averaging does to the gradient is the
    matter of B3 and C2.

    Args:
        subject: the model and its images. Without a last layer that Keras can name, as in a plain
            function, the read-out is of the logits.
        attack: any attack with a field `epsilon`; its field `loss`, if any, is set to
            `"cross_entropy"`, and other settings of the loss are left out.
        epsilon: radius of the ball, in pixel units.
        norm: `"linf"` or `"l2"`.
        num_images: how many images; 512 in the paper.

    Reference:
        Zimmermann, Brendel, Tramer and Carlini (2022), arXiv:2206.13991.
    """
    problem = _Problem(subject)
    # Of other losses the attacks have, some need more classes than two.
    loss: dict[str, Any] = {"loss": "cross_entropy"} if hasattr(attack, "loss") else {}
    if hasattr(attack, "num_targets"):
        loss["num_targets"] = None
    attack = retargeted(attack, problem, epsilon, batch_size=1, **loss)
    found, by_chance, planted = 0, 0, 0
    images = subject.images[:num_images]
    for number, image in enumerate(images):
        if not problem.plant(image, epsilon, norm, number):
            continue
        planted += 1
        label = np.zeros([1], np.int32)
        found += bool(problem.margins(attack(image[None], label).adversarial)[0] > 0)
        many = np.repeat(image[None], _INNER, axis=0)
        seed = [seeds.BINARISATION, number, _TRIES]
        points = random_points(many, epsilon, norm, subject.bounds, seed)
        by_chance += bool((problem.margins(points) > 0).any())
    if 2 * planted < len(images):
        return D7.not_run(f"an example could be planted near {planted} of {len(images)} images")
    rate, easy = found / planted, 2 * by_chance >= planted
    reason = f"found {found} of {planted}; {_INNER} random points find {by_chance}"
    if problem.of_logits:
        reason += "; the read-out is of the logits, for hidden features are not known"
    if rate < 0.8:
        return D7.row(FAIL, rate, reason)
    return D7.row(WARN if rate < 0.95 or easy else PASS, rate, reason)


class _Problem:
    """The two-class logits around one image; `plant` exchanges the image."""

    def __init__(self, subject: Subject) -> None:
        self._bounds = subject.bounds
        hidden = hidden_features(subject.model)
        self.of_logits = hidden is None
        self._features = _frozen(subject, hidden)
        size = int(self._features(tf.constant(subject.images[:1])).shape[-1])
        self._weights = tf.Variable(tf.zeros([size]), trainable=False)
        self._bias = tf.Variable(-1.0, trainable=False)
        pixels = tf.TensorSpec([None, *subject.images.shape[1:]], tf.float32)
        all_features = self._one_by_one if subject.declares_noise else self._features
        self._all_features = tf.function(all_features, input_signature=[pixels], autograph=False)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Logits `[1, 2]` of one image."""
        margin = tf.linalg.matvec(self._features(images), self._weights) + self._bias
        return tf.stack([-margin / 2, margin / 2], axis=-1)

    def _one_by_one(self, images: tf.Tensor) -> tf.Tensor:
        # The noise of a row depends on its place in the batch: all points are to meet the same.
        return tf.map_fn(lambda x: self._features(x[None])[0], images, parallel_iterations=1)

    def margins(self, images: np.ndarray) -> np.ndarray:
        """By how much label 1 wins, `[number]`."""
        features = self._all_features(tf.constant(images)).numpy()
        return features @ self._weights.numpy() + self._bias.numpy()

    def plant(self, image: np.ndarray, epsilon: float, norm: str, number: int) -> bool:
        """Makes the problem around an image; returns whether its points can be told apart."""
        rng = np.random.default_rng([seeds.BINARISATION, number])
        many = np.repeat(image[None], _INNER, axis=0)
        inner = np.concatenate([image[None], _inside(many[1:], epsilon, norm, rng)])
        inner = np.clip(inner, *self._bounds).astype(np.float32)
        inner_features = self._all_features(tf.constant(inner)).numpy().astype(np.float64)
        for attempt in range(_TRIES):
            seed = [seeds.BINARISATION, number, attempt]
            outer = random_points(image[None], epsilon, norm, self._bounds, seed)
            outer_features = self._all_features(tf.constant(outer)).numpy()[0]
            weights = _read_out(inner_features, outer_features.astype(np.float64))
            edge, peak = (inner_features @ weights).max(), float(outer_features @ weights)
            bias = -(edge + _CLOSENESS * (peak - edge))
            own = float(inner_features[0] @ weights) + bias
            if own >= 0:
                continue
            # Scaled so that the image itself lies one logit inside.
            self._weights.assign((weights / -own).astype(np.float32))
            self._bias.assign(np.float32(bias / -own))
            # As the attack will see it, in float32.
            if self.margins(outer)[0] > 0 and (self.margins(inner) < 0).all():
                return True
        return False


def _inside(images: np.ndarray, epsilon: float, norm: str, rng: np.random.Generator) -> np.ndarray:
    """Uniform points within 0.95 epsilon."""
    radius = _INNER_RADIUS * epsilon
    if norm == "linf":
        return images + rng.uniform(-radius, radius, images.shape)
    moves = rng.standard_normal(images.shape)
    sizes = np.linalg.norm(moves.reshape(len(moves), -1), axis=1)
    reach = radius * rng.uniform(size=len(moves)) ** (1 / moves[0].size)
    return images + moves * (reach / sizes)[:, None, None, None]


def _read_out(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Weights `[features]` along which one point lies far from the others, as these vary."""
    mean = inner.mean(axis=0)
    centred, away = inner - mean, outer - mean
    spread = float(np.mean(centred**2))
    if spread == 0:  # constant features; whatever differs tells them apart
        return away
    ridge = _RIDGE * spread * len(inner)
    if centred.shape[0] > centred.shape[1]:
        return np.linalg.solve(centred.T @ centred + ridge * np.eye(len(away)), away)
    # (C^T C + r)^-1 d = (d - C^T (C C^T + r)^-1 C d) / r: of the points' size, not the features'.
    gram = centred @ centred.T + ridge * np.eye(len(inner))
    return (away - centred.T @ np.linalg.solve(gram, centred @ away)) / ridge


def _frozen(subject: Subject, hidden: keras.Model | None) -> Features:
    """Hidden features, or without any the logits, under one draw of the noise."""
    part = subject.model if hidden is None else hidden
    seed_noise(subject.model, seeds.BINARISATION)
    state = noise_state(part)

    def features(images: tf.Tensor) -> tf.Tensor:
        set_noise_state(part, state)
        if hidden is None:
            return subject.classifier(images)
        found = tf.cast(hidden(images, training=False), tf.float32)
        return tf.ensure_shape(found, [None, hidden.output_shape[-1]])

    return features


def hidden_features(model: Any) -> keras.Model | None:
    """The part of a Keras model in front of its last layer of weights, `[batch, features]`.

    Args:
        model: any model.

    Returns:
        `None` of a model that is no graph of layers, one after the other at its end, or whose
        features have no fixed number.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "outputs", None):
        return None
    if not is_plain_graph(model) or len(model.outputs) != 1 or len(model.inputs) != 1:
        return None
    images, tensor = model.inputs[0], model.outputs[0]
    while True:
        layer, node, _ = tensor._keras_history
        inputs = layer._inbound_nodes[node].input_tensors if layer._inbound_nodes else []
        if len(inputs) != 1:
            return None
        tensor = inputs[0]
        if isinstance(layer, keras.Model):
            inner = hidden_features(layer)
            return None if inner is None else keras.Model(images, inner(tensor))
        if hasattr(layer, "kernel"):
            known = None not in tensor.shape[1:]
            return keras.Model(images, keras.layers.Flatten()(tensor)) if known else None
