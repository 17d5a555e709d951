"""The contract of classifiers, checked at one door."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rse_tf.utils.checks import argument_error

# How the path of a Keras variable ends that holds a random stream.
RANDOM_STREAM = "seed_generator_state"
# Images that the first look at a model takes.
_LOOK = 8
# The side of the images for a network that takes any.
_ANY_SIZE = 64
# Half-precision probabilities miss a sum of 1 by so much.
_SUM_TOLERANCE = 2e-2
# Make the logits of a network large, and leave probabilities between 0 and 1. In half precision the
# first may be too much.
_BRIGHTER = (1000.0, 30.0, 3.0)


class ProbabilitiesError(ValueError):
    """A model that returns probabilities where logits are expected."""


class Output(NamedTuple):
    """The output of a model at its first check.

    Attributes:
        shape: of its logits, with `None` for the batch: `(None, classes)`, or
            `(members, None, classes)` if they are stacked.
        black_box: whether it returns NumPy arrays, and so can be queried only.
    """

    shape: tuple[int | None, ...]
    black_box: bool

    @property
    def num_classes(self) -> int:
        return int(self.shape[-1])  # type: ignore[arg-type]


# Keyed weakly by the model: each model is checked once per image shape, for all callers.
_seen: weakref.WeakKeyDictionary[Any, dict[Any, dict[Any, Output]]] = weakref.WeakKeyDictionary()


class Classifier:
    """A model as this package calls it: in inference mode, for float32 logits.

    The first call for a shape of images looks at what the model returns. The look is one forward
    pass, which leaves no trace: the random streams of a Keras model go on where they were.

    Args:
        model: a `keras.Model`, or any callable from float32 images `[batch, ...]` to logits
            `[batch, classes]`, or to stacked logits `[members, batch, classes]`. One that takes
            an argument `training` gets `training=False`. One that returns NumPy arrays is a black
            box: it can be queried, and has no gradient.
        caller: what stands in front of errors.
        stacked: whether stacked logits will do.

    Raises:
        ValueError: if `model` is not callable, is a class, or is known to end in a softmax or a
            sigmoid; and from `look` and calls, if what it returns are not logits. Where it returns
            probabilities, the error is a `ProbabilitiesError`.
    """

    def __init__(self, model: Any, caller: str, *, stacked: bool = False) -> None:
        if inspect.isclass(model):
            expected = "a model, not a class of models; call the class first"
            raise argument_error(caller, "model", expected, model.__name__)
        if not callable(model):
            expected = "a Keras model or a callable from images to logits"
            if isinstance(model, str):
                expected += "; load a file by keras.models.load_model(...)"
            raise argument_error(caller, "model", expected, model)
        self.model = model
        self._caller, self._stacked = caller, stacked
        self._training = {"training": False} if _takes_training(model) else {}
        self._outputs = _outputs_of(model)
        ending = last_activation(model)
        if ending is not None:
            raise self._probabilities(f"a model whose last layer is a {ending}")

    def look(self, images: np.ndarray | tf.Tensor) -> Output:
        """Looks at what the model returns, once for each shape of images.

        Args:
            images: float32 `[batch, ...]`; the first eight are used.

        Raises:
            ValueError: if the model returns probabilities, classes, NaN, several outputs,
                logits of fewer than two classes, or logits of another shape.
        """
        key = tuple(images.shape[1:])
        if key not in self._outputs:
            with unchanged(self.model):
                self._outputs[key] = self._inspect(tf.constant(images[:_LOOK], tf.float32))
        output = self._outputs[key]
        if len(output.shape) == 3 and not self._stacked:
            shape = (output.shape[0], "batch", output.shape[2])
            raise self._error("returning logits [batch, classes]", f"stacked logits {shape}")
        return output

    def is_random(self, images: np.ndarray | tf.Tensor) -> bool:
        """Whether two calls on the same images differ; leaves no trace either.

        Args:
            images: float32 `[batch, ...]`; the first eight are used.
        """
        some = tf.constant(images[:_LOOK], tf.float32)
        with unchanged(self.model):
            first, second = (np.asarray(self(some)) for _ in range(2))
        # Of the same kernels the same rounding, or nearly so on several threads.
        return bool(np.abs(first - second).max() > 1e-4 * np.abs(first).max())

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The last shape of images that the model was looked at with."""
        return next(reversed(self._outputs), None)

    def look_at_shape(self, image_shape: Sequence[int | None]) -> Output:
        """`look` where no images are at hand, such as in a graph: at random ones in [0, 1].

        Args:
            image_shape: `(height, width, channels)`.
        """
        # A network for images of any size is looked at with small ones.
        key = tuple(_ANY_SIZE if size is None else size for size in image_shape)
        if key in self._outputs:
            return self._outputs[key]
        pixels = np.random.default_rng(0).random((_LOOK, *key), np.float32)
        with tf.init_scope():
            return self.look(pixels)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 logits for images of a shape that was looked at.

        It works in eager mode and in graphs.
        """
        output = self.look_at_shape(images.shape[1:])
        if output.black_box:
            logits = tf.numpy_function(self._query, [images], tf.float32)
        else:
            logits = tf.cast(self._single(self.model(images, **self._training)), tf.float32)
        if not tf.executing_eagerly():
            # TensorFlow knows nothing of what other programs return.
            logits.set_shape([*output.shape[:-2], images.shape[0], output.shape[-1]])
        return logits

    def _query(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.model(tf.constant(images), **self._training), np.float32)

    def _inspect(self, images: tf.Tensor) -> Output:
        returned = self._single(self.model(images, **self._training))
        black_box = not tf.is_tensor(returned)
        logits = np.asarray(returned)
        batch = len(images)
        found = f"{logits.dtype} {logits.shape}"
        if logits.dtype.kind not in "f" and logits.dtype.name != "bfloat16":
            raise self._error(f"returning floating-point logits [{batch}, classes]", found)
        proper = logits.ndim in (2, 3) and logits.size > 0 and logits.shape[-2] == batch
        if not proper or logits.shape[-1] < 2:
            expected = f"returning logits [{batch}, classes] of at least two classes"
            if self._stacked:
                expected += f", or stacked ones [members, {batch}, classes]"
            if logits.shape in ((batch,), (batch, 1)):
                expected += "; of a single logit z make two, such as [-z / 2, z / 2]"
            raise self._error(expected, found)
        logits = logits.astype(np.float32)
        if not np.isfinite(logits).all():
            raise self._error("returning finite logits", "NaN or infinite values")
        kind = _kind_of_probabilities(logits)
        # An untrained network may have such logits by chance: those of brighter images tell.
        if kind is not None and not _ends_in_logits(self.model) and self._stays(kind, images):
            raise self._probabilities(kind)
        return Output((*logits.shape[:-2], None, logits.shape[-1]), black_box)

    def _stays(self, kind: str, images: tf.Tensor) -> bool:
        """Whether brighter images give probabilities too, as far as the model is finite there."""
        for factor in _BRIGHTER:
            returned = self._single(self.model(images * factor, **self._training))
            brighter = np.asarray(returned).astype(np.float32)
            if np.isfinite(brighter).all():
                return _kind_of_probabilities(brighter) == kind
        return False

    def _single(self, returned: Any) -> Any:
        if isinstance(returned, dict):
            returned = list(returned.values())
        if isinstance(returned, (list, tuple)):
            if len(returned) != 1:
                raise self._error(
                    "a model of one output, its logits; of several choose one, such as "
                    "keras.Model(model.input, model.outputs[0])",
                    f"{len(returned)} outputs",
                )
            return returned[0]
        return returned

    def _probabilities(self, found: str) -> ValueError:
        expected = (
            "returning logits, not probabilities; leave out its softmax or sigmoid, or return the "
            "log of the probabilities. If these are logits after all, subtract 1 from all of "
            "them, which changes no prediction"
        )
        return ProbabilitiesError(self._message(expected, found))

    def _error(self, expected: str, found: str) -> ValueError:
        return ValueError(self._message(expected, found))

    def _message(self, expected: str, found: str) -> str:
        name = getattr(self.model, "name", None) or getattr(self.model, "__name__", None)
        of = f" of {name!r}" if isinstance(name, str) else ""
        return f"{self._caller}: model must be {expected}. Received{of}: {found}"


def _kind_of_probabilities(logits: np.ndarray) -> str | None:
    if not (logits.min() >= 0 and logits.max() <= 1 + _SUM_TOLERANCE):  # NaN is neither
        return None
    if np.allclose(logits.sum(axis=-1), 1.0, atol=_SUM_TOLERANCE):
        return "rows that sum to 1"
    if logits.max() <= 1 and logits.min() < logits.max():  # the same everywhere: a fresh network
        return "numbers from 0 to 1 only"
    return None


def _takes_training(model: Any) -> bool:
    if isinstance(model, keras.Operation):
        return True  # Keras drops it where a model does not know it
    try:
        parameters = inspect.signature(model).parameters
    except (TypeError, ValueError):  # a function without a signature, such as a built-in one
        return False
    return "training" in parameters


def _outputs_of(model: Any) -> dict[Any, Output]:
    """Results of earlier checks of a model, by image shape."""
    # A bound method is a new object each time it is named; its model and function are not.
    owner, function = getattr(model, "__self__", model), getattr(model, "__func__", None)
    try:
        return _seen.setdefault(owner, {}).setdefault(function, {})
    except TypeError:  # no weak reference or no hash: this one is looked at by itself
        return {}


@contextlib.contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Gives a Keras model back its random streams, and whatever else its calls change.

    Args:
        model: a Keras model or a method of one; anything else is left alone.
    """
    model = getattr(model, "__self__", model)
    states = model.non_trainable_variables if isinstance(model, keras.layers.Layer) else []
    before = [state.numpy() for state in states]
    try:
        yield
    finally:
        for state, value in zip(states, before):
            state.assign(value)


def _last_layer(model: Any) -> Any:
    while isinstance(model, keras.Model) and getattr(model, "outputs", None):
        if not is_plain_graph(model) or len(model.outputs) != 1:
            return None
        model = model.outputs[0]._keras_history.operation
    return model


def is_plain_graph(model: keras.Model) -> bool:
    """Whether a model is its graph, with no `call` of its own."""
    return type(model).call.__module__.startswith("keras.")


def last_activation(model: Any) -> str | None:
    """The name of the softmax or sigmoid that a Keras model is known to end in, or `None`."""
    layer = _last_layer(model)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return name if name in ("softmax", "sigmoid", "hard_sigmoid") else None


def _ends_in_logits(model: Any) -> bool:
    """Whether a Keras model is known to end in a layer of weights without an activation."""
    layer = _last_layer(model)
    activation = getattr(layer, "activation", None)
    return hasattr(layer, "kernel") and getattr(activation, "__name__", None) == "linear"
