"""What an attacker differentiates instead of a randomised model or an ensemble.

Each source is a callable from images to logits, which an attack takes for a model. `StackedDraws`
and `AveragedEnsemble.stacked_logits` give the logits of each draw or member: of these, an attack
follows the mean of the losses. `MeanProbability`, `MeanLogits` and `ReweightedMembers` make one
prediction of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rse_tf.attacks.losses import Logits, joint_logits
from rse_tf.layers import CommonNoise, FrozenNoise
from rse_tf.models.averaged_ensemble import AveragedEnsemble
from rse_tf.models.self_ensemble import SelfEnsemble, divisors, tile
from rse_tf.utils.checks import argument_error, checked_integer
from rse_tf.utils.classifier import RANDOM_STREAM, Classifier

# Members whose top logits are further apart are scaled down to that, as the authors of MORA do.
_LARGEST_GAP = 10.0
_TINY = 1e-12


class StackedDraws:
    """The logits of several draws of a random model, in bounded memory under a gradient too.

    An attack on it follows the mean of the draws' losses. With `max_rows`, the forward passes keep
    no activations, and the gradient repeats each pass with the same noise: that is a second
    forward pass. An attack of a small `batch_size` needs as little memory without it.

    Args:
        model: a Keras model with a random stream, for fresh draws in every call; or
            `CommonNoise` or `FrozenNoise` around one, for the draws that it holds.
        num_draws: number of draws. Default 10.
        max_rows: how many images go through the model at a time, all draws counted; at least
            one draw of the batch does. Default `None`: all draws are one pass, the fastest way.

    Call arguments:
        images: float32 `[batch, height, width, channels]`.

    Returns from a call:
        float32 `[num_draws, batch, classes]`.

    Raises:
        ValueError: if the model has no random stream, does not return logits
            `[batch, classes]`, or a number is not a positive integer.
    """

    def __init__(self, model: Any, num_draws: int = 10, max_rows: int | None = None) -> None:
        self._held = model if isinstance(model, (CommonNoise, FrozenNoise)) else None
        network = model if self._held is None else self._held.model
        self._classifier = Classifier(network, "StackedDraws")
        is_keras = isinstance(network, keras.layers.Layer)
        variables = network.variables if is_keras else []
        self._streams = [one.value for one in variables if one.path.endswith(RANDOM_STREAM)]
        if not self._streams:
            expected = "a Keras model with something random in it, such as a NoiseLayer"
            raise argument_error("StackedDraws", "model", expected, model)
        self.model = model
        self.num_draws = checked_integer("StackedDraws", "num_draws", num_draws)
        self.max_rows = max_rows
        if max_rows is not None:
            self.max_rows = checked_integer("StackedDraws", "max_rows", max_rows)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.convert_to_tensor(images)
        if self._held is not None:
            self._held.rewind()
        self._classifier.look_at_shape(images.shape[1:])
        if self.max_rows is None:
            logits = self._draw(images, self.num_draws)
        else:
            logits = self._in_passes(images, self.max_rows)
        return tf.reshape(logits, [self.num_draws, tf.shape(images)[0], logits.shape[-1]])

    def _draw(self, images: tf.Tensor, draws: int | tf.Tensor) -> tf.Tensor:
        """The logits of so many draws in one pass, `[draws * batch, classes]`."""
        return self._classifier(tile(images, draws))

    def _in_passes(self, images: tf.Tensor, max_rows: int) -> tf.Tensor:
        """The logits of all draws, a pass after the other, `[num_draws * batch, classes]`."""
        sizes = tf.constant(divisors(self.num_draws))
        fitting = tf.where(sizes * tf.shape(images)[0] <= max_rows, sizes, 1)
        at_once = tf.reduce_max(fitting)
        passes = self.num_draws // at_once
        classes = self._classifier.look_at_shape(images.shape[1:]).num_classes

        @tf.custom_gradient
        def run(images: tf.Tensor) -> Any:
            def one(i: tf.Tensor, logits: tf.TensorArray, streams: tf.TensorArray) -> tuple:
                streams = streams.write(i, self._positions())
                return i + 1, logits.write(i, self._draw(images, at_once)), streams

            logits = tf.TensorArray(
                tf.float32, passes, infer_shape=False, element_shape=[None, classes]
            )
            start = self._positions()
            streams = tf.TensorArray(start.dtype, passes, element_shape=start.shape)
            _, logits, streams = tf.while_loop(
                lambda i, *_: i < passes, one, [0, logits, streams], parallel_iterations=1
            )
            stacked, positions = logits.stack(), streams.stack()

            def gradient(upstream: tf.Tensor, variables: Any = ()) -> Any:
                upstream = tf.reshape(upstream, tf.shape(stacked))
                end = self._positions()

                def again(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                    self._move_to(positions[i])
                    with tf.GradientTape(watch_accessed_variables=False) as tape:
                        tape.watch(images)
                        logits = self._draw(images, at_once)
                    part = tape.gradient(logits, images, upstream[i], unconnected_gradients="zero")
                    return i + 1, total + part

                state = [0, tf.zeros_like(images)]
                total = tf.while_loop(lambda i, _: i < passes, again, state, parallel_iterations=1)[
                    1
                ]
                self._move_to(end)
                return (total, [None] * len(variables)) if variables else total

            return tf.reshape(stacked, [-1, classes]), gradient

        return run(images)

    def _positions(self) -> tf.Tensor:
        """Where the random streams are, `[streams, 2]`."""
        return tf.stack([tf.convert_to_tensor(stream) for stream in self._streams])

    def _move_to(self, positions: tf.Tensor) -> None:
        for stream, position in zip(self._streams, tf.unstack(positions)):
            stream.assign(position)


class MeanProbability:
    """The log of the mean probability of several members or draws: their common prediction.

    Args:
        members: callable from images to stacked logits `[members, batch, classes]`.
    """

    def __init__(self, members: Logits) -> None:
        self._classifier = Classifier(members, type(self).__name__, stacked=True)
        self.num_draws = getattr(members, "num_draws", 1)  # that a call takes

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns logits `[batch, classes]`."""
        return joint_logits(self._stacked(images))

    def _stacked(self, images: tf.Tensor) -> tf.Tensor:
        stacked = self._classifier(images)
        if stacked.shape.rank != 3:
            expected = "returning stacked logits [members, batch, classes]"
            raise argument_error(type(self).__name__, "members", expected, stacked.shape)
        return stacked


class MeanLogits(MeanProbability):
    """The mean of the members' logits, in which a member that is sure hides no other.

    Args:
        members: callable from images to stacked logits `[members, batch, classes]`.
        own_prediction: whether the values are those of `MeanProbability`, and the mean logits
            give the gradient alone: the attack then judges success as the defense does.
            Default no: the model attacked is that of the mean logits.
    """

    def __init__(self, members: Logits, own_prediction: bool = False) -> None:
        super().__init__(members)
        self.own_prediction = own_prediction

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns logits `[batch, classes]`."""
        stacked = self._stacked(images)
        mean = tf.reduce_mean(stacked, axis=0)
        return _with_gradient_of(joint_logits(stacked), mean) if self.own_prediction else mean


class ReweightedMembers(MeanProbability):
    """The ensemble's prediction, with a gradient that attends to the members not yet fooled.

    In the manner of MORA (Yu, Gao and Xu, 2022): the gradient is that of
    `(1 - share) * ensemble / gap + share * unfooled`, all in logits. `gap` is that between the
    ensemble's two top logits. `unfooled` is a mean over the members that are not fooled, weighted
    by how sensitive the mean probability is to the logits of each, p (1 - p).

    The wrapper does not know the labels: it takes the ensemble's class for the label, which it
    is until the ensemble is fooled. It also keeps the softmax of the loss that of the ensemble,
    where the authors take that of the mixture.

    Args:
        members: callable from images to stacked logits `[members, batch, classes]`, such as
            `AveragedEnsemble.stacked_logits`.
        share: of the members, from 0 to 1. Default 0.5, the first of those that the authors'
            code tries: 0.5, 0, 0.25, 0.75, 1.

    Raises:
        ValueError: if `share` is not from 0 to 1.
    """

    def __init__(self, members: Logits, share: float = 0.5) -> None:
        super().__init__(members)
        if isinstance(share, bool) or not 0 <= share <= 1:
            raise argument_error("ReweightedMembers", "share", "from 0 to 1", share)
        self.share = float(share)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the ensemble's logits `[batch, classes]`."""
        stacked = self._stacked(images)
        ensemble = joint_logits(stacked)
        scale = tf.maximum(tf.reduce_max(_gap(stacked), axis=0) / _LARGEST_GAP, 1.0)
        members = stacked / tf.stop_gradient(scale)[:, None]
        weights = tf.stop_gradient(_weights(stacked, ensemble))
        unfooled = tf.reduce_sum(weights[:, :, None] * members, axis=0)
        own = ensemble / tf.stop_gradient(tf.maximum(_gap(ensemble), _TINY))[:, None]
        return _with_gradient_of(ensemble, (1 - self.share) * own + self.share * unfooled)


def _weights(stacked: tf.Tensor, ensemble: tf.Tensor) -> tf.Tensor:
    """Each member's share `[members, batch]`; 0 for those that do not share the class."""
    chosen = tf.one_hot(
        tf.argmax(ensemble, axis=-1), stacked.shape[-1], on_value=True, off_value=False
    )
    log_probs = tf.nn.log_softmax(stacked)
    own = tf.reduce_sum(tf.where(chosen, log_probs, 0.0), axis=-1)
    # 1 - p through the other classes: near p = 1 a difference would be 0.
    others = tf.reduce_logsumexp(tf.where(chosen, -float("inf"), log_probs), axis=-1)
    agree = tf.argmax(stacked, axis=-1) == tf.argmax(ensemble, axis=-1)
    # The mean probability can choose a class that no member does: then all count.
    agree |= ~tf.reduce_any(agree, axis=0)
    return tf.nn.softmax(tf.where(agree, own + others, -float("inf")), axis=0)


def _gap(logits: tf.Tensor) -> tf.Tensor:
    """By how much the largest logit exceeds the second."""
    top = tf.math.top_k(logits, 2).values
    return top[..., 0] - top[..., 1]


def _with_gradient_of(values: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    return tf.stop_gradient(values) + (source - tf.stop_gradient(source))


def gradient_source(model: keras.Model, gradient: str) -> Logits:
    """What an attacker differentiates of an ensemble or of many draws.

    Args:
        model: an `AveragedEnsemble`, a `SelfEnsemble`, or an average of the latter. Any other
            has no members to choose from, and is the source itself.
        gradient: a name of `GRADIENT_SOURCES`. In `"mean_logits"` and `"reweighted"`, the values
            are the model's own, so that an attack judges success as the defense does.

    Returns:
        A callable from images to logits `[batch, classes]`, or, for `"mean_loss"`, to stacked
        logits `[members, batch, classes]`.

    Raises:
        ValueError: if there is no such gradient.
    """
    if gradient not in GRADIENT_SOURCES:
        expected = f"one of {', '.join(GRADIENT_SOURCES)}"
        raise argument_error("gradient_source", "gradient", expected, gradient)
    if not isinstance(model, (AveragedEnsemble, SelfEnsemble)):
        return model
    return GRADIENT_SOURCES[gradient](model)


def _all_logits(model: AveragedEnsemble | SelfEnsemble) -> Logits:
    """The logits of all members, and of all draws of each, `[members * draws, batch, classes]`."""
    members = model.members if isinstance(model, AveragedEnsemble) else []
    draws = [member.stacked_logits for member in members if isinstance(member, SelfEnsemble)]
    if not draws:
        return model.stacked_logits
    return lambda images: tf.concat([stacked(images) for stacked in draws], axis=0)


GRADIENT_SOURCES: dict[str, Callable[[Any], Logits]] = {
    "member": lambda model: model,  # each member in turn is the model
    "mean_loss": lambda model: model.stacked_logits,
    "mean_probability": lambda model: model,
    "mean_logits": lambda model: MeanLogits(_all_logits(model), own_prediction=True),
    "reweighted": lambda model: ReweightedMembers(model.stacked_logits),
}
