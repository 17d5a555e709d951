"""Votes are kept: runs that are killed, and several devices."""

from __future__ import annotations

import ast
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from smoothed import at_distances, linear, without_time

from rse_tf.evaluation import Certificate, certify, tally
from rse_tf.layers import NoiseLayer
from rse_tf.training.device_pool import DevicePool

DISTANCES, ONES = np.linspace(0.02, 0.4, 8), np.ones(8, int)
HERE = pathlib.Path(__file__).parent


class Killed(Exception):
    """Stands for the end of a process."""


def test_what_is_voted_is_not_voted_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "_VOTES", 300)  # batches of two images
    calls: list[int] = []
    count_votes = tally._tally

    def counted(voter: object, images: np.ndarray, *rest: object) -> object:
        if len(calls) == dies_at:
            raise Killed
        calls.append(len(images))
        return count_votes(voter, images, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tally, "_tally", counted)
    model, images = linear(0.25, 1.0), at_distances(DISTANCES)[:7]

    def run(folder: str, number: int = 7, **options: int) -> list[Certificate]:
        return certify(
            model,
            images[:number],
            ONES[:number],
            n0=25,
            n=100,
            directory=tmp_path / folder,
            **options,
        )

    dies_at = -1
    whole = without_time(run("whole"))
    assert calls == [2, 2, 2, 1]
    calls.clear()
    dies_at = 2
    with pytest.raises(Killed):
        run("killed")
    dies_at = -1
    assert without_time(run("killed")) == whole and calls == [2, 2, 2, 1]
    # Fewer images find theirs; another seed, or another image at the same place, does not.
    calls.clear()
    assert without_time(run("killed", 4)) == whole[:4] and calls == []
    run("killed", 2, seed=5)
    assert calls == [2]
    images = images[::-1].copy()
    run("killed", 2)
    assert calls == [2, 2]
    # Certificates at another alpha are of the same votes.
    run("killed", 2, alpha=0.05)  # type: ignore[arg-type]
    assert calls == [2, 2]
    damaged = sorted((tmp_path / "whole").glob("votes_*"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    images = images[::-1].copy()
    assert without_time(run("whole")) == whole and calls == [2, 2, 2]


def test_a_callable_has_no_directory(tmp_path: pathlib.Path) -> None:
    # Nothing would tell its votes from those of another one.
    model, images = linear(0.25, 1.0), at_distances(DISTANCES)
    with pytest.raises(ValueError, match="directory must be None for a callable"):
        certify(lambda x: model(x), images, ONES, 0.25, n0=25, n=100, directory=tmp_path)
    assert not list(tmp_path.iterdir())


PROGRAM = """
import pathlib, sys
from test_tally import long_run
print([(one.predicted, one.radius, one.mean_radius) for one in long_run(pathlib.Path(sys.argv[1]))])
"""


def long_run(directory: pathlib.Path | None) -> list[Certificate]:
    images, labels = at_distances(np.linspace(0.0, 0.4, 16)), np.ones(16, int)
    return certify(linear(0.25, 1.0), images, labels, n=5_000, directory=directory)


@pytest.mark.long
def test_a_run_that_is_killed_goes_on(tmp_path: pathlib.Path) -> None:
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    first = start()
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("votes_*.npz"))) < 2:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("votes_*.npz")}
    assert 2 <= len(done) < 6
    found = np.array(ast.literal_eval(start().communicate()[0]))
    whole = [(one.predicted, one.radius, one.mean_radius) for one in long_run(None)]
    np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_two_devices_give_the_numbers_of_one(tmp_path: pathlib.Path) -> None:
    images = at_distances(np.linspace(0.0, 0.4, 60))
    model, labels = small_dense(), np.zeros(60, int)
    whole = certify(model, images, labels, n=600)
    pool = DevicePool(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    found = certify(model, images, labels, n=600, pool=pool, directory=tmp_path)
    assert len(list(tmp_path.glob("votes_*.npz"))) == 3
    for one, other in zip(found, whole):
        assert (one.index, one.predicted, one.radius) == (
            other.index,
            other.predicted,
            other.radius,
        )
        assert one.mean_radius == pytest.approx(other.mean_radius, abs=1e-5)


def small_dense() -> keras.Model:
    """A random network on 2 x 2 pixels that can be copied."""
    return keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            NoiseLayer(0.25),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            NoiseLayer(0.1),
            keras.layers.Dense(3),
        ]
    )
