from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import runpy
import subprocess
import sys
from typing import Any

import pytest
import tensorflow as tf

from rse_tf import experiment, flags
from rse_tf.attacks import ATTACKS
from rse_tf.config import Config, ConfigError, config_flags
from rse_tf.data import DataError
from rse_tf.evaluation.attack_points import flags_of
from rse_tf.flags import help_text
from rse_tf.training import NotTrainedError, TrainingDivergedError

FLAGS = config_flags()
ATTACK_FLAGS = {attack: flags_of([attack]) for attack in ATTACKS}


# What a Config tells the attacks.


def settings(attack: str) -> set[str]:
    """The arguments of an attack's constructor that are its own."""
    common = {"model", "bounds", "batch_size", "jit_compile", "_graphs"}
    return {field.name for field in dataclasses.fields(ATTACKS[attack])} - common


@pytest.mark.parametrize("binary_search", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_points_are_arguments_of_the_attack(attack: str, binary_search: bool) -> None:
    searches = binary_search and "binary_search" in ATTACK_FLAGS[attack]
    points = Config(attack=(attack,), binary_search=searches).attack_points(attack)
    for point in points:
        built: Any = ATTACKS[attack](lambda images: tf.zeros([len(images), 2]), **point)
        assert {name: getattr(built, name) for name in point} == point
    # Nothing of it is left to a default that a row would not tell; but for those without a flag.
    silent = {
        "abort_early",
        "candidates",
        "decay",
        "h",
        "jit_compile",
        "max_rows",
        "overshoot",
        "random_start",
        "tanh_space",
        "random_step",
        "restarts",
        "norm",
        "coordinates",
        "solver",
        "importance_sampling",
        "resize",
        "noise",
        "levels",
        "num_targets",
    }
    search = {"binary_search_steps", "initial_const"}
    silent |= {"const", "iterate"} if searches else search
    assert settings(attack) - silent <= set(points[0]) <= settings(attack)


def test_every_flag_of_an_attack_reaches_its_points() -> None:
    given: dict[str, Any] = {
        "epsilon": (0.7,),
        "step_size": 0.3,
        "attack_steps": 7,
        "restarts": 5,
        "norm": "l2",
        "random_step": 0.2,
        "const": (9.0,),
        "iterate": "last",
        "attack_learning_rate": 0.4,
        "confidence": 2.0,
        "coordinates": 3,
        "solver": "newton",
        "importance_sampling": True,
        "resize": (4, 8),
        "query_noise": "common",
        "initial_const": 0.6,
        "binary_search_steps": 4,
        "decay": 0.3,
        "overshoot": 0.1,
        "gamma": 0.2,
        "relative_step": 0.5,
        "selection_draws": 6,
        "levels": 256,
        "loss": "dlr_targeted",
        "num_targets": 2,
        "p_init": 0.4,
    }
    renamed = {
        "attack_steps": "steps",
        "attack_learning_rate": "learning_rate",
        "query_noise": "noise",
    }
    seen = {"binary_search"}
    for attack, names in ATTACK_FLAGS.items():
        for search in {False, "binary_search" in names}:
            other = ("const", "iterate") if search else ("initial_const", "binary_search_steps")
            own = {name: given[name] for name in set(names) & set(given) - set(other)}
            run = Config(attack=(attack,), binary_search=search, **own)
            (point,) = run.attack_points(attack)
            for name, value in own.items():
                sweep = name in ("const", "epsilon")
                assert point[renamed.get(name, name)] == (value[0] if sweep else value)
            seen |= set(own)
    assert seen == {flag for flags in ATTACK_FLAGS.values() for flag in flags}


def test_one_run_of_several_attacks_gives_each_its_own() -> None:
    run = Config(attack=("fgsm", "bim", "carlini_wagner"), attack_steps=3, epsilon=(0.5,))
    assert run.attacks == ("fgsm", "bim", "carlini_wagner")
    assert run.attack_points("fgsm") == [{"epsilon": 0.5}]
    (point,) = run.attack_points("bim")
    assert point == {"epsilon": 0.5, "step_size": pytest.approx(0.5 / 8), "steps": 3}
    assert {p["steps"] for p in run.attack_points("carlini_wagner")} == {3}
    assert Config(attack=("none",)).attacks == ()


def test_attacks_that_draw_follow_the_seed_of_the_run() -> None:
    for attack in ATTACKS:
        has_one = "seed" in settings(attack)
        for seed, expected in ((0, 0), (7, 7), (2**31 + 5, 5)):  # TensorFlow takes 31 bits
            points = Config(attack=(attack,), seed=seed).attack_points(attack)
            assert {p.get("seed") for p in points} == {expected if has_one else None}


def test_fgsm_has_a_point_for_each_epsilon() -> None:
    points = Config(attack=("fgsm",), epsilon=(0.3, 0.1)).attack_points("fgsm")
    assert points == [{"epsilon": 0.3}, {"epsilon": 0.1}]


def test_bim_steps_an_eighth_of_epsilon_unless_told() -> None:
    # Strauss et al. (2017): 0.025 for 0.2 and 0.0025 for 0.02, in 8 steps.
    points = Config(attack=("bim",), epsilon=(0.2, 0.02)).attack_points("bim")
    assert points == [
        {"epsilon": 0.2, "step_size": pytest.approx(0.025), "steps": 8},
        {"epsilon": 0.02, "step_size": pytest.approx(0.0025), "steps": 8},
    ]
    run = Config(attack=("bim",), epsilon=(0.2, 0.1), step_size=0.5, attack_steps=3)
    assert [(p["epsilon"], p["step_size"], p["steps"]) for p in run.attack_points("bim")] == [
        (0.2, 0.5, 3),
        (0.1, 0.5, 3),
    ]


def test_carlini_wagner_has_a_point_for_each_fixed_c() -> None:
    run = Config(dataset="cifar10", const=(0.0, 3.0), confidence=1.5)
    common = {"iterate": "last", "steps": 300, "learning_rate": 1e-3, "confidence": 1.5}
    assert run.attack_points("carlini_wagner") == [
        {"const": 0.0, **common},
        {"const": 3.0, **common},
    ]


def test_the_binary_search_is_one_point_without_a_c() -> None:
    run = Config(binary_search=True, attack_steps=20)
    assert run.attack_points("carlini_wagner") == [
        {
            "binary_search_steps": 9,
            "initial_const": 1e-3,
            "steps": 20,
            "learning_rate": 1e-2,
            "confidence": 0.0,
        }
    ]


# Help.


def test_help_names_every_flag_once_under_its_group() -> None:
    lines = help_text("Does things.").splitlines()
    named = [match[1] for line in lines if (match := re.match(r"  --(\w+)=", line))]
    assert named == [*FLAGS, "dry_run", "quiet", "verbose", "tensorboard"]
    headings = [line for line in lines if re.fullmatch(r"[A-Z]\w+", line)]
    groups = [*(flag.group for flag in FLAGS.values()), "Output"]
    assert headings == list(dict.fromkeys(groups))
    # Fields of a group stand together.
    assert sum(a != b for a, b in zip(groups, groups[1:])) == len(headings) - 1


def test_help_fits_a_terminal() -> None:
    text = help_text("Does things.\n")
    assert text.startswith("Does things.\n\nFlags")
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) < 145


def test_help_tells_choices_and_defaults() -> None:
    text = " ".join(help_text("Does things.").split())
    for part in (
        "--defense=none,rse one or several, with commas; an ensemble goes with any way to train",
        ": adversarial_retraining, adversarial_training, consistency, distillation, ",
        "--attack=carlini_wagner one or several, with commas; none: clean images only: none, apgd,",
        "--num_draws=50 noise draws",
        "--binary_search=False carlini_wagner, zoo: search c",
        "--schedule= learning rate schedule: paper, one_cycle, constant --weight_decay=0.0005",
        "--retraining_epsilon=0.1,0.3 adversarial_retraining: ",
    ):
        assert part in text


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_is_printed_instead_of_a_run(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        flags.parse(["program", "--epochs=3", flag], "Does things.")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == help_text("Does things.") + "\n"


# What the shell sees.


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("one\n   mistake"), 2),
        (DataError("one\n   mistake"), 1),
        (NotTrainedError("one mistake"), 1),
        (TrainingDivergedError("one mistake"), 1),
    ],
)
def test_a_mistake_ends_a_program_in_one_line(
    error: Exception,
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(_: Config) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as exit_:
        flags.launch(run, "A program.")
    assert exit_.value.code == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: one mistake (see --help)\n")


def test_an_error_of_the_program_itself_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(_: Config) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(ValueError, match="a bug"):
        flags.launch(run, "A program.")


def test_a_program_runs_with_the_config_of_its_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(sys, "argv", ["program", "--seed=5"])
    flags.launch(seen.append, "A program.")
    assert seen == [Config(seed=5)]


@pytest.mark.parametrize("name", ["main", "train", "evaluate", "certify", "export"])
def test_a_program_does_what_it_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Any] = []
    monkeypatch.setattr(flags, "launch", lambda *given: launched.append(given))
    runpy.run_module(f"rse_tf.{name}", run_name="__main__")
    ((does, description),) = launched
    assert does is getattr(experiment, {"main": "run"}.get(name, name))
    assert f"python -m rse_tf.{name} " in description


def call(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    root = pathlib.Path(flags.__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "rse_tf.main", *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_a_process_with_an_unknown_flag_ends_with_status_2_and_one_line(
    tmp_path: pathlib.Path,
) -> None:
    process = call("--bogus", cwd=tmp_path)
    assert process.stderr == "error: Unknown command line flag 'bogus' (see --help)\n"
    assert (process.returncode, process.stdout) == (2, "")
    assert not any(tmp_path.iterdir())


def test_a_process_asked_for_help_prints_it_and_ends_with_status_0(
    tmp_path: pathlib.Path,
) -> None:
    process = call("--help", cwd=tmp_path)
    assert process.returncode == 0
    assert process.stdout.startswith("Trains defenses, attacks them, and shows how robust")
    assert process.stdout.endswith(help_text("").strip() + "\n")
    assert process.stderr == ""
    assert not any(tmp_path.iterdir())
