"""Loops from which finished images leave the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def step_active(
    step: Callable[..., Any], state: Any, *constants: Any, active: tf.Tensor | None = None
) -> Any:
    """Applies a step to the active rows of a state; the other rows stay as they are.

    Args:
        step: called with the active rows of the state and of the constants; returns those of the
            new state.
        state: a structure of tensors, one image per row.
        constants: further structures of tensors, one image per row, which do not change.
        active: which rows take part, bool `[batch]`. Default: `state.running`.

    Returns:
        The new state.
    """
    rows = tf.where(state.running if active is None else active)[:, 0]
    some = tf.nest.map_structure(lambda t: tf.gather(t, rows), (state, *constants))
    return tf.nest.map_structure(
        lambda all_, new: tf.tensor_scatter_nd_update(all_, rows[:, None], new), state, step(*some)
    )


def while_active(
    step: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]],
    state: Any,
    start: int | tf.Tensor,
    end: tf.Tensor,
) -> Any:
    """Repeats a step until its counter reaches `end` or no image is running.

    Args:
        step: from the counter and the state to the next ones.
        state: a named tuple of tensors with a bool `[batch]` called `running`.
        start: the first value of the counter.
        end: the counter's value after the last step.

    Returns:
        The last state.
    """
    return tf.while_loop(
        lambda i, state: (i < end) & tf.reduce_any(state.running),
        step,
        [start, state],
        parallel_iterations=1,  # keeps the noise of a randomised model in order
    )[1]
