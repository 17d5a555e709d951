"""Noise that is drawn on demand, and what ZOO makes of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.attacks import ZOO
from rse_tf.attacks.zoo_coordinates import Level, estimate
from rse_tf.layers import CommonNoise, FrozenNoise, NoiseLayer, noise_state, seed_noise

RNG = np.random.default_rng(1)
IMAGES = RNG.uniform(0.4, 0.6, size=(6, 4, 4, 1)).astype(np.float32)
ZEROS = np.zeros(6, int)


def grey(x: tf.Tensor) -> tf.Tensor:
    """Logits of two classes: dark and bright."""
    bright = tf.reduce_mean(x, axis=[1, 2, 3])
    return tf.stack([0.7 - bright, bright - 0.7], axis=1) * 5


def noise_only() -> keras.Model:
    """Two noise layers; of black images the logits are the sum of both."""
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4, 4, 1)), NoiseLayer(1.0), layers.Flatten(), NoiseLayer(1.0)]
    )


def test_common_noise_holds_until_the_next_redraw_in_a_compiled_loop() -> None:
    noisy = noise_only()
    common, zeros = CommonNoise(noisy), tf.zeros((3, 4, 4, 1))

    @tf.function
    def pairs() -> tf.Tensor:
        def body(i: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            common.redraw()
            return i + 1, found.write(i, tf.stack([common(zeros), common(zeros)]))

        start = tf.TensorArray(tf.float32, 5, element_shape=[2, 3, 16])
        return tf.while_loop(lambda i, _: i < 5, body, [0, start], parallel_iterations=1)[1].stack()

    seed_noise(noisy, 7)
    first = pairs().numpy()
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    for left in range(5):
        for right in range(left):
            assert np.all(first[left] != first[right])
    seed_noise(noisy, 7)  # the draws continue the model's own streams
    np.testing.assert_array_equal(pairs().numpy(), first)
    before = noise_state(noisy)
    np.testing.assert_array_equal(common(zeros), common(zeros))
    np.testing.assert_array_equal(noise_state(noisy), before)


def test_an_attack_on_common_noise_is_repeatable_and_counts_the_middle() -> None:
    class Counted(CommonNoise):
        rows = tf.Variable(0)

        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            self.rows.assign_add(tf.shape(images)[0])
            return super().__call__(images)[:, :2] * 0.1 + grey(images)

    noisy = noise_only()
    counted = Counted(noisy)
    attack = ZOO(counted, const=1.0, noise="common", solver="newton", coordinates=4, steps=20)
    attack.check_model(IMAGES)
    results = []
    for _ in range(2):
        seed_noise(noisy, 3)
        counted.rows.assign(0)
        results.append(attack(IMAGES, ZEROS))
        assert counted.rows.numpy() == results[-1].queries.sum() == 6 * (20 * (3 * 4 + 1) + 1)
    np.testing.assert_array_equal(results[0].adversarial, results[1].adversarial)


def test_common_noise_needs_a_model_that_can_redraw() -> None:
    with pytest.raises(ValueError, match="redraw"):
        ZOO(grey, noise="common")
    silent = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="silent")
    with pytest.raises(ValueError, match="at least one NoiseLayer. Received: 'silent'"):
        CommonNoise(silent)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left.ravel() @ right.ravel() / np.linalg.norm(left) / np.linalg.norm(right))


def margin_of(logits: tf.Tensor) -> tf.Tensor:
    return logits[:, 0] - logits[:, 1]


def test_common_noise_leaves_the_gradient_in_the_differences() -> None:
    network = rse_tf.models.build(
        "mnist_cnn", input_shape=(28, 28, 1), num_classes=10, init_noise=0.05, inner_noise=0.02
    )
    images = tf.constant(RNG.uniform(0.3, 0.7, size=(1, 28, 28, 1)).astype(np.float32))

    wide = tf.ones([1, 784])
    level = Level(images, images, -wide, wide, (28, 28, 1), tf.identity)

    def slopes(attack: ZOO) -> np.ndarray:
        attack.check_model(images.numpy())  # as a call of the attack does
        compiled = tf.function(
            lambda: estimate(
                lambda sides, rows: [margin_of(z) for z in attack._side_logits(sides)],
                level,
                tf.zeros([1, 784]),
                tf.range(784)[None],
                h=1e-2,
                const=tf.ones(1),
                current=tf.zeros(1),
                max_rows=300,
            )[0]
        )
        return compiled().numpy()

    def frozen_gradient(draw: int) -> np.ndarray:
        with tf.GradientTape() as tape:
            tape.watch(images)
            margin = margin_of(FrozenNoise(network, draw)(images))
        return tape.gradient(margin, images).numpy().reshape(1, 784)

    draws = [frozen_gradient(draw) for draw in range(12)]
    truth = np.mean(draws, axis=0)
    single = np.mean([cosine(draw, truth) for draw in draws])
    fresh, common = slopes(ZOO(network)), slopes(ZOO(CommonNoise(network), noise="common"))
    # Every coordinate of the common estimate is the gradient under some draw; the fresh one is
    # noise in 784 dimensions, whose cosine deviates by 1 / sqrt(784) = 0.036.
    assert single > 0.4
    assert abs(cosine(common, truth) - single) < 0.15
    assert abs(cosine(fresh, truth)) < 5 * 0.036
    assert np.linalg.norm(common) < 3 * np.linalg.norm(truth) < np.linalg.norm(fresh) / 10
