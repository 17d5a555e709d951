"""A classifier as a SavedModel that needs nothing but TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import RANDOM_STREAM, Classifier


def export_classifier(
    classifier: keras.Model, image_shape: Sequence[int], path: str | os.PathLike[str]
) -> None:
    """Writes a classifier as a SavedModel with a serving signature.

    `tf.saved_model.load(path).signatures["serving_default"](images=...)` takes float32 images
    `[batch, height, width, channels]` in [0, 1] and returns `logits` and `probabilities`, float32
    `[batch, classes]`, and `class`, int64 `[batch]`. `tf.saved_model.load(path).serve(images)`
    returns the logits alone. rse_tf is not needed to load it.

    The noise stays alive: it differs from call to call and from process to process, and does
    not follow from the file. To replay noise, load the `.keras` file and use
    `rse_tf.layers.seed_noise`.

    Args:
        classifier: from images to logits, for example a `SelfEnsemble`.
        image_shape: `(height, width, channels)`.
        path: the folder to write.

    Raises:
        ValueError: if the classifier does not return logits, or does not save: its variables
            must be Keras'.
    """
    if not isinstance(classifier, keras.layers.Layer):
        raise argument_error("export_classifier", "classifier", "a Keras model", classifier)
    served = _Served(classifier, tuple(image_shape))
    tf.saved_model.save(served, os.fspath(path), signatures={"serving_default": served.classify})


def export_model(
    model: keras.Model,
    image_shape: Sequence[int | None] | None,
    filepath: str | os.PathLike[str],
    format: str,
    verbose: bool | None,
) -> None:
    """Exports a model so that its noise does not repeat, unlike Keras' own `export`.

    What Keras exports by itself holds the random streams as they were, so that every process
    that loads it draws the same noise.

    Raises:
        ValueError: if `format` is not `"tf_saved_model"`, for the other formats of Keras would
            freeze the noise, or if the shape of the images is not known yet.
    """
    caller = f"{type(model).__name__}.export"
    if format != "tf_saved_model":
        raise argument_error(caller, "format", "'tf_saved_model'", format)
    if image_shape is None or None in image_shape:
        raise ValueError(
            f"{caller}: the model must be called on images first, so that their shape is known; "
            f"or use rse_tf.export_classifier. Received: shape {image_shape}"
        )
    export_classifier(model, tuple(int(size or 0) for size in image_shape), filepath)
    if verbose is not False:
        print(f"SavedModel: {os.fspath(filepath)}")


class _Served(tf.Module):
    """The served functions and the variables they use."""

    def __init__(self, classifier: keras.Model, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.classifier = classifier
        checked = Classifier(classifier, "export_classifier")
        checked.look_at_shape(image_shape)
        # TensorFlow saves what an attribute holds, and finds not all of a Keras model by itself.
        self.state = [variable.value for variable in classifier.variables]
        paths = [variable.path for variable in classifier.variables]
        streams = [v for v, path in zip(self.state, paths) if path.endswith(RANDOM_STREAM)]

        def serve(images: tf.Tensor) -> tf.Tensor:
            # A SavedModel stores the random streams as they were, so that every process that
            # loads it would draw the same noise, and anyone with the file could compute it.
            for stream in streams:
                stream.assign([_entropy(), 0])
            return checked(images)

        def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = serve(images)
            return {
                "logits": logits,
                "probabilities": tf.nn.softmax(logits),
                "class": tf.argmax(logits, axis=-1),
            }

        def compiled(function: Any) -> Any:
            signature = [tf.TensorSpec([None, *image_shape], tf.float32, name="images")]
            return tf.function(function, input_signature=signature, autograph=False)

        self.serve, self.classify = compiled(serve), compiled(classify)


def _entropy() -> tf.Tensor:
    """A number from 0 to 2**32 - 1 that the operating system draws at every call.

    With both its seeds at zero this data set seeds itself anew in every process, whatever
    tf.random.set_seed was told. TensorFlow's other operations do so too, but refuse to where
    enable_op_determinism is on.
    """
    kind: dict[str, Any] = {"output_types": [tf.int64], "output_shapes": [tf.TensorShape([])]}
    zero = tf.constant(0, tf.int64)
    numbers = tf.raw_ops.RandomDataset(seed=zero, seed2=zero, **kind)
    iterator = tf.raw_ops.AnonymousIteratorV3(**kind)
    made = tf.raw_ops.MakeIterator(dataset=numbers, iterator=iterator)
    with tf.control_dependencies([made]):
        return tf.raw_ops.IteratorGetNext(iterator=iterator, **kind)[0]
