"""Training: what it learns, and that it goes on after a kill as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rse_tf import data
from rse_tf.layers import NoiseLayer
from rse_tf.models import NetworkSpec
from rse_tf.training import (
    CrossEntropy,
    Loop,
    NotTrainedError,
    Trainer,
    TrainingDivergedError,
    TrainingError,
    TrainingSettings,
    make_strategy,
)

DIGITS = data.load("mnist_5k")
SMALL = data.Dataset(
    "digits", DIGITS.train[:384], DIGITS.validation[:200], DIGITS.test[:200], DIGITS.class_names
)
SPEC = NetworkSpec("mnist_cnn", SMALL.image_shape, 10, init_noise=0.2, inner_noise=0.1)
SETTINGS = TrainingSettings(
    epochs=3, batch_size=64, learning_rate=0.05, schedule="one_cycle", augmentation="none"
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
    return Loop(linear_network, dataset, settings, objective, make_strategy(strategy),
                directory, "linear", **kwargs)  # fmt: skip


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
    settings = TrainingSettings(epochs=1, optimizer="adam", learning_rate=0.01, weight_decay=0.0,
                                schedule="constant", augmentation="none")  # fmt: skip
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


def test_two_replicas_train_like_one_device_at_the_same_global_batch(
    tmp_path: pathlib.Path,
) -> None:
    settings = TrainingSettings(epochs=3, batch_size=64, learning_rate=0.05, augmentation="none")
    one = make_loop(tmp_path / "one", settings)
    two = make_loop(tmp_path / "two", settings, "mirrored")
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


def test_training_beats_chance_by_far_and_keeps_the_best_epoch(tmp_path: pathlib.Path) -> None:
    trainer = Trainer(DIGITS, SETTINGS, tmp_path)
    model = trainer.fit(SPEC.without_noise())
    right = np.argmax(model.predict(DIGITS.validation.images, verbose=0), axis=1)
    accuracy = float(np.mean(right == DIGITS.validation.labels))
    folder = trainer.directory(SPEC.without_noise())
    history = json.loads((folder / "history.json").read_text())
    assert accuracy == max(record["validation_accuracy"] for record in history) > 0.8


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
    # And of the network that the store hands out.
    trainer = Trainer(dataset, dataclasses.replace(SETTINGS, epochs=1), tmp_path / "store")
    trainer.fit(SPEC)
    assert (trainer.directory(SPEC) / "model.keras").exists()


def test_a_training_starts_from_the_weights_that_it_is_given(tmp_path: pathlib.Path) -> None:
    start = linear_network("float32")
    settings = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-12)
    loop = make_loop(tmp_path, settings, start=start)
    loop.run()
    for ours, expected in zip(loop.model.get_weights(), start.get_weights()):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_low_precision_gives_a_float32_model(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(epochs=1, batch_size=64, augmentation="none",
                                dtype_policy="mixed_bfloat16")  # fmt: skip
    model = Trainer(SMALL, settings, tmp_path).fit(SPEC)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert np.isfinite(model.predict(SMALL.test.images, verbose=0)).all()


def test_the_same_settings_are_trained_once(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(epochs=1, batch_size=64, augmentation="none")
    trainer = Trainer(SMALL, settings, tmp_path)
    first = trainer.fit(SPEC).get_weights()
    finished = trainer.directory(SPEC) / "model.keras"
    stamp = finished.stat().st_mtime_ns
    again = Trainer(SMALL, settings, tmp_path, may_train=False).fit(SPEC).get_weights()
    assert finished.stat().st_mtime_ns == stamp
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


def test_whatever_the_weights_follow_from_has_a_folder_of_its_own() -> None:
    root = pathlib.Path("models")
    base = Trainer(SMALL, SETTINGS, root).directory(SPEC)
    trainer = Trainer(SMALL, SETTINGS, root)
    starts = [linear_network("float32") for _ in range(2)]
    others = {
        Trainer(SMALL, TrainingSettings(epochs=4), root).directory(SPEC),
        Trainer(DIGITS, SETTINGS, root).directory(SPEC),
        Trainer(dataclasses.replace(SMALL, train=SMALL.train[::-1]), SETTINGS, root).directory(SPEC),
        trainer.directory(SPEC.without_noise()),
        trainer.directory(dataclasses.replace(SPEC, extra_filters=8)),
        trainer.directory(dataclasses.replace(SPEC, extra_convolution=8)),
        trainer.directory(SPEC, CrossEntropy(10.0)),
        *(trainer.directory(SPEC, start=start) for start in starts),
    }
    assert len(others | {base}) == 10
    assert trainer.directory(SPEC, CrossEntropy()) == base
    # What does not change the law of the weights is not in the name.
    assert Trainer(SMALL, SETTINGS, root, "mirrored", label="of mine").directory(SPEC) == base


def test_without_permission_to_train_a_missing_network_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(NotTrainedError, match="rse_tf.train"):
        Trainer(SMALL, SETTINGS, tmp_path, may_train=False).fit(SPEC)


def test_a_diverging_loss_stops_the_training(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(epochs=2, batch_size=64, learning_rate=1e20, augmentation="none")
    with pytest.raises(TrainingDivergedError, match="lower --learning_rate"):
        Trainer(SMALL, settings, tmp_path).fit(SPEC)


def test_a_batch_that_replicas_cannot_share_is_an_error(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(epochs=1, batch_size=65)
    with pytest.raises(TrainingError, match="divisible"):
        make_loop(tmp_path, settings, "mirrored")


SCRIPT = """
import pathlib, sys
sys.path.insert(0, {tests!r})
import test_training as t
trainer = t.Trainer(t.SMALL, t.SETTINGS, pathlib.Path({models!r}))
trainer.fit(t.SPEC)
"""


def test_a_training_killed_twice_ends_like_an_undisturbed_one(tmp_path: pathlib.Path) -> None:
    models = tmp_path / "killed"
    script = SCRIPT.format(tests=os.path.dirname(__file__), models=str(models))
    folder = Trainer(SMALL, SETTINGS, models).directory(SPEC)
    for finished_epochs in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", script])
        wait_for(folder / "checkpoint" / f"ckpt-{finished_epochs}.index", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "model.keras").exists()
    subprocess.run([sys.executable, "-c", script], check=True)
    undisturbed = Trainer(SMALL, SETTINGS, tmp_path / "undisturbed")
    expected = undisturbed.fit(SPEC).get_weights()
    resumed = keras.models.load_model(folder / "model.keras").get_weights()
    # Shuffling, dropout and noise are the same, so what is left is the order in which threads
    # add up gradients.
    for ours, theirs in zip(resumed, expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    histories = [
        [record["loss"] for record in json.loads((path / "history.json").read_text())]
        for path in (folder, undisturbed.directory(SPEC))
    ]
    np.testing.assert_allclose(*histories, rtol=1e-4)


def wait_for(file: pathlib.Path, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, f"the training ended before it wrote {file}"
        assert time.monotonic() < end, f"no {file} after {seconds} s"
        time.sleep(0.02)
