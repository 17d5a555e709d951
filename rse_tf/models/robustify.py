"""Noise layers for any Keras model."""

from __future__ import annotations

import math
import numbers
import os
import warnings
from typing import Any

import keras

from rse_tf.layers import NoiseLayer, noise_layers, noise_replaced
from rse_tf.models.copying import Copier, input_specs, is_graph
from rse_tf.models.network import NoiseSettings
from rse_tf.utils.classifier import last_activation

CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in (
        "Conv1D",
        "Conv2D",
        "Conv3D",
        "Conv1DTranspose",
        "Conv2DTranspose",
        "Conv3DTranspose",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "SeparableConv1D",
        "SeparableConv2D",
    )
)


def robustify(
    model: keras.Model,
    init_noise: float,
    inner_noise: float,
    distribution: str = "gaussian",
    active: str = "always",
    sampler: str = "pool",
) -> keras.Model:
    """Returns a copy of a model with a noise layer before every convolution.

    The copy has the same weights and all other state that Keras saves, such as the statistics of
    an adapted `Normalization`. With both noises at zero it has the same output: the copy is
    compared with the model on a random batch, its noise silenced, before it is returned. It is
    not compiled. Nested models and convolutions inside `TimeDistributed` are treated alike; of a
    `Lambda` layer the copy calls the same Python function. Training the copy is part of the
    method: noise in a network that never saw any costs it most of its accuracy (Liu et al., 2018,
    Figure 2).

    Args:
        model: a Functional or Sequential model; it is left as it is.
        init_noise: standard deviation before the first convolution, in the units of that
            convolution's input. The paper uses 0.1 to 0.4 on pixels in [0, 1].
        inner_noise: standard deviation before every other convolution; the paper uses 0.1.
        distribution: `"gaussian"`, `"uniform"` or `"laplace"`.
        active: `"always"`, `"training"` or `"inference"`, as in `NoiseLayer`.
        sampler: `"pool"` or `"exact"`, as in `NoiseLayer`.

    Returns:
        A model with inputs and outputs as `model`.

    Raises:
        ValueError: if the model or one inside it that has convolutions is subclassed or has a
            `call` of its own, if a layer of it has convolutions inside, or if it is not built, has
            no convolution, or is noisy already; if a layer cannot be made anew from its
            `get_config`, or if the copy differs from the model; if a standard deviation is
            negative or no number.

    Warns:
        UserWarning: if the model is known to end in a softmax or sigmoid: a noisy network of
            probabilities trains like one of logits, but ensembles and attacks want logits.
    """
    _check_model(model)
    ending = last_activation(model)
    if ending is not None:
        warnings.warn(
            f"robustify: model {model.name!r} ends in a {ending}. Ensembles, attacks and scores "
            "take logits: leave it out before the model is trained, or take its log",
            stacklevel=2,
        )
    init_noise = _check_noise("init_noise", init_noise)
    inner_noise = _check_noise("inner_noise", inner_noise)
    noise_before = _NoiseBefore(
        NoiseSettings(init_noise, inner_noise, distribution, sampler, active=active), model
    )
    copier = Copier("robustify", noise_before)
    noisy_model = copier.copy(model)
    if not noise_before.layers:
        raise ValueError(
            "robustify: model must contain a convolution for the noise to go before. "
            f"Received: {model.name!r} without one"
        )
    copier.copy_state(random_streams=True)
    with noise_replaced(noise_before.layers, lambda layer, inputs: inputs):  # silent
        copier.check(model, noisy_model, input_specs(model))
    return noisy_model


class _NoiseBefore:
    """Makes a noise layer for every call of a convolution, and counts them."""

    def __init__(self, noise: NoiseSettings, model: keras.Model) -> None:
        self.layers: list[NoiseLayer] = []
        self._noise = noise
        self._taken = {
            operation.name
            for layer in model._flatten_layers()
            for operation in (layer, *getattr(layer, "operations", ()))
        }

    def __call__(self, layer: Any) -> NoiseLayer | None:
        if not _is_convolution(layer):
            return None
        index = len(self.layers)
        name = f"noise_{index}"
        while name in self._taken:
            name += "_"
        self.layers.append(self._noise.layer(index, name=name, dtype=layer.dtype_policy))
        return self.layers[-1]


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        hint = "build or load the model first"
        if isinstance(model, type):
            hint = "pass an object of this class, not the class"
        elif isinstance(model, (str, os.PathLike)):
            hint = "load it with keras.saving.load_model"
        raise ValueError(f"robustify: model must be a Keras model. Received: {model!r}; {hint}")
    if noise_layers(model):
        raise ValueError(
            f"robustify: model must not have noise layers yet. Received: {model.name!r}, which has "
            f"{len(noise_layers(model))}; build a noisy model once, with the noise you want"
        )
    if not model.built:
        raise ValueError(
            "robustify: model must be built, so that it has weights to keep. "
            f"Received: {model.name!r}; call it on a batch or give it a keras.Input first"
        )
    if not is_graph(model):
        _refuse(model)
    _check_layers(model)


def _check_layers(model: keras.Model) -> None:
    """Refuses convolutions inside of what is copied as a whole."""
    for layer in model.layers:
        if is_graph(layer):
            _check_layers(layer)
        elif _hides_convolution(layer):
            _refuse(layer)


def _refuse(layer: keras.layers.Layer) -> None:
    hint = "put NoiseLayer before its convolutions in its own code"
    if type(layer) is keras.Sequential:
        hint = "Keras could not connect its layers; one of them lacks a compute_output_shape"
    raise ValueError(
        "robustify: model must be Functional or Sequential without a call of its own, and so must "
        "everything inside it that has convolutions, for them to be found. "
        f"Received: {layer.name!r} of type {type(layer).__name__}; {hint}"
    )


def _check_noise(name: str, value: Any) -> float:
    """Returns a standard deviation as a float."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        stddev = float(value)
        if math.isfinite(stddev) and stddev >= 0:
            return stddev
    raise ValueError(
        f"robustify: {name} must be a finite number, zero or greater: one standard deviation. "
        f"Received: {name}={value!r}"
    )


def _is_convolution(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Wrapper):
        return _is_convolution(layer.layer)
    return isinstance(layer, CONVOLUTIONS)


def _hides_convolution(layer: Any) -> bool:
    """Whether a layer that is copied as a whole has a convolution inside."""
    if _is_convolution(layer) or not isinstance(layer, keras.layers.Layer):
        return False
    return any(_is_convolution(inner) for inner in layer._flatten_layers(include_self=False))
