"""The verdict of a run from its command line, in its folder and on its page."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from rse_tf import evaluation, experiment
from rse_tf.attacks import PGD
from rse_tf.config import Config, ConfigError
from rse_tf.evaluation import Verdict, audit
from rse_tf.evaluation.attack_points import audit_ball
from rse_tf.flags import parse
from rse_tf.reporting import read_json, write_html

FLAGS: dict[str, Any] = {
    "epochs": 1,
    "attack": ("fgsm",),
    "epsilon": (0.05, 0.1),
    "num_images": 4,
    "num_draws": (3,),
    "eval_seeds": 1,
    "audit": True,
    "init_noise": 0.25,
}


def test_a_run_has_a_verdict_of_each_defense(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(model: Any, images: Any, labels: Any, **options: Any) -> Verdict:
        attacks = [PGD(model, options["epsilon"], steps=2)]
        few = {"attack_draws": 1, "attacks": attacks, "search_points": 1, "square_steps": 0}
        return audit(model, images, labels, **{**options, **few})

    monkeypatch.setattr(evaluation, "audit", quick)
    config = Config(workdir=str(tmp_path / "run"), defense=("none", "rse"), **FLAGS)
    experiment.train(config)
    certifying = Config(
        workdir=config.workdir, defense=("rse",), n0=10, n=100, **{**FLAGS, "audit": False}
    )
    experiment.certify(certifying)
    experiment.evaluate(config)
    printed = capsys.readouterr().out
    assert "no defense: Robust accuracy" in printed and "RSE: Robust accuracy" in printed
    content = json.loads((tmp_path / "run/audit.json").read_text())
    assert (content["norm"], content["epsilon"]) == ("linf", 0.1)
    verdicts = {one["defense"]: one for one in content["verdicts"]}
    assert list(verdicts) == ["none", "rse"]
    rows = {(name, row["id"]): row for name, one in verdicts.items() for row in one["rows"]}
    assert rows["none", "E3"]["verdict"] == "NOT_RUN"  # the certificate is of the other one
    assert rows["rse", "E3"]["verdict"] == "PASS"
    assert rows["rse", "A5"]["verdict"] == "PASS" and "4 images" in rows["none", "E4"]["reason"]
    result = read_json(tmp_path / "run/result.json")
    page = write_html(tmp_path / "run", result).read_text()
    for one in verdicts.values():
        assert f'<span class="verdict {one["overall"]}">{one["overall"]}' in page
        assert f"{100 * one['headline']:.1f}\N{NO-BREAK SPACE}%" in page
    assert "L-infinity, epsilon = 0.1" in page


@pytest.mark.parametrize(
    ("flags", "ball"),
    [
        ([], ("linf", 0.2)),
        (["--epsilon=0.1"], ("linf", 0.1)),  # the attack of the run has none
        (["--attack=pgd", "--epsilon=0,0.3"], ("linf", 0.3)),
        (["--attack=pgd", "--norm=l2", "--epsilon=1.5"], ("l2", 1.5)),
        (["--suite=adaptive", "--epsilon=0.1,0.3"], ("linf", 0.3)),
        (["--suite=adaptive", "--norms=l2", "--l2_epsilon=2"], ("l2", 2.0)),
    ],
)
def test_the_verdict_is_of_the_largest_distance_of_the_run(
    flags: list[str], ball: tuple[str, float]
) -> None:
    assert audit_ball(parse(["main", "--audit", *flags], "")) == ball


def test_a_verdict_needs_a_distance() -> None:
    with pytest.raises(ConfigError, match="--audit needs a distance above 0"):
        parse(["main", "--audit", "--attack=pgd", "--epsilon=0"], "")
    assert not parse(["main"], "").audit
