"""Atomic writes, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from rse_tf.utils.log import log

# Errors of reading a damaged file: JSON, NumPy's archives, HDF5.
DAMAGE = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EIO,
    errno.ENAMETOOLONG,
)


class FileError(RuntimeError):
    """A file cannot be written, or is damaged, and not by a fault of the program."""


def disk_trouble(error: Exception) -> str | None:
    """Explains an error of the disk or a path and gives advice; `None` for other errors.

    Args:
        error: an OSError, or what a library made of one.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code is None:  # TensorFlow's errors have no number, but the operating system's words
        code = next((number for number in _FULL if os.strerror(number) in str(error)), None)
    if code in _FULL:
        return (
            f"{os.strerror(code)}; make room and run the same command again, it goes on where "
            "it stopped"
        )
    if code in _FORBIDDEN:
        return f"{os.strerror(code)}; name another folder, or make this one writable"
    return None


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names the path when the block cannot write it.

    Raises:
        FileError: if the disk is full, or the path is not to be written.
    """
    try:
        yield
    except FileError:  # names its path
        raise
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        raise FileError(f"cannot write {os.fspath(path)}: {trouble}") from error


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], advice: str) -> Iterator[None]:
    """Names the path when the block finds that it is damaged.

    Args:
        path: the file that the block reads.
        advice: what to do then.

    Raises:
        FileError: if the block raises what reading a damaged file does.
    """
    try:
        yield
    except DAMAGE as error:
        raise FileError(f"{os.fspath(path)} is damaged ({error}); {advice}") from error


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], size: int = 0) -> Iterator[Path]:
    """Lends a temporary path whose file takes the final name once the block is through.

    A reader of `path` sees the old file or the whole new one. When the block raises, the
    old file stays and the temporary one goes; a killed process can at worst leave a hidden
    `.tmp-` file behind. The temporary name ends like the final one, for writers that look at it.

    Args:
        path: the final name. Missing folders are made.
        size: bytes that there must be room for before the block begins. It is for writers that
            do not survive a full disk, as HDF5: it can take the whole process down.

    Yields:
        A path in the same folder, since a rename is atomic only within one file system. The
        block must write a file there and close it.

    Raises:
        FileError: if the disk is full, or the path is not to be written.
        FileNotFoundError: if the block wrote no file.
    """
    path = Path(path)
    # Not tempfile.mkstemp: its files are readable by their owner alone, and would stay so.
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if size:
                with open(temporary, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
                temporary.unlink()
            yield temporary
            # Without this a power cut can leave the new name pointing at an empty file.
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lends a temporary folder that takes the final name once the block is through.

    Args:
        path: the final name, of a folder that is not there yet. Missing folders above are made.

    Yields:
        The path of a new folder beside it.

    Raises:
        FileError: if the disk is full, or the path is not to be written.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    with writing(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_whole_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file, such as `.keras` or `.npz`, is a zip archive whose checksums all hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except DAMAGE:
        return False


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `path` as UTF-8, whole or not at all (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


@contextlib.contextmanager
def exclusive_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a folder against all other processes that ask for it in this way.

    Whoever comes second waits until the first one is through, or dead, and should then look what
    is there already. Processes on other machines are kept out as far as the file system that
    they share knows locks.

    Args:
        folder: is made if it is missing; it keeps an empty file `lock`.

    Raises:
        FileError: if the folder is not to be written.
    """
    folder = Path(folder)
    lock = filelock.FileLock(folder / "lock")
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except NotImplementedError:  # by the file system
        log(f"{folder} cannot be locked: no other process may write there meanwhile")
    except filelock.Timeout:
        log(f"waiting for the process that writes {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
