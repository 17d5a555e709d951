"""The program that certifies: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest

from rse_tf import experiment
from rse_tf import models as models_of
from rse_tf.config import Config, ConfigError
from rse_tf.evaluation import Certificate, CertificationSettings, certified_accuracy
from rse_tf.flags import help_text, parse
from rse_tf.papers import reproduce
from rse_tf.reporting import format_certificates, write_certificates
from rse_tf.reporting.certificates import _steps
from rse_tf.training import NotTrainedError

SMALL: dict[str, Any] = {"epochs": 1, "init_noise": 0.25, "n0": 20, "n": 200, "num_images": 12}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a network that is trained on noisy digits, after a fashion."""
    folder = tmp_path_factory.mktemp("models")
    experiment.train(
        Config(workdir=str(folder / "run"), models_dir=str(folder), defense=("rse",), **SMALL)
    )
    return folder


def run(models: pathlib.Path, workdir: pathlib.Path, **flags: Any) -> Config:
    given = {"defense": ("rse",), **SMALL, **flags}
    return Config(workdir=str(workdir), models_dir=str(models), **given)


def test_a_defense_is_certified_and_reported(
    models: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = experiment.certify(run(models, tmp_path, skip=3))
    assert [one.index for one in found] == list(range(0, 36, 3))
    assert certified_accuracy(found, 0) > 0.3
    printed = capsys.readouterr().out
    for radius in (0, 0.25, 0.5, 0.75, 1):
        share = 100 * certified_accuracy(found, radius)
        assert re.search(rf"^radius {radius:g} +{share:.1f} ", printed, re.M)
    content = json.loads((tmp_path / "certificate.json").read_text())
    assert [Certificate(**one) for one in content["certificates"]] == found
    assert (content["stddev"], content["n"], content["defense"]) == (0.25, 200, "rse")
    assert content["flags"]["skip"] == 3 and "tensorflow" in content["versions"]
    assert content["certified_accuracy"][1] == {
        "radius": 0.25,
        "votes": certified_accuracy(found, 0.25),
        "mean_probability": certified_accuracy(found, 0.25, by_mean=True),
    }
    with open(tmp_path / "certificate.tsv", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    assert [int(line["idx"]) for line in lines] == [one.index for one in found]
    assert [int(line["predict"]) for line in lines] == [one.predicted for one in found]
    radii = np.array([float(line["radius"]) for line in lines])
    np.testing.assert_allclose(radii, [one.radius for one in found], rtol=0.006)
    assert (tmp_path / "certified_accuracy.png").stat().st_size > 5_000


def test_the_same_command_goes_on(models: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = experiment.certify(run(models, tmp_path))
    votes = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("votes_*.npz")}
    assert len(votes) == 1
    assert experiment.certify(run(models, tmp_path)) == found  # the seconds, too
    surer = experiment.certify(run(models, tmp_path, alpha=1e-5))
    assert all(one.radius < other.radius for one, other in zip(surer, found) if other.radius)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("votes_*.npz")} == votes
    # Images of one class have the numbers that they have among all.
    sixes = experiment.certify(run(models, tmp_path, image_class="6", num_images=1))
    without = [dataclasses.replace(one, seconds=0) for one in (*sixes, *found) if one.label == 6]
    assert without[0] == without[1]


def test_what_has_no_certificate_is_refused_in_one_line(
    models: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "none"
    with pytest.raises(ConfigError, match="one defense: --defense=rse. Received: none,rse"):
        experiment.certify(run(models, workdir, defense=("none", "rse")))
    with pytest.raises(NotTrainedError, match="^none: "):
        experiment.certify(run(models, workdir, defense=("none",)))
    silent = run(models, workdir, defense=("rse_train_noise_only",))
    with pytest.raises(ConfigError, match="noise to its pixels at inference.*--smoothing_noise"):
        experiment.certify(silent)
    assert not workdir.exists()
    # Noise that is given makes up for it: this network without noise inside is one of Cohen et al.
    found = experiment.certify(
        dataclasses.replace(silent, options={**silent.options, "smoothing_noise": 0.25})
    )
    assert certified_accuracy(found, 0) > 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_noise_at": "second_conv"}, "before the first convolution.*'second_conv'"),
        ({"distribution": "laplace"}, "must be Gaussian.*'laplace'"),
        ({"dtype": "mixed_bfloat16"}, "half precision.*noise in bfloat16"),
    ],
)
def test_noise_that_no_certificate_rests_on_is_refused_before_any_vote(
    settings: dict[str, Any],
    message: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise: dict[str, Any] = {"init_noise": 0.25, "inner_noise": 0.1}
    model = models_of.build("vgg16", input_shape=(32, 32, 1), **noise, **settings)
    monkeypatch.setattr(experiment, "train_defense", lambda *_, **__: model)
    workdir = tmp_path / "none"
    with pytest.raises(ConfigError, match=f"^--defense=rse: .*{message}.*") as caught:
        experiment.certify(run(tmp_path, workdir))
    assert "--smoothing_noise" in str(caught.value) and not workdir.exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--n0=0", "--n0 must be at least 1. Received: 0"),
        ("--n=1", "--n must be at least 2. Received: 1"),
        ("--alpha=1", "--alpha must be greater than 0 and below 1. Received: 1.0"),
        ("--skip=0", "--skip must be at least 1. Received: 0"),
        ("--smoothing_noise=0", "--smoothing_noise must be greater than 0. Received: 0"),
    ],
)
def test_impossible_flags_are_refused(flag: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(["certify", flag], "")


def test_flags_reach_the_settings() -> None:
    config = parse(["certify", "--n0=7", "--n=50", "--alpha=0.01", "--smoothing_noise=0.5"], "")
    assert config.certification_settings() == CertificationSettings(7, 50, 0.01, 1, 0.5)
    assert Config().certification_settings() == CertificationSettings(100, 100_000, 0.001, 1, None)
    assert parse(["certify", *config.as_flags()], "") == config
    text = " ".join(help_text("").split())
    assert "Certification --n0=100 votes that choose the class of an image --n=100000 " in text
    assert "two CPU cores manage 10000" in text


def test_what_is_certified_changes_no_row_of_a_finished_table() -> None:
    plain, other = Config().values(), Config(n0=7, n=50, skip=3, smoothing_noise=0.5).values()
    assert reproduce._set_flags(other) == reproduce._set_flags(plain) != {}


FOUND = [
    Certificate(0, 3, 3, 0.3127, 3, 0.26, 1.5),
    Certificate(20, 1, 2, 0.8, 1, 0.1, 0.25),
    Certificate(40, 4, -1, 0.0, -1, 0.0, 61.0),
    Certificate(60, 5, 5, 0.9, 5, 0.6, 2.0),
]


def test_the_tab_separated_file_is_that_of_cohen_et_al(tmp_path: pathlib.Path) -> None:
    settings = CertificationSettings(stddev=0.5)
    write_certificates(tmp_path, FOUND, settings, defense="rse", network="", flags={}, versions={})
    assert (tmp_path / "certificate.tsv").read_text().splitlines() == [
        "idx\tlabel\tpredict\tradius\tcorrect\ttime",
        "0\t3\t3\t0.313\t1\t0:00:01.500000",
        "20\t1\t2\t0.8\t0\t0:00:00.250000",
        "40\t4\t-1\t0.0\t0\t0:01:01",
        "60\t5\t5\t0.9\t1\t0:00:02",
    ]


def test_the_table_by_hand() -> None:
    lines = format_certificates(FOUND, CertificationSettings(n=1_000, stddev=0.5)).splitlines()
    cells = [re.split(r"  +", line.strip()) for line in lines[2:8]]
    assert [(line[0], line[1], line[3]) for line in cells[:5]] == [
        ("radius 0", "50.0", "75.0"),
        ("radius 0.25", "50.0", "50.0"),
        ("radius 0.5", "25.0", "25.0"),
        ("radius 0.75", "25.0", "0.0"),
        ("radius 1", "0.0", "0.0"),
    ]
    assert cells[5] == ["abstentions", "1", "1"]
    # 0.001^(1/1000) = 0.993116; Phi^-1 of it is 2.4630.
    assert "they reach a radius of 1.232, if all agree" in lines[-4]
    # Networks with the fast sampler are not refused, for the votes take exact noise.
    assert lines[-1].startswith("deploy: ") and "pool of the fast sampler" in lines[-1]


def test_each_height_of_the_curve_holds_up_to_its_radius() -> None:
    radii = [one.radius for one in FOUND if one.correct]
    x, y = _steps(radii, len(FOUND))
    for radius in (0.0, 0.1, 0.3127, 0.4, 0.9):
        first = np.flatnonzero(x >= radius)[0]
        assert y[first] == 100 * certified_accuracy(FOUND, radius)
    assert y[-1] == 0 and x[-1] == 0.9
    assert [list(part) for part in _steps([], 4)] == [[0, 0], [0, 0]]
