"""DeepFool: a short way over the nearest decision boundary."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from rse_tf.attacks.attack import Attack, AttackResult, per_image

Scalars = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest boundary of the linearised model until the class changes.

    Each step goes from the current point to the boundary with the class k that minimises
    `|Z_k - Z_label| / ||grad Z_k - grad Z_label||_2`. The sum of the steps, made longer by
    `overshoot`, is the perturbation, clipped to the bounds. An image that the model does not
    give its label stays as it is; so does one whose class has not changed after all steps.
    On a randomised model, one draw per step decides on both. The attack is untargeted and has
    no strength to set: its distortion is the result.

    Args:
        model: callable from images to logits.
        steps: largest number of steps. Default 50 (the authors' code).
        overshoot: by what part the perturbation reaches over the boundary. Default 0.02
            (Moosavi-Dezfooli et al.).
        candidates: of how many classes the gradients are looked at, those of the highest
            logits at the current point, the label's own among them. Default 10 (the authors'
            code, which chooses them at the image). Each costs a backward pass per step.

    Raises:
        ValueError: if an argument is out of its range, or if the call has `targets`.

    Reference:
        Moosavi-Dezfooli, Fawzi and Frossard (2016), arXiv:1511.04599, algorithm 2.
    """

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    scalars: ClassVar[tuple[str, ...]] = ("steps", "overshoot")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("steps", 1)
        self._check_number("overshoot")
        self._check_integer("candidates", 2)

    def __call__(self, images: Any, labels: Any, targets: Any = None) -> AttackResult:
        """Attacks a batch; see `Attack`. There must be no `targets`."""
        if targets is not None:
            raise self._error("targets", "None, for the attack is untargeted", targets)
        return super().__call__(images, labels)

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def step(i, x, moved, taken, running):  # type: ignore[no-untyped-def]
            rows = tf.where(running)[:, 0]
            original, at, labels, total = (
                tf.gather(t, rows) for t in (images, x, classes, moved)
            )
            order, logits, gradients = self._linearise(at)
            # NaN counts as the end, so that the caller sees it.
            finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
            unfooled = (order[:, 0] == labels) & finite
            # The round after the last step only looks.
            moving = unfooled & (i < scalars["steps"])
            # What has its label still, has it on top.
            total = total + tf.reshape(_to_nearest_boundary(logits, gradients), tf.shape(at))
            ahead = original + (1 + scalars["overshoot"]) * total
            ahead = tf.clip_by_value(ahead, *self.bounds)
            ahead = tf.where(per_image(moving, at), ahead, at)
            index = rows[:, None]
            return (
                i + 1,
                tf.tensor_scatter_nd_update(x, index, ahead),
                tf.tensor_scatter_nd_update(moved, index, total),
                tf.tensor_scatter_nd_add(taken, index, tf.cast(moving, tf.int32)),
                tf.tensor_scatter_nd_update(running, index, unfooled),
            )

        state = [0, images, tf.zeros_like(images), tf.zeros_like(classes), classes >= 0]
        _, x, _, taken, unfooled = tf.while_loop(
            lambda i, *state: (i <= scalars["steps"]) & tf.reduce_any(state[-1]), step, state
        )
        return tf.where(per_image(unfooled, images), images, x), taken, taken + 1

    def _linearise(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The candidate classes, highest logit first, their logits `[batch, candidates]` and
        gradients `[batch, candidates, pixels]`.

        One forward pass for all: on a randomised model they belong to the same draw.
        """
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            logits = self._logits(images)
            top, order = tf.math.top_k(logits, min(self.candidates, logits.shape[-1]))
            columns = tf.unstack(top, axis=1)
        gradients = [self._checked_gradient(tape.gradient(z, images)) for z in columns]
        flat = [tf.reshape(g, [tf.shape(images)[0], -1]) for g in gradients]
        return order, top, tf.stack(flat, axis=1)


def _to_nearest_boundary(logits: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """The step `[batch, pixels]` from the first candidate to the nearest of the others."""
    gap = logits[:, :1] - logits[:, 1:]
    normal = gradients[:, 1:] - gradients[:, :1]
    squared = tf.reduce_sum(tf.square(normal), axis=2)
    distance = tf.where(squared > 0, gap * tf.math.rsqrt(squared), float("inf"))
    nearest = tf.argmin(distance, axis=1)
    gap, squared, normal = (
        tf.gather(t, nearest, batch_dims=1) for t in (gap, squared, normal)
    )
    return tf.math.divide_no_nan(gap, squared)[:, None] * normal
