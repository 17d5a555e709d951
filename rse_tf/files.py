"""Files that are either whole or not there, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock

from rse_tf.progress import say


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lends a temporary path whose file takes the final name once the block is through.

    A reader of `path` sees the old file or the whole new one. When the block raises, the
    old file stays and the temporary one goes; a killed process can at worst leave a hidden
    `.tmp-` file behind. The temporary name ends like the final one, for writers that look at it.

    Args:
        path: the final name. Missing folders are made.

    Yields:
        A path in the same folder, since a rename is atomic only within one file system. The
        block must write a file there and close it.

    Raises:
        FileNotFoundError: if the block wrote no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: its files are readable by their owner alone, and would stay so.
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        # Without this a power cut can leave the new name pointing at an empty file.
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `path` as UTF-8, whole or not at all (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


@contextlib.contextmanager
def only_writer(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a folder against all other processes that ask for it in this way.

    Whoever comes second waits until the first one is through, or dead, and should then look what
    is there already. Processes on other machines are kept out as far as the file system that
    they share knows locks.

    Args:
        folder: is made if it is missing; it keeps an empty file `lock`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except NotImplementedError:  # by the file system
        say(f"{folder} cannot be locked: no other process may write there meanwhile")
    except filelock.Timeout:
        say(f"waiting for the process that writes {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
