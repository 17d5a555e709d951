"""Two processes on the loopback address as the workers of one run."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import worker

from rse_tf import experiment
from rse_tf.config import ConfigError
from rse_tf.evaluation import Row
from rse_tf.reporting import read_json
from rse_tf.training import make_strategy
from rse_tf.training.device_pool import DevicePool

SCRIPT = pathlib.Path(__file__).with_name("worker.py")


def start(folder: pathlib.Path, killed_at: int = -1) -> list[subprocess.Popen[str]]:
    folder.mkdir(exist_ok=True)
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        path = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"TF_CONFIG": json.dumps(cluster), "PYTHONPATH": path}
        with open(folder / f"log_{index}.txt", "w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), str(folder), str(killed_at)],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                    text=True,
                )
            )
    return processes


def finish(folder: pathlib.Path, processes: list[subprocess.Popen[str]]) -> list[str]:
    """What the processes printed."""
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes]
        for index, process in enumerate(processes):
            assert process.returncode == 0, (folder / f"log_{index}.txt").read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()
    return printed


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, list[str]]:
    folder = tmp_path_factory.mktemp("workers")
    return folder, finish(folder, start(folder))


def seen(folder: pathlib.Path, name: str) -> list[np.ndarray]:
    return [np.load(folder / f"worker_{index}.npz")[name] for index in range(2)]


def test_two_workers_train_like_one_device_at_the_same_global_batch(
    done: tuple[pathlib.Path, list[str]], tmp_path: pathlib.Path
) -> None:
    expected = worker.train(tmp_path, make_strategy("one_device"))
    for losses in seen(done[0], "losses"):
        np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_workers_draw_different_noise(done: tuple[pathlib.Path, list[str]]) -> None:
    replicas = np.concatenate(seen(done[0], "noise"))
    correlations = np.corrcoef(replicas) - np.eye(len(replicas))
    assert len(replicas) >= 2 and np.abs(correlations).max() <= 5 / np.sqrt(1000)


def without_time(row: Row) -> Row:
    return dataclasses.replace(row, seconds=None)


def test_attacks_and_scores_of_two_workers_are_those_of_one(
    done: tuple[pathlib.Path, list[str]],
) -> None:
    folder, _ = done
    theirs = read_json(folder / "run" / "result.json").rows
    ours = experiment.evaluate(worker.config(folder / "alone"))  # the network that they trained
    assert [without_time(row) for row in ours] == [without_time(row) for row in theirs]
    batches = [sorted(p.name for p in (folder / run).rglob("batch_*")) for run in ("run", "alone")]
    assert batches[0] == batches[1] and len(batches[0]) == 3


def test_every_worker_returns_the_same_rows(done: tuple[pathlib.Path, list[str]]) -> None:
    folder, _ = done
    texts = [json.loads((folder / f"rows_{index}.json").read_text()) for index in range(2)]
    reported = read_json(folder / "run" / "result.json").rows
    for rows in texts:
        assert list(map(Row.from_json, rows)) == reported
    clean, _ = reported
    assert clean.gradient_norm is not None and clean.mean_draws is not None


def test_only_the_chief_reports(done: tuple[pathlib.Path, list[str]]) -> None:
    folder, printed = done
    assert "linear: epoch 4/4" in printed[0] and "result.json" in printed[0]
    assert printed[1] == ""
    written = {path.name for path in (folder / "linear").iterdir()}
    assert written == {"best.weights.h5", "checkpoint", "history.json"}
    assert not list(folder.rglob(".tmp-*"))


def test_a_worker_without_a_place_is_an_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="--strategy=multi_worker.* TF_CONFIG"):
        experiment.run(worker.config(tmp_path / "run", strategy="multi_worker"))
    assert DevicePool().all_reduce_sum(np.ones(2)).tolist() == [1, 1]


@pytest.mark.long
def test_a_job_whose_worker_was_killed_goes_on_from_its_checkpoint(
    tmp_path: pathlib.Path, done: tuple[pathlib.Path, list[str]]
) -> None:
    processes = start(tmp_path / "killed", killed_at=2)
    try:
        assert processes[1].wait(timeout=300) == -signal.SIGKILL
        # The other one cannot go on alone: it ends by itself, and not well.
        assert processes[0].wait(timeout=300) != 0
    finally:
        processes[0].kill()
    history = tmp_path / "killed" / "linear" / "history.json"
    assert len(json.loads(history.read_text())) == 2
    finish(tmp_path / "killed", start(tmp_path / "killed", killed_at=-2))
    resumed, whole = (seen(folder, "losses") for folder in (tmp_path / "killed", done[0]))
    np.testing.assert_allclose(resumed[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(resumed[1][2:], whole[1][2:], rtol=1e-5)
