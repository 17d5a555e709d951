"""The store of networks: what is trained once, and what goes on after a kill."""

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
from trainings import DIGITS, SETTINGS, SMALL, SPEC, wait_for

from rse_tf.defenses.distillation import Distillation
from rse_tf.training import (
    CrossEntropy,
    NotTrainedError,
    Objective,
    Trainer,
    TrainingSettings,
    weights_digest,
)


def test_training_beats_chance_by_far_and_keeps_the_best_epoch(tmp_path: pathlib.Path) -> None:
    trainer = Trainer(DIGITS, SETTINGS, tmp_path)
    model = trainer.fit(SPEC.without_noise())
    right = np.argmax(model.predict(DIGITS.validation.images, verbose=0), axis=1)
    accuracy = float(np.mean(right == DIGITS.validation.labels))
    folder = trainer.directory(SPEC.without_noise())
    history = json.loads((folder / "history.json").read_text())
    assert accuracy == max(record["validation_accuracy"] for record in history) > 0.8


def test_low_precision_gives_a_float32_model(tmp_path: pathlib.Path) -> None:
    settings = TrainingSettings(
        epochs=1, batch_size=64, augmentation="none", dtype_policy="mixed_bfloat16"
    )
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
    reordered = dataclasses.replace(SMALL, train=SMALL.train[::-1])
    starts = [SPEC.build() for _ in range(2)]
    others = {
        Trainer(SMALL, TrainingSettings(epochs=4), root).directory(SPEC),
        Trainer(DIGITS, SETTINGS, root).directory(SPEC),
        Trainer(reordered, SETTINGS, root).directory(SPEC),
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


@pytest.mark.parametrize("objective", [CrossEntropy(), Distillation(SPEC.build(), 40.0)])
def test_a_revised_objective_trains_anew(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(SMALL, SETTINGS, pathlib.Path("models"))
    before = trainer.directory(SPEC, objective)
    monkeypatch.setattr(type(objective), "revision", 7)
    assert trainer.directory(SPEC, objective) != before


def test_without_permission_to_train_a_missing_network_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(NotTrainedError, match="rse_tf.train"):
        Trainer(SMALL, SETTINGS, tmp_path, may_train=False).fit(SPEC)


SCRIPT = """
import pathlib, sys
sys.path.insert(0, {tests!r})
import trainings as t
from rse_tf.training import Trainer
trainer = Trainer(t.SMALL, t.SETTINGS, pathlib.Path({models!r}))
trainer.fit(t.SPEC)
"""


def test_a_training_killed_twice_ends_like_an_undisturbed_one(tmp_path: pathlib.Path) -> None:
    models = tmp_path / "killed"
    script = SCRIPT.format(tests=os.path.dirname(__file__), models=str(models))
    folder = Trainer(SMALL, SETTINGS, models).directory(SPEC)
    for finished_epochs in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", script])
        wait_for(folder, f"ckpt-{finished_epochs}.index", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "model.keras").exists()
    Trainer(SMALL, SETTINGS, models).fit(SPEC)
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


def test_the_digest_of_weights_knows_every_precision() -> None:
    digests = set()
    for dtype in ("float32", "bfloat16", "float16"):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype=dtype)])
        model.set_weights([np.ones([3, 2]), np.zeros(2)])
        digests.add(weights_digest(model))
    assert len(digests) == 3
