"""An attack of one's own: one class, and everything follows from it."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
import runpy
import sys

import pytest

from rse_tf import flags
from rse_tf.attacks import ATTACKS
from rse_tf.attacks.base import Attack
from rse_tf.config import Config, ConfigError
from rse_tf.evaluation.attack_points import attack_flags
from rse_tf.flags import help_text
from rse_tf.reporting import read_json
from rse_tf.utils.options import option

SOURCE = '''
"""Everything becomes lighter."""

import dataclasses

import tensorflow as tf

from rse_tf.attacks import ATTACKS
from rse_tf.attacks.base import Attack
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class Lighten(Attack):
    lightness: float = option(0.25, sweep=True, help="how much lighter")
    rounds: int = option(2, help="how often")
    scalars = ("lightness",)
    has_targets = False

    def __post_init__(self):
        super().__post_init__()
        self._check_number("lightness")
        self._check_integer("rounds", 1)

    def _perturb(self, images, classes, targeted, scalars):
        spent = tf.fill(tf.shape(classes), self.rounds)
        return images + scalars["lightness"] * self.rounds, spent, spent


ATTACKS["lighten"] = Lighten
'''


@pytest.fixture
def lighten(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an attack from a file of its own, registered for one test."""
    file = tmp_path / "lighten.py"
    file.write_text(SOURCE)
    monkeypatch.setitem(ATTACKS, "lighten", ATTACKS["fgsm"])  # to be taken away afterwards
    spec = importlib.util.spec_from_file_location("lighten", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lighten", module)
    spec.loader.exec_module(module)
    return "lighten"


def parse(*arguments: str) -> Config:
    return flags.parse(["program", *arguments], "A program.")


def test_its_options_are_flags(lighten: str) -> None:
    text = " ".join(help_text("Does things.").split())
    assert "--lightness= lighten: how much lighter" in text
    assert "--rounds= lighten: how often" in text
    assert ", lighten, " in text
    run = parse("--attack=lighten", "--lightness=0.1,1/2", "--rounds=3")
    assert (run.lightness, run.rounds) == ((0.1, 0.5), 3)
    assert run.attack_points("lighten") == [
        {"lightness": 0.1, "rounds": 3},
        {"lightness": 0.5, "rounds": 3},
    ]
    assert parse(*run.as_flags()) == run
    assert parse("--attack=lighten").attack_points("lighten") == [{"lightness": 0.25, "rounds": 2}]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--attack=fgsm --rounds=3", "--rounds does not apply to --attack=fgsm, which has --eps"),
        ("--attack=lighten --epsilon=1", "which has --lightness, --rounds"),
        ("--attack=lighten --rounds=0", "--rounds must be an integer of at least 1, for --attack"),
        ("--attack=lighten --lightness=-1", "--lightness must be a finite number >= 0"),
        ("--attack=lighten --targeted", "--attack=lighten has no targets"),
    ],
)
def test_its_mistakes_are_one_line(lighten: str, flags: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(*flags.split())
    assert "\n" not in str(raised.value)


def test_without_it_there_are_no_such_flags() -> None:
    assert "lighten" not in ATTACKS
    with pytest.raises(ConfigError, match="Unknown command line flag 'lightness'"):
        parse("--lightness=1")
    with pytest.raises(TypeError, match="no flag of this name. Received: lightness"):
        Config(lightness=(1.0,))
    with pytest.raises(AttributeError, match="lightness"):
        Config().lightness


def test_it_runs_resumes_and_is_reported(
    lighten: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = tmp_path / "run"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "main",
            "--attack=lighten",
            "--lightness=0,0.3",
            "--rounds=3",
            "--defense=none",
            "--epochs=1",
            "--num_images=20",
            "--eval_seeds=1",
            "--num_draws=1",
            f"--workdir={workdir}",
        ],
    )
    runpy.run_module("rse_tf.main", run_name="__main__")
    assert "lighten" in capsys.readouterr().out
    first = read_json(workdir / "result.json")
    assert [row.attack for row in first.rows] == ["none", "lighten", "lighten"]
    assert [row.parameters["lightness"] for row in first.rows[1:]] == [0.0, 0.3]
    assert first.rows[1].parameters["rounds"] == 3
    assert first.rows[1].mean_queries == 4  # three rounds, and a look at the result
    assert first.flags["rounds"] == 3
    # The flags of the run give it again, from what it has kept.
    files = [file for file in workdir.glob("attacks/**/*") if file.is_file()]
    kept = {file: file.stat().st_mtime_ns for file in files}
    assert kept
    monkeypatch.setattr(sys, "argv", ["main", f"--flagfile={workdir}/flags.txt"])
    runpy.run_module("rse_tf.main", run_name="__main__")
    assert read_json(workdir / "result.json").rows[1:] == first.rows[1:]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_flag_has_one_type_in_all_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attack_flags()["epsilon"].kind == "tuple[float, ...]"

    @dataclasses.dataclass(frozen=True)
    class Other(Attack):
        epsilon: str = option("much", help="a word")

    monkeypatch.setitem(ATTACKS, "other", Other)
    first = "--epsilon must be of one type. Received: tuple.* of apgd"
    with pytest.raises(TypeError, match=first):
        attack_flags()
