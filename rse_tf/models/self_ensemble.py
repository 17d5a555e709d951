"""The prediction of a noisy network: the log of the mean probability of its draws."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf

from rse_tf.layers import noise_layers
from rse_tf.layers.constants import Constant
from rse_tf.models.export import export_model
from rse_tf.models.serialization import deserialize, output_shape, serialize
from rse_tf.models.stopping import looks
from rse_tf.utils.checks import argument_error, checked_integer
from rse_tf.utils.classifier import Classifier

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

    Pixels reach the model in float32, whatever Keras' global dtype policy is.

    Raises:
        ValueError: if `model` is no Keras model or does not return logits, `num_draws` or
            `max_rows` is not a positive integer, or `stop_error` not between 0 and 1.

    Warns:
        UserWarning: if the model has no noise layer, for then all draws are likely the same.
    """

    # Read by compiled graphs.
    num_draws = Constant()
    max_rows = Constant()
    stop_error = Constant()

    def __init__(
        self,
        model: keras.Model,
        num_draws: int = 50,
        max_rows: int = 512,
        stop_error: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self._classifier = Classifier(model, "SelfEnsemble")
        if not isinstance(model, keras.layers.Layer):
            raise argument_error("SelfEnsemble", "model", "a Keras model", model)
        if stop_error is not None and not 0 < stop_error < 1:
            expected = "None or a probability above 0 and below 1"
            raise argument_error("SelfEnsemble", "stop_error", expected, stop_error)
        if not any(layer.stddev for layer in noise_layers(model)):
            warnings.warn(
                f"SelfEnsemble: model {model.name!r} has no noise layer. Unless something else in "
                "it is random, all draws are the same; rse_tf.robustify puts noise in",
                stacklevel=2,
            )
        self.model = model
        self.num_draws = checked_integer("SelfEnsemble", "num_draws", num_draws)
        self.max_rows = checked_integer("SelfEnsemble", "max_rows", max_rows)
        self.stop_error = stop_error
        # Images that stop at different draws have no place in XLA's fixed shapes.
        self.supports_jit = stop_error is None and getattr(model, "supports_jit", True)
        if getattr(model, "built", False) and getattr(model, "inputs", None):
            self._classifier.look_at_shape(model.input_shape[1:])

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.with_draws(images)[0]

    def with_draws(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what a call returns, and how many draws each image took, int32 `[batch]`."""
        images = tf.convert_to_tensor(images)
        batch = tf.shape(images)[0]
        if images.shape[0] is not None and images.shape[0] <= self.max_rows:
            return self._average(images)
        # Parts of one size, the last one filled up with black images, for XLA to know all shapes.
        known = images.shape[0]
        parts = tf.maximum((batch - 1) // self.max_rows + 1, 1)
        rows = (batch + parts - 1) // parts
        others = [[0, 0]] * (images.shape.rank - 1)
        filled = tf.pad(images, [[0, parts * rows - batch], *others])
        filled = tf.reshape(filled, tf.concat([[parts, rows], tf.shape(images)[1:]], axis=0))
        classes = self._num_classes(images)

        def part(i: tf.Tensor, *outputs: tf.TensorArray) -> tuple[Any, ...]:
            found = self._average(tf.ensure_shape(filled[i], [None, *images.shape[1:]]))
            return i + 1, *(array.write(i, one) for array, one in zip(outputs, found))

        outputs = [
            tf.TensorArray(dtype, parts, infer_shape=False, element_shape=shape)
            for dtype, shape in ((tf.float32, [None, classes]), (tf.int32, [None]))
        ]
        _, *outputs = tf.while_loop(
            lambda i, *_: i < parts,
            part,
            (tf.constant(0), *outputs),
            parallel_iterations=1,
            # XLA differentiates a loop only if its length is known.
            maximum_iterations=None if known is None else (known - 1) // self.max_rows + 1,
        )
        log_probs, draws = (array.stack() for array in outputs)
        return (
            tf.reshape(log_probs, [-1, classes])[:batch],
            tf.reshape(draws, [-1])[:batch],
        )

    def _average(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`with_draws` for `max_rows` images or fewer."""
        batch = tf.shape(images)[0]
        log_sum = tf.fill([batch, self._num_classes(images)], _LOG_ZERO)
        if self.stop_error is None:
            draws = tf.fill([batch], self.num_draws)
            log_sum = self._add_all_draws(images, log_sum)
        else:
            log_sum, draws = self._draw_until_sure(images, log_sum)
        return log_sum - tf.math.log(tf.cast(draws, tf.float32))[:, None], draws

    def _add_all_draws(self, images: tf.Tensor, log_sum: tf.Tensor) -> tf.Tensor:
        """Adds the probabilities of `num_draws` passes to a sum; both are logs."""
        # Passes of one size: as many draws at once as `max_rows` holds and as divide all of them.
        batch, sizes = images.shape[0], divisors(self.num_draws)
        if batch is None:
            fitting = tf.constant(sizes) * tf.shape(images)[0] <= self.max_rows
            at_once = tf.maximum(tf.reduce_max(tf.where(fitting, sizes, 0)), 1)
        else:
            at_once = max(d for d in sizes if d == 1 or d * batch <= self.max_rows)
        copies = tile(images, at_once)
        passes = self.num_draws // at_once
        # A loop, never tf.vectorized_map, which would give every pass the same noise. One after
        # the other: TensorFlow would run ten at once, in ten times the memory.
        return tf.while_loop(
            lambda done, _: done < passes,
            lambda done, log_sum: (done + 1, self._add_pass(copies, log_sum)),
            (tf.constant(0), log_sum),
            parallel_iterations=1,
            maximum_iterations=self.num_draws if batch is None else passes,
        )[1]

    def _add_pass(self, copies: tf.Tensor, log_sum: tf.Tensor) -> tf.Tensor:
        """Adds the probabilities of one pass, with several draws of each image, to a sum."""
        log_probs = tf.nn.log_softmax(self._classifier(copies))
        batch, classes = tf.shape(log_sum)[0], log_probs.shape[-1]
        log_probs = tf.reshape(log_probs, [-1, batch, classes])
        return tf.reduce_logsumexp(tf.concat([log_sum[None], log_probs], axis=0), axis=0)

    def _draw_until_sure(
        self, images: tf.Tensor, log_sum: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Adds passes until the class of an image is settled; also returns their numbers."""
        steps = looks(self.num_draws, float(self.stop_error))
        ends = tf.constant([0, *(look.draws for look in steps), self.num_draws])
        leads = tf.constant([look.lead for look in steps] + [0.0])

        def round_(
            i: tf.Tensor, rows: tf.Tensor, log_sum: tf.Tensor, draws: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            """Draws up to the next look for the images `rows` that are still undecided."""
            start, end = ends[i], ends[i + 1]
            some = self._add_draws(tf.gather(images, rows), tf.gather(log_sum, rows), end - start)
            log_sum = tf.tensor_scatter_nd_update(log_sum, rows[:, None], some)
            draws = tf.tensor_scatter_nd_update(draws, rows[:, None], tf.fill(tf.shape(rows), end))
            largest = tf.exp(tf.reduce_max(some, axis=-1)) / tf.cast(end, tf.float32)
            return i + 1, rows[2 * largest - 1 < leads[i]], log_sum, draws

        batch = tf.shape(images)[0]
        state = [tf.constant(0), tf.range(batch), log_sum, tf.zeros([batch], tf.int32)]
        shapes = [[], [None], [None, log_sum.shape[-1]], [None]]
        *_, log_sum, draws = tf.while_loop(
            lambda i, rows, *_: (i <= len(steps)) & (tf.size(rows) > 0),
            round_,
            state,
            shape_invariants=[tf.TensorShape(shape) for shape in shapes],
            parallel_iterations=1,
        )
        return log_sum, draws

    def _add_draws(self, images: tf.Tensor, log_sum: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Adds the probabilities of so many passes, for any number of images."""
        batch = tf.shape(images)[0]
        at_once = tf.clip_by_value(self.max_rows // tf.maximum(batch, 1), 1, number)

        def draw(done: tf.Tensor, log_sum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            draws = tf.minimum(at_once, number - done)
            return done + draws, self._add_pass(tile(images, draws), log_sum)

        return tf.while_loop(
            lambda done, _: done < number, draw, [tf.constant(0), log_sum], parallel_iterations=1
        )[1]

    def stacked_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits of every draw, `[num_draws, batch, num_classes]`, all at once.

        An attack on these differentiates the mean of the draws' losses, and not the loss of
        their mean probability.
        """
        images = tf.convert_to_tensor(images)
        logits = self._classifier(tile(images, self.num_draws))
        return tf.reshape(logits, [self.num_draws, tf.shape(images)[0], logits.shape[-1]])

    def _num_classes(self, images: tf.Tensor) -> int:
        return self._classifier.look_at_shape(images.shape[1:]).num_classes

    def export(
        self, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None
    ) -> None:
        """Writes a SavedModel whose noise does not repeat; see `rse_tf.export_classifier`."""
        export_model(self, self._classifier.image_shape, filepath, format, verbose)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return output_shape(self.model, input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": serialize(self.model),
            "num_draws": self.num_draws,
            "max_rows": self.max_rows,
            "stop_error": self.stop_error,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SelfEnsemble:
        model = deserialize(config["model"], custom_objects)
        return cls(**{**config, "model": model})


def tile(images: tf.Tensor, times: int | tf.Tensor) -> tf.Tensor:
    """`times` copies of a batch, one after the other."""
    return tf.tile(images, [times] + [1] * (images.shape.rank - 1))


def divisors(number: int) -> list[int]:
    """The numbers that divide a number, the smallest first."""
    return [d for d in range(1, number + 1) if number % d == 0]
