"""Whether two models give the same outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# For sizes that a model leaves open: enough for the deepest of Keras' own networks, and fewer
# where a large number of them are multiplied.
_OPEN_SIZE, _OPEN_SIZE_OF_MANY = 128, 32

# Bits behind the leading one of a number.
_BITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


def assert_same_outputs(
    caller: str,
    model: keras.Model,
    copy: keras.Model,
    inputs: Any,
    before: Callable[[], None],
) -> None:
    """Runs a model and its copy on one random batch of two examples, in inference mode.

    The variables of both are left as they were: moving statistics and random streams.

    Args:
        caller: what the messages of errors start with.
        model: the original.
        copy: the copy.
        inputs: one `keras.KerasTensor` or a structure of them: shapes and dtypes.
        before: called once before both; makes their random streams the same.

    Raises:
        ValueError: if the outputs differ by more than rounding. A model whose own outputs
            differ from call to call, by other means than Keras' seed generators, gets a
            warning instead.
    """
    rng = np.random.default_rng(0)
    batch = keras.tree.map_structure(lambda one: _random(one, rng), inputs)
    states = _states(model) + _states(copy)
    try:
        before()
        state = _states(model)
        expected, actual = _outputs(model, batch), _outputs(copy, batch)
        tolerance = _tolerance(model)
        difference = _difference(expected, actual)
        if difference <= tolerance:
            return
        _set(state)
        own = _difference(expected, _outputs(model, batch))
    finally:
        _set(states)
    if own > tolerance:
        warnings.warn(
            f"{caller}: {model.name!r} gives other outputs at every call, and not by a "
            "keras.random.SeedGenerator, so that its copy could not be compared with it",
            stacklevel=4,
        )
        return
    raise ValueError(
        f"{caller}: a copy of model must give the outputs of model. Received: {model.name!r}, "
        f"whose copy differs by {difference:.2g} of the largest output. A layer must have "
        "something that neither its get_config nor its save_own_variables holds, such as an "
        f"attribute set or a method replaced later. {_suspects(model)}"
    )


def _random(tensor: keras.KerasTensor, rng: np.random.Generator) -> tf.Tensor:
    batch, *sizes = tensor.shape
    many = sizes.count(None) > 2
    open_size = _OPEN_SIZE_OF_MANY if many else _OPEN_SIZE
    shape = (batch or 2, *(open_size if size is None else size for size in sizes))
    dtype = tf.as_dtype(tensor.dtype)
    if dtype == tf.string:
        return tf.fill(shape, "a")
    if not dtype.is_floating:
        return tf.cast(rng.integers(0, 2, shape), dtype)
    values = rng.uniform(size=shape)
    values[1::2] *= 255  # whatever the pixel range is, one of two images has it
    return tf.cast(values, dtype)


def _outputs(model: keras.Model, batch: Any) -> list[np.ndarray]:
    outputs = keras.tree.flatten(model(batch, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(one), np.float64) for one in outputs]


def _difference(expected: list[np.ndarray], actual: list[np.ndarray]) -> float:
    """The largest difference, as a part of the largest output of the same example."""
    if [one.shape for one in expected] != [one.shape for one in actual]:
        return np.inf
    largest = 0.0
    for mine, other in zip(expected, actual):
        same = (mine == other) | (np.isnan(mine) & np.isnan(other))
        # An infinity on one side alone is infinitely far.
        with np.errstate(invalid="ignore"):
            gap = np.nan_to_num(np.where(same, 0.0, np.abs(mine - other)), nan=np.inf)
        size = np.where(np.isfinite(mine), np.abs(mine), 0.0)
        axes = tuple(range(1, mine.ndim))
        gap, size = gap.max(axis=axes, initial=0.0), size.max(axis=axes, initial=0.0)
        part = np.where(gap > 0, gap / np.maximum(size, np.finfo(np.float32).tiny), 0.0)
        largest = max(largest, float(np.max(part, initial=0.0)))
    return largest


def _tolerance(model: keras.Model) -> float:
    """Half of the digits of the coarsest dtype in the model."""
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    return 2.0 ** (-min([_BITS[one] for one in dtypes if one in _BITS], default=23) / 2)


def _states(model: keras.Model) -> list[tuple[keras.Variable, tf.Tensor]]:
    return [(v, tf.identity(v.value)) for v in model.non_trainable_variables]


def _set(states: list[tuple[keras.Variable, tf.Tensor]]) -> None:
    for variable, value in states:
        variable.assign(value)


def _suspects(model: keras.Model) -> str:
    layers = [layer for layer in model._flatten_layers() if layer is not model]
    own = [one for one in layers if type(one).__module__.split(".")[0] not in ("keras", "rse_tf")]
    if not own:
        return "All its layers are Keras' own"
    return "Look at " + ", ".join(f"{one.name!r} ({type(one).__name__})" for one in own[:5])
