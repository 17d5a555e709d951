"""How smooth a classifier's loss is: the gradient and the curvature that noise regularises."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from rse_tf.attacks.losses import Logits, cross_entropy, joint_logits, loss_gradient
from rse_tf.layers import CommonNoise, is_random, seed_noise
from rse_tf.utils import seeds
from rse_tf.utils.checks import (
    argument_error,
    checked_classes,
    checked_images,
    checked_integer,
    checked_number,
)
from rse_tf.utils.classifier import Classifier
from rse_tf.utils.log import progress_bar

_CALLER = "measure_regularity"


@dataclasses.dataclass(frozen=True)
class Regularity:
    """Slope and curvature of the loss around images, with pixels as the unit of length.

    A standard error is that of the mean over the images, the randomness of the directions and
    of the noise included; 0 for a single image.

    Attributes:
        gradient_norm: mean over the images of the L2 norm of the gradient of the loss with
            respect to the image, in nats per pixel unit. The largest one around an image is
            the local Lipschitz constant of the loss.
        gradient_norm_std_error: its standard error.
        hessian_trace: mean over the images of the trace of the Hessian of the loss, or with
            `smoothing` of the Gaussian-smoothed one, in nats per squared pixel unit.
        hessian_trace_std_error: its standard error.
        loss: mean cross-entropy, in nats.
    """

    gradient_norm: float
    gradient_norm_std_error: float
    hessian_trace: float
    hessian_trace_std_error: float
    loss: float


def measure_regularity(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    num_draws: int = 50,
    probes: int = 10,
    smoothing: float | None = None,
    seed: int = 0,
    batch_size: int = 100,
) -> Regularity:
    """Measures what training with noise is said to regularise.

    Liu et al., section 3.1, expand the loss of a noisy network to second order,
    `E loss(x + eps) - loss(x) = sigma^2 / 2 * trace(Hessian)` for noise eps of standard
    deviation sigma: whoever minimises the left side keeps the trace small. The paper measures
    neither; this function measures the trace and the slope.

    The loss is that of the defense's own prediction: the cross-entropy of a deterministic
    model, and `-log(mean probability of the true class)` over `num_draws` passes of a
    randomised one. Its noise is frozen for each image, so gradient, Hessian and both sides of
    a difference are those of one smooth function. The next image meets other noise.

    By default the trace is Hutchinson's estimate: the mean of `v^T H v` over random sign
    vectors v, each product exact, by differentiating the gradient. Between its kinks a ReLU
    network is linear, so there the Hessian of its loss comes from the softmax (and the mean
    over the draws) alone: `J^T (diag(p) - p p^T) J` with the Jacobian J of the logits, never
    negative for a deterministic network. The kinks themselves have measure zero and are not
    seen, although crossing them bends the loss over any finite distance. `smoothing` sees
    them: it reads the trace off the paper's own expansion,
    `2 / sigma^2 * E[loss(x + sigma u) - loss(x)]`, u standard normal, with the mean of
    `loss(x + sigma u)` and `loss(x - sigma u)` in place of the former, which rids it of the
    slope. Neither pixels nor their sum with the noise are clipped to any bounds.

    Args:
        model: a classifier, from images to logits; called in inference mode. Its noise is what
            `NoiseLayer`s add; their streams are seeded anew.
        images: float `[number, height, width, channels]`.
        labels: true classes, integer `[number]`.
        num_draws: passes whose mean probability is the prediction; without effect on a
            deterministic model. Default 50 (Liu et al., section 4).
        probes: directions per image, sign vectors or antithetic pairs. Default 10.
        smoothing: sigma of the smoothed trace, in pixel units; `None` for the trace itself.
            Rounding of float32 losses adds an error of about `1e-7 * loss / sigma^2`.
        seed: the noise and the directions follow from it and an image's position.
        batch_size: images of a deterministic model that are differentiated at a time. Images
            of a randomised one go one by one, all of their draws side by side, so there it is
            `num_draws` that memory grows with. Either way an image's numbers do not depend on
            its batch mates.

    Returns:
        The means over the images.

    Raises:
        ValueError: if there are no images, their number differs from that of the labels, the
            labels are not integers, `num_draws`, `probes` or `batch_size` is not a positive
            integer, `seed` is not an integer of at least 0, `smoothing` is not a positive finite
            number, or the model has a loss or derivatives that are not finite.
    """
    num_draws = checked_integer(_CALLER, "num_draws", num_draws)
    probes = checked_integer(_CALLER, "probes", probes)
    seed = checked_integer(_CALLER, "seed", seed, 0)
    batch_size = checked_integer(_CALLER, "batch_size", batch_size)
    if smoothing is not None:
        smoothing = checked_number(_CALLER, "smoothing", smoothing, positive=True)
    images = checked_images(_CALLER, images)
    classifier = Classifier(model, _CALLER)
    num_classes = classifier.look(images).num_classes
    labels = checked_classes(_CALLER, "labels", labels, len(images), num_classes)
    noise = None
    logits: Logits = classifier
    if is_random(model):
        noise = CommonNoise(model)
        logits = _ensemble(noise, num_draws)
        batch_size = 1
    derivatives = _Derivatives(logits, images.shape[1:])
    rows = []
    starts = range(0, len(images), batch_size)
    for start in progress_bar(starts, len(starts), "regularity"):
        x, y = (tf.constant(array[start : start + batch_size]) for array in (images, labels))
        if noise is not None:
            seed_noise(model, seeds.REGULARITY, seed, start)
            noise.redraw()
        loss, slope = derivatives.loss_and_slope(x, y)
        traces = []
        for probe in range(probes):
            streams = [
                np.random.default_rng([seeds.DIRECTIONS, seed, probe, start + i])
                for i in range(len(x))
            ]
            normal = np.stack([rng.standard_normal(x.shape[1:], np.float32) for rng in streams])
            if smoothing is None:
                traces.append(derivatives.curvature(x, y, np.where(normal < 0, -1, 1)))
            else:
                sides = derivatives.loss_on_both_sides(x, y, smoothing * normal)
                traces.append(2 * (sides - loss) / smoothing**2)
        rows.append(np.stack([loss, slope, np.mean(traces, axis=0)]))
    return _summary(np.concatenate(rows, axis=1).astype(np.float64))


def _ensemble(model: Logits, num_draws: int) -> Logits:
    """The prediction of a `SelfEnsemble` whose draws all go through the model at once.

    Its loop over chunks of draws would save nothing: a gradient keeps the activations of all
    of them, and the second derivative of a loop takes many times as long to compile.
    """

    def logits(images: tf.Tensor) -> tf.Tensor:
        repeats = tf.concat([[num_draws], tf.ones_like(tf.shape(images)[1:])], axis=0)
        each = model(tf.tile(images, repeats))
        return joint_logits(tf.reshape(each, [num_draws, -1, each.shape[-1]]))

    return logits


class _Derivatives:
    """The loss of every image of a batch, `[batch]`, and what it does around the image."""

    def __init__(self, logits: Logits, image_shape: tuple[int, ...]) -> None:
        self._logits = logits
        pixels = tf.TensorSpec([None, *image_shape], tf.float32)
        classes = tf.TensorSpec([None], tf.int32)

        def compiled(function, *signature):  # type: ignore[no-untyped-def]
            return tf.function(function, input_signature=signature, autograph=False)

        self.loss_and_slope = compiled(self._loss_and_slope, pixels, classes)
        self.curvature = compiled(self._curvature, pixels, classes, pixels)
        self.loss_on_both_sides = compiled(self._loss_on_both_sides, pixels, classes, pixels)

    def _loss_and_slope(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss, and the L2 norm of its gradient."""
        gradient = loss_gradient(self._logits, images, labels)
        if gradient is None:
            expected = "differentiable in TensorFlow"
            raise argument_error(_CALLER, "model", expected, "logits without a gradient")
        return cross_entropy(self._logits(images), labels), tf.sqrt(_dot(gradient, gradient))

    def _curvature(self, images: tf.Tensor, labels: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """`v^T H v` with the Hessian of the loss."""
        with tf.GradientTape() as tape:
            tape.watch(images)
            along = _dot(loss_gradient(self._logits, images, labels), v)
        # Zero where the gradient does not depend on the image.
        return _dot(tape.gradient(along, images, unconnected_gradients="zero"), v)

    def _loss_on_both_sides(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """The mean of the losses a step ahead and a step back."""
        sides = [cross_entropy(self._logits(images + s * step), labels) for s in (1.0, -1.0)]
        return (sides[0] + sides[1]) / 2


def _dot(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Inner product of every example of `[batch, ...]`: `[batch]`."""
    return tf.reduce_sum(left * right, axis=tf.range(1, tf.rank(left)))


def _summary(rows: np.ndarray) -> Regularity:
    """Averages losses, slopes and traces, `[3, number]`, over the images."""
    number = rows.shape[1]
    if not np.isfinite(rows).all():
        expected = "a model with finite logits and derivatives"
        raise argument_error(_CALLER, "model", expected, "NaN or infinite values")
    loss, slope, trace = (float(mean) for mean in rows.mean(axis=1))
    errors = rows.std(axis=1, ddof=1) / math.sqrt(number) if number > 1 else np.zeros(3)
    return Regularity(slope, float(errors[1]), trace, float(errors[2]), loss)
