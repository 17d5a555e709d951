"""The L2 attack of Carlini and Wagner."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from rse_tf.attacks.active_rows import step_active, while_active
from rse_tf.attacks.base import per_image, squared_l2
from rse_tf.attacks.margin import Descent, Outcome, closer, margin_of
from rse_tf.attacks.margin_options import MarginAttack

# Keeps the inverse of tanh finite: a pixel at a bound starts this close to it.
_INSIDE = 0.999999
# Of c and of Adam's epsilon, in units of the squared pixel range, as the squared distance is.
_NO_UPPER_BOUND = 1e10
_BETA_1, _BETA_2, _ADAM_EPSILON = 0.9, 0.999, 1e-8
# Early abort, checked ten times per descent. An image stops if its loss fell by less than 0.01 %
# since the last check, or if it is not adversarial yet and would not become so even at four times
# its recent progress. On digits (9 descents of 200 steps) that spares an eighth of the gradients
# and ends no descent that would have won; at twice the progress it does.
CHECKS, PROGRESS, TOLERANCE = 10, 0.9999, 4.0

Scalars = dict[str, Any]  # tensors, and the numbers of defaults


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL2(MarginAttack):
    """Minimises `||x' - x||^2 + c * max(margin + confidence, 0)` by Adam in tanh space.

    The margin is `Z_label - max_other Z`, or `max_other Z - Z_target` with targets; Z are
    logits. With `const` it runs at that one c, the protocol of Liu et al. (2018). Without, c
    is found per image by the binary search of the reference.

    Args:
        model: callable from images to logits.
        const: the fixed c, or `None` for the binary search. It weighs logits against squared
            pixel units: at bounds (0, 255) the same attack has a c 255**2 times that at (0, 1).
        iterate: with a fixed c, what is returned: `"last"`, the last iterate whether adversarial
            or not (Liu et al., the default), or `"best"`, the closest adversarial one met. The
            binary search returns the closest one. An image without any stays as it was.
            Against a randomised model "best" is what one draw called adversarial: often luck.
        steps: gradient steps per descent. Default 300 (Liu et al.); the reference uses 10,000.
        learning_rate: Adam's. Default 1e-3 (Liu et al.); the reference uses 1e-2.
        confidence: the margin by which an adversarial image has to win, in logits. Default 0.
        binary_search_steps: number of descents of the binary search. Default 9 (reference).
        initial_const: where the search starts, in squared pixel units. Default 1e-3 (reference)
            times the square of the pixel range.
        abort_early: whether an image ends its descent when its loss no longer falls or when it
            no longer gains enough to win in the steps left, judged ten times per descent and for
            every image by itself. Default: only in the binary search; the fixed-c protocol runs
            all its steps. A randomised model's loss is noisy, and stopping on it is a matter of
            luck.

    Raises:
        ValueError: if an argument is out of its range, or if `const` is given beside one of the
            search, or `iterate` without it.

    Warns:
        UserWarning: if the pixel range is 10 or wider, and `const` below a hundredth of its
            square: a c that is meant for pixels in [0, 1].

    Reference:
        Carlini and Wagner, Towards Evaluating the Robustness of Neural Networks (2017),
        arXiv:1608.04644, section VI-A.
    """

    @property
    def supports_jit(self) -> bool:
        return not self._aborts

    @property
    def _aborts(self) -> bool:
        return self.const is None if self.abort_early is None else self.abort_early

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if self.const is None:
            best, steps = self._search(images, classes, targeted, scalars)
            return best, steps, steps + scalars["binary_search_steps"]
        start = self._to_tanh_space(images)
        const = tf.fill(tf.shape(classes), scalars["const"])
        end = self._descend(images, start, classes, const, targeted, scalars)
        if self.iterate != "best":
            return end.last, end.steps, end.steps
        return end.best, end.steps, end.steps + 1

    def _search(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Binary search over c, every image with its own bounds on it."""
        start = self._to_tanh_space(images)
        zero = tf.zeros_like(classes, tf.float32)
        no_bound = _NO_UPPER_BOUND * self._range**2

        def round_(i, const, lower, upper, best, best_l2, steps):  # type: ignore[no-untyped-def]
            end = self._descend(images, start, classes, const, targeted, scalars)
            # NaN is kept, for the caller to see it.
            found = (end.best_l2 < best_l2) | tf.math.is_nan(end.best_l2)
            best = tf.where(per_image(found, images), end.best, best)
            best_l2 = tf.where(found, end.best_l2, best_l2)
            success = tf.math.is_finite(end.best_l2)
            upper = tf.where(success, tf.minimum(upper, const), upper)
            lower = tf.where(success, lower, tf.maximum(lower, const))
            const = tf.where(upper < no_bound, (lower + upper) / 2, const * 10)
            return i + 1, const, lower, upper, best, best_l2, steps + end.steps

        infinite = zero + float("inf")
        const, upper = zero + scalars["initial_const"], zero + no_bound
        state = [0, const, zero, upper, images, infinite, tf.zeros_like(classes)]
        *_, best, _, steps = tf.while_loop(
            lambda i, *_: i < scalars["binary_search_steps"], round_, state
        )
        return best, steps

    def _descend(
        self,
        images: tf.Tensor,
        start: tf.Tensor,
        classes: tf.Tensor,
        const: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> Outcome:
        """Runs Adam from the images. Between checks, only the images still running take part."""
        steps = scalars["steps"]
        interval = tf.maximum(steps // CHECKS, 1)

        def until_check(done: tf.Tensor, state: Descent) -> tuple[tf.Tensor, Descent]:
            until = tf.minimum(done + interval, steps)

            def some_steps(
                before: Descent, start: tf.Tensor, classes: tf.Tensor, const: tf.Tensor
            ) -> Descent:
                after = self._run(done, until, before, start, classes, const, targeted, scalars)
                won = tf.math.is_finite(after.best_l2)
                gain = (after.margin - before.margin) / tf.cast(until - done, tf.float32)
                most = TOLERANCE * tf.maximum(gain, 0.0) * tf.cast(steps - until, tf.float32)
                falling = after.loss <= before.loss * PROGRESS
                running = falling & (won | (after.margin + most >= 0))
                return after._replace(steps=after.steps + (until - done), running=running)

            return until, step_active(some_steps, state, start, classes, const)

        zeros, infinite = tf.zeros_like(images), tf.fill(tf.shape(classes), float("inf"))
        count = tf.zeros_like(classes)
        # Without a margin before the first check, none is hopeless after it.
        state = Descent(
            zeros, zeros, zeros, images, infinite, infinite, -infinite, count, count == 0
        )
        if self._aborts:
            end = while_active(until_check, state, 0, steps)
        else:
            end = self._run(0, steps, state, start, classes, const, targeted, scalars)
            end = end._replace(steps=count + steps)
        last = self._to_pixels(start + end.modifier)
        if self.const is None or self.iterate == "best":
            # The steps have judged every iterate but the last, often the closest one.
            margin = margin_of(self._logits(last), classes, targeted)
            l2 = squared_l2(last - self._to_pixels(start))
            confidence = scalars["confidence"]
            best, best_l2 = closer(end.best, end.best_l2, last, l2, margin, confidence)
            end = end._replace(best=best, best_l2=best_l2)
        return Outcome(last, end.best, end.best_l2, end.steps)

    def _run(
        self,
        done: int | tf.Tensor,
        until: tf.Tensor,
        descent: Descent,
        start: tf.Tensor,
        classes: tf.Tensor,
        const: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> Descent:
        """The steps from number `done` to number `until`, for all images."""
        center = self._to_pixels(start)

        def step(i: tf.Tensor, d: Descent) -> tuple[tf.Tensor, Descent]:
            return i + 1, self._step(i, d, start, center, classes, const, targeted, scalars)

        return tf.while_loop(lambda i, _: i < until, step, [done, descent])[1]

    def _step(
        self,
        i: tf.Tensor,
        d: Descent,
        start: tf.Tensor,
        center: tf.Tensor,
        classes: tf.Tensor,
        const: tf.Tensor,
        targeted: bool,
        scalars: Scalars,
    ) -> Descent:
        """One step of Adam."""
        confidence = scalars["confidence"]
        with tf.GradientTape() as tape:
            tape.watch(d.modifier)
            x = self._to_pixels(start + d.modifier)
            l2 = squared_l2(x - center)
            margin = margin_of(self._logits(x), classes, targeted)
            loss = l2 + const * tf.nn.relu(confidence - margin)
        gradient = self._checked_gradient(tape.gradient(loss, d.modifier))

        mean = _BETA_1 * d.mean + (1 - _BETA_1) * gradient
        variance = _BETA_2 * d.variance + (1 - _BETA_2) * tf.square(gradient)
        t = tf.cast(i + 1, tf.float32)
        rate = scalars["learning_rate"] * tf.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t)
        size = tf.sqrt(variance) + _ADAM_EPSILON * self._range**2
        best, best_l2 = closer(d.best, d.best_l2, x, l2, margin, confidence)
        return d._replace(
            modifier=d.modifier - rate * mean / size,
            mean=mean,
            variance=variance,
            best=best,
            best_l2=best_l2,
            loss=loss,
            margin=margin - confidence,
        )

    def _success(
        self, logits: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tf.Tensor:
        margin = margin_of(logits, classes, targeted)
        return (margin > 0) & (margin >= scalars["confidence"])

    def _to_tanh_space(self, images: tf.Tensor) -> tf.Tensor:
        low, high = self.bounds
        return tf.atanh((2 * (images - low) / (high - low) - 1) * _INSIDE)

    def _to_pixels(self, w: tf.Tensor) -> tf.Tensor:
        low, high = self.bounds
        return low + (high - low) * (tf.tanh(w) + 1) / 2
