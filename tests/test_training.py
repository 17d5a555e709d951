"""The training loop, step by step as by hand."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from trainings import SETTINGS, SMALL

from rse_tf import data
from rse_tf.layers import FusedBatchNormalization, NoiseLayer
from rse_tf.training import (
    CrossEntropy,
    Loop,
    Objective,
    TrainingDivergedError,
    TrainingError,
    TrainingSettings,
    make_strategy,
)


def linear_network(dtype: str) -> keras.Model:
    layers = [keras.Input(SMALL.image_shape), keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential(layers)


def make_loop(
    directory: pathlib.Path,
    settings: TrainingSettings = SETTINGS,
    strategy: str = "one_device",
    dataset: data.Dataset = SMALL,
    **kwargs: Any,
) -> Loop:
    objective = kwargs.pop("objective", CrossEntropy())
    network = kwargs.pop("network", linear_network)
    return Loop(
        network,
        dataset,
        settings,
        objective,
        make_strategy(strategy),
        directory,
        "linear",
        **kwargs,
    )


def cross_entropy_gradients(
    weights: list[np.ndarray], images: tf.Tensor, labels: tf.Tensor, temperature: float = 1.0
) -> list[np.ndarray]:
    """Of logits z = xW + b at temperature T: x^T (softmax(z / T) - one_hot) / (T batch)."""
    x = images.numpy().reshape(len(images), -1).astype(np.float64)
    logits = (x @ weights[0] + weights[1]) / temperature
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(x)), labels.numpy()] -= 1
    error /= temperature * len(x)
    return [x.T @ error, error.sum(axis=0)]


def check_by_hand(loop: Loop, temperature: float, step: Any) -> None:
    """Trains one epoch of 3 steps; `step(weights, gradients, number)` does the same by hand."""
    weights = [w.astype(np.float64) for w in loop.model.get_weights()]
    for number, batch in enumerate(data.Batches(SMALL.train, 128, "none", 0).epoch(0)):
        weights = step(weights, cross_entropy_gradients(weights, *batch, temperature), number)
    loop.run()
    for ours, expected in zip(loop.model.get_weights(), weights):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_loop_is_sgd_with_momentum_and_coupled_weight_decay(
    tmp_path: pathlib.Path, temperature: float
) -> None:
    settings = TrainingSettings(
        epochs=1, batch_size=128, learning_rate=0.1, weight_decay=0.05, augmentation="none"
    )
    rate_at = settings.learning_rate_schedule(steps_per_epoch=3)
    velocity = [0.0, 0.0]

    # v <- 0.9 v - rate (g + 0.05 w), w <- w + v.
    def step(weights: list[Any], gradients: list[Any], number: int) -> list[Any]:
        for i in range(2):
            gradient = gradients[i] + 0.05 * weights[i]
            velocity[i] = 0.9 * velocity[i] - float(rate_at(number)) * gradient
        return [w + v for w, v in zip(weights, velocity)]

    loop = make_loop(tmp_path, settings, objective=CrossEntropy(temperature))
    check_by_hand(loop, temperature, step)


def test_adam_at_a_constant_rate_is_adam(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(
        epochs=1,
        optimizer="adam",
        learning_rate=0.01,
        weight_decay=0.0,
        schedule="constant",
        augmentation="none",
    )
    means, squares = [0.0, 0.0], [0.0, 0.0]

    # Kingma and Ba: m and v are running means at 0.9 and 0.999, both corrected for their start.
    def step(weights: list[Any], gradients: list[Any], number: int) -> list[Any]:
        for i, g in enumerate(gradients):
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.999 * squares[i] + 0.001 * g**2
        rate = 0.01 * np.sqrt(1 - 0.999 ** (number + 1)) / (1 - 0.9 ** (number + 1))
        # The reference's epsilon of 1e-7, beside the square root.
        return [w - rate * m / (np.sqrt(v) + 1e-7) for w, m, v in zip(weights, means, squares)]

    check_by_hand(make_loop(tmp_path, settings), 1.0, step)


def normalised_network(dtype: str) -> keras.Model:
    layers = [
        keras.Input(SMALL.image_shape),
        keras.layers.Conv2D(4, 5, strides=3),
        FusedBatchNormalization(momentum=0.5),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
    return keras.Sequential(layers)


@pytest.mark.parametrize("network", [linear_network, normalised_network])
def test_two_replicas_train_like_one_device_at_the_same_global_batch(
    network: Any, tmp_path: pathlib.Path
) -> None:
    settings = TrainingSettings(epochs=3, batch_size=64, learning_rate=0.05, augmentation="none")
    one = make_loop(tmp_path / "one", settings, network=network)
    two = make_loop(tmp_path / "two", settings, "mirrored", network=network)
    assert make_strategy("mirrored") is make_strategy("mirrored")  # else their collectives mix
    assert make_strategy("mirrored").num_replicas_in_sync == 2
    losses, losses_of_two = ([record["loss"] for record in loop.run()] for loop in (one, two))
    np.testing.assert_allclose(losses_of_two, losses, rtol=1e-4)
    for ours, expected in zip(two.model.get_weights(), one.model.get_weights()):
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_every_replica_of_a_training_draws_its_own_noise() -> None:
    strategy = make_strategy("mirrored")
    with strategy.scope():
        layer = NoiseLayer(1.0)
        layer.build((None, 4))
    draws = strategy.experimental_local_results(
        tf.function(lambda: strategy.run(lambda: layer(tf.zeros([2, 4]))))()
    )
    assert len(draws) == 2 and not np.any(draws[0].numpy() == draws[1].numpy())


@pytest.mark.parametrize("schedule", ["paper", "one_cycle", "constant"])
def test_schedules(schedule: str) -> None:
    settings = TrainingSettings(epochs=200, schedule=schedule)
    rate = settings.learning_rate_schedule(steps_per_epoch=10)
    rates = [float(rate(10 * epoch) if callable(rate) else rate) for epoch in range(200)]
    if schedule == "paper":
        expected = np.repeat([1e-1, 1e-2, 1e-3, 1e-4], [80, 60, 40, 20])
        np.testing.assert_allclose(rates, expected, rtol=1e-5)
    elif schedule == "constant":
        assert set(rates) == {0.1}
    else:
        assert np.argmax(rates) == 30 and np.isclose(max(rates), 0.1)  # 15 % of 200
        assert np.isclose(rates[0], 0.004) and rates[-1] < 1e-4
        assert (np.diff(rates[:30]) > 0).all() and (np.diff(rates[30:]) < 0).all()


def test_the_best_weights_are_not_those_of_a_worse_last_epoch(tmp_path: pathlib.Path) -> None:
    loop = make_loop(tmp_path)
    accuracies = iter([0.2, 0.9, 0.3])
    weights = []

    def scripted(split: data.Split) -> float:
        weights.append(loop.model.get_weights()[0].copy())
        return next(accuracies)

    loop._accuracy = scripted  # type: ignore[method-assign]
    loop.run()
    loop.model.load_weights(loop.best_weights)
    np.testing.assert_array_equal(loop.model.get_weights()[0], weights[1])


def test_without_validation_images_the_last_epoch_is_kept(tmp_path: pathlib.Path) -> None:
    dataset = dataclasses.replace(SMALL, validation=SMALL.validation[:0])
    loop = make_loop(tmp_path, dataset=dataset)
    history = loop.run()
    assert [record["validation_accuracy"] for record in history] == [None] * SETTINGS.epochs
    last = loop.model.get_weights()[0]
    loop.model.load_weights(loop.best_weights)
    np.testing.assert_array_equal(loop.model.get_weights()[0], last)


class KeyLoss(Objective):
    """The key of a step as its loss."""

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        seed, step = tf.unstack(tf.cast(key, tf.float32))
        return 0 * model(images, training=True)[:, 0] + 1000 * seed + step


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_every_step_has_a_key_of_its_own_on_all_replicas(
    strategy: str, tmp_path: pathlib.Path
) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=2, seed=2**31 + 3)  # TensorFlow takes 31 bits
    history = make_loop(tmp_path, settings, strategy, objective=KeyLoss()).run()
    # Steps 0 to 5, and 6 to 11.
    assert [record["loss"] for record in history] == pytest.approx([3002.5, 3008.5])


def test_a_training_starts_from_the_weights_that_it_is_given(tmp_path: pathlib.Path) -> None:
    start = linear_network("float32")
    start.set_weights([weights + 1 for weights in start.get_weights()])  # no initialiser's
    settings = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-12)
    loop = make_loop(tmp_path, settings, start=start)
    loop.run()
    for ours, expected in zip(loop.model.get_weights(), start.get_weights()):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_a_diverging_loss_stops_the_training(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(epochs=2, batch_size=64, learning_rate=1e20, augmentation="none")
    with pytest.raises(TrainingDivergedError, match="lower --learning_rate"):
        make_loop(tmp_path, settings).run()


def test_a_batch_that_replicas_cannot_share_is_an_error(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(epochs=1, batch_size=65)
    with pytest.raises(TrainingError, match="divisible"):
        make_loop(tmp_path, settings, "mirrored")
