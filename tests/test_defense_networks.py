"""The networks that the defenses give, and an ensemble that is killed while it is trained."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from trainings import SETTINGS, TINY, TINY_SPEC, Recorder

from rse_tf import defenses
from rse_tf.defenses import DEFENSES
from rse_tf.defenses.ensembles import Bagging
from rse_tf.layers import BReLU, noise_layers
from rse_tf.models import NoiseSettings
from rse_tf.training import CrossEntropy, Trainer

ONE_EPOCH = dataclasses.replace(SETTINGS, epochs=1)
RETRAINED = {"retraining_epochs": 1}
NOISY = ("rse+adversarial_training", "rse+pgd_training", "rse+fast_training")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, keras.Model]:
    """Every defense, trained for an epoch; they share what they can."""
    trainer = Trainer(TINY, ONE_EPOCH, tmp_path_factory.mktemp("models"))
    names = (*DEFENSES, *NOISY)
    return {name: defenses.make(name, RETRAINED).train(TINY_SPEC, trainer) for name in names}


def test_every_defense_gives_a_float32_classifier(networks: dict[str, keras.Model]) -> None:
    for name, model in networks.items():
        logits = model(TINY.test.images)
        assert logits.shape == (len(TINY.test), 10), name
        assert np.isfinite(logits).all() and logits.dtype == "float32", name
        assert np.std(logits, axis=0).min() > 0, name  # not the same for all images


def test_defenses_are_noisy_where_they_say(networks: dict[str, keras.Model]) -> None:
    found = {
        name: {(layer.stddev, layer.active) for layer in noise_layers(model) if layer.stddev}
        for name, model in networks.items()
    }
    noise = [TINY_SPEC.noise.init_noise, TINY_SPEC.noise.inner_noise]
    assert found == {
        **dict.fromkeys(
            (
                "none",
                "distillation",
                "adversarial_training",
                "adversarial_retraining",
                "pgd_training",
                "fast_training",
            ),
            set(),
        ),
        **{name: {(stddev, "always") for stddev in noise} for name in ("consistency", *NOISY)},
        "robust_opt_brelu": {(0.05, "training")},
        "rse": {(stddev, "always") for stddev in noise},
        "rse_train_noise_only": {(stddev, "training") for stddev in noise},
        "rse_test_noise_only": {(stddev, "inference") for stddev in noise},
    }


def test_the_halves_of_rse_have_the_weights_of_rse_and_of_the_plain_network(
    networks: dict[str, keras.Model],
) -> None:
    for half, whole in (("rse_train_noise_only", "rse"), ("rse_test_noise_only", "none")):
        pairs = zip(networks[half].get_weights(), networks[whole].get_weights(), strict=True)
        assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)


# Robust optimisation.


def test_robust_optimisation_bounds_every_activation(networks: dict[str, keras.Model]) -> None:
    model = networks["robust_opt_brelu"]
    bounded = [layer for layer in model.layers if isinstance(layer, BReLU)]
    assert len(bounded) == 3  # two convolutions and a dense layer
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    hidden = keras.Model(model.input, [layer.output for layer in bounded])
    for values in hidden(100 * TINY.test.images):
        assert np.min(values) == 0 and np.max(values) == 1


def test_its_noise_is_on_the_training_images_and_nowhere_else(
    networks: dict[str, keras.Model],
) -> None:
    model = networks["robust_opt_brelu"]
    first, *others = noise_layers(model)
    assert all(layer.stddev == 0 for layer in others)
    noisy = keras.Model(model.input, first.output)
    images = np.full((500, *TINY.image_shape), 0.5, np.float32)
    noise = noisy(images, training=True).numpy() - images
    # Standard error of a mean sigma / sqrt(N), and of a standard deviation sigma / sqrt(2 N).
    assert abs(noise.mean()) < 5 * 0.05 / np.sqrt(noise.size)
    assert abs(noise.std() - 0.05) < 5 * 0.05 / np.sqrt(2 * noise.size)
    assert np.any(noisy(images, training=True) != images + noise)  # anew in every step
    # Silent at inference: the images as they are, and the same logits in every call.
    np.testing.assert_array_equal(noisy(images), images)
    np.testing.assert_array_equal(model(TINY.test.images), model(TINY.test.images))


def test_the_noise_on_the_images_is_an_option(tmp_path: pathlib.Path) -> None:
    trainer = Recorder(TINY, SETTINGS, tmp_path)
    exact = dataclasses.replace(TINY_SPEC, noise=NoiseSettings(0.4, 0.3, sampler="exact"))
    defenses.make("robust_opt_brelu", {"image_noise": 0.2}).train(exact, trainer)
    ((spec, objective, start, _),) = trainer.fits
    assert spec.noise == NoiseSettings(0.2, 0.0, sampler="exact", active="training")
    assert (spec.activation, objective, start) == ("brelu", CrossEntropy(), None)


# A kill in the middle of an ensemble.

TWO = Bagging(members=2, label="ensemble_bagging")
SCRIPT = """
import os, pathlib, signal, sys
sys.path.insert(0, {tests!r})
import tensorflow as tf
import test_defense_networks as t

save = tf.train.CheckpointManager.save

def save_and_die(manager):
    path = save(manager)
    if path == {dies_at!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    return path

tf.train.CheckpointManager.save = save_and_die
trainer = t.Trainer(t.TINY, t.SETTINGS, pathlib.Path({models!r}))
t.TWO.train(t.TINY_SPEC, trainer)
"""


@pytest.mark.long
def test_an_ensemble_killed_in_a_member_goes_on_with_it(tmp_path: pathlib.Path) -> None:
    models = tmp_path / "killed"
    trainer = Trainer(TINY, SETTINGS, models)
    plain = TINY_SPEC.without_noise()
    folders = [
        own.directory(plain)
        for number in range(2)
        for _, own in [TWO.member(number, TINY_SPEC, trainer)]
    ]
    assert len(set(folders)) == 2
    script = SCRIPT.format(
        tests=os.path.dirname(__file__),
        models=str(models),
        dies_at=str(folders[1] / "checkpoint" / "ckpt-1"),
    )
    killed = subprocess.run([sys.executable, "-c", script])
    assert killed.returncode == -signal.SIGKILL
    assert not (folders[1] / "model.keras").exists()
    stamps = {file: file.stat().st_mtime_ns for file in folders[0].rglob("*")}
    assert folders[0] / "model.keras" in stamps
    # It does not come by there again: the next checkpoint is that of the second epoch.
    rest = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    lines = [line for line in rest.splitlines() if line.startswith("ensemble_bagging, member")]
    second = f"ensemble_bagging, member 2/2 {folders[1].name}: "
    assert lines[0] == f"{second}going on after epoch 1"
    assert all(line.startswith(second) for line in lines) and len(lines) == SETTINGS.epochs
    assert {file: file.stat().st_mtime_ns for file in folders[0].rglob("*")} == stamps
    undisturbed = TWO.train(TINY_SPEC, Trainer(TINY, SETTINGS, tmp_path / "undisturbed"))
    for folder, member in zip(folders, undisturbed.members, strict=True):
        resumed = keras.models.load_model(folder / "model.keras").get_weights()
        for ours, theirs in zip(resumed, member.get_weights(), strict=True):
            # What is left is the order in which threads add up gradients.
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        history = json.loads((folder / "history.json").read_text())
        assert [record["epoch"] for record in history] == [1, 2, 3]
