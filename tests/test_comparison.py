"""Certified accuracy beside the worst case of a suite: by hand, by a model whose law is known."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from rows import make_row
from smoothed import at_distances, linear

from rse_tf import experiment, report
from rse_tf.config import Config
from rse_tf.evaluation import (
    CaseCell,
    Certificate,
    CertificationSettings,
    WorstCases,
    evaluate_suite,
    suite_runner,
    worst_cases,
)
from rse_tf.evaluation.metrics import interval
from rse_tf.evaluation.suites import Step
from rse_tf.reporting import (
    Comparison,
    Result,
    compare,
    format_comparison,
    write_certificates,
    write_comparison,
    write_html,
    write_json,
    write_worst_cases,
)
from rse_tf.reporting.distances import draw_distances
from rse_tf.utils.files import FileError

# (label, predicted, radius) of the images 10 to 15; the suite has 12 to 17.
CERTIFIED = [(3, 3, 0.9), (1, 1, 0.9), (4, 4, 0.6), (5, 7, 0.7), (6, 6, 0.3), (2, -1, 0.0)]
LABELS = (4, 5, 6, 2, 8, 9)
FLAGS = {"dataset": "mnist", "model": "mnist_cnn", "epochs": 4, "init_noise": 0.25}


def cell(
    epsilon: float,
    correct: list[float],
    nearest: list[float | None],
    draws: list[float] | None = None,
    norm: str = "l2",
) -> CaseCell:
    own = tuple(correct if draws is None else draws)
    return CaseCell(norm, epsilon, tuple(correct), own, (epsilon,) * 6, tuple(nearest))


CELLS = (
    cell(0.25, [1, 0, 1, 1, 1, 0], [None, 0.0, None, None, None, 0.1]),
    cell(0.5, [1, 0, 1, 1 / 3, 0, 0], [None, 0.0, None, 0.4, 0.45, 0.1]),
    cell(5.0, [0, 0, 0, 0, 0, 0], [0.7, 0.0, 0.5, 0.6, 0.6, 0.2]),
    cell(0.1, [1, 1, 1, 1, 1, 1], [0.01] * 6, norm="linf"),
)
CASES = WorstCases("rse", "abc", 0.25, tuple(range(12, 18)), LABELS, 50, 30, CELLS)


def certificates(first: int = 10) -> list[Certificate]:
    return [
        Certificate(first + i, label, predicted, radius, predicted, radius, 1.0, 0.25, 0.001)
        for i, (label, predicted, radius) in enumerate(CERTIFIED)
    ]


def write(
    folder: pathlib.Path,
    cases: WorstCases = CASES,
    own: list[Certificate] | None = None,
    **facts: Any,
) -> pathlib.Path:
    given = {"defense": "rse", "network": "abc", "flags": FLAGS, **facts}
    settings = CertificationSettings(n=10_000, stddev=given.pop("stddev", 0.25))
    write_certificates(folder, own or certificates(), settings, versions={}, **given)
    write_worst_cases(folder, [cases], FLAGS)
    return folder


def compared(folder: pathlib.Path) -> Comparison:
    found = compare(folder)
    assert found is not None
    return found


def test_only_images_that_are_certified_and_attacked_count(tmp_path: pathlib.Path) -> None:
    found = compared(write(tmp_path))
    # Images 12 to 15: one is certified as a wrong class, one not at all.
    assert [line.radius for line in found.lines] == [0.25, 0.5]
    certified = [(share, *interval(share, 4)) for share in (0.5, 0.25)]
    assert [line.certified for line in found.lines] == certified
    worst = [line.worst.value for line in found.lines]
    assert worst == [0.75, pytest.approx((1 + 0 + 1 + 1 / 3) / 4)]
    assert [line.cells[-1] for line in found.lines] == ["25.0", "33.3"]
    assert found.verdict == "PASS" and "0 of 2 certified images are fooled" in found.words
    assert "the 4 that are both certified (6) and attacked (6)" in found.notes[1]
    # 0.25 Phi^-1(0.001^(1 / 10000)) = 0.25 * 3.1985
    assert found.notes[2] == "radius 5: 10000 votes certify no further than 0.800"
    text = format_comparison(found)
    assert "0.25" in text and "6.8 to 93.2" in text and "\nPASS: " in text
    same = compared(write(tmp_path / "same", own=labelled(12)))
    assert "the same 6 are certified and attacked" in same.notes[1]


def labelled(first: int) -> list[Certificate]:
    """Certificates of the labels of the suite."""
    return [
        dataclasses.replace(one, label=label)
        for one, label in zip(certificates(first), LABELS, strict=True)
    ]


def test_images_are_found_by_their_numbers(tmp_path: pathlib.Path) -> None:
    shifted = [dataclasses.replace(one, index=one.index - 2) for one in labelled(12)]
    cases = dataclasses.replace(CASES, numbers=tuple(range(10, 16)))
    own = [one for one in shifted if one.index in (12, 14)]  # of the labels 6 and 8
    found = compared(write(tmp_path, cases, own))
    assert [point.number for point in found.points] == [12, 14]
    assert [line.worst.value for line in found.lines] == [1.0, 0.5]  # the third and the fifth


def test_each_image_has_its_radius_and_its_nearest_adversarial_image(
    tmp_path: pathlib.Path,
) -> None:
    found = compared(write(tmp_path))
    assert [tuple(point) for point in found.points] == [
        (12, 0.6, 0.7),
        (13, 0.0, 0.0),  # certified as another class
        (14, 0.3, 0.5),
        (15, 0.0, 0.4),
    ]
    assert found.farthest == 5.0
    few = dataclasses.replace(
        found, points=(*found.points[:2], found.points[2]._replace(distance=0.2), found.points[3])
    )
    unbroken = few.points[0]._replace(distance=None)
    figure = draw_distances(dataclasses.replace(few, points=(unbroken, *few.points[1:])))
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]
    assert drawn[:3] == [([0.0, 0.0], [0.0, 0.4]), ([0.3], [0.2]), ([0.6], [pytest.approx(5.4)])]
    labels = " ".join(text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts())
    assert "outside of the certified radius: 2 inside the certified radius: 1" in labels
    assert "no attack found one: 1" in labels


def test_a_certificate_that_an_attack_refutes_fails(tmp_path: pathlib.Path) -> None:
    refuted = dataclasses.replace(
        CASES, cells=(cell(0.25, [0] * 6, [0.2] * 6, [3 / 30, 0, 5 / 30, 1, 1, 1]),)
    )
    found = compared(write(tmp_path, refuted))
    assert found.verdict == "FAIL" and "(row E3)" in found.words
    assert "2 of 2 certified images are fooled inside their radius" in found.words
    told = "at radius 0.25 the certified accuracy, 50.0 %, is above the worst case, 0.0 %"
    assert told in found.words
    # So many votes that are wrong are chance: 20 of 30.
    lucky = dataclasses.replace(
        CASES, cells=(cell(0.25, [1, 1, 1 / 3, 0, 1, 1], [None] * 6, [10 / 30] * 6),)
    )
    assert compared(write(tmp_path, lucky)).verdict == "PASS"
    few = dataclasses.replace(CASES, cells=(cell(0.25, [1, 0, 0, 0, 1, 1], [None] * 6, [0.5] * 6),))
    found = compared(write(tmp_path, few))
    assert found.verdict == "WARN" and "0 of 2 certified images" in found.words
    assert "certified accuracy, 50.0 %, is above the worst case, 25.0 %" in found.words


def test_an_accuracy_far_above_the_worst_case_fails_without_a_single_sure_image(
    tmp_path: pathlib.Path,
) -> None:
    many = range(40)
    own = [Certificate(i, 1, 1, 0.6, 1, 0.6, 1.0, 0.25, 0.001) for i in many]
    unsure = CaseCell("l2", 0.5, (0.0,) * 40, (0.4,) * 40, (0.5,) * 40, (0.5,) * 40)
    cases = WorstCases("rse", "abc", 0.25, tuple(many), (1,) * 40, 50, 30, (unsure,))
    found = compared(write(tmp_path, cases, own))
    assert found.verdict == "FAIL" and "0 of 40 certified images are fooled" in found.words


@pytest.mark.parametrize(
    ("facts", "changes", "words"),
    [
        ({"network": "abd"}, {}, "another network"),
        ({"network": "", "flags": {**FLAGS, "epochs": 5}}, {}, "another network"),
        ({"stddev": 0.5}, {}, "noise of 0.5 on the pixels, and the network adds 0.25"),
        ({"stddev": 0.5}, {"stddev": None}, "and the network adds none"),
        ({"own": certificates(100)}, {}, "both certified (6 images from number 100 on) and"),
        ({"own": certificates(11)}, {}, "different labels"),
        ({}, {"cells": CELLS[2:3]}, "no L2 distance of the suite is within 0.800"),
    ],
)
def test_what_cannot_be_compared_says_why(
    facts: dict[str, Any], changes: dict[str, Any], words: str, tmp_path: pathlib.Path
) -> None:
    write(tmp_path, dataclasses.replace(CASES, **changes), **facts)
    found = compared(tmp_path)
    assert found.words.startswith("not compared: ") and words in found.words
    assert not found.lines and words in format_comparison(found)
    text, pictures = write_comparison(tmp_path)
    assert words in text and pictures == []


def test_without_a_checksum_the_flags_say_which_network_it_is(tmp_path: pathlib.Path) -> None:
    assert compared(write(tmp_path, network="")).lines


def test_a_run_without_both_has_no_comparison(tmp_path: pathlib.Path) -> None:
    assert compare(tmp_path) is None and write_comparison(tmp_path) == ("", [])
    write(tmp_path, dataclasses.replace(CASES, cells=CELLS[3:]))
    assert compare(tmp_path) is None  # a suite in the other norm alone
    write(tmp_path, dataclasses.replace(CASES, defense="none"))
    assert compare(tmp_path) is None
    (tmp_path / "worst_cases.json").write_text('{"defenses": [{}]}')
    with pytest.raises(FileError, match="worst_cases.json is damaged"):
        compare(tmp_path)


def test_the_page_and_the_terminal_show_it(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = write(tmp_path / "run"), tmp_path / "report"
    rows = [
        make_row("rse"),
        make_row("rse", "adaptive", 0.3, parameters={"epsilon": 0.5, "norm": "l2"}),
    ]
    write_json(rows, run / "result.json", flags={}, versions={})
    report.main(["report", str(run), f"--output={output}", "--html"])
    printed = capsys.readouterr().out
    assert "RSE, certified beside attacked" in printed and "PASS: 0 of 2 certified" in printed
    assert (output / "attack_vs_certificate.png").stat().st_size > 5_000
    page = (output / "report.html").read_text()
    # The Clopper-Pearson interval of 2 in 4.
    assert "<td>6.8 to 93.2</td>" in page and "Attack distance and certified radius" in page
    assert 'class="verdict PASS">PASS:</span> 0 of 2 certified images' in page
    (run / "worst_cases.json").unlink()
    plain = write_html(run, Result(rows, {}, {})).read_text()
    assert "Certified beside attacked" not in plain


def test_the_file_of_a_linear_model_has_its_exact_distances() -> None:
    exact = np.array([-0.1, 0.05, 0.15, 0.25, 0.4])  # the first is on the wrong side
    images, labels, model = at_distances(exact), np.ones(5, np.int64), linear(scale=10.0)
    steps = [
        Step("pgd", "pgd", "model", options=(("steps", 20),), everyone=True),
        Step("ddn", "ddn", "model", options=(("steps", 50),), everyone=True),
    ]
    outcome = evaluate_suite(
        model, images, labels, norm="l2", epsilons=[0.1, 0.3], steps=steps, seed=0
    )
    numbers = np.arange(20, 25)
    found = worst_cases(outcome, images, labels, numbers, defense="none", model=model, num_draws=50)
    assert (found.stddev, found.num_draws, found.single_draws) == (None, 1, 1)
    assert found.numbers == (20, 21, 22, 23, 24) and len(found.network) == 16
    for one in found.cells:
        broken = exact < one.epsilon
        np.testing.assert_array_equal(np.array(one.correct) == 0, broken)
        assert one.correct == one.draws
        for distance, nearest, length in zip(exact, one.nearest, one.l2):
            assert length <= one.epsilon * (1 + 1e-5)
            # DDN comes near, also beyond the distance of the suite.
            low = max(distance, 0)
            assert nearest is not None and low <= nearest * (1 + 1e-5) <= 1.1 * low + 1e-6
    noisy = linear(0.3, scale=10.0)
    outcome = evaluate_suite(noisy, images, labels, norm="l2", epsilons=[0.1], steps=steps[:1])
    found = worst_cases(outcome, images, labels, numbers, defense="rse", model=noisy, num_draws=50)
    assert (found.stddev, found.num_draws, found.single_draws) == (0.3, 50, 30)


def test_a_run_that_is_certified_and_attacked_compares_the_two(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = (Step("pgd", "pgd", "mean_loss", 2, (("steps", 3),), everyone=True),)
    monkeypatch.setattr(suite_runner, "suite_steps", lambda *_: steps)
    facts: dict[str, Any] = {
        "workdir": str(tmp_path),
        "epochs": 1,
        "init_noise": 0.25,
        "defense": ("rse",),
        "num_draws": (3,),
    }
    suite: dict[str, Any] = {"suite": "adaptive", "norms": ("l2",), "l2_epsilon": (0.1, 0.2)}
    attacking = Config(num_images=12, **suite, **facts)
    certifying = Config(num_images=4, skip=3, n0=20, n=200, **facts)
    experiment.train(certifying)
    own = experiment.certify(certifying)
    assert "certified beside attacked" not in capsys.readouterr().out
    for command in (experiment.evaluate, experiment.certify):
        command(attacking if command is experiment.evaluate else certifying)
        printed = capsys.readouterr().out
        assert "RSE, certified beside attacked" in printed
        assert "the 4 that are both certified (4) and attacked (12)" in printed
    found = compared(tmp_path)
    assert [point.number for point in found.points] == [0, 3, 6, 9] == [one.index for one in own]
    assert (tmp_path / "attack_vs_certificate.png").exists()
    content = json.loads((tmp_path / "worst_cases.json").read_text())
    (one,) = content["defenses"]
    assert one["network"] == json.loads((tmp_path / "certificate.json").read_text())["network"]
    assert one["stddev"] == 0.25 and one["single_draws"] == 30
