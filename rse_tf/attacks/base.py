"""The base class of attacks: checked arguments, one compiled graph, a fresh check of success."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from rse_tf.attacks.facts import RunFacts
from rse_tf.attacks.losses import Logits, joint_logits, loss_direction
from rse_tf.utils.checks import (
    argument_error,
    checked_classes,
    checked_images,
    checked_integer,
    checked_number,
)
from rse_tf.utils.classifier import Classifier
from rse_tf.utils.options import options_of


class AttackResult(NamedTuple):
    """The result of an attack, one entry per image.

    Attributes:
        adversarial: the perturbed images, float32 `[batch, height, width, channels]`.
        success: bool `[batch]`: whether the attack reached its goal in a fresh forward pass of
            the finished image. On a randomised model that is one draw; score it anew with
            `rse_tf.evaluation` for the defense's own prediction.
        distortion: L2 distance to the original image, in pixel units, float32 `[batch]`.
        iterations: gradient steps spent on the image, int32 `[batch]`.
        queries: calls of the model with the image, int32 `[batch]`, this check included; an
            ensemble passes each on to all its members or draws.
    """

    adversarial: np.ndarray
    success: np.ndarray
    distortion: np.ndarray
    iterations: np.ndarray
    queries: np.ndarray


@dataclasses.dataclass(frozen=True)
class Attack(RunFacts, abc.ABC):
    """Base class. A subclass is a dataclass of hyperparameters and one method, `_perturb`.

    Attributes:
        model: any callable from images `[batch, height, width, channels]` to logits
            `[batch, classes]`, or to stacked logits `[members, batch, classes]` of several
            models or noise draws; see `rse_tf.utils.classifier`. It is traced as
            Keras traces models, without AutoGraph: what decides by a tensor in Python's `if` or
            `while` needs a `tf.function` around it.
        bounds: smallest and largest pixel value. Default (0, 1).
        batch_size: images are attacked this many at a time. It bounds memory; it does not
            change any result but for the noise that a randomised model draws.
        jit_compile: whether XLA compiles the attack, once for each number of images in a batch.
            Default no: on a CPU its convolutions are several times slower.

    Lengths, such as epsilon, are in pixel units. One that is not 0 must be at least the spacing of
    float32 numbers at the bounds, for pixels to show it.

    Of stacked logits, the loss whose gradient an attack follows is the mean of the members'
    cross-entropies ("Grad. 2" of Strauss et al., 2017, arXiv:1709.03423); predictions, margins
    and success come from the log of their mean probability. `[batch, classes]` with that log
    already taken gives the gradient of the mean probability instead.

    Hyperparameters in `scalars` are tensors of the compiled graph, so that
    `dataclasses.replace(attack, ...)` sweeps over them without tracing again.
    """

    model: Logits
    _: dataclasses.KW_ONLY
    bounds: tuple[float, float] = (0.0, 1.0)
    batch_size: int = 128
    jit_compile: bool = False
    _graphs: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    scalars: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self._classifier()
        bounds = np.asarray(self.bounds, dtype=float)
        if bounds.shape != (2,) or not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
            raise self._error("bounds", "two finite numbers, the lower one first", self.bounds)
        object.__setattr__(self, "bounds", (float(bounds[0]), float(bounds[1])))
        self._check_integer("batch_size", 1)
        if self.jit_compile and not self.supports_jit:
            expected = "False: with these settings the images that are done leave the batch, and "
            raise self._error("jit_compile", expected + "XLA wants fixed shapes", self.jit_compile)

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the attack with these settings."""
        return True

    def __call__(self, images: Any, labels: Any, targets: Any = None) -> AttackResult:
        """Attacks a batch.

        Args:
            images: float `[batch, height, width, channels]`, within `bounds` up to rounding.
            labels: the true classes, integer `[batch]` or one-hot `[batch, classes]`.
            targets: classes to reach, encoded like `labels`; `None` for an untargeted attack.

        Raises:
            ValueError: if an argument has the wrong shape or dtype, holds NaN, or lies outside
                `bounds`; if the model does not return logits; or if there are `targets` and the
                attack has none.
        """
        caller = type(self).__name__
        if targets is not None and not self.has_targets:
            raise self._error("targets", "None, for the attack is untargeted", targets)
        images = self._check_images(images)
        num_classes = self.check_model(images)
        labels = checked_classes(caller, "labels", labels, len(images), num_classes)
        if targets is not None:
            targets = checked_classes(caller, "targets", targets, len(images), num_classes)
        classes = labels if targets is None else targets
        run = self._graph(images.shape[1:], targets is not None)
        scalars = self._scalars()
        results = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = tf.constant(images[part]), tf.constant(classes[part])
            results.append([out.numpy() for out in run(*batch, scalars)])
        result = AttackResult(*(np.concatenate(parts) for parts in zip(*results)))
        if not np.isfinite(result.distortion).all():
            raise self._error("model", "returning finite logits and gradients", "NaN or infinite")
        return result

    @abc.abstractmethod
    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns adversarial images, iterations `[batch]` and queries `[batch]`.

        Args:
            images: float32 `[batch, height, width, channels]`.
            classes: int32 `[batch]`: the classes to leave, or with `targeted` to reach.
            targeted: which of the two.
            scalars: the hyperparameters named in `scalars`, as tensors.
        """

    def _success(
        self, logits: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        """Whether the goal is reached: bool `[batch]`."""
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return (predicted == classes) if targeted else (predicted != classes)

    def _scalars(self) -> dict[str, tf.Tensor]:
        values = {name: getattr(self, name) for name in self.scalars}
        defaults = {name: v for name, v in self._defaults().items() if name in values}
        values = defaults | {name: v for name, v in values.items() if v is not None}
        return {name: tf.constant(v) for name, v in values.items()}

    def _graph(self, image_shape: tuple[int, ...], targeted: bool) -> Any:
        # The key has everything that the trace depends on; the rest are tensors.
        static = tuple(
            getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*self._scalars(), "batch_size", "_graphs", "model")
        )
        key = (id(self.model), image_shape, targeted, static)
        if key not in self._graphs:
            self._graphs[key] = self._compile(image_shape, targeted)
        return self._graphs[key]

    def _compile(self, image_shape: tuple[int, ...], targeted: bool) -> Any:
        def run(images: tf.Tensor, classes: tf.Tensor, scalars: dict[str, tf.Tensor]) -> Any:
            adversarial, iterations, queries = self._perturb(images, classes, targeted, scalars)
            adversarial = tf.clip_by_value(adversarial, *self.bounds)
            logits = self._logits(adversarial)
            success = self._success(logits, classes, targeted, scalars)
            # A NaN among the logits shows in the distortion, which the caller looks at.
            finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
            distortion = tf.sqrt(squared_l2(adversarial - images))
            distortion = tf.where(finite, distortion, float("nan"))
            return adversarial, success, distortion, iterations, queries + 1

        signature = [
            tf.TensorSpec([None, *image_shape], tf.float32),
            tf.TensorSpec([None], tf.int32),
            {name: tf.TensorSpec([], value.dtype) for name, value in self._scalars().items()},
        ]
        if self.jit_compile:  # a trace for each number of images: XLA wants to know it everywhere
            return tf.function(run, autograph=False, jit_compile=True)
        return tf.function(run, input_signature=signature, autograph=False)

    def _classifier(self) -> Classifier:
        # Kept with the graphs, which are of this very model: as long as they live, no other model
        # can have its id.
        key = ("model", id(self.model))
        if key not in self._graphs:
            self._graphs[key] = Classifier(self.model, type(self).__name__, stacked=True)
        return self._graphs[key]

    def _stacked_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Logits `[batch, classes]`, or stacked `[members, batch, classes]`, float32."""
        return self._classifier()(images)

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        return joint_logits(self._stacked_logits(images))

    def _loss_direction(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Gradient of every image's cross-entropy, up to a positive factor per image."""
        return self._checked_gradient(loss_direction(self._stacked_logits, images, classes))

    def _checked_gradient(self, gradient: tf.Tensor | None) -> tf.Tensor:
        if gradient is None:
            raise self._error("model", "differentiable in TensorFlow", "logits without a gradient")
        return gradient

    def check_model(self, images: np.ndarray) -> int:
        """Looks once per image shape at what the model returns, as the first call does by itself.

        Args:
            images: float32 `[batch, height, width, channels]`.

        Returns:
            The number of classes.

        Raises:
            ValueError: if the model does not return logits.
        """
        num_classes = self._classifier().look(images).num_classes
        key = self._randomness_key(images)
        if self._asks_for_randomness and key not in self._graphs:
            self._graphs[key] = self._classifier().is_random(images)
        return num_classes

    @property
    def _asks_for_randomness(self) -> bool:
        """Whether the attack does something else where the model is randomised."""
        return False

    def _is_random(self, images: tf.Tensor) -> bool:
        """Whether the model is randomised, for an attack that asks for it."""
        return self._graphs[self._randomness_key(images)]

    def _calls(self, images: tf.Tensor, draws: int) -> int:
        """How many calls of a randomised model are so many draws, or a few more."""
        shape = self._classifier().look_at_shape(images.shape[1:]).shape
        each = shape[0] if len(shape) == 3 else getattr(self.model, "num_draws", 1)
        return -(-draws // int(each or 1))

    def _randomness_key(self, images: np.ndarray | tf.Tensor) -> Any:
        return ("randomised", id(self.model), tuple(images.shape[1:]))

    def __getstate__(self) -> dict[str, Any]:
        # Compiled graphs stay in their process.
        return {**self.__dict__, "_graphs": {}}

    # Checks of the arguments.

    def _error(self, name: str, expected: str, received: Any) -> ValueError:
        return argument_error(type(self).__name__, name, expected, received)

    def _check_choice(self, name: str) -> None:
        choices = options_of(type(self))[name].choices or ()
        if getattr(self, name) not in choices:
            raise self._error(name, f"one of {', '.join(choices)}", getattr(self, name))

    def _check_length(self, name: str, *, positive: bool = False) -> None:
        """Like `_check_number`, of what pixels move by: float32 must be able to show it."""
        self._check_number(name, positive=positive)
        value = getattr(self, name)
        finest = float(np.spacing(np.float32(np.abs(self.bounds).max())))
        if 0 < value < finest:
            expected = f"at least {finest:g}, the spacing of float32 pixels at {self.bounds}"
            raise self._error(name, expected, value)

    def _check_images(self, images: Any) -> np.ndarray:
        return checked_images(type(self).__name__, images, self.bounds)

    def _check_integer(self, name: str, smallest: int) -> None:
        value = checked_integer(type(self).__name__, name, getattr(self, name), smallest)
        object.__setattr__(self, name, value)

    def _check_number(self, name: str, *, positive: bool = False) -> None:
        # Always a float, so that 1 and 1.0 use the same trace.
        value = checked_number(type(self).__name__, name, getattr(self, name), positive=positive)
        object.__setattr__(self, name, value)


def squared_l2(perturbation: tf.Tensor) -> tf.Tensor:
    """Squared L2 norm of every example of `[batch, ...]`: `[batch]`."""
    return tf.reduce_sum(tf.square(perturbation), axis=tf.range(1, tf.rank(perturbation)))


def per_image(values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Reshapes `[batch]` so that it broadcasts against images `[batch, ...]`."""
    return tf.reshape(values, [-1] + [1] * (images.shape.rank - 1))
