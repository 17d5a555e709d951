"""Runs that cannot be: refused in one line, before any work, and without a folder."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from digits import some_digits
from test_report import ROW

from rse_tf import experiment, models, report
from rse_tf.config import Config, ConfigError
from rse_tf.data import DataError
from rse_tf.evaluation import Gallery
from rse_tf.papers import reproduce
from rse_tf.reporting import write_report
from rse_tf.training import NotTrainedError, Trainer
from rse_tf.utils.files import FileError


@pytest.fixture
def channels_first() -> Iterator[None]:
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


def small_digits(folder: pathlib.Path) -> str:
    images, labels = some_digits(60)
    path = folder / "digits.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return str(path)


def test_a_network_too_large_for_the_images_leaves_no_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_digits(tmp_path)
    monkeypatch.chdir(tmp_path)
    for program in (experiment.run, experiment.evaluate, experiment.train):
        with pytest.raises(ConfigError, match="--model=vgg16 needs images of at least 32 x 32"):
            program(Config(dataset=path, model="vgg16"))  # type: ignore[operator]
    assert [p.name for p in tmp_path.rglob("*")] == ["digits.npz"]


@pytest.mark.parametrize(
    ("program", "settings", "error", "message"),
    [
        (
            experiment.run,
            {"image_class": "cat"},
            DataError,
            "classes of mnist_5k are 0, 1, .* Received: 'cat'",
        ),
        (
            experiment.run,
            {"image_class": "1", "target_class": ("2", "dog")},
            DataError,
            "Received: 'dog'",
        ),
        (experiment.run, {"resize": (28,), "attack": ("zoo",)}, ConfigError, "--resize must be"),
        (
            experiment.evaluate,
            {"defense": ("rse",)},
            NotTrainedError,
            "^rse: no trained network in .*mnist_cnn-noisy-.*; run `python -m rse_tf.train`",
        ),
        (
            experiment.evaluate,
            {"defense": ("distillation",)},
            NotTrainedError,
            "^distillation: no trained network in .*mnist_cnn-plain-",
        ),
        (
            experiment.evaluate,
            {"defense": ("ensemble_bagging+rse",)},
            NotTrainedError,
            r"^ensemble_bagging\+rse: no trained network in .*mnist_cnn-noisy-",
        ),
    ],
)
def test_a_refused_run_leaves_no_folder(
    program: Callable[[Config], Any],
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(error, match=message) as raised:
        program(Config(workdir=str(tmp_path / "run"), **settings))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("channels_first")
def test_channels_in_front_are_refused_at_the_door(tmp_path: pathlib.Path) -> None:
    for name in models.MODELS:
        with pytest.raises(ValueError, match="image_data_format.* Received: 'channels_first'$"):
            models.build(name, input_shape=(32, 32, 3))
    with pytest.raises(ConfigError, match="keras.json. Received: 'channels_first'$"):
        experiment.run(Config(workdir=str(tmp_path / "run")))
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_is_a_file_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for workdir in (path, path / "run"):
        with pytest.raises(FileError, match=f"^cannot write {workdir}/flags.txt: .*; name another"):
            experiment.run(Config(workdir=str(workdir)))
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "mine"


def test_training_trains_the_substitute_too(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float]] = []
    monkeypatch.setattr(
        Trainer,
        "fit",
        lambda self, spec, *_: asked.append((self.settings.seed, spec.noise.init_noise)),
    )
    settings = {"defense": ("none",), "substitute": "rse", "workdir": str(tmp_path / "run")}
    experiment.train(Config(**settings, seed=3))  # type: ignore[arg-type]
    assert asked == [(3, 0.0), (4, 0.4)]


# Damaged files of finished runs.


def finish(folder: pathlib.Path) -> None:
    images = np.full((1, 4, 4, 1), 0.5)
    gallery = Gallery("none", images, images, labels=["1"], predicted=["2"])
    write_report(folder, [ROW], [gallery], flags={}, versions={})


@pytest.mark.parametrize("name", ["result.json", "gallery_none.npz"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1}', b"[1]", b"\xff\xfe"])
def test_a_report_names_the_damaged_file(name: str, content: bytes, tmp_path: pathlib.Path) -> None:
    for run in ("a", "b"):
        finish(tmp_path / run)
    (tmp_path / "b" / name).write_bytes(content)
    named = tmp_path / "b" / ("result.json" if "json" in name else "gallery_")
    with pytest.raises(FileError, match=f"^{named}.* is damaged .*; delete it, and the command"):
        report.main(["report", str(tmp_path), f"--output={tmp_path}/report"])
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1}', "[1]"])
def test_a_row_with_a_damaged_result_is_not_finished(
    content: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_text(content)
    assert reproduce.finished_rows(Config(workdir=str(tmp_path))) is None
    assert f"{tmp_path}/result.json is not used, and written anew: " in capsys.readouterr().out


def test_a_report_finds_runs_below_the_home_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    report.main(["report", "~/a", "--output=~/report"])
    assert (tmp_path / "report" / "result.json").exists()
    shutil.rmtree(tmp_path / "report")
