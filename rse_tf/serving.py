"""A classifier as a SavedModel that needs nothing but TensorFlow."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

from rse_tf.layers import noise_layers


class _Served(tf.Module):
    """The served function and the variables it uses."""

    def __init__(self, classifier: keras.Model, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.classifier = classifier
        self._streams = [layer.seed_generator.state for layer in noise_layers(classifier)]
        signature = [tf.TensorSpec([None, *image_shape], tf.float32, name="images")]
        self.serve = tf.function(self._serve, input_signature=signature, autograph=False)

    def _serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        # A SavedModel stores the random streams as they were, so that every process that loads
        # it would draw the same noise, and whoever has the file could tell which. Here every
        # call starts them from the operating system's entropy: with both its seeds at zero, this
        # operation seeds itself anew in every process, whatever tf.random.set_seed was told.
        for state in self._streams:
            shape, low = tf.zeros([0], tf.int32), tf.constant(0, tf.int64)
            high = tf.constant(2**32, tf.int64)
            key = tf.raw_ops.RandomUniformInt(shape=shape, minval=low, maxval=high, seed=0, seed2=0)
            state.assign([key, 0])
        logits = self.classifier(images)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class": tf.argmax(logits, axis=-1),
        }


def export_classifier(
    classifier: keras.Model, image_shape: tuple[int, int, int], path: str | os.PathLike[str]
) -> None:
    """Writes a classifier as a SavedModel with a serving signature.

    `tf.saved_model.load(path).signatures["serving_default"](images=...)` takes float32 images
    `[batch, height, width, channels]` in [0, 1] and returns `logits` and `probabilities`, float32
    `[batch, classes]`, and `class`, int64 `[batch]`. rse_tf is not needed to load it.

    The noise stays alive: it differs from call to call and from process to process, and does
    not follow from the file. To replay noise, load the `.keras` file and use
    `rse_tf.layers.seed_noise`.

    Args:
        classifier: from images to logits, for example a `SelfEnsemble`.
        image_shape: `(height, width, channels)`.
        path: the folder to write.
    """
    served = _Served(classifier, image_shape)
    tf.saved_model.save(served, os.fspath(path), signatures={"serving_default": served.serve})
