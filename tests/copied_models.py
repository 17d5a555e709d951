"""Models with every kind of state and of layer that a copy can lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32)


def around(*inside: keras.layers.Layer, dtype: str | None = None) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            *inside,
            layers.Conv2D(4, 3, dtype=dtype),
            layers.Flatten(),
            layers.Dense(5, dtype=dtype),
        ]
    )


def adapted(axis: int | None) -> keras.layers.Layer:
    layer = layers.Normalization(axis=axis)
    layer.adapt(IMAGES)
    return layer


class Scale(layers.Layer):
    """Not registered, and made anew from its configuration alone."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.factor

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class Forgetful(Scale):
    """Its configuration lacks what makes it different."""

    def get_config(self) -> dict[str, Any]:
        return layers.Layer.get_config(self)


class Inner(layers.Layer):
    """Has layers inside, and unregistered ones."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = [Scale(0.5), layers.Dense(3), layers.BatchNormalization()]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for step in self.steps:
            inputs = step(inputs)
        return inputs


class Attribute(layers.Layer):
    """Saves more than its weights, by Keras' own hooks."""

    def build(self, shape: tuple) -> None:
        self.weight = self.add_weight(shape=(3,), initializer="ones")
        self.factor = 1.0

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.weight * self.factor

    def save_own_variables(self, store: dict[str, Any]) -> None:
        store["weight"], store["factor"] = self.weight, np.float32(self.factor)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        self.weight.assign(store["weight"])
        self.factor = float(store["factor"])


def attribute() -> keras.Model:
    layer = Attribute()
    model = around(layer)
    layer.factor = 3.0
    return model


class Triple(keras.Model):
    """A graph, and a call that does something else."""

    def __init__(self, layer: str = "Dense", **kwargs: Any) -> None:
        inputs = keras.Input(SHAPE)
        step = layers.Dense(3) if layer == "Dense" else layers.Conv2D(3, 3)
        super().__init__(inputs, layers.Flatten()(step(inputs)), **kwargs)
        self.kind = layer

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        return 3.0 * super().call(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        return {"layer": self.kind, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Triple:
        return cls(**config)


class TripleSequential(keras.Sequential):
    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        return 3.0 * super().call(inputs, training=training)


class Trained(keras.Model):
    """A graph with a training step of its own."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def functional(*inside: Callable, kind: type = keras.Model) -> keras.Model:
    x = inputs = keras.Input(SHAPE)
    for step in inside:
        x = step(x)
    return kind(inputs, layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 3)(x))))


def relu(x: tf.Tensor) -> tf.Tensor:
    """Has the name of a function of Keras, and does something else."""
    return 2.0 * x


class Ones(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> tf.Tensor:
        return tf.ones(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {}


class Clip(keras.constraints.Constraint):
    def __call__(self, weight: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(weight, -1.0, 1.0)


def own_objects() -> keras.Model:
    return around(
        layers.Dense(3, kernel_initializer=Ones(), bias_constraint=Clip(), activation=relu),
        layers.Dense(3, activation=lambda x: x**2, kernel_regularizer=keras.regularizers.L2(0.1)),
        layers.Activation(lambda x: x + 1.0),
    )


def compiled() -> keras.Model:
    model = around()
    model.compile("sgd", lambda labels, logits: tf.reduce_mean(logits))
    return model


def mixed_policy() -> keras.Model:
    with_policy = [layers.Dense(3, dtype="mixed_bfloat16"), layers.LayerNormalization()]
    return around(*with_policy, dtype="mixed_float16")


def quantized() -> keras.Model:
    model = around(layers.Dense(6))
    model.quantize("int8")
    return model


def shared() -> keras.Model:
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3, padding="same")])
    return functional(inner, layers.ReLU(), inner)


def frozen() -> keras.Model:
    base = keras.Sequential([keras.Input(SHAPE), layers.Dense(3), layers.Dense(3)])
    base.trainable = False
    base.layers[1].trainable = True
    model = around(layers.BatchNormalization(trainable=False), base, layers.Dense(3))
    model.layers[2].bias.trainable = False
    return model


CASES: dict[str, Callable[[], keras.Model]] = {
    "normalization": lambda: around(adapted(-1)),
    "normalization over all": lambda: around(adapted(None)),
    "preprocessing": lambda: around(layers.Rescaling(1 / 255), layers.Resizing(9, 9)),
    "augmentation": lambda: around(layers.RandomFlip(), layers.RandomRotation(0.1)),
    "lambda": lambda: around(
        layers.Lambda(lambda x, by: x / by["n"], arguments={"by": {"n": 2.0}}, output_shape=SHAPE)
    ),
    "lambda with names of its module": lambda: around(layers.Lambda(lambda x: tf.sqrt(x))),
    "lambda inside": lambda: functional(
        layers.SpectralNormalization(layers.Dense(3)), layers.TimeDistributed(layers.Lambda(relu))
    ),
    "unregistered layers": lambda: around(Scale(3.0), Inner(), layers.TimeDistributed(Scale(0.1))),
    "unregistered objects": own_objects,
    "layer that saves an attribute": attribute,
    "layers called like noise": lambda: around(layers.GaussianNoise(0.1, name="noise_0")),
    "operations": lambda: functional(
        lambda x: keras.ops.clip((x - np.float32([1, 2, 3])) / 255.0, -1.0, 1.0)
    ),
    "losses": lambda: around(layers.ActivityRegularization(0.1)),
    "compiled with a loss of its own": compiled,
    "mixed policies": mixed_policy,
    "quantized": quantized,
    "shared model": shared,
    "frozen": frozen,
    "training step": lambda: functional(kind=Trained),
    "graph with a call inside": lambda: functional(Triple(), layers.Reshape(SHAPE)),
    "sequential built by a call": lambda: keras.Sequential([layers.Conv2D(2, 3), layers.Flatten()]),
}
