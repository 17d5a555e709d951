"""ZOO: the attack of Carlini and Wagner without gradients."""

from __future__ import annotations

import dataclasses
import functools
import math

import tensorflow as tf

from rse_tf.attacks.base import squared_l2
from rse_tf.attacks.carlini_wagner import CHECKS, Scalars
from rse_tf.attacks.margin import Outcome, closer, margin_of
from rse_tf.attacks.randomness import per_image_seeds
from rse_tf.attacks.zoo_coordinates import (
    Level,
    enlarge,
    estimate,
    importance,
    in_box,
    pick_coordinates,
)
from rse_tf.attacks.zoo_descent import State, Task, descend
from rse_tf.attacks.zoo_options import ZOOOptions
from rse_tf.attacks.zoo_solvers import adam_step, newton_step, no_moments, put


@dataclasses.dataclass(frozen=True)
class ZOO(ZOOOptions):
    """Minimises the objective of Carlini and Wagner by queries alone, without a gradient.

    The objective is `||x' - x||^2 + c * max(margin + confidence, 0)`. The margin is a difference of
    logits, the same number as the reference's difference of log-probabilities. Every iteration
    picks some coordinates of every image, asks the model on both sides of each, and moves each by
    its own step of Adam or of Newton's method. No query lies outside the bounds.

    Args:
        model: callable from images to logits.
        const: the fixed c, or `None` for the binary search per image. It weighs logits against
            squared pixel units: at bounds (0, 255) it is 255**2 times that at (0, 1).
        iterate: with a fixed c, what is returned: `"best"`, the default, the closest adversarial
            image met before an iteration, or `"last"`, the last one whether adversarial or not.
            The binary search returns the closest one. An image without any stays as it was.
            Against a randomised model "best" is what one draw called adversarial: often luck.
        steps: iterations per descent. Default 1000 (the reference, CIFAR-10; 3000 for MNIST).
        learning_rate: of Adam in units of the modifier: of pixels, or of tanh space; of Newton
            the share of its step. Default 1e-2 (reference), for Adam on pixels times their range.
        confidence: the margin by which an adversarial image has to win. Default 0.
        binary_search_steps: number of descents of the binary search. Default 9 (reference).
        initial_const: where the search starts, in squared pixel units. Default 0.01 (reference)
            times the square of the pixel range.
        abort_early: whether an image whose loss no longer falls ends its descent, judged ten
            times per descent at the last level of `resize`. Default: only in the binary search.
        coordinates: how many coordinates of an image an iteration looks at. Default 128
            (reference); no more than there are at the smallest level.
        solver: `"adam"` or `"newton"`.
        h: how far from the image the two sides of a difference are, in units of the modifier.
            Default 1e-4 for Adam (reference) and 1e-2 for Newton, on pixels times their range.
            The rounding of float32 logits around 1 is 1e-7, and a second difference divides it
            by h^2, which leaves 10 at the reference's 1e-4, more than any curvature, and 1e-3
            at 1e-2. Networks that compute in bfloat16 need a larger one in either case.
        importance_sampling: whether coordinates are drawn in proportion to the largest change of
            their region so far, of 8 x 8 per channel, and not uniformly. Unlike in the reference,
            each keeps 1 % of the largest weight, and it starts with the first level.
        resize: sides of the hierarchical attack, for example `(32, 64)`: the modifier is first
            32 x 32, then 64 x 64, then of full size, each for an equal share of the steps, and
            enlarged bilinearly. Adam starts anew at each level, as in the reference.
        tanh_space: whether the modifier is added in tanh space instead of to the pixels. The
            reference does so for CIFAR-10 and ImageNet, not for MNIST: in float32 pixels at a
            bound do not move there.
        noise: with a randomised model, `"fresh"` lets every query meet noise of its own, as the
            reference would. `"common"` gives the two sides of every difference the same draw,
            which cancels out; it needs a model with a method `redraw()`, such as
            `rse_tf.layers.CommonNoise(model)`. Newton's method then asks for the middle of every
            difference too, under its draw: three queries per coordinate.
        seed: integer that fixes which coordinates are picked, with the image's own pixels.
        max_rows: how many images go through the model at a time, whatever `batch_size` and
            `coordinates`. It bounds memory. Default 1024.

    An iteration costs `2 * coordinates + 1` queries. Before the binary search and every
    difference, a model with a method `redraw()` is told when to draw its noise.

    Raises:
        ValueError: if an argument is out of its range, or if `const` is given beside one of the
            search, or `iterate` without it; when called, if `resize` is not smaller than the
            images, or the images are no `[batch, height, width, channels]` where
            `resize` or `importance_sampling` need them.

    Reference:
        Chen, Zhang, Sharma, Yi and Hsieh, ZOO: Zeroth Order Optimization Based Black-box
        Attacks to Deep Neural Networks without Training Substitute Models (2017),
        arXiv:1708.03999.
    """

    @property
    def supports_jit(self) -> bool:
        return False

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if self.const is None:
            best, steps = self._search(images, classes, targeted, scalars)
        else:
            start = self._to_tanh_space(images)
            const = tf.fill(tf.shape(classes), scalars["const"])
            end = self._descend(images, start, classes, const, targeted, scalars)
            best = end.last if self.iterate == "last" else end.best
            steps = end.steps
        sides = 3 if self._asks_for_the_middle() else 2
        return best, steps, steps * (sides * self._number(images) + 1)

    def _descend(
        self,
        images: tf.Tensor,
        start: tf.Tensor,
        classes: tf.Tensor,
        const: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> Outcome:
        """Runs the solver from the images, level by level."""
        keys = per_image_seeds(images, scalars["seed"], self.bounds)
        task = Task(images, images, classes, const, keys)
        if self.tanh_space:
            task = task._replace(origin=start, center=self._to_pixels(start))
        abort = self.const is None if self.abort_early is None else self.abort_early
        shapes, steps, done = self._shapes(images), scalars["steps"], tf.constant(0)
        modifier = tf.zeros([tf.shape(images)[0], math.prod(shapes[0])])
        infinite, zero = tf.fill(tf.shape(classes), float("inf")), tf.zeros_like(classes)
        moments = no_moments(modifier)
        state = State(modifier, moments, images, infinite, infinite, zero, zero == 0)
        for number, shape in enumerate(shapes):
            if number:
                modifier = enlarge(state.modifier, shapes[number - 1], shape)
                modifier = tf.reshape(modifier, [-1, math.prod(shape)])
                state = state._replace(modifier=modifier, moments=no_moments(modifier))
            state = state._replace(last_loss=infinite, running=zero == 0)
            end = steps * (number + 1) // len(shapes)
            last = number == len(shapes) - 1
            state = descend(
                functools.partial(self._move, shape, targeted, scalars),
                state,
                task,
                done=done,
                end=end,
                interval=tf.maximum(steps // CHECKS, 1) if abort and last else steps,
            )
            done = end
        last = self._level(task, shapes[-1]).images(state.modifier)
        return Outcome(last, state.best, state.best_l2, state.steps)

    def _move(
        self,
        shape: tuple[int, ...],
        targeted: bool,
        scalars: Scalars,
        i: tf.Tensor,
        state: State,
        task: Task,
    ) -> tuple[State, tf.Tensor]:
        """One iteration; also returns the loss before it."""
        level = self._level(task, shape)
        x = level.images(state.modifier)
        l2 = squared_l2(x - task.center)
        margin = margin_of(self._logits(x), task.classes, targeted)
        hinge = tf.nn.relu(scalars["confidence"] - margin)
        loss = l2 + task.const * hinge
        best, best_l2 = closer(state.best, state.best_l2, x, l2, margin, scalars["confidence"])

        def hinges(sides: list[tf.Tensor], rows: tf.Tensor) -> list[tf.Tensor]:
            classes = tf.gather(task.classes, rows)
            margins = [margin_of(z, classes, targeted) for z in self._side_logits(sides)]
            return [tf.nn.relu(scalars["confidence"] - margin) for margin in margins]

        keys = task.keys + tf.cast(i, tf.int64)
        weights = tf.ones_like(state.modifier)
        if self.importance_sampling:
            weights = importance(state.modifier, shape)
        picked = pick_coordinates(weights, keys, self._number(task.center))
        slope, curvature = estimate(
            hinges,
            level,
            state.modifier,
            picked,
            h=scalars["h"],
            const=task.const,
            current=None if self._asks_for_the_middle() else hinge,
            max_rows=self.max_rows,
        )
        # The loss is in squared pixel units.
        square, moments = self._range**2, state.moments
        if self.solver == "adam":
            step, moments = adam_step(moments, picked, slope, unit=square / self._unit)
        else:
            step = newton_step(slope, curvature, unit=square / self._unit**2)
        moved = tf.gather(state.modifier, picked, batch_dims=1) - scalars["learning_rate"] * step
        modifier = put(state.modifier, picked, moved)
        modifier = tf.clip_by_value(modifier, level.lower, level.upper)
        return State(modifier, moments, best, best_l2, *state[4:]), loss

    def _level(self, task: Task, shape: tuple[int, ...]) -> Level:
        if not self.tanh_space:
            return in_box(task.center, shape, self.bounds)
        free = tf.fill([tf.shape(task.center)[0], math.prod(shape)], float("inf"))
        return Level(task.origin, task.center, -free, free, shape, self._to_pixels)

    def _shapes(self, images: tf.Tensor) -> list[tuple[int, ...]]:
        full = tuple(images.shape[1:])
        return [*((side, side, *full[2:]) for side in self.resize), full]

    def _number(self, images: tf.Tensor) -> int:
        return min(self.coordinates, math.prod(self._shapes(images)[0]))

    def _asks_for_the_middle(self) -> bool:
        return self.solver == "newton" and self.noise == "common"

    # The model's noise, where it can be told when to draw.

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        self._redraw()
        return super()._logits(images)

    def _side_logits(self, sides: list[tf.Tensor]) -> list[tf.Tensor]:
        if self.noise == "fresh":
            return [self._logits(side) for side in sides]
        self._redraw()
        return [super(ZOO, self)._logits(side) for side in sides]

    def _redraw(self) -> None:
        if hasattr(self.model, "redraw"):
            self.model.redraw()
