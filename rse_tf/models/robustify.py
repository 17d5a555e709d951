"""Noise layers for any Keras model."""

from __future__ import annotations

from typing import Any

import keras

from rse_tf.layers import NoiseLayer, noise_layers
from rse_tf.models.network import NoiseSettings

CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in (
        "Conv1D", "Conv2D", "Conv3D",
        "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
        "DepthwiseConv1D", "DepthwiseConv2D",
        "SeparableConv1D", "SeparableConv2D",
    )
)  # fmt: skip


def robustify(
    model: keras.Model,
    init_noise: float,
    inner_noise: float,
    distribution: str = "gaussian",
    active: str = "always",
    sampler: str = "pool",
) -> keras.Model:
    """Returns a copy of a model with a noise layer before every convolution.

    The copy has the same weights and, with both noises at zero, the same output. Nested
    models and convolutions inside `TimeDistributed` are treated alike. Training the copy is
    part of the method: noise in a network that never saw any costs it most of its accuracy
    (Liu et al., 2018, Figure 2).

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
        ValueError: if the model or one inside it is subclassed, if a layer of it has convolutions
            inside, or if it is not built, has no convolution, or is noisy already.
    """
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
    noise = NoiseSettings(init_noise, inner_noise, distribution, active, sampler=sampler)
    cloner = _Cloner(noise)
    noisy_model = cloner.clone(model)
    if cloner.convolutions == 0:
        raise ValueError(
            "robustify: model must contain a convolution for the noise to go before. "
            f"Received: {model.name!r} without one"
        )
    cloner.copy_weights()
    return noisy_model


class _Cloner:
    """Copies models layer by layer and counts the convolutions on the way."""

    def __init__(self, noise: NoiseSettings) -> None:
        self.convolutions = 0
        self._noise = noise
        self._copies: dict[int, tuple[keras.layers.Layer, keras.layers.Layer]] = {}

    def clone(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Copies a layer or model, without its weights; once, however many models share it."""
        if id(layer) not in self._copies:
            self._copies[id(layer)] = (layer, self._copy(layer))
        return self._copies[id(layer)][1]

    def copy_weights(self) -> None:
        """Gives the copies the weights of their originals."""
        # Layer by layer: the noise changes the order in which a model lists its layers.
        for layer, copy in self._copies.values():
            if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model):
                copy.set_weights(layer.get_weights())

    def _copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Sequential):
            return self._clone_sequential(layer)
        if hasattr(layer, "operations"):  # the graph of a Functional model
            return keras.models.clone_model(
                layer, clone_function=self.clone, call_function=self._call
            )
        if isinstance(layer, keras.Model) or _hides_convolution(layer):
            raise ValueError(
                "robustify: model must be Functional or Sequential, and so must everything "
                "inside it that has convolutions, for them to be found. "
                f"Received: {layer.name!r} of type {type(layer).__name__}; put NoiseLayer before "
                "its convolutions in its own code"
            )
        return type(layer).from_config(layer.get_config())

    def _clone_sequential(self, model: keras.Sequential) -> keras.Sequential:
        inputs = model.inputs[0]
        copy = keras.Sequential(name=model.name)
        copy.add(keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype, name=inputs.name))
        for layer in model.layers:
            if _is_convolution(layer):
                copy.add(self._noise_before(layer))
            copy.add(self.clone(layer))
        return copy

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_convolution(layer):
            noise = self._noise_before(layer)
            if args:
                args = (noise(args[0]), *args[1:])
            else:
                kwargs["inputs"] = noise(kwargs["inputs"])
        return layer(*args, **kwargs)

    def _noise_before(self, convolution: keras.layers.Layer) -> NoiseLayer:
        index = self.convolutions
        self.convolutions += 1
        return self._noise.layer(index, name=f"noise_{index}", dtype=convolution.dtype_policy)


def _is_convolution(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Wrapper):
        return _is_convolution(layer.layer)
    return isinstance(layer, CONVOLUTIONS)


def _hides_convolution(layer: Any) -> bool:
    """Whether a layer that is copied as a whole has a convolution inside."""
    if _is_convolution(layer) or not isinstance(layer, keras.layers.Layer):
        return False
    return any(_is_convolution(inner) for inner in layer._flatten_layers(include_self=False))
