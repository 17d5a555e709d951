"""The networks by name, and the settings that one is built from."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from rse_tf.models.model_a import ModelA
from rse_tf.models.network import Network, NoiseSettings
from rse_tf.models.resnext import ResNeXt29
from rse_tf.models.small_cnn import CifarCNN, MnistCNN
from rse_tf.models.vgg import VGG16

MODELS: dict[str, type[Network]] = {
    "cifar_cnn": CifarCNN,
    "mnist_cnn": MnistCNN,
    "model_a": ModelA,
    "resnext29": ResNeXt29,
    "vgg16": VGG16,
}


def build(name: str, *, input_shape: tuple[int, int, int], **settings: Any) -> Network:
    """Builds a network by name.

    Args:
        name: a key of `MODELS`.
        input_shape: `(height, width, channels)` of the images.
        **settings: the other arguments of `Network` but for its name, for example
            `num_classes=10`, `init_noise=0.4`, `inner_noise=0.1`. An unknown one is a TypeError.

    Returns:
        A `keras.Model` from images `[batch, height, width, channels]` in [0, 1] to logits
        `[batch, num_classes]`.

    Raises:
        ValueError: if `name` is not a key of `MODELS`.
    """
    if name not in MODELS:
        raise ValueError(f"build: name must be one of {sorted(MODELS)}. Received: name={name!r}")
    return MODELS[name](input_shape, **settings)


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What a network is built from: its name, and the arguments of `Network`."""

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    noise: NoiseSettings = NoiseSettings()
    activation: str = "relu"
    extra_filters: int = 0
    extra_convolution: int = 0

    @property
    def is_trained(self) -> bool:
        """Whether what is built is trained already."""
        return False

    def facts(self) -> dict[str, Any]:
        """Everything by name, the noise's settings among the others: part of a cache key."""
        own = dataclasses.asdict(self)
        return own | own.pop("noise")

    def build(self, dtype: str | None = None) -> keras.Model:
        """Builds the network with fresh weights, in a dtype or Keras dtype policy."""
        settings = self.facts()
        return build(settings.pop("name"), dtype=dtype, **settings)

    def without_noise(self) -> NetworkSpec:
        """The same network, silent."""
        return dataclasses.replace(self, noise=NoiseSettings())
