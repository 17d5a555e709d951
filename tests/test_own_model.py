"""A model of the user's own, from a file, on the command line."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import keras
import numpy as np
import pytest
from trainings import DIGITS

from rse_tf import experiment
from rse_tf.config import Config, ConfigError
from rse_tf.experiment import dry_run
from rse_tf.layers import noise_layers
from rse_tf.models import NoiseSettings, file_spec
from rse_tf.reporting import read_json


def network(classes: int = 10, ending: str | None = None, side: int = 28) -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Input((side, side, 1)),
            keras.layers.Rescaling(2.0, -1.0),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=ending),
        ]
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A trained model."""
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(DIGITS.train.images, DIGITS.train.labels, batch_size=64, epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("own") / "mine.keras"
    model.save(path)
    return path


def config(file: pathlib.Path, workdir: pathlib.Path, **flags: Any) -> Config:
    few: dict[str, Any] = {"attack": ("fgsm",), "epsilon": (0.1,), "num_images": 100, "epochs": 2}
    few |= {"num_draws": (5,), "eval_seeds": 1, "learning_rate": 0.02, "init_noise": 0.2}
    return Config(model=str(file), workdir=str(workdir / "run"), **few | flags)


def test_it_is_attacked_as_it_is_and_made_robust_from_there(
    file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = config(file, tmp_path)
    text = dry_run.plan(run)
    assert "none: mnist_5k-mine-plain" in text and "is trained" in text
    rows = experiment.run(run)
    assert [row.defense for row in rows] == ["none", "none", "rse", "rse"]
    assert {row.model for row in rows} == {"mine"}
    # Only the noisy copy was trained.
    (folder,) = (tmp_path / "models").glob("*-mine-*/")
    assert "noisy" in folder.name
    model = keras.models.load_model(file)
    images, labels = DIGITS.test.images[:100], DIGITS.test.labels[:100]
    correct = np.argmax(model.predict(images, verbose=0), axis=-1) == labels
    assert rows[0].score.accuracy == pytest.approx(correct.mean())
    assert rows[2].score.accuracy > 0.8  # chance is 0.1
    # A copy of the file elsewhere is the same model.
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "mine.keras").write_bytes(file.read_bytes())
    again = config(other / "mine.keras", tmp_path, models_dir=str(tmp_path / "models"))
    noisy = experiment.train_defense(again, "rse", DIGITS, may_train=False)
    assert [layer.stddev for layer in noise_layers(noisy)] == [0.2]
    assert read_json(tmp_path / "run" / "result.json").flags["model"] == str(file)


def test_the_noisy_copy_starts_from_the_weights_of_the_file(file: pathlib.Path) -> None:
    spec = file_spec(str(file), (28, 28, 1), 10, NoiseSettings(0.3, 0.1))
    own, noisy = keras.models.load_model(file), spec.build()
    assert not spec.is_trained and spec.without_noise().is_trained
    for weight, copied in zip(own.get_weights(), noisy.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, copied)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"defense": ("none", "ensemble_bagging")}, "--defense=ensemble_bagging"),
        ({"defense": ("robust_opt_brelu",)}, "--defense=robust_opt_brelu"),
        ({"substitute": "none"}, "--substitute"),
        ({"activation": "brelu"}, "--activation=brelu"),
        ({"dtype_policy": "mixed_bfloat16"}, "--dtype_policy=mixed_bfloat16"),
        ({"init_noise_at": "second_conv"}, "--init_noise_at=second_conv"),
    ],
)
def test_what_it_does_not_go_together_with(
    flags: dict[str, Any], message: str, file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = config(file, tmp_path, **flags)
    with pytest.raises(ConfigError, match=re.escape(message)):
        experiment.network_spec(run, DIGITS)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network(classes=7), "a model of 10 classes"),
        (network(ending="softmax"), "a model of logits"),
        (network(side=32), "a model of logits"),
        (None, "a file that loads"),
        (b"no model", "a file that loads"),
    ],
)
def test_a_file_that_is_no_such_model_is_refused(
    model: Any, message: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "mine.keras"
    if isinstance(model, bytes):
        path.write_bytes(model)
    elif model is not None:
        model.save(path)
    with pytest.raises(ConfigError, match=f"--model must be {message}"):
        experiment.network_spec(config(path, tmp_path / "runs"), DIGITS)


def test_another_name_is_no_network() -> None:
    with pytest.raises(ConfigError, match="--model must be one of cifar_cnn, "):
        Config(model="mine.onnx")
