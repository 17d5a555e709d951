"""One descent of ZOO: its state, image by image, and the loop over its iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from rse_tf.attacks.active_rows import step_active, while_active
from rse_tf.attacks.carlini_wagner import PROGRESS
from rse_tf.attacks.zoo_solvers import Moments


class Task(NamedTuple):
    """The constants of a descent, one image per row."""

    origin: tf.Tensor  # what the modifier is added to: pixels, or their place in tanh space
    center: tf.Tensor  # the image in pixels, from which the distance counts
    classes: tf.Tensor  # int32 [batch]
    const: tf.Tensor  # [batch]
    keys: tf.Tensor  # of its random numbers, int64 [batch]


class State(NamedTuple):
    """The state of a descent, one image per row."""

    modifier: tf.Tensor  # flat, [batch, size]
    moments: Moments
    best: tf.Tensor  # the closest adversarial image of this descent
    best_l2: tf.Tensor  # its squared distance [batch], infinite before the first success
    last_loss: tf.Tensor  # the loss at the last check [batch]
    steps: tf.Tensor  # int32 [batch]
    running: tf.Tensor  # bool [batch]


def descend(
    step: Callable[[tf.Tensor, State, Task], tuple[State, tf.Tensor]],
    state: State,
    task: Task,
    *,
    done: tf.Tensor,
    end: tf.Tensor,
    interval: tf.Tensor,
) -> State:
    """Iterates from `done` to `end`.

    Every `interval` iterations, images whose loss has not fallen since the last check leave
    the batch.

    Args:
        step: one iteration, from its number, the state and the task; also returns the loss
            before it, `[batch]`.
        state: where to start.
        task: what stays as it is.
        done: the number of the first iteration.
        end: the number after the last one.
        interval: the number of iterations between two checks.
    """

    def until_check(done: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        until = tf.minimum(done + interval, end)

        def iterate(some: State, part: Task) -> State:
            # One iteration after the other, to keep a randomised model's noise in order.
            _, new, loss = tf.while_loop(
                lambda i, *_: i < until,
                lambda i, s, _: (i + 1, *step(i, s, part)),
                [done, some, some.last_loss],
                parallel_iterations=1,
            )
            falling = loss <= some.last_loss * PROGRESS
            return new._replace(last_loss=loss, steps=new.steps + (until - done), running=falling)

        return until, step_active(iterate, state, task)

    return while_active(until_check, state, done, end)
