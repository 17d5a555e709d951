"""A defense, a network and a data set of one's own: one file, and everything follows from it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import runpy
import sys

import keras
import pytest

from rse_tf import flags
from rse_tf.config import Config, ConfigError, config_flags
from rse_tf.data import DATASETS, DatasetEntry
from rse_tf.defenses import DEFENSES, Defense
from rse_tf.flags import help_text
from rse_tf.models import MODELS, NetworkSpec
from rse_tf.reporting import read_json
from rse_tf.training import Trainer
from rse_tf.utils.options import option

SOURCE = '''
"""Label smoothing of a small network on stripes."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from rse_tf.data import DATASETS, Arrays, DatasetEntry
from rse_tf.defenses import DEFENSES, Defense
from rse_tf.models import MODELS, Network
from rse_tf.training import Objective
from rse_tf.utils.options import option
from rse_tf.utils.rules import AT_LEAST_1, SHARE


@dataclasses.dataclass(frozen=True)
class Smoothed(Objective):
    smoothing: float

    def losses(self, model, images, labels, key):
        logits = model(images, training=True)
        targets = (1 - self.smoothing) * tf.one_hot(labels, 2) + self.smoothing / 2
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


@dataclasses.dataclass(frozen=True)
class LabelSmoothing(Defense):
    smoothing: float = option(0.1, by_dataset="smoothing", rule=SHARE, help="share of all classes")
    rounds: int = option(2, rule=AT_LEAST_1, help="trainings, each from the last")

    def train(self, spec, trainer):
        model = None
        for _ in range(self.rounds):
            model = trainer.fit(spec.without_noise(), Smoothed(self.smoothing), start=model)
        return model


@keras.saving.register_keras_serializable(package="stripes")
class OneConvolution(Network):
    smallest = 4

    @staticmethod
    def hidden(blocks, images):
        return blocks.flatten(blocks.activation(blocks.conv(images, 2, 3)))


def load():
    stripes = np.tile(np.arange(6) % 2, (6, 1))
    shares = np.random.default_rng(0).uniform(0.5, 1, (60, 1, 1))
    images = np.float32(np.stack([stripes, stripes.T] * 30) * shares)[..., None]
    labels = np.arange(60) % 2
    return Arrays((images[:40], labels[:40]), (images[40:], labels[40:]), ("along", "across"))


DEFENSES["label_smoothing"] = LabelSmoothing
MODELS["one_convolution"] = OneConvolution
DATASETS["stripes"] = DatasetEntry(load, {
    "model": "one_convolution", "epochs": 1, "schedule": "constant", "augmentation": "none",
    "smoothing": 0.3, "init_noise": 0.25, "inner_noise": 0.0, "num_images": 12, "epsilon": 0.05})
'''


@pytest.fixture
def own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one's own, imported for one test."""
    file = tmp_path / "stripes.py"
    file.write_text(SOURCE)
    # To be taken away afterwards.
    monkeypatch.setitem(DEFENSES, "label_smoothing", DEFENSES["none"])
    monkeypatch.setitem(MODELS, "one_convolution", MODELS["mnist_cnn"])
    monkeypatch.setitem(DATASETS, "stripes", DatasetEntry())
    spec = importlib.util.spec_from_file_location("stripes", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stripes", module)
    spec.loader.exec_module(module)


def parse(*arguments: str) -> Config:
    return flags.parse(["program", *arguments], "A program.")


def test_its_options_and_names_are_in_the_help(own: None) -> None:
    text = " ".join(help_text("Does things.").split())
    assert "--smoothing= label_smoothing: share of all classes" in text
    assert "--rounds=2 label_smoothing: trainings, each from the last" in text
    assert ", fast_training, label_smoothing, none, " in text
    assert ", model_a, one_convolution, resnext29, " in text
    assert " mnist_5k (needs no network), mnist, cifar10, stl10, stripes (needs no netw" in text


def test_its_defaults_are_those_of_the_data_set(own: None) -> None:
    run = parse("--dataset=stripes")
    assert (run.model, run.epochs, run.num_images) == ("one_convolution", 1, 12)
    assert (run.schedule, run.learning_rate) == ("constant", 0.1)  # that of any data set
    assert (run.smoothing, run.rounds, run.init_noise, run.inner_noise) == (0.3, 2, 0.25, 0.0)
    assert run.attack_points("bim")[0]["epsilon"] == 0.05
    assert run.workdir == "runs/stripes-one_convolution-carlini_wagner"
    assert parse(*run.as_flags()) == run
    assert parse("--model=one_convolution").smoothing == 0.1  # of the option itself
    given = parse("--dataset=stripes", "--smoothing=1/4", "--rounds=3", "--model=mnist_cnn")
    assert (given.smoothing, given.rounds, given.model) == (0.25, 3, "mnist_cnn")
    found = given.make_defense("ensemble_mixed+label_smoothing").settings()
    assert found == {"smoothing": 0.25, "rounds": 3}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--rounds=0", "--rounds must be at least 1. Received: 0"),
        ("--smoothing=2", "--smoothing must be from 0 to 1. Received: 2.0"),
        ("--rounds=few", "few"),
        ("--dataset=stripes --image_size=8", "--image_size does not apply to --dataset=stripes"),
        ("--defense=label_smoothing+rse", "--defense must be one of .*, label_smoothing, none, "),
    ],
)
def test_its_mistakes_are_one_line(own: None, flags: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(*flags.split())
    assert "\n" not in str(raised.value)


def test_it_runs_resumes_and_is_reported(
    own: None,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = tmp_path / "run"

    def call(module: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        runpy.run_module(f"rse_tf.{module}", run_name="__main__")
        return capsys.readouterr().out

    names = ["label_smoothing", "ensemble_bagging+label_smoothing"]
    out = call(
        "main",
        "--dataset=stripes",
        f"--defense={','.join(names)}",
        "--members=1",
        "--rounds=1",
        "--attack=fgsm",
        "--epsilon=0.1",
        "--eval_seeds=1",
        "--num_draws=2",
        f"--workdir={workdir}",
    )
    assert "label_smoothing" in out
    first = read_json(workdir / "result.json")
    assert {row.defense for row in first.rows} == set(names)
    expected = {"epochs": 1, "smoothing": 0.3, "rounds": 1}
    assert all(row.training == expected for row in first.rows)
    assert {(row.dataset, row.model) for row in first.rows} == {("stripes", "one_convolution")}
    assert (first.flags["smoothing"], first.flags["rounds"]) == (0.3, 1)
    objectives = [
        json.loads(file.read_text())["objective"] for file in tmp_path.rglob("settings.json")
    ]
    # One for the defense itself, and one for the member.
    assert objectives == 2 * [{"name": "Smoothed", "smoothing": 0.3}]
    # The flags of the run give it again, from what it has kept.
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("model.keras")}
    assert len(kept) == 2
    call("main", f"--flagfile={workdir}/flags.txt")
    again = read_json(workdir / "result.json")
    assert [dataclasses.replace(row, seconds=None) for row in again.rows] == [
        dataclasses.replace(row, seconds=None) for row in first.rows
    ]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert "label_smoothing" in call("report", f"--output={tmp_path}/report", str(workdir))


def test_without_it_there_is_nothing_of_it() -> None:
    assert not {"label_smoothing", "one_convolution", "stripes"} & {*DEFENSES, *MODELS, *DATASETS}
    with pytest.raises(ConfigError, match="Unknown command line flag 'smoothing'"):
        parse("--smoothing=1")
    with pytest.raises(AttributeError, match="smoothing"):
        Config().smoothing


# What does not go together.


@dataclasses.dataclass(frozen=True)
class Other(Defense):
    """A defense for the tests below, which add its settings."""

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "kind", "default", "message"),
    [
        ("rho", int, 1, "--rho must be of one type. Received: float of adversarial_training and"),
        ("rho", float, 0.7, "--rho must be of one default. Received: 0.5 of adversarial_training"),
        ("epsilon", float, 0.1, "--epsilon must be of one owner. Received: .*'other: much'"),
        ("seed", int, 3, "--seed must be of one owner. Received: .*'other: much'"),
        ("epochs", int, 3, "--epochs must be of one owner"),
    ],
)
def test_a_flag_has_one_meaning(
    name: str, kind: type, default: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = dataclasses.make_dataclass(
        "Much", [(name, kind, option(default, help="much"))], bases=(Other,), frozen=True
    )
    monkeypatch.setitem(DEFENSES, "other", cls)
    with pytest.raises(TypeError, match=message):
        config_flags()


def test_a_default_has_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = option(3.0, by_dataset="warmth", help="what logits are divided by")
    cls = dataclasses.make_dataclass(
        "Warm", [("temperature", float, warm)], bases=(Other,), frozen=True
    )
    monkeypatch.setitem(DEFENSES, "other", cls)
    with pytest.raises(TypeError, match="--temperature must have one default. Received: 40.0, 3.0"):
        Config(dataset="cifar10")


@pytest.mark.parametrize("name", ["epoch", "validation_fraction", "batch_size", "training_rho"])
def test_a_default_that_no_run_would_take_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "mine", DatasetEntry(defaults={name: 3}))
    with pytest.raises(TypeError, match=f"DATASETS\\['mine'\\]: .*by_dataset. Received: {name}"):
        Config(dataset="mine")
    assert Config(dataset="cifar10").epochs == 200  # the others are what they are
