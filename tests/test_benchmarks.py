"""The benchmarks: fair timing, honest ratios, and peers that may be missing."""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
import pytest

from benchmarks import attacks, memory, models, peers, reference, report, subjects
from benchmarks.minimal import minimal
from benchmarks.race import (
    NOT_INSTALLED,
    Contestant,
    Done,
    Goal,
    Measurement,
    race,
    verdict,
)
from benchmarks.subjects import Subject, untrained
from benchmarks.timing import Timing, interleave
from benchmarks.torch_model import to_torch
from rse_tf.attacks import FMN


class Clock:
    """A clock that only the contestants move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def runner(self, name: str, *seconds: float):  # type: ignore[no-untyped-def]
        left = list(seconds)

        def run() -> str:
            self.order.append(name)
            self.now += left.pop(0)
            return f"{name}{len(left)}"

        return run


def timed(name: str, work: float, *seconds: float, **found: object) -> Measurement:
    return Measurement(name, "images", work, Timing(seconds), **found)  # type: ignore[arg-type]


# Timing.


def test_repeats_take_turns_and_the_median_counts() -> None:
    clock = Clock()
    runs = {"a": clock.runner("a", 1.0, 9.0, 2.0), "b": clock.runner("b", 4.0, 4.0, 5.0)}
    found = interleave(runs, repeats=3, clock=clock)
    assert clock.order == ["a", "b"] * 3
    assert found["a"].seconds == (1.0, 9.0, 2.0)
    assert (found["a"].median, found["b"].median) == (2.0, 4.0)
    assert found["a"].spread == (9 - 1) / 2
    assert found["a"].result == "a0"


def test_a_slow_one_may_leave_after_some_rounds() -> None:
    clock = Clock()
    runs = {"a": clock.runner("a", 1.0, 1.0), "b": clock.runner("b", 1.0)}
    interleave(runs, repeats=2, at_most={"b": 1}, clock=clock)
    assert clock.order == ["a", "b", "a"]


def test_no_repeats_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        interleave({}, repeats=0)


# Ratios.


def test_a_ratio_of_rates_is_that_of_the_medians() -> None:
    # 100 / 2 s against 200 / 5 s; round by round 50 / 40, 100 / 20 and 25 / 50.
    found = [timed("us", 100, 2.0, 1.0, 4.0), timed("them", 200, 5.0, 10.0, 4.0)]
    result = verdict(Goal("us", "them", 1.2), found)
    assert (result.value, result.low, result.high) == pytest.approx((1.25, 0.5, 5.0))
    assert (result.target, result.met) == (">= 1.2", True)
    assert verdict(Goal("us", "them", 1.3), found).met is False
    assert verdict(Goal("us", "them"), found).met is None


def test_an_upper_limit() -> None:
    found = [timed("us", 1, 3.0), timed("them", 1, 2.0)]
    result = verdict(Goal("us", "them", 1.1, True, "seconds"), found)
    assert (result.value, result.target, result.met) == (1.5, "<= 1.1", False)
    alone = verdict(Goal("us", None, 3.5, True, "seconds"), found)
    assert (alone.ratio, alone.value, alone.met) == ("us: seconds", 3.0, True)


def test_strength_is_compared_on_the_images_that_both_attacked() -> None:
    # Both broke the first and the third: (1 + 2) / (2 + 4). The fourth was not theirs to attack.
    both, all_ = np.array([1, 0, 1], bool), np.ones(4, bool)
    us = timed("us", 4, 1.0, success=all_, distance=np.array([1.0, 9, 2, 9]))
    them = timed("them", 3, 1.0, success=both, distance=np.array([2.0, 0, 4]))
    assert verdict(Goal("us", "them", 1.0, True, "mean_distance"), [us, them]).value == 0.5
    assert verdict(Goal("us", "them", 1.0, False, "success"), [us, them]).value == 1.5
    nobody = timed("them", 3, 1.0, success=np.zeros(3, bool), distance=np.zeros(3))
    absent = verdict(Goal("us", "them", 1.0, True, "mean_distance"), [us, nobody])
    assert absent.value is None and absent.note == "nothing to compare"


# Peers.


def contestant(name: str, **settings: object) -> Contestant:
    return Contestant(name, lambda: lambda: Done(1), **settings)  # type: ignore[arg-type]


def test_a_missing_peer_is_named_in_both_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)  # importing it fails
    them = Contestant(
        "foolbox",
        lambda: peers.foolbox_linf(None, "bim", 0.1, 0.1, 1),  # type: ignore[return-value]
        peer="foolbox",
    )
    outcome = race("", [contestant("us"), them], [Goal("us", "foolbox", 5)], unit="x", repeats=1)
    assert outcome.measurements[1].note == NOT_INSTALLED
    assert outcome.verdicts[0].note == f"foolbox {NOT_INSTALLED}"
    assert report.tables({"case": outcome}).count("pip install 'rse_tf[benchmarks]'") == 2


def test_every_peer_is_imported_late(monkeypatch: pytest.MonkeyPatch) -> None:
    model = attacks.network("mnist_cnn")
    images = np.zeros((1, 28, 28, 1), np.float32)
    victim = Subject(model, images, np.zeros(1, int), "")
    calls = [
        ("foolbox", lambda: peers.foolbox_carlini_wagner(model, 1, 1, 0.01, 0.1)),
        ("foolbox", lambda: peers.foolbox_minimal(model, "DDN", "l2", 1)),
        ("cleverhans", lambda: peers.cleverhans_linf(model, "mim", 0.1, 0.1, 1)),
        ("art", lambda: peers.ArtZoo(model, 1, 1, 1.0)),
        ("art", lambda: peers.art_deep_fool(model, 1)),
        ("pyautoattack", lambda: reference.auto_attack(victim, "l2", 1.0)),
        ("torch", lambda: to_torch(model, images)),
    ]
    for module, call in calls:
        for loaded in [name for name in sys.modules if name.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ModuleNotFoundError) as caught:
            call()
        assert caught.value.name.split(".")[0] == module  # type: ignore[union-attr]


def test_a_peer_that_breaks_is_named_with_its_error_and_ours_is_not_hidden() -> None:
    def broken():  # type: ignore[no-untyped-def]
        raise TypeError("'list' object is not callable")

    them = Contestant("art", broken, peer="art")
    outcome = race("", [contestant("us"), them], [Goal("us", "art")], unit="x", repeats=1)
    assert outcome.measurements[1].note == "failed: TypeError: 'list' object is not callable"
    with pytest.raises(TypeError, match="not callable"):
        race("", [Contestant("us", broken)], [], unit="x", repeats=1)


def test_minimal_distances_are_in_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    found = minimal("linf", "cifar_cnn", 2, report.Options(repeats=1, steps=2))
    us, them, longer = found.measurements
    assert [one.work for one in (us, longer)] == [4, 12] and them.note == NOT_INSTALLED
    victim = untrained("cifar_cnn", 2)
    attacked = FMN(victim.model, steps=2)(victim.images, victim.labels)
    largest = np.abs(attacked.adversarial - victim.images).max(axis=(1, 2, 3))
    assert attacked.success.all()
    np.testing.assert_allclose(us.distance, largest, rtol=1e-4)  # type: ignore[arg-type]
    assert found.verdicts[0].ratio == "rse_tf FMN / foolbox FMN: mean_distance"


# The suite beside AutoAttack.


def test_the_reference_may_be_half_a_point_stronger() -> None:
    broken = np.arange(400) < 100
    us, them = (timed(name, 400, 1.0, success=broken) for name in ("us", "them"))
    for number, value, met in ((102, 0.5, True), (103, 0.75, False), (90, -2.5, True)):
        them = timed("them", 400, 1.0, success=np.arange(400) < number)
        found = reference.difference(us, them)
        assert (found.value, found.met) == (pytest.approx(value), met)
    absent = reference.difference(us, Measurement("them", note=NOT_INSTALLED))
    assert absent.value is None and absent.met is None and absent.note == f"them {NOT_INSTALLED}"


def test_images_that_one_alone_broke_are_named_with_their_attack() -> None:
    us = timed("us", 3, 1.0, success=np.array([1, 1, 0], bool))
    them = timed("them", 3, 1.0, success=np.array([1, 0, 0], bool))
    sources = [np.array(["fgsm", "pgd", "square"]), np.array(["apgd-ce", "clean", "clean"])]
    noted = reference.differing([us, them], sources)
    assert [one.note for one in noted] == ["alone broke 1 (pgd)", "alone broke none"]
    assert reference.differing([us, them], sources[:1]) == [us, them]


def test_more_digits_than_there_are_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((3, 28, 28, 1), np.float32)
    test = Subject(attacks.network("mnist_cnn"), images, np.zeros(3, int), "")
    monkeypatch.setattr(subjects, "_trained", lambda: (test.model, test))
    assert len(subjects.first_digits(3).images) == 3
    for digits in (subjects.first_digits, subjects.digits):
        with pytest.raises(ValueError, match="number=4"):
            digits(4)


def test_both_are_judged_alike_and_within_the_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = untrained("mnist_cnn", 2)
    moved = {"ours": 0.0, "auto_attack": 0.0}
    monkeypatch.setattr(reference, "first_digits", lambda number: victim)
    for name in moved:
        monkeypatch.setattr(
            reference,
            name,
            lambda victim, *_, name=name: (
                np.clip(victim.images + moved[name], 0, 1),
                np.array(["clean", "clean"]),
            ),
        )
    found = reference.compare("linf", 0.1, "small", report.Options())
    # Nothing moved, and the labels are the network's own.
    assert [one.success_rate for one in found.measurements] == [0.0, 0.0]
    assert found.verdicts[0].value == 0.0 and found.verdicts[0].met
    for name in moved:
        moved.update(ours=0.0, auto_attack=0.0)
        moved[name] = 0.11
        with pytest.raises(ValueError, match="within 0.1"):
            reference.compare("linf", 0.1, "small", report.Options())


# The command line.


@pytest.mark.parametrize("module", [attacks, models, reference])
def test_list_names_every_case(module, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore
    report.main(module.CASES, "", ["--list"])
    assert capsys.readouterr().out.split() == list(module.CASES)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--only", "nothing/*"], "matches none of cw_fixed/mnist_cnn"),
        (["--repeats", "0"], "must be a positive integer"),
    ],
)
def test_mistakes_are_named(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        report.main(attacks.CASES, "", argv)
    assert message in capsys.readouterr().err


def test_a_tiny_case_runs_and_stores_its_ratio_and_target(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    argv = ["--only", "cw_fixed/cifar_cnn", "--images", "2", "--steps", "2", "--repeats", "2"]
    report.main(attacks.CASES, "", [*argv, "--output", str(path)])
    stored = json.loads(path.read_text())
    assert stored["command"].endswith(" ".join(argv[2:]) + f" --output {path}")
    assert stored["cpus"] >= 1 and stored["versions"]["rse_tf"]
    case = stored["cases"]["cw_fixed/cifar_cnn"]
    (ratio,) = case["ratios"]
    assert ratio["target"] == ">= 0.9" and ratio["low"] <= ratio["high"]
    us, floor = case["measurements"]
    assert len(us["seconds"]) == 2 and us["work"] == floor["work"] == 4
    assert ratio["value"] == pytest.approx(us["rate"] / floor["rate"])
    assert us["images"] == 2 and 0 <= us["success"] <= 1
    printed = capsys.readouterr().out
    assert "rse_tf / bare gradient" in printed and ">= 0.9" in printed


def test_the_peak_of_this_process_is_plausible() -> None:
    assert 100 < memory.own_peak() < 100_000
