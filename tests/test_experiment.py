"""The whole road on real digits: runs, a killed process, processes that serve."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from trainings import wait_for

from rse_tf import experiment
from rse_tf.config import Config, ConfigError
from rse_tf.flags import parse, report_mistakes
from rse_tf.layers import noise_layers
from rse_tf.models import SelfEnsemble, export_classifier
from rse_tf.reporting import read_json

FLAGS = {
    "epochs": 1,
    "const": (0.1, 3.0),
    "attack_steps": 10,
    "num_images": 20,
    "attack_batch_size": 10,
    "num_draws": (5,),
    "eval_seeds": 2,
}


def command(program: str, workdir: pathlib.Path, *flags: str) -> list[str]:
    texts = {**FLAGS, "const": "0.1,3", "num_draws": 5}
    settings = [f"--{name}={value}" for name, value in texts.items()]
    return [sys.executable, "-m", f"rse_tf.{program}", f"--workdir={workdir}", *settings, *flags]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a finished run of all four defenses."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    defenses = ("none", "rse", "rse_train_noise_only", "rse_test_noise_only")
    experiment.run(Config(workdir=str(workdir), defense=defenses, **FLAGS))  # type: ignore
    return workdir


def test_a_run_reports_one_row_for_each_defense_and_setting(finished: pathlib.Path) -> None:
    result = read_json(finished / "result.json")
    settings = [(row.defense, row.parameters.get("const")) for row in result.rows]
    defenses = ["none", "rse", "rse_train_noise_only", "rse_test_noise_only"]
    assert settings == [(d, const) for d in defenses for const in (None, 0.1, 3.0)]
    assert {row.num_images for row in result.rows} == {20}
    assert [row.num_draws for row in result.rows[::3]] == [1, 5, 1, 5]
    clean = {row.defense: row.score.accuracy for row in result.rows if row.attack == "none"}
    assert min(clean["none"], clean["rse"]) > 0.3  # chance is 0.1; one epoch is not much
    for row in result.rows:
        if row.attack != "none":
            assert row.score.rms_l2 > 0 and row.score.max_linf <= 1 and row.seconds > 0
            assert row.score.accuracy <= 1 - row.score.misclassified_clean + 0.15
    assert result.flags["const"] == [0.1, 3.0] and "tensorflow" in result.versions
    for name in ("result.csv", "accuracy_vs_c.png", "accuracy_vs_l2.png", "gallery_rse.png"):
        assert (finished / name).stat().st_size > 500


def test_the_same_command_again_changes_no_number(
    finished: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((finished / "result.json").read_text())
    batches = {file: file.stat().st_mtime_ns for file in finished.rglob("batch_*.npz")}
    models = {file: file.stat().st_mtime_ns for file in finished.parent.rglob("model.keras")}
    experiment.run(parse(["main", f"--flagfile={finished / 'flags.txt'}"], ""))
    *_, advice, page = capsys.readouterr().out.splitlines()
    assert advice.startswith("These attacks are not the worst case: --suite=adaptive ")
    assert page == f"A page of it all: python -m rse_tf.report {finished} --html"
    assert json.loads((finished / "result.json").read_text())["rows"] == before["rows"]
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("batch_*.npz")} == batches
    assert len(models) == 2  # the halves share the networks of none and rse
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in models.items())


def test_a_run_killed_in_its_attack_ends_like_an_undisturbed_one(
    finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "killed"
    models = f"--models_dir={finished.parent / 'models'}"
    arguments = command("evaluate", workdir, "--defense=rse", models)
    process = subprocess.Popen(arguments)
    wait_for(workdir, "batch_0000*.npz", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workdir / "result.json").exists()
    experiment.evaluate(parse(arguments[2:], ""))
    expected = [row for row in read_json(finished / "result.json").rows if row.defense == "rse"]
    resumed = read_json(workdir / "result.json").rows
    for ours, theirs in zip(resumed, expected, strict=True):
        assert (ours.parameters, ours.score.accuracy) == (theirs.parameters, theirs.score.accuracy)
        assert ours.score.rms_l2 == pytest.approx(theirs.score.rms_l2, rel=1e-5)


def test_the_halves_of_rse_are_noisy_where_they_say(finished: pathlib.Path) -> None:
    settings = dict(FLAGS, workdir=str(finished))
    config = Config(**settings)  # type: ignore[arg-type]
    dataset = experiment.load_data(config)
    active = {
        defense: {layer.active for layer in noise_layers(model) if layer.stddev}
        for defense in ("none", "rse", "rse_train_noise_only", "rse_test_noise_only")
        for model in [experiment.train_defense(config, defense, dataset, may_train=False)]
    }
    assert active == {
        "none": set(),
        "rse": {"always"},
        "rse_train_noise_only": {"training"},
        "rse_test_noise_only": {"inference"},
    }


def test_targeted_attacks_aim_at_another_class(
    finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = Config(
        workdir=str(tmp_path),
        models_dir=str(finished.parent / "models"),
        epochs=1,
        num_images=20,
        defense=("none",),
        attack=("bim",),
        epsilon=(0.3,),
        attack_steps=20,
        targeted=True,
    )
    row = experiment.evaluate(config)[1]
    files = list(tmp_path.rglob("batch_*.npz"))
    with np.load(files[0]) as saved:
        assert saved["success"].mean() > 0.5  # it reached the targets
    assert row.parameters["targeted"] is True and row.score.accuracy < 0.5


def test_a_substitute_is_trained_from_another_seed_and_attacked_instead(
    finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(finished.parent / "models", models)
    before = set(models.iterdir())
    config = Config(
        workdir=str(tmp_path / "run"),
        models_dir=str(models),
        epochs=1,
        num_images=50,
        defense=("none",),
        attack=("fgsm",),
        substitute="none",
    )
    transferred = experiment.run(config)[1]
    (folder,) = set(models.iterdir()) - before
    assert json.loads((folder / "settings.json").read_text())["training"]["seed"] == 1
    direct = experiment.run(dataclasses.replace(config, substitute=None))[1]
    assert "substitute" not in direct.parameters
    # Images made for another network do less harm; 50 of them, both from the same start, so
    # the difference has a standard error of at most sqrt(2 * 0.25 / 50) = 0.1.
    assert transferred.score.accuracy > direct.score.accuracy


def test_evaluating_what_was_never_trained_is_one_line(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = command("evaluate", tmp_path / "run")
    with pytest.raises(SystemExit, match="1"):
        report_mistakes(lambda: experiment.evaluate(parse(arguments[2:], "")))
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith("error: ") and "rse_tf.train" in error


def test_a_network_too_large_for_the_images_is_refused_before_any_work(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(ConfigError, match="at least 32 x 32"):
        experiment.run(Config(model="vgg16", workdir=str(tmp_path / "run")))


def test_images_too_small_for_an_attack_are_refused_before_any_work(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(ConfigError, match="--resize must be below .* 28. Received: 8,28"):
        experiment.run(Config(attack=("zoo",), resize=(8, 28), workdir=str(tmp_path / "run")))


SERVE = """
import sys
import numpy as np, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = np.load(sys.argv[2])
outputs = [serve(images=tf.constant(images)) for _ in range(2)]
assert not [name for name in sys.modules if name.startswith("rse_tf")]
np.savez(sys.argv[3], **{f"{k}{i}": v.numpy() for i, o in enumerate(outputs) for k, v in o.items()})
"""


def test_an_export_serves_without_rse_tf_and_with_its_noise_alive(
    finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    models = f"--models_dir={finished.parent / 'models'}"
    export = command("export", tmp_path, "--defense=rse", models, f"--export_dir={tmp_path / 'x'}")
    experiment.export(parse(export[2:], ""))
    config = Config(**dict(FLAGS, workdir=str(finished)))  # type: ignore[arg-type]
    dataset = experiment.load_data(config)
    images = dataset.test.images[:200]
    np.save(tmp_path / "images.npy", images)
    script = [sys.executable, "-c", SERVE, tmp_path / "x", tmp_path / "images.npy"]
    processes = [subprocess.Popen([*script, tmp_path / f"{n}.npz"], cwd=tmp_path) for n in (0, 1)]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = served = [dict(np.load(tmp_path / f"{number}.npz")) for number in (0, 1)]
    # Alive: another draw in the next call, and another stream in the next process.
    assert not np.array_equal(first["logits0"], first["logits1"])
    assert not np.array_equal(first["logits0"], second["logits0"])
    np.testing.assert_allclose(first["probabilities0"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(first["logits0"]), first["probabilities0"], atol=1e-5)
    np.testing.assert_array_equal(first["class0"], first["logits0"].argmax(axis=1))
    # And the same classifier: the mean of 4 x 5 served draws against 20 of ours. A probability
    # is in [0, 1], so the difference of two means of 20 has a standard deviation of at most
    # sqrt(2 / 20) / 2 = 0.16; averaged over 200 images and 10 classes it is far below 0.05.
    model = experiment.train_defense(config, "rse", dataset, may_train=False)
    ours = np.exp(SelfEnsemble(model, 20)(images))
    theirs = np.mean([s[f"probabilities{i}"] for s in served for i in range(2)], axis=0)
    assert np.abs(ours - theirs).mean() < 0.05


def test_an_export_of_a_silent_model_gives_the_models_own_logits(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    export_classifier(model, (4, 4, 1), tmp_path / "x")
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    served = tf.saved_model.load(str(tmp_path / "x")).signatures["serving_default"]
    logits = served(images=tf.constant(images))["logits"]
    np.testing.assert_allclose(logits, model(images), atol=1e-6)
