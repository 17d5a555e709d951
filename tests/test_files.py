"""What cannot be written, and what is damaged: each named in one line, and nothing half written."""

from __future__ import annotations

import errno
import os
import pathlib
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from test_evaluation import CountingAttack, noisy_network
from trainings import TINY, TINY_SPEC

from rse_tf import flags
from rse_tf.evaluation import attack_in_batches
from rse_tf.training import NotTrainedError, Trainer, TrainingError, TrainingSettings
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.files import (
    FileError,
    atomic_folder,
    atomic_path,
    atomic_write_text,
    exclusive_lock,
    is_whole_archive,
    writing,
)

TWO = TrainingSettings(epochs=2, batch_size=64, augmentation="none")


# Paths that cannot be written.


def below_a_file(folder: pathlib.Path) -> pathlib.Path:
    (folder / "file").write_text("x")
    return folder / "file"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: atomic_write_text(path / "a.txt", "x"),
        lambda path: atomic_write_text(path / "b" / "a.txt", "x"),
        lambda path: exclusive_lock(path).__enter__(),
        lambda path: exclusive_lock(path / "b").__enter__(),
        lambda path: atomic_folder(path / "b").__enter__(),
    ],
)
def test_a_file_where_a_folder_must_be_is_named(
    write: Callable[[pathlib.Path], Any], tmp_path: pathlib.Path
) -> None:
    path = below_a_file(tmp_path)
    with pytest.raises(FileError, match=f"^cannot write {path}.*; name another folder"):
        write(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_leaves_the_old_file(code: int, tmp_path: pathlib.Path) -> None:
    words = os.strerror(code)
    of_tensorflow = tf.errors.ResourceExhaustedError(None, None, f"a.index; {words}")
    for error in (OSError(code, words), of_tensorflow):
        path = tmp_path / "a.txt"
        path.write_text("old")
        message = f"^cannot write {path}: {words}; make room and run the same command again"
        with pytest.raises(FileError, match=message), atomic_path(path) as unfinished:
            unfinished.write_text("half")
            raise error
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_errors_of_the_program_stay_what_they_are(tmp_path: pathlib.Path) -> None:
    for error in (KeyError("a bug"), FileNotFoundError(errno.ENOENT, "no such file")):
        with pytest.raises(type(error)), writing(tmp_path):
            raise error


def test_a_folder_is_whole_or_not_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "folder"
    with pytest.raises(KeyError), atomic_folder(path) as unfinished:
        (unfinished / "a").write_text("x")
        raise KeyError
    assert not path.exists() and not list(path.parent.iterdir())
    with atomic_folder(path) as unfinished:
        (unfinished / "a").write_text("x")
    assert [p.name for p in path.parent.rglob("*")] == ["folder", "a"]


def test_errors_of_the_disk_end_a_program_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/a.png")

    with pytest.raises(SystemExit) as exit_:
        flags.report_mistakes(run)
    assert exit_.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: cannot write /somewhere/a.png: Permission denied; name ")


def test_without_room_for_its_size_a_file_is_not_begun(tmp_path: pathlib.Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    began = False
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(FileError, match="File too large; make room"):
            with atomic_path(tmp_path / "a", size=1_000_001):
                began = True
        with atomic_path(tmp_path / "b", size=1_000_000) as unfinished:
            unfinished.write_bytes(b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not began and [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"x"


SCRIPT = """
import keras, pathlib, resource, sys
sys.path.insert(0, {tests!r})
import trainings as t
from rse_tf.training import Trainer
from rse_tf import flags
keras.Model.save_weights = None  # is not to begin
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
trainer = Trainer(t.SMALL, t.SETTINGS, pathlib.Path({models!r}))
flags.report_mistakes(lambda: trainer.fit(t.SPEC))
"""


def test_a_process_without_room_for_its_network_ends_in_one_line(tmp_path: pathlib.Path) -> None:
    # 2.4 MB of weights where files end at 1 MB: HDF5 may take the whole process down with it.
    script = SCRIPT.format(tests=os.path.dirname(__file__), models=str(tmp_path))
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    errors = re.findall(r"^error: .*", process.stderr.replace("\r", "\n"), re.MULTILINE)
    assert process.returncode == 1, process.stderr[-2000:]
    assert len(errors) == 1 and "best.weights.h5: File too large; make room" in errors[0]
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"lock", "settings.json"}


# Damaged files.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[np.ndarray]]:
    trainer = Trainer(TINY, TWO, tmp_path_factory.mktemp("models"))
    return trainer, trainer.fit(TINY_SPEC).get_weights()


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("may_train", [True, False])
def test_a_damaged_network_is_made_anew_from_its_weights(
    trained: tuple[Trainer, list[np.ndarray]], may_train: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, weights = trained
    finished = trainer.directory(TINY_SPEC) / "model.keras"
    cut(finished)
    found = Trainer(TINY, TWO, trainer.models_dir, may_train=may_train).fit(TINY_SPEC).get_weights()
    assert f"{finished} is damaged: made anew from best.weights.h5" in capsys.readouterr().out
    for ours, theirs in zip(found, weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert is_whole_archive(finished)


def test_a_damaged_network_without_its_weights_is_not_trained(tmp_path: pathlib.Path) -> None:
    trainer = Trainer(TINY, TWO, tmp_path, may_train=False)
    folder = trainer.directory(TINY_SPEC)
    folder.mkdir()
    for name in ("model.keras", "best.weights.h5"):
        (folder / name).write_bytes(b"PK cut off")
    with pytest.raises(NotTrainedError, match="run `python -m rse_tf.train`"):
        trainer.fit(TINY_SPEC)


@pytest.fixture
def killed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Trainer, pathlib.Path]:
    """A training that ended after its second epoch, before the network was written."""
    trainer = Trainer(TINY, TWO, tmp_path)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "_keep", die)
        trainer.fit(TINY_SPEC)
    return trainer, trainer.directory(TINY_SPEC)


def test_a_training_goes_on_from_the_last_whole_checkpoint(
    killed: tuple[Trainer, pathlib.Path],
    trained: tuple[Trainer, list[np.ndarray]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer, folder = killed
    (last,) = (folder / "checkpoint").glob("ckpt-2.data*")
    cut(last)
    (folder / "checkpoint" / "checkpoint").write_text("no list of checkpoints")
    network = trainer.fit(TINY_SPEC)
    printed = capsys.readouterr().out
    assert re.search(r"ckpt-2 is damaged \(\w+\), not used", printed)
    assert "going on after epoch 1" in printed and "epoch 2/2" in printed
    # As in an undisturbed training, but for the order in which threads add up gradients.
    for ours, theirs in zip(network.get_weights(), trained[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("content", ["[{", "{}", "[]", "[1, 2]", '[{"epoch": 1}, {"epoch": 2}]'])
def test_a_damaged_history_says_what_to_delete(
    content: str, killed: tuple[Trainer, pathlib.Path]
) -> None:
    trainer, folder = killed
    (folder / "history.json").write_text(content)
    message = f"^{folder}/history.json is damaged .*; repair it, or delete {folder}, and"
    with pytest.raises(TrainingError, match=message):
        trainer.fit(TINY_SPEC)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("checkpoint/ckpt-*.index", "no checkpoint in .* is whole; delete {}, and"),
        ("best.weights.h5", "best.weights.h5 is damaged .*; delete {}, and"),
    ],
)
def test_a_training_that_cannot_go_on_says_what_to_delete(
    pattern: str, message: str, killed: tuple[Trainer, pathlib.Path]
) -> None:
    trainer, folder = killed
    for file in folder.glob(pattern):
        cut(file)
    with pytest.raises(TrainingError, match=message.format(folder)):
        trainer.fit(TINY_SPEC)


def test_a_damaged_batch_is_attacked_anew(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CountingAttack, "calls", [])
    model = noisy_network()
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(10, 2, 2, 1)).astype(np.float32)

    def run() -> list[np.ndarray]:
        attack = CountingAttack(model, epsilon=0.1, step_size=0.05, steps=3, batch_size=4)
        return list(
            attack_in_batches(
                [attack],
                [model],
                pool=DevicePool(),
                images=images,
                labels=rng.integers(0, 1, 10),
                targets=None,
                directory=tmp_path,
                seed=0,
                description="test",
            )[0]
        )

    whole = run()
    second = sorted(tmp_path.glob("batch_*"))[1]
    content = second.read_bytes()
    flipped = bytearray(content)
    flipped[200] ^= 1
    for damaged in (content[:100], b"", bytes(len(content)), bytes(flipped)):
        second.write_bytes(damaged)
        CountingAttack.calls.clear()
        for ours, theirs in zip(run(), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert CountingAttack.calls == [4]
        assert f"{second} is damaged: its images are attacked anew" in capsys.readouterr().out
