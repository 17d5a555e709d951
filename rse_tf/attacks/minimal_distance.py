"""The loop of the attacks that look for the nearest adversarial image."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar, NamedTuple

import tensorflow as tf

from rse_tf.attacks.base import Attack, per_image
from rse_tf.attacks.losses import joint_logits
from rse_tf.attacks.margin import closer, margin_of
from rse_tf.attacks.norms import free_part, length_of, steepest
from rse_tf.utils.options import option

# Where the cosines end: of the change of the radius (FMN), and of the first step's length (both).
_LAST_GAMMA, _LAST_STEP = 0.001, 0.01
# Looks at the straight line through the closest image found. As halvings of the way from the
# original they leave a thousandth of the distance. On a randomised model they go outward, until
# three in a row find the image adversarial.
_LOOKS, _OUTWARD, _IN_A_ROW = 10, 1.02, 3
# A win by less than this part of the logits' spread is rounding: in another batch it may be none.
_ROUNDING = 2e-6

Scalars = dict[str, tf.Tensor]


class Search(NamedTuple):
    """One image per row, as the attack moves in and out over the boundary."""

    images: tf.Tensor  # where it is, [batch, height, width, channels]
    radius: tf.Tensor  # of the ball whose surface the last step led to [batch]
    best: tf.Tensor  # the closest adversarial image
    distance: tf.Tensor  # how far that is [batch], infinite before the first success


@dataclasses.dataclass(frozen=True)
class MinimalDistance(Attack):
    """Base class of the loop of DDN and FMN: one gradient a step, no constant to weigh by.

    Every step goes uphill on the loss and then to a radius around the original image: a
    smaller one if the image was adversarial, a larger one if it was not. The closest
    adversarial image met is kept, and a bisection of the straight line to it ends the attack.
    An image without any stays as it was.

    A randomised model is recognised by two calls that differ. One lucky draw is no adversarial
    image: there the margin of the mean probability of `selection_draws` fresh draws decides in
    every step, none of them that of the gradient, and so it does of the `success` of a result.
    The closest of many images that such a mean found adversarial still had some luck. In place
    of the bisection, it moves outward by 2 % of its distance, up to ten times, until three fresh
    means in a row confirm it. It stays near the boundary: score it anew.

    A subclass chooses the norm and the loss. It differs from both papers in these points, which
    make it scale-free and let 100 gradients suffice where distances are 1e-3 as where they are 2:

    - The first radius is the distance to the boundary of the linearised model, and not 1.
    - Until the first success, the radius is that estimate at the current image plus gamma.
    - Steps have the direction of steepest ascent in the norm, and are measured in radii.
    - What a bound holds takes no part in the direction.
    - The bisection at the end, of ten forward passes.
    """

    steps: int = option(100, flag="attack_steps", help="number of steps")
    gamma: float = option(0.1, help="part by which the radius changes at first")
    relative_step: float = option(2.0, help="length of the first step, in radii")
    selection_draws: int = option(
        10, help="draws whose mean decides what is adversarial, of a randomised model"
    )
    levels: int | None = option(None, quiet=True, help="values of a pixel, to which steps round")
    scalars: ClassVar[tuple[str, ...]] = ("steps", "gamma", "relative_step")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("steps", 1)
        self._check_number("gamma", positive=True)
        if self.gamma >= 1:
            raise self._error("gamma", "above 0 and below 1", self.gamma)
        self._check_number("relative_step", positive=True)
        self._check_integer("selection_draws", 1)
        if self.levels is not None:
            self._check_integer("levels", 2)

    @abc.abstractmethod
    def _loss(
        self, logits: tf.Tensor, classes: tf.Tensor, targeted: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss to raise `[batch]`, and its derivative by the margin, for the first radius."""

    @property
    @abc.abstractmethod
    def _norm(self) -> str:
        """Of the distances: `"l2"` or `"linf"`."""

    @property
    def _asks_for_randomness(self) -> bool:
        return True

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        nowhere = tf.zeros_like(classes, tf.float32)
        search = Search(images, nowhere, images, nowhere + float("inf"))

        def step(i: tf.Tensor, search: Search) -> tuple[tf.Tensor, Search]:
            return i + 1, self._step(i, search, images, classes, targeted, scalars)

        _, search = tf.while_loop(lambda i, _: i < scalars["steps"], step, [0, search])
        # The steps have judged every image but the last.
        margin = _margin(self._logits(search.images), classes, targeted)
        search = self._keep(search, images, margin)
        randomised = self._is_random(images)
        last_look = self._confirm if randomised else self._bisect
        best = last_look(search.best, images, classes, targeted)
        spent = tf.fill(tf.shape(classes), scalars["steps"])
        draws = self.selection_draws if randomised else 1
        # A look at the last step's image, and one at the result, of which the caller counts 1.
        queries = spent * (1 + draws if randomised else 1) + draws * (_LOOKS + 2) - 1
        return best, spent, queries

    def _step(
        self,
        i: tf.Tensor,
        search: Search,
        images: tf.Tensor,
        classes: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> Search:
        at = search.images
        with tf.GradientTape() as tape:
            tape.watch(at)
            members = self._stacked_logits(at)
            loss, slope = self._loss(members, classes, targeted)
        gradient = self._checked_gradient(tape.gradient(loss, at))
        gradient = free_part(gradient, at, self.bounds)
        logits = self._logits(at) if self._is_random(images) else joint_logits(members)
        margin = _margin(logits, classes, targeted)
        search = self._keep(search, images, margin)

        progress = tf.cast(i, tf.float32) / tf.cast(scalars["steps"], tf.float32)
        cosine = (1 + tf.cos(math.pi * progress)) / 2
        gamma = _LAST_GAMMA + (scalars["gamma"] - _LAST_GAMMA) * cosine
        share = scalars["relative_step"] * (_LAST_STEP + (1 - _LAST_STEP) * cosine)

        direction, steepness = steepest(gradient, self._norm)
        ahead = tf.math.divide_no_nan(tf.abs(margin * slope), steepness)
        outside = tf.where(
            tf.math.is_finite(search.distance),
            search.radius * (1 + gamma),
            (self._length(at - images) + ahead) * (1 + gamma),
        )
        # Less than the best by more than rounding, which would decide between equal distances.
        inside = tf.minimum(search.radius, search.distance) * (1 - gamma)
        low, high = self.bounds
        corner = self._length(tf.maximum(images - low, high - images))
        radius = tf.minimum(tf.where(margin > 0, inside, outside), corner)
        moved = at - images + per_image(share * radius, images) * direction
        ahead_at = self._rounded(images + self._to_radius(moved, radius))
        return search._replace(images=ahead_at, radius=radius)

    def _keep(self, search: Search, images: tf.Tensor, margin: tf.Tensor) -> Search:
        """Notes the images that are adversarial and closer than those before."""
        distance = self._length(search.images - images)
        zero = tf.constant(0.0)
        found = closer(search.best, search.distance, search.images, distance, margin, zero)
        return search._replace(best=found[0], distance=found[1])

    def _bisect(
        self, best: tf.Tensor, images: tf.Tensor, classes: tf.Tensor, targeted: bool
    ) -> tf.Tensor:
        """The adversarial image next to the boundary, on the straight line from the originals."""
        way = best - images

        def halve(i, low, high, best):  # type: ignore[no-untyped-def]
            middle = (low + high) / 2
            at = self._rounded(images + per_image(middle, images) * way)
            adversarial = _margin(self._logits(at), classes, targeted) > 0
            best = tf.where(per_image(adversarial, images), at, best)
            low, high = tf.where(adversarial, low, middle), tf.where(adversarial, middle, high)
            return i + 1, low, high, best

        zero = tf.zeros_like(classes, tf.float32)
        state = [0, zero, zero + 1, best]
        return tf.while_loop(lambda i, *_: i < _LOOKS, halve, state)[-1]

    def _confirm(
        self, best: tf.Tensor, images: tf.Tensor, classes: tf.Tensor, targeted: bool
    ) -> tf.Tensor:
        """The nearest image that fresh means find adversarial in a row, on the line outward."""
        way = best - images

        def look(i, out, row):  # type: ignore[no-untyped-def]
            at = self._rounded(images + per_image(out, images) * way)
            adversarial = _margin(self._logits(at), classes, targeted) > 0
            row = tf.where(adversarial | (row >= _IN_A_ROW), row + 1, 0)
            return i + 1, tf.where(row == 0, out * _OUTWARD, out), row

        state = [0, tf.ones_like(classes, tf.float32), tf.zeros_like(classes)]
        out = tf.while_loop(lambda i, *_: i < _LOOKS, look, state)[1]
        return self._rounded(images + per_image(out, images) * way)

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        """See `Attack`; of a randomised model, the log of the mean probability of draws."""
        logits = super()._logits(images)
        if not self._is_random(images):
            return logits

        def add(n: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            one = tf.nn.log_softmax(super(MinimalDistance, self)._logits(images))
            two = tf.stack([total, one])
            return n + 1, tf.ensure_shape(tf.reduce_logsumexp(two, axis=0), total.shape)

        # One after the other: TensorFlow would run ten at once, in ten times the memory.
        state = [1, tf.nn.log_softmax(logits)]
        return tf.while_loop(
            lambda n, _: n < self.selection_draws, add, state, parallel_iterations=1
        )[1]

    def _rounded(self, images: tf.Tensor) -> tf.Tensor:
        """Within the bounds, and on the grid of `levels` values if there is one."""
        low, high = self.bounds
        images = tf.clip_by_value(images, low, high)
        if self.levels is None:
            return images
        width = (high - low) / (self.levels - 1)
        return tf.clip_by_value(low + width * tf.round((images - low) / width), low, high)

    def _length(self, change: tf.Tensor) -> tf.Tensor:
        return length_of(change, self._norm)

    def _to_radius(self, change: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
        """The change of length `radius` in L2; in L-infinity the nearest of at most that."""
        bound = per_image(radius, change)
        if self._norm == "linf":
            return tf.clip_by_value(change, -bound, bound)
        return change * tf.math.divide_no_nan(bound, per_image(self._length(change), change))


def _margin(logits: tf.Tensor, classes: tf.Tensor, targeted: bool) -> tf.Tensor:
    """By how much the attack wins, in logits `[batch]`, less what may be rounding."""
    spread = tf.reduce_max(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
    return margin_of(logits, classes, targeted) - _ROUNDING * spread
