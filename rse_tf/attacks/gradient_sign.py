"""The loop shared by FGSM, R+FGSM, BIM, MIM and PGD."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from rse_tf.attacks.base import Attack

Scalars = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class GradientSign(Attack):
    """Steps of one length along the sign of the loss gradient, each back into the ball.

    A subclass has an `epsilon`, and may change where the steps start, how long and how many they
    are, where they go, and what the ball is.
    """

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        start = self._start(images, scalars)
        x = self._ascend(start, images, classes, targeted, scalars)
        spent = tf.fill(tf.shape(classes), tf.convert_to_tensor(scalars.get("steps", 1)))
        return x, spent, spent

    def _ascend(
        self,
        start: tf.Tensor,
        images: tf.Tensor,
        classes: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> tf.Tensor:
        """All steps from one start: up the loss of the labels, or down that of the targets."""
        up = -1.0 if targeted else 1.0
        length = self._step_length(scalars)

        def step(i: tf.Tensor, x: tf.Tensor, memory: tf.Tensor) -> tuple[tf.Tensor, ...]:
            gradient = up * self._loss_direction(x, classes)
            direction, memory = self._direction(gradient, x, memory, scalars)
            return i + 1, self._project(x + length * direction, images, scalars["epsilon"]), memory

        state = [0, start, tf.zeros_like(images) if self._has_memory else tf.zeros([])]
        if "steps" not in scalars:
            return step(*state)[1]
        return tf.while_loop(lambda i, *_: i < scalars["steps"], step, state)[1]

    @property
    def _has_memory(self) -> bool:
        """Whether a step depends on those before by more than its point."""
        return False

    def _start(self, images: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        return images

    def _step_length(self, scalars: Scalars) -> tf.Tensor:
        return scalars["step_size"]

    def _direction(
        self, gradient: tf.Tensor, x: tf.Tensor, memory: tf.Tensor, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Where a step of length 1 goes from x, and the memory after it."""
        return tf.sign(gradient), memory

    def _project(self, x: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """The nearest point within the ball around the images and the bounds."""
        x = tf.clip_by_value(x, images - epsilon, images + epsilon)
        return tf.clip_by_value(x, *self.bounds)

    def _check_step(self) -> None:
        """Checks `epsilon`, `step_size` and `steps`."""
        self._check_length("epsilon")
        if getattr(self, "step_size") is not None:
            self._check_length("step_size")
        self._check_integer("steps", 1)
