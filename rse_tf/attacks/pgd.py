"""Projected gradient descent."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from rse_tf.attacks.active_rows import step_active, while_active
from rse_tf.attacks.base import per_image
from rse_tf.attacks.fgsm import fast_gradient_sign
from rse_tf.attacks.gradient_sign import GradientSign, Scalars
from rse_tf.attacks.losses import Logits, joint_logits, log_loss
from rse_tf.attacks.norms import NORMS, free_part, into_ball, steepest
from rse_tf.attacks.randomness import per_image_seeds, uniform_l2, uniform_linf
from rse_tf.utils.options import option


class _Best(NamedTuple):
    """The best point of each image over its restarts, one image per row."""

    x: tf.Tensor
    loss: tf.Tensor  # how far the attack is: up with the labels' loss, or down with the targets'
    tries: tf.Tensor  # int32
    running: tf.Tensor  # whether a further restart may help


@dataclasses.dataclass(frozen=True)
class PGD(GradientSign):
    """Ascends the loss from a random point of the ball, back into it after each step.

    Args:
        model: callable from images to logits.
        epsilon: radius of the ball, in pixel units of the norm. Madry et al. use 0.3 on MNIST
            and 8/255 on CIFAR-10, both L-infinity.
        step_size: length of a step in the norm. Default epsilon / 4; 0.01 and 2/255 there.
        steps: number of steps per restart. Default 40 (there on MNIST; 7 or 20 on CIFAR-10).
        restarts: number of random starts. Default 1. Against a model that always returns the
            same, an image keeps its first success and sits out the restarts left; without any,
            it keeps the result of the highest loss. A randomised model's success in one draw is
            luck: there all restarts run, and the highest loss decides.
        norm: `"linf"`, steps along the sign of the gradient, or `"l2"`, along the gradient.
        random_start: whether to start at a point uniform in the ball, or else at the image.
        seed: of the random starts. An image's starts follow from the seed and its own pixels,
            so they are the same in every batch; equal images have equal starts.

    Raises:
        ValueError: if an argument is out of its range, or if there are several restarts
            without a random start.

    Reference:
        Madry et al. (2017), arXiv:1706.06083.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    step_size: float | None = option(None, is_length=True, help="length of a step")
    steps: int = option(40, flag="attack_steps", help="number of steps")
    restarts: int = option(1, quiet=True, help="random starts")
    norm: str = option("linf", choices=NORMS, quiet=True, help="norm of the ball")
    random_start: bool = True
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "step_size", "steps", "seed")
    cache_version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_step()
        self._check_integer("restarts", 1)
        self._check_integer("seed", 0)
        self._check_choice("norm")
        if not isinstance(self.random_start, bool):
            raise self._error("random_start", "True or False", self.random_start)
        if self.restarts > 1 and not self.random_start:
            raise self._error("restarts", "1 without a random start", self.restarts)

    @property
    def supports_jit(self) -> bool:
        return self.restarts == 1

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon * (1 / 4)}

    @property
    def _asks_for_randomness(self) -> bool:
        return self.restarts > 1

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if self.restarts == 1:
            return super()._perturb(images, classes, targeted, scalars)
        randomised = self._is_random(images)
        keys = per_image_seeds(images, scalars["seed"], self.bounds)

        def restart(r: tf.Tensor, best: _Best) -> tuple[tf.Tensor, _Best]:
            return r + 1, step_active(one_start, best, images, classes, keys + tf.cast(r, tf.int64))

        def one_start(best: _Best, images: tf.Tensor, classes: tf.Tensor, keys: tf.Tensor) -> _Best:
            start = self._random_start(images, keys, scalars["epsilon"])
            x = self._ascend(start, images, classes, targeted, scalars)
            logits = self._stacked_logits(x)
            success = tf.zeros_like(classes, tf.bool)
            if not randomised:
                success = self._success(joint_logits(logits), classes, targeted, scalars)
            loss = log_loss(logits, classes) * (-1.0 if targeted else 1.0)
            # Written so that NaN is kept, for the caller to see it.
            better = success | ~(loss <= best.loss)
            return _Best(
                x=tf.where(per_image(better, x), x, best.x),
                loss=tf.where(better, loss, best.loss),
                tries=best.tries + 1,
                running=~success,
            )

        lowest = tf.fill(tf.shape(classes), -float("inf"))
        state = _Best(images, lowest, tf.zeros_like(classes), classes >= 0)
        best = while_active(restart, state, 0, tf.constant(self.restarts))
        return best.x, best.tries * scalars["steps"], best.tries * (scalars["steps"] + 1)

    def _start(self, images: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        if not self.random_start:
            return images
        keys = per_image_seeds(images, scalars["seed"], self.bounds)
        return self._random_start(images, keys, scalars["epsilon"])

    def _random_start(self, images: tf.Tensor, keys: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        draw = uniform_linf if self.norm == "linf" else uniform_l2
        return self._project(images + epsilon * draw(keys, images), images, epsilon)

    def _direction(
        self, gradient: tf.Tensor, x: tf.Tensor, memory: tf.Tensor, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if self.norm == "linf":
            return tf.sign(gradient), memory
        # A pixel at a bound would take its share of the length and not move.
        return steepest(free_part(gradient, x, self.bounds), "l2")[0], memory

    def _project(self, x: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        return into_ball(x, images, epsilon, self.norm, self.bounds)


def projected_gradient_sign(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    epsilon: float,
    step_size: float,
    steps: int,
    seed: tf.Tensor,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tf.Tensor:
    """The images after PGD in L-infinity, for use inside a graph such as a training step.

    Args:
        logits, images, labels, bounds: as for `fast_gradient_sign`.
        epsilon: L-infinity distance, in pixel units. The start is uniform within it.
        step_size: length of a step, after which the image goes back into the ball.
        steps: number of steps.
        seed: integer scalar. An image's start follows from it and from the image's own pixels.

    Returns:
        The perturbed images within the ball and `bounds`, constants to whoever differentiates
        them.

    Raises:
        ValueError: if the logits have no gradient, or the labels are not `[batch]`.
    """

    def into(x: tf.Tensor) -> tf.Tensor:
        return into_ball(x, images, epsilon, "linf", bounds)

    def step(i: tf.Tensor | int, x: tf.Tensor) -> tuple[tf.Tensor | int, tf.Tensor]:
        return i + 1, into(fast_gradient_sign(logits, x, labels, step_size, bounds))

    keys = per_image_seeds(images, seed, bounds)
    start = into(images + epsilon * uniform_linf(keys, images))
    if steps == 1:
        return tf.stop_gradient(step(0, start)[1])
    return tf.stop_gradient(tf.while_loop(lambda i, _: i < steps, step, (0, start))[1])
