"""A trained network of ours as a PyTorch function, for attacks that know PyTorch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# From a tensor `[batch, channels, height, width]` to the next layer's input, or to logits.
TorchFunction = Callable[[Any], Any]

# Layers that do nothing at inference.
_IDLE = ("InputLayer", "Dropout")
# Two libraries sum in another order; logits are some tens.
_AGREEMENT = 1e-4


def to_torch(model: keras.Model, images: np.ndarray) -> TorchFunction:
    """The same network in PyTorch, with images `[batch, channels, height, width]`.

    Args:
        model: a chain of the layers that `_function` knows.
        images: float32 `[batch, height, width, channels]`, on which both must agree.

    Raises:
        ValueError: if a layer is not known, or if the logits differ by more than 1e-4.
    """
    import torch

    functions = [_function(layer) for layer in model.layers]

    def logits(x: Any) -> Any:
        for function in functions:
            x = function(x)
        return x

    with torch.no_grad():
        found = logits(to_channels_first(images)).numpy()
    difference = float(np.abs(found - model(images, training=False).numpy()).max())
    if not difference <= _AGREEMENT:
        raise ValueError(
            f"to_torch: the logits must agree to {_AGREEMENT}. Received: difference={difference}"
        )
    return logits


def to_channels_first(images: np.ndarray) -> Any:
    """Images as PyTorch has them, `[batch, channels, height, width]`."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def _function(layer: keras.Layer) -> TorchFunction:
    """One layer."""
    import torch
    from torch.nn import functional

    kind, settings = type(layer).__name__, layer.get_config()
    silent = kind == "NoiseLayer" and not settings["stddev"]
    if kind in _IDLE or silent:
        return lambda x: x
    if kind == "Activation" and settings["activation"] == "relu":
        return torch.relu
    if kind == "Flatten":
        # In the order of channels last, for the weights of the next layer.
        return lambda x: x.permute(0, 2, 3, 1).flatten(1)
    if kind == "MaxPooling2D" and settings["padding"] == "valid":
        size, strides = settings["pool_size"], settings["strides"]
        return lambda x: functional.max_pool2d(x, size, strides)
    if settings.get("activation") == "linear" and kind in ("Conv2D", "Dense"):
        kernel, bias = (torch.from_numpy(weights) for weights in layer.get_weights())
        if kind == "Dense":
            return lambda x: x @ kernel + bias
        if settings["padding"] == "valid" and settings["dilation_rate"] == (1, 1):
            kernel, strides = kernel.permute(3, 2, 0, 1).contiguous(), settings["strides"]
            return lambda x: functional.conv2d(x, kernel, bias, strides)
    raise ValueError(
        "to_torch: model must be a chain of valid convolutions, max-pooling, ReLU and dense "
        f"layers. Received: layer={layer.name!r}, a {kind} with {settings}"
    )
