"""A table split over several processes: every piece is done, and none of them twice."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from trainings import TINY_SPEC, wait_for

from rse_tf import experiment, reproduction
from rse_tf.reproduction import Shard
from rse_tf.settings import Config, ConfigError

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_every_piece_is_in_one_shard(number: int) -> None:
    shards = [Shard.parse(f"{index}/{number}").of(range(7)) for index in range(1, number + 1)]
    assert sorted(sum(shards, [])) == list(range(7))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "2", "a/b", "1/2/3", "-1/2", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard must be like 2/8"):
        Shard.parse(text)


def test_shards_share_out_members_and_rows_and_write_no_table(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    members: list[tuple[str, int]] = []
    rows: list[str] = []

    def train_member(config: Config, defense: str, number: int, dataset: Any) -> None:
        members.append((defense, number))

    monkeypatch.setattr(experiment, "train_member", train_member)
    monkeypatch.setattr(experiment, "load_data", lambda config: None)
    monkeypatch.setattr(experiment, "run", lambda config: rows.append(config.defense[0]))
    found = []
    for index in (1, 2, 3):
        written = reproduction.reproduce(
            "ensembles/table2", "smoke", str(tmp_path), "mnist_*", (), Shard(index, 3)
        )
        assert written == []
        found.append((len(members), len(rows)))
    # Four ensembles of two members each at this scale.
    ensembles = {f"ensemble_{kind}" for kind in ("bagging", "gauss_noise", "mixed", "random_init")}
    assert sorted(members) == sorted((name, n) for name in ensembles for n in (0, 1))
    assert sorted(rows) == sorted(ensembles)
    assert found == [(3, 2), (6, 3), (8, 4)]
    assert not list(tmp_path.rglob("*.md"))


SCRIPT = """
import pathlib, sys
from trainings import SETTINGS, TINY, TINY_SPEC
from rse_tf.training import Trainer
Trainer(TINY, SETTINGS, pathlib.Path(sys.argv[1])).fit(TINY_SPEC)
"""


def test_of_two_processes_one_trains_and_the_other_waits(tmp_path: pathlib.Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {
            "PYTHONPATH": path})  # fmt: skip

    processes = [start()]
    wait_for(tmp_path, "lock", processes[0])
    processes.append(start())
    printed = [process.communicate(timeout=240)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    # Each epoch was trained once, whoever it was.
    assert sum(text.count("epoch 1/3") for text in printed) == 1
    assert TINY_SPEC.name in next(p.name for p in tmp_path.iterdir())
