"""The prediction of several networks: the log of their mean probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rse_tf.models.export import export_model
from rse_tf.models.serialization import deserialize, output_shape, serialize
from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import Classifier


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

    Pixels reach the members in float32, whatever Keras' global dtype policy is.

    Raises:
        ValueError: if `members` is empty or holds something that is not a Keras model, or if
            the members do not return logits of the same classes.
    """

    def __init__(
        self, members: Sequence[keras.Model], *others: keras.Model, name: str | None = None
    ) -> None:
        super().__init__(name=name, dtype="float32")
        caller = "AveragedEnsemble"
        models = isinstance(members, (list, tuple)) and all(
            isinstance(member, keras.layers.Layer) for member in members
        )
        if others or not members or not models:
            found = [members, *others] if others else members
            raise argument_error(caller, "members", "one non-empty list of Keras models", found)
        members = list(members)
        self._classifiers = [
            Classifier(member, f"{caller}: members[{number}]")
            for number, member in enumerate(members)
        ]
        self.members = members
        self.supports_jit = all(getattr(member, "supports_jit", True) for member in members)
        # tf.train.Checkpoint does not look into the lists of a Keras model.
        for index, member in enumerate(members):
            setattr(self, f"tracked_member_{index}", member)
        if all(getattr(member, "inputs", None) for member in members):
            self._look(members[0].input_shape[1:])

    def call(self, images: tf.Tensor) -> tf.Tensor:
        log_probs = tf.nn.log_softmax(self.stacked_logits(images))
        return tf.reduce_logsumexp(log_probs, axis=0) - math.log(len(self.members))

    def stacked_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits of every member, `[members, batch, num_classes]`.

        An attack on these differentiates the mean of the members' losses (Grad. 2 of Strauss
        et al.), and not the loss of their mean probability.
        """
        self._look(images.shape[1:])
        return tf.stack([member(images) for member in self._classifiers])

    def _look(self, image_shape: Sequence[int | None]) -> None:
        found = [one.look_at_shape(image_shape).num_classes for one in self._classifiers]
        if len(set(found)) > 1:
            expected = "of the same classes"
            raise argument_error("AveragedEnsemble", "members", expected, f"{found} classes")

    def export(
        self, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None
    ) -> None:
        """Writes a SavedModel whose noise does not repeat; see `rse_tf.export_classifier`."""
        export_model(self, self._classifiers[0].image_shape, filepath, format, verbose)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return output_shape(self.members[0], input_shape)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "members": [serialize(member) for member in self.members]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> AveragedEnsemble:
        members = [deserialize(member, custom_objects) for member in config["members"]]
        return cls(**{**config, "members": members})
