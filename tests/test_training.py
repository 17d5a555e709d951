"""Training: what it learns, and that it goes on after a kill as if nothing had happened."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from rse_tf import data
from rse_tf.layers import NoiseLayer
from rse_tf.models import NetworkSpec
from rse_tf.training import (
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


def run_loop(
    directory: pathlib.Path, settings: TrainingSettings, strategy: tf.distribute.Strategy
) -> tuple[Loop, list[float]]:
    loop = Loop(linear_network, SMALL, settings, strategy, directory, "linear")
    return loop, [record["loss"] for record in loop.run()]


def test_the_loop_is_sgd_with_momentum_and_coupled_weight_decay(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(
        epochs=1, batch_size=128, learning_rate=0.1, weight_decay=0.05, augmentation="none"
    )
    loop = Loop(linear_network, SMALL, settings, make_strategy("one_device"), tmp_path, "linear")
    weights = [w.astype(np.float64) for w in loop.model.get_weights()]
    velocity = [np.zeros_like(w) for w in weights]
    # The same three steps by hand: v <- 0.9 v - rate (g + 0.05 w), w <- w + v, where for
    # logits xW + b the gradient is x^T (softmax - one_hot) / batch.
    rate_at = settings.learning_rate_schedule(steps_per_epoch=3)
    batches = data.Batches(SMALL.train, 128, "none", 0).epoch(0)
    for step, (images, labels) in enumerate(batches):
        rate = float(rate_at(step))
        x = images.numpy().reshape(128, -1).astype(np.float64)
        logits = x @ weights[0] + weights[1]
        error = np.exp(logits - logits.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(128), labels.numpy()] -= 1
        gradients = [x.T @ error / 128, error.sum(axis=0) / 128]
        for i in range(2):
            velocity[i] = 0.9 * velocity[i] - rate * (gradients[i] + 0.05 * weights[i])
            weights[i] = weights[i] + velocity[i]
    loop.run()
    for ours, expected in zip(loop.model.get_weights(), weights):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_two_replicas_train_like_one_device_at_the_same_global_batch(
    tmp_path: pathlib.Path,
) -> None:
    settings = TrainingSettings(epochs=3, batch_size=64, learning_rate=0.05, augmentation="none")
    one, losses = run_loop(tmp_path / "one", settings, make_strategy("one_device"))
    mirrored = make_strategy("mirrored")
    assert mirrored.num_replicas_in_sync == 2
    two, losses_of_two = run_loop(tmp_path / "two", settings, mirrored)
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


@pytest.mark.parametrize("schedule", ["paper", "one_cycle"])
def test_schedules(schedule: str) -> None:
    settings = TrainingSettings(epochs=200, schedule=schedule)
    rate = settings.learning_rate_schedule(steps_per_epoch=10)
    rates = [float(rate(10 * epoch)) for epoch in range(200)]
    if schedule == "paper":
        expected = np.repeat([1e-1, 1e-2, 1e-3, 1e-4], [80, 60, 40, 20])
        np.testing.assert_allclose(rates, expected, rtol=1e-5)
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
    loop = Loop(linear_network, SMALL, SETTINGS, make_strategy("one_device"), tmp_path, "linear")
    accuracies = iter([0.2, 0.9, 0.3])
    weights = []

    def scripted(split: data.Split) -> float:
        weights.append(loop.model.get_weights()[0].copy())
        return next(accuracies)

    loop._accuracy = scripted  # type: ignore[method-assign]
    loop.run()
    loop.model.load_weights(loop.best_weights)
    np.testing.assert_array_equal(loop.model.get_weights()[0], weights[1])


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
    others = {
        Trainer(SMALL, TrainingSettings(epochs=4), root).directory(SPEC),
        Trainer(SMALL, SETTINGS, root).directory(SPEC.without_noise()),
        Trainer(DIGITS, SETTINGS, root).directory(SPEC),
    }
    assert len(others | {base}) == 4
    assert Trainer(SMALL, SETTINGS, root, "mirrored").directory(SPEC) == base


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
        Loop(linear_network, SMALL, settings, make_strategy("mirrored"), tmp_path, "x")


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
