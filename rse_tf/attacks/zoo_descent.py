"""One descent of ZOO: its state, image by image, and the loop over its iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from rse_tf.attacks.carlini_wagner import PROGRESS
from rse_tf.attacks.zoo_solvers import Moments


class Task(NamedTuple):
    """What stays as it is during a descent, one image per row."""

    origin: tf.Tensor  # what the modifier is added to: pixels, or their place in tanh space
    center: tf.Tensor  # the image in pixels, from which the distance counts
    classes: tf.Tensor  # int32 [batch]
    const: tf.Tensor  # [batch]
    keys: tf.Tensor  # of its random numbers, int64 [batch]


class State(NamedTuple):
    """What a descent changes, one image per row."""

    modifier: tf.Tensor  # flat, [batch, size]
    moments: Moments
    best: tf.Tensor  # the closest adversarial image of this descent
    best_l2: tf.Tensor  # its squared distance [batch], infinite before the first success
    last_loss: tf.Tensor  # the loss at the last look [batch]
    steps: tf.Tensor  # int32 [batch]
    running: tf.Tensor  # bool [batch]


def descend(
    step: Callable[[tf.Tensor, State, Task], tuple[State, tf.Tensor]],
    state: State,
    task: Task,
    *,
    done: tf.Tensor,
    end: tf.Tensor,
    look: tf.Tensor,
) -> State:
    """Iterates from `done` to `end`.

    Every `look` iterations, images whose loss has not fallen since the last look leave the
    batch.

    Args:
        step: one iteration, from its number, the state and the task; also returns the loss
            before it, `[batch]`.
        state: where to start.
        task: what stays as it is.
        done: the number of the first iteration.
        end: the number after the last one.
        look: the number of iterations between two looks.
    """

    def stretch(done: tf.Tensor, all_: State) -> tuple[tf.Tensor, State]:
        rows = tf.where(all_.running)[:, 0]
        some, part = tf.nest.map_structure(lambda t: tf.gather(t, rows), (all_, task))
        until, last_loss = tf.minimum(done + look, end), some.last_loss
        # One iteration after the other, to keep a randomised model's noise in order.
        _, some, loss = tf.while_loop(
            lambda i, *_: i < until,
            lambda i, s, _: (i + 1, *step(i, s, part)),
            [done, some, last_loss],
            parallel_iterations=1,
        )
        falling = loss <= last_loss * PROGRESS
        some = some._replace(last_loss=loss, steps=some.steps + (until - done), running=falling)
        merged = tf.nest.map_structure(
            lambda t, new: tf.tensor_scatter_nd_update(t, rows[:, None], new), all_, some
        )
        return until, merged

    _, state = tf.while_loop(
        lambda done, s: (done < end) & tf.reduce_any(s.running),
        stretch,
        [done, state],
        parallel_iterations=1,
    )
    return state
