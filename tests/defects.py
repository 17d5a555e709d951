"""Honest models, and models with a defect that makes them look robust."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.layers import NoiseLayer


class LinearTask:
    """Images far from the bounds, a linear model of them, and its exact robust accuracy.

    An image is robust within epsilon of the L-infinity norm if its logit exceeds each other one
    by more than epsilon times the L1 norm of the difference of their weights.
    """

    def __init__(self, number: int = 400, classes: int = 4) -> None:
        rng = np.random.default_rng(5)
        shape = (4, 4, 1)
        self.weights = rng.standard_normal((16, classes)).astype(np.float32)
        centres = 0.5 + 0.05 * np.sign(rng.standard_normal((classes, 16)))
        self.weights = ((centres - centres.mean(0)).T * 20).astype(np.float32)
        self.bias = -(0.5 * self.weights.sum(axis=0)).astype(np.float32)
        self.labels = np.arange(number) % classes
        pixels = centres[self.labels] + 0.06 * rng.standard_normal((number, 16))
        self.images = np.clip(pixels, 0.25, 0.75).astype(np.float32).reshape(-1, *shape)

    def model(self, noise: float = 0.0) -> keras.Model:
        inputs = x = keras.Input((4, 4, 1))
        if noise:
            x = NoiseLayer(noise)(x)
        dense = keras.layers.Dense(self.weights.shape[1])
        outputs = dense(keras.layers.Flatten()(x))
        dense.set_weights([self.weights, self.bias])
        return keras.Model(inputs, outputs)

    def robust(self, epsilon: float) -> np.ndarray:
        """Which images are robust, bool `[number]`."""
        logits = self.images.reshape(-1, 16).astype(np.float64) @ self.weights + self.bias
        rows = np.arange(len(logits))
        own = logits[rows, self.labels][:, None]
        weights = np.abs(self.weights[:, self.labels].T[:, :, None] - self.weights[None])
        distance = (own - logits) / np.maximum(weights.sum(axis=1), 1e-12)
        distance[rows, self.labels] = np.inf
        return distance.min(axis=1) > epsilon


def with_gradient(model: Any, forward: Any, backward: Any) -> Any:
    """A model whose images pass through `forward`, and its gradients through `backward`."""

    @tf.custom_gradient
    def layer(images: tf.Tensor) -> Any:
        return forward(images), backward

    return lambda images: model(layer(images))


def without_gradient(model: Any) -> Any:
    """All gradients are zero."""
    return with_gradient(model, tf.identity, tf.zeros_like)


def sign_flipped(model: Any) -> Any:
    """Gradients point down the loss."""
    return with_gradient(model, tf.identity, tf.negative)


def quantised(model: Any) -> Any:
    """Images have 8 levels; the gradient passes as if they had not."""
    return with_gradient(model, lambda images: tf.round(images * 7) / 7, tf.identity)


def half_stopped(model: Any) -> Any:
    """One half of the image keeps its gradient from the attack."""

    def logits(images: tf.Tensor) -> tf.Tensor:
        left, right = tf.split(images, 2, axis=2)
        return model(tf.concat([left, tf.stop_gradient(right)], axis=2))

    return logits


class _Inner(keras.Model):
    def __init__(self, inner: keras.Model) -> None:
        super().__init__()
        self.inner = inner


class DropsOut(_Inner):
    """Dropout that is alive at inference, and that no noise layer declares."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__(inner)
        self.dropout = keras.layers.Dropout(0.3)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.inner(self.dropout(images, training=True))


class NormalisesByBatch(_Inner):
    """Batch normalisation that uses the statistics of the batch at inference."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__(inner)
        self.normalise = keras.layers.BatchNormalization()

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.inner(self.normalise(images, training=True))


class FreezesNoise(_Inner):
    """Noise that starts anew at every call, and so is always the same."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        for layer in self.inner.layers:
            if isinstance(layer, NoiseLayer):
                layer.seed_generator.state.assign([7, 0])
        return self.inner(images)


class SharesNoise(_Inner):
    """The same noise for all images of a batch."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__(inner)
        self.noise = NoiseLayer(0.1)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.inner(images + self.noise(tf.zeros_like(images[:1])))
