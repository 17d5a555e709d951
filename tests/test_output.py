"""How the programs speak: dry runs, silence, details, curves, and TensorFlow's notices."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf
from trainings import SETTINGS, TINY, TINY_SPEC

from rse_tf import experiment, flags, report, reproduce
from rse_tf.config import Config, ConfigError
from rse_tf.data import Dataset
from rse_tf.evaluation.chance import warn_of_chance
from rse_tf.evaluation.cost import attack_passes, scoring_passes
from rse_tf.experiment import dry_run
from rse_tf.training import Trainer
from rse_tf.utils import curves, log
from rse_tf.utils.startup import is_of_use, is_own_program, without_notices


@pytest.fixture(autouse=True)
def speech_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_hushed", False)
    monkeypatch.setattr(log, "_verbose", False)
    monkeypatch.setattr(curves, "_folder", None)
    monkeypatch.setattr(curves, "_writers", {})


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Config]:
    """A run on a few small images."""
    monkeypatch.setattr(experiment, "load_data", lambda config: TINY)
    yield Config(
        dataset="mnist_5k",
        epochs=1,
        attack=("bim",),
        attack_steps=2,
        num_images=8,
        num_draws=(2,),
        eval_seeds=1,
        members=2,
        workdir=str(tmp_path / "run"),
        defense=("none", "rse", "distillation", "ensemble_random_init"),
    )


def launched(monkeypatch: pytest.MonkeyPatch, run: Any, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    flags.launch(run, "A program.")


# Dry runs.


def test_a_dry_run_tells_what_is_trained_and_what_the_rest_costs(
    tiny: Config, tmp_path: pathlib.Path
) -> None:
    before = dry_run.plan(tiny)
    assert not any(tmp_path.iterdir())
    assert all(flag in before.splitlines() for flag in tiny.as_flags())
    # Two of the six are the same plain network.
    named = [line for line in before.splitlines() if line.endswith("is to train")]
    assert [line.split(":")[0] for line in named] == [
        "none",
        "rse",
        "distillation",
        "distillation",
        "ensemble_random_init",
        "ensemble_random_init",
    ]
    assert len({line.split()[1] for line in named}) == 5
    # One epoch of 128 images: three passes of each, four where a teacher is asked.
    assert f"training: {128 * (3 + 3 + 3 + 4 + 3):.3g} passes" in before
    experiment.train_defense(tiny, "none", TINY)
    after = dry_run.plan(tiny)
    assert after.count("is trained") == 2
    assert f"training: {128 * (3 + 3 + 4 + 3):.3g} passes" in after


def test_a_dry_run_tells_noise_by_the_network_and_keeps_to_a_budget(tiny: Config) -> None:
    def attacks(**flags: Any) -> float:
        plan = dry_run.plan(dataclasses.replace(tiny, **flags))
        return float(plan.split("at most: ")[1].split()[0])

    # Noise at inference is drawn for every image, noise in training alone is not.
    plain, noisy = attacks(defense=("none",)), attacks(defense=("consistency",))
    assert attacks(defense=("rse_train_noise_only",)) == plain < noisy
    whole = attacks(defense=("none",), suite="adaptive")
    assert attacks(defense=("none",), suite="adaptive", budget_minutes=1e-6) < plain < whole


def test_a_dry_run_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Config] = []
    monkeypatch.setattr(dry_run, "plan", lambda config: f"seed {config.seed}")
    launched(monkeypatch, ran.append, "--dry_run", "--seed=5")
    assert (ran, capsys.readouterr().out) == ([], "seed 5\n")


def test_a_dry_run_of_a_table_tells_what_is_finished(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce.main(
        ["reproduce", "--table=rse/figure5", f"--output={tmp_path}", "--dry_run", "--seed=3"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("is to run" in line for line in lines)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "draws", "passes"),
    [
        ({"epsilon": 0.1}, 1, 3),
        ({"epsilon": 0.1, "steps": 8}, 10, 240),
        ({"steps": 40, "restarts": 2}, 1, 240),
        ({"const": 1.0, "steps": 300}, 1, 900),
        ({"steps": 100, "binary_search_steps": 9}, 1, 2700),
        ({"const": 1.0, "steps": 10, "coordinates": 128}, 1, 2560),
    ],
)
def test_passes_of_an_attack(settings: dict[str, Any], draws: int, passes: float) -> None:
    assert attack_passes(settings, draws) == passes


def test_passes_of_scores() -> None:
    assert scoring_passes(50, 3, 4) == 600


# Silence, details and curves.


def test_quiet_prints_mistakes_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launched(monkeypatch, lambda config: log.log("a line"), "--quiet")
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        launched(monkeypatch, lambda config: None, "--quiet", "--epochs=0")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: --epochs")


def test_verbose_prints_the_settings_and_the_way_to_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Config) -> None:
        raise ConfigError("a mistake")

    with pytest.raises(SystemExit):
        launched(monkeypatch, run, "--verbose", "--seed=7")
    captured = capsys.readouterr()
    assert "--seed=7" in captured.out.splitlines()
    assert "Traceback" in captured.err and captured.err.endswith("error: a mistake (see --help)\n")


@pytest.mark.parametrize("other", ["--verbose", "--dry_run"])
def test_quiet_goes_with_nothing_that_prints(other: str) -> None:
    with pytest.raises(ConfigError, match="--quiet does not go together"):
        flags.Output.take(["program", "--quiet", other])


def test_output_flags_may_stand_anywhere_and_are_no_part_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "mine.flags").write_text("--quiet\n--epochs=3\n")
    ran: list[Config] = []
    launched(monkeypatch, ran.append, "--seed", "5", f"--flagfile={tmp_path}/mine.flags")
    assert ran == [Config(seed=5, epochs=3)]
    assert not any("quiet" in flag for flag in ran[0].as_flags())


def read_curves(folder: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                number = float(tf.make_ndarray(value.tensor))
                found.setdefault(value.tag, []).append((event.step, number))
    return found


def test_curves_of_a_training_are_those_of_its_history(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags.Output.take(["program", f"--tensorboard={tmp_path}/curves"])
    trainer = Trainer(TINY, SETTINGS, tmp_path / "models")
    trainer.fit(TINY_SPEC)
    (folder,) = (tmp_path / "curves").iterdir()
    assert folder.name == trainer.directory(TINY_SPEC).name
    found = read_curves(folder)
    assert found.keys() == {"loss", "validation_accuracy"}
    assert [step for step, _ in found["loss"]] == [1, 2, 3]


def test_a_bar_that_ends_soon_leaves_no_trace_in_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(log.progress_bar(range(3), 3, "a bar")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("program", [report, reproduce])
def test_help_of_programs_with_flags_of_their_own(
    program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    program.main(["program", "--help"])
    text = capsys.readouterr().out
    for flag in ("table", "output", "dry_run", "quiet", "verbose"):
        assert f"\n  --{flag}=" in text
    assert str(pathlib.Path(flags.__file__).parent) not in text


def test_a_dry_run_of_a_report_lists_the_runs(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text("{}")
    report.main(["report", str(tmp_path), "--dry_run"])
    assert capsys.readouterr().out.split() == [f"{tmp_path}/one", f"{tmp_path}/two"]
    assert not (tmp_path / "report").exists()


# A network at chance.


def test_a_network_at_chance_is_told_before_the_attack(
    tiny: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    untrained = TINY_SPEC.without_noise().build(dtype="float32")
    warn_of_chance("none", untrained, TINY)
    assert capsys.readouterr().out.startswith("warning: none is correct on ")

    class Knowing:
        def __init__(self, dataset: Dataset) -> None:
            keys = [image.tobytes() for image in dataset.validation.images]
            self.known = dict(zip(keys, dataset.validation.labels))

        def __call__(self, images: Any, training: bool) -> Any:
            return tf.one_hot([self.known[image.tobytes()] for image in images], 10)

    warn_of_chance("none", Knowing(TINY), TINY)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


# TensorFlow's notices.


def test_notices_are_held_back_and_all_else_is_written(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with without_notices():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are w\n")
        os.write(2, b"I0000 00:00:1795599.943958   17547 port.cc:153] oneDNN custom operations\n")
        os.write(2, b"E0000 00:00:17956 1 cuda_platform.cc:52] failed call to cuInit: (303)\n")
        os.write(2, b"E0000 00:00:17956 1 cuda_platform.cc:52] failed call to cuInit: (999)\n")
        os.write(2, b"a warning\n")
    lines = capfd.readouterr().err.splitlines()
    assert [line[-5:] for line in lines] == ["(999)", "rning"]


def test_an_error_leaves_what_was_written(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), without_notices():
        os.write(2, b"what led to it\n")
        raise ValueError
    os.write(2, b"after it\n")
    assert capfd.readouterr().err == "what led to it\nafter it\n"


@pytest.mark.parametrize(
    ("function", "expected"), [("Attack._compile.<locals>.run", False), ("my_function", True)]
)
def test_a_wrong_guess_about_our_attacks_is_not_logged(function: str, expected: bool) -> None:
    text = f"5 out of the last 5 calls to <function {function}> triggered tf.function retracing."
    record = logging.LogRecord("tensorflow", logging.WARNING, "", 0, text, None, None)
    assert is_of_use(record) is expected
    assert is_of_use in tf.get_logger().filters


@pytest.mark.parametrize(
    ("first", "line", "expected"),
    [
        ("-m", ["python", "-m", "rse_tf.main"], True),
        ("-m", ["python", "-m", "pytest"], False),
        ("/bin/rse-tf", ["python", "/bin/rse-tf", "main"], True),
        ("mine.py", ["python", "mine.py"], False),
    ],
)
def test_only_our_programs_hold_notices_back(
    first: str, line: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [first])
    monkeypatch.setattr(sys, "orig_argv", line)
    assert is_own_program() is expected
