"""A table split over several processes: every piece is done, and none of them twice."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest
from trainings import SETTINGS, TINY, TINY_SPEC

from rse_tf import experiment
from rse_tf.config import Config, ConfigError
from rse_tf.papers import reproduce
from rse_tf.papers.reproduce import Shard
from rse_tf.training import Trainer
from rse_tf.utils.files import exclusive_lock

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
        written = reproduce.reproduce(
            "ensembles/table2", "smoke", str(tmp_path), "mnist_*", shard=Shard(index, 3)
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


def test_who_needs_a_network_that_another_process_trains_waits_for_it(
    tmp_path: pathlib.Path,
) -> None:
    trained = Trainer(TINY, SETTINGS, tmp_path / "trained")
    trained.fit(TINY_SPEC)
    folder = Trainer(TINY, SETTINGS, tmp_path / "shared").directory(TINY_SPEC)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    with exclusive_lock(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "shared")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"waiting for the process that writes {folder}\n"
        assert list(folder.iterdir()) == [folder / "lock"]
        shutil.copy(trained.directory(TINY_SPEC) / "model.keras", folder)
    assert process.communicate(timeout=240)[0] == ""  # it trained nothing
    assert process.returncode == 0
