"""ARC: an attack on models of which one member, drawn at random, answers."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from rse_tf.attacks.base import Attack, per_image
from rse_tf.attacks.norms import (
    free_part,
    into_ball,
    steepest,
)
from rse_tf.utils.options import option

# How far beyond a boundary a step leads, in units of epsilon: the authors' rho.
_BEYOND = 0.05
# Of the length of a step, by which it leads beyond the linearised boundary: to a 500th of a round.
_HALVINGS = 10

Scalars = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class ARC(Attack):
    """Lowers the expected accuracy of a random member, one member after the other.

    Where one member at random answers, the accuracy of an image is the share of the members that
    are correct, and the gradient of a mean loss says little of it: members can be fooled in
    directions that cancel out. In each round, this attack goes through the members. For one that
    is not fooled it aims beyond its nearest boundary, linearised, without leaving the round's own
    ball, and so that what was gained against the members before is kept where it can be. It
    accepts a step unless fewer members are fooled by it.

    `success` is that of the mean probability, as of all attacks; `expected_accuracy` has that of a
    random member, and so has the row `single` of a run. The members must answer the same in each
    call: of a randomised model, hold the draws by `rse_tf.layers.FrozenNoise`. It differs from the
    authors' code in these points:

    - It starts at the image and not at a random point.
    - A member that is fooled has no step, and a pixel at a bound takes no part in one.
    - A step is the shortest, found by bisection, that is beyond the linearised boundary once it is
      back in the balls and the bounds. Theirs is scaled to the radius of the round.
    - It looks at the boundaries with `candidates` classes, and not with all.

    In L-infinity, steps go along signs. Where those of two members are all opposite, a narrow wedge
    in which both are fooled may be missed.

    Args:
        model: callable from images to the stacked logits of all members,
            `[members, batch, classes]`, such as `AveragedEnsemble.stacked_logits`.
        epsilon: radius of the ball, in pixel units of the norm.
        step_size: radius of a round. Default epsilon.
        steps: number of rounds. Default 20. Each costs two calls for each member.
        norm: `"linf"` or `"l2"`.
        candidates: beyond the boundaries with how many classes it looks, those of the highest
            logits. Default 3. Each costs a backward pass.

    Raises:
        ValueError: if an argument is out of its range, or if the call has `targets`.

    Reference:
        Dbouk and Shanbhag, Adversarial Vulnerability of Randomized Ensembles (2022),
        arXiv:2206.06737, section 4.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    step_size: float | None = option(None, is_length=True, help="radius of a round")
    steps: int = option(20, flag="attack_steps", help="number of rounds")
    norm: str = option("linf", choices=("linf", "l2"), help="norm of the ball")
    candidates: int = 3
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "step_size", "steps")
    has_targets: ClassVar[bool] = False
    on_random_member: ClassVar[bool] = True
    # It reads the logits of each member, as the mean of their losses does.
    gradients: ClassVar[tuple[str, ...]] = ("mean_loss",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        if self.step_size is not None:
            self._check_length("step_size")
        self._check_integer("steps", 1)
        self._check_choice("norm")
        self._check_integer("candidates", 1)

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon}

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        members = self._number(images)

        def round_(i, x, accuracy):  # type: ignore[no-untyped-def]
            start = x
            for member in range(members):
                ahead = self._ahead(member, start, x, images, classes, scalars)
                found = expected_accuracy(self._stacked_logits(ahead), classes)
                accepted = ~(found > accuracy)
                x = tf.where(per_image(accepted, x), ahead, x)
                # NaN is kept, for the caller to see it.
                x = tf.where(per_image(tf.math.is_nan(found), x), float("nan"), x)
                accuracy = tf.where(accepted, found, accuracy)
            return i + 1, x, accuracy

        state = [0, images, expected_accuracy(self._stacked_logits(images), classes)]
        _, x, _ = tf.while_loop(lambda i, *_: i < scalars["steps"], round_, state)
        spent = tf.fill(tf.shape(classes), scalars["steps"] * members)
        return x, spent, 2 * spent + 1

    def _number(self, images: tf.Tensor) -> int:
        """How many members the model has."""
        shape = self._classifier().look_at_shape(images.shape[1:]).shape
        return int(shape[0] or 1) if len(shape) == 3 else 1

    def _ahead(
        self,
        member: int,
        start: tf.Tensor,
        x: tf.Tensor,
        images: tf.Tensor,
        classes: tf.Tensor,
        scalars: Scalars,
    ) -> tf.Tensor:
        """The point beyond a member's boundary, in the round's ball around `start`."""
        fooled, gap, normal = self._nearest(member, x, classes)
        direction, _ = steepest(normal, self.norm)
        epsilon, radius = scalars["epsilon"], scalars["step_size"]

        def after(length: tf.Tensor) -> tf.Tensor:
            moved = x + per_image(length, x) * direction
            moved = into_ball(moved, start, radius, self.norm, self.bounds)
            return into_ball(moved, images, epsilon, self.norm, self.bounds)

        def halve(i, low, high):  # type: ignore[no-untyped-def]
            middle = (low + high) / 2
            gained = tf.reduce_sum(normal * (after(middle) - x), axis=tf.range(1, tf.rank(x)))
            beyond = gained >= gap
            return i + 1, tf.where(beyond, low, middle), tf.where(beyond, middle, high)

        # From one end of the round's ball to the other.
        zero = tf.zeros_like(gap)
        state = [0, zero, zero + 2 * radius]
        length = tf.while_loop(lambda i, *_: i < _HALVINGS, halve, state)[-1]
        return tf.where(per_image(fooled, x), x, after(length + _BEYOND * epsilon))

    def _nearest(
        self, member: int, x: tf.Tensor, classes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Whether a member is fooled, how much its nearest boundary lacks, and the way up to it."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            logits = _stack(self._stacked_logits(x))[member]
            chosen = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
            others = tf.where(chosen, -float("inf"), logits)
            top = tf.math.top_k(others, min(self.candidates, logits.shape[-1] - 1)).values
            gaps = tf.unstack(tf.gather(logits, classes, batch_dims=1)[:, None] - top, axis=1)
        nearest = tf.fill(tf.shape(classes), float("inf"))
        lacking, normal = gaps[0], tf.zeros_like(x)
        for gap in gaps:
            up = free_part(-self._checked_gradient(tape.gradient(gap, x)), x, self.bounds)
            _, slope = steepest(up, self.norm)
            distance = tf.where(slope > 0, gap / slope, float("inf"))
            closer = distance < nearest
            nearest, lacking = tf.where(closer, distance, nearest), tf.where(closer, gap, lacking)
            normal = tf.where(per_image(closer, x), up, normal)
        return gaps[0] < 0, lacking, normal


def expected_accuracy(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """The probability that a member drawn at random is correct `[batch]`.

    Args:
        logits: `[members, batch, classes]`, or `[batch, classes]` of one member.
        classes: integer `[batch]`.
    """
    logits = _stack(logits)
    correct = tf.argmax(logits, axis=-1, output_type=tf.int32) == tf.cast(classes, tf.int32)
    share = tf.reduce_mean(tf.cast(correct, tf.float32), axis=0)
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=[0, 2])
    return tf.where(finite, share, float("nan"))


def _stack(logits: tf.Tensor) -> tf.Tensor:
    return logits if logits.shape.rank == 3 else logits[None]
