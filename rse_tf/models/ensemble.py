"""Ensembles as models: their output is the log of the mean probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rse_tf.models.stopping import looks

# log(0) for practical purposes: finite, so that its gradient is 0 and not NaN.
_LOG_ZERO = -1e30


@keras.saving.register_keras_serializable(package="rse_tf")
class SelfEnsemble(keras.Model):
    """Averages the class probabilities of several noisy passes through one model.

    This is the prediction of Liu et al. (2018), Algorithm 1. The result is the log of the
    mean probability, which serves as logits: its softmax is the mean probability, so it can
    be scored, attacked and exported like any other classifier.

    Args:
        model: a model from images to logits `[batch, num_classes]`, with noise that is alive
            at inference.
        num_draws: number of passes. Default 50, section 4 of the paper; it is stable beyond
            10 (Figure 5).
        max_rows: how many images go through the model at a time, all draws counted. It
            bounds the memory of a prediction, whatever the batch and the number of draws. A
            gradient through it needs memory for all of them.
        stop_error: an image takes no further draws once its class is settled: largest
            probability that this is not the class of all `num_draws`. The mean is then over
            fewer draws. Default `None`: all images take all draws, as in the paper. At 0.05 a
            network that is sure of its images needs a quarter of the draws.

    Call arguments:
        images: `[batch, height, width, channels]`.

    Returns from a call:
        Log of the mean probability, float32 `[batch, num_classes]`.

    Raises:
        ValueError: if `num_draws` or `max_rows` is not a positive integer, or `stop_error` not
            between 0 and 1.
    """

    def __init__(
        self,
        model: keras.Model,
        num_draws: int = 50,
        max_rows: int = 512,
        stop_error: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("num_draws", num_draws), ("max_rows", max_rows)):
            if isinstance(value, bool) or int(value) != value or value < 1:
                raise ValueError(
                    f"SelfEnsemble: {name} must be a positive integer. Received: {name}={value!r}"
                )
        if stop_error is not None and not 0 < stop_error < 1:
            raise ValueError(
                "SelfEnsemble: stop_error must be None or a probability above 0 and below 1. "
                f"Received: stop_error={stop_error!r}"
            )
        self.model = model
        self.num_draws = int(num_draws)
        self.max_rows = int(max_rows)
        self.stop_error = stop_error

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.with_draws(images)[0]

    def with_draws(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what a call returns, and how many draws each image took, int32 `[batch]`."""
        parts = tf.maximum((tf.shape(images)[0] - 1) // self.max_rows + 1, 1)

        def part(i: tf.Tensor, *outputs: tf.TensorArray) -> tuple[Any, ...]:
            found = self._average(images[i * self.max_rows : (i + 1) * self.max_rows])
            return i + 1, *(array.write(i, one) for array, one in zip(outputs, found))

        outputs = [
            tf.TensorArray(dtype, parts, infer_shape=False, element_shape=shape)
            for dtype, shape in (
                (tf.float32, [None, self._num_classes(images)]), (tf.int32, [None])
            )
        ]  # fmt: skip
        _, log_probs, draws = tf.while_loop(
            lambda i, *_: i < parts, part, [tf.constant(0), *outputs], parallel_iterations=1
        )
        return log_probs.concat(), draws.concat()

    def _average(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`with_draws` for `max_rows` images or fewer."""
        classes = self._num_classes(images)
        steps = [] if self.stop_error is None else looks(self.num_draws, self.stop_error)
        ends = tf.constant([0, *(look.draws for look in steps), self.num_draws])
        leads = tf.constant([look.lead for look in steps] + [0.0])

        def round_(
            i: tf.Tensor, rows: tf.Tensor, log_sum: tf.Tensor, draws: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            """Draws up to the next look for the images `rows` that are still undecided."""
            start, end = ends[i], ends[i + 1]
            some = self._add_draws(
                tf.gather(images, rows), tf.gather(log_sum, rows), end - start
            )
            log_sum = tf.tensor_scatter_nd_update(log_sum, rows[:, None], some)
            draws = tf.tensor_scatter_nd_update(draws, rows[:, None], tf.fill(tf.shape(rows), end))
            largest = tf.exp(tf.reduce_max(some, axis=-1)) / tf.cast(end, tf.float32)
            return i + 1, rows[2 * largest - 1 < leads[i]], log_sum, draws

        batch = tf.shape(images)[0]
        state = [
            tf.constant(0),
            tf.range(batch),
            tf.fill([batch, classes], _LOG_ZERO),
            tf.zeros([batch], tf.int32),
        ]
        shapes = [tf.TensorShape(shape) for shape in ([], [None], [None, classes], [None])]
        *_, log_sum, draws = tf.while_loop(
            lambda i, rows, *_: (i <= len(steps)) & (tf.size(rows) > 0),
            round_,
            state,
            shape_invariants=shapes,
            parallel_iterations=1,
        )
        return log_sum - tf.math.log(tf.cast(draws, tf.float32))[:, None], draws

    def _add_draws(self, images: tf.Tensor, log_sum: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Adds the probabilities of so many passes to a sum of probabilities; both are logs."""
        batch = tf.shape(images)[0]
        at_once = tf.clip_by_value(self.max_rows // tf.maximum(batch, 1), 1, number)

        def draw(done: tf.Tensor, log_sum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            draws = tf.minimum(at_once, number - done)
            repeats = tf.concat([[draws], tf.ones_like(tf.shape(images)[1:])], axis=0)
            log_probs = log_probabilities(self.model, tf.tile(images, repeats))
            log_probs = tf.reshape(log_probs, [draws, batch, log_probs.shape[-1]])
            log_probs = tf.concat([log_sum[None], log_probs], axis=0)
            return done + draws, tf.reduce_logsumexp(log_probs, axis=0)

        # A loop, never tf.vectorized_map, which would give every pass the same noise. One after
        # the other: TensorFlow would run ten at once, in ten times the memory.
        return tf.while_loop(
            lambda done, _: done < number, draw, [tf.constant(0), log_sum], parallel_iterations=1
        )[1]

    def stacked_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits of every draw, `[num_draws, batch, num_classes]`, all at once.

        An attack on these differentiates the mean of the draws' losses, and not the loss of
        their mean probability.
        """
        batch = tf.shape(images)[0]
        repeats = tf.concat([[self.num_draws], tf.ones_like(tf.shape(images)[1:])], axis=0)
        logits = tf.cast(self.model(tf.tile(images, repeats), training=False), tf.float32)
        return tf.reshape(logits, [self.num_draws, batch, logits.shape[-1]])

    def _num_classes(self, images: tf.Tensor) -> int:
        return int(_output_shape(self.model, images.shape)[-1])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return _output_shape(self.model, input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": _serialize(self.model),
            "num_draws": self.num_draws,
            "max_rows": self.max_rows,
            "stop_error": self.stop_error,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SelfEnsemble:
        model = _deserialize(config["model"], custom_objects)
        return cls(**{**config, "model": model})


@keras.saving.register_keras_serializable(package="rse_tf")
class AveragedEnsemble(keras.Model):
    """Averages the class probabilities of several models.

    Strauss et al. (2017), section 3: the prediction is the class with the largest mean
    probability. The result is the log of that mean, as for `SelfEnsemble`.

    Args:
        members: at least one model from images to logits `[batch, num_classes]`, all with
            the same classes.

    Call arguments:
        images: `[batch, height, width, channels]`.

    Returns from a call:
        Log of the mean probability, float32 `[batch, num_classes]`.

    Raises:
        ValueError: if `members` is empty or holds something that is not a Keras model.
    """

    def __init__(self, members: Sequence[keras.Model], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        members = list(members)
        if not members or not all(isinstance(member, keras.Model) for member in members):
            raise ValueError(
                "AveragedEnsemble: members must be a non-empty list of Keras models. "
                f"Received: members={members}"
            )
        self.members = members
        # tf.train.Checkpoint does not look into the lists of a Keras model.
        for index, member in enumerate(members):
            setattr(self, f"tracked_member_{index}", member)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        log_probs = tf.stack([log_probabilities(member, images) for member in self.members])
        return tf.reduce_logsumexp(log_probs, axis=0) - math.log(len(self.members))

    def stacked_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits of every member, `[members, batch, num_classes]`.

        An attack on these differentiates the mean of the members' losses (Grad. 2 of Strauss
        et al.), and not the loss of their mean probability.
        """
        logits = [member(images, training=False) for member in self.members]
        return tf.stack([tf.cast(one, tf.float32) for one in logits])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return _output_shape(self.members[0], input_shape)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "members": [_serialize(member) for member in self.members]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> AveragedEnsemble:
        members = [_deserialize(member, custom_objects) for member in config["members"]]
        return cls(**{**config, "members": members})


def _serialize(model: keras.Model) -> Any:
    return _without_training(keras.saving.serialize_keras_object(model))


def _deserialize(config: Any, custom_objects: Any) -> keras.Model:
    try:
        # Files of earlier versions have what _serialize leaves out.
        return keras.saving.deserialize_keras_object(_without_training(config), custom_objects)
    except TypeError as error:
        raise ValueError(
            "A model of an ensemble cannot be loaded. Register classes and functions that are not "
            "Keras' own with keras.saving.register_keras_serializable, or pass them as "
            "custom_objects; and let constructors take what get_config returns. "
            f"Received: {str(error).splitlines()[0][:200]}"
        ) from error


def _without_training(config: Any) -> Any:
    """A configuration without the losses and optimizers that its models were trained with."""
    if isinstance(config, dict):
        is_object = {"class_name", "config"} <= set(config)
        return {
            key: _without_training(value)
            for key, value in config.items()
            if not (is_object and key == "compile_config")
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_without_training(value) for value in config)
    return config


def _output_shape(model: keras.Model, input_shape: Any) -> tuple:
    # Subclassed models know no compute_output_shape; Keras can trace all of them.
    images = keras.KerasTensor(tuple(input_shape), "float32")
    return tuple(model.compute_output_spec(images).shape)


def log_probabilities(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Returns `log(softmax(model(images)))` in inference mode, float32."""
    return tf.nn.log_softmax(tf.cast(model(images, training=False), tf.float32))
