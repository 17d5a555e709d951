"""Runs every row of a table or figure of the papers and lays them out as the paper does."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import shlex
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import keras

from rse_tf import experiment
from rse_tf.config import Config, ConfigError
from rse_tf.data import comes_from_tfds
from rse_tf.defenses import Ensemble
from rse_tf.evaluation import CertificationSettings, Row, plain
from rse_tf.flags import parse
from rse_tf.papers import write_table
from rse_tf.papers.row_files import SCALES, row_files, scale_file
from rse_tf.reporting import load_galleries, read_json
from rse_tf.training import TrainingError
from rse_tf.utils.files import DAMAGE, reading
from rse_tf.utils.flag_files import FOLDER, short_name
from rse_tf.utils.log import log
from rse_tf.utils.options import settings_flags

OUTPUT = "runs"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of some work.

    Attributes:
        index: which one, from 1.
        number: how many there are.
    """

    index: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads `"2/8"`.

        Raises:
            ConfigError: if it is no such thing.
        """
        parts = text.split("/")
        if len(parts) == 2 and all(part.isdecimal() for part in parts):
            index, number = (int(part) for part in parts)
            if 1 <= index <= number:
                return cls(index, number)
        raise ConfigError(f"--shard must be like 2/8, the second of eight. Received: {text!r}")

    def of(self, tasks: Sequence[T]) -> list[T]:
        """The tasks of this shard; every task is in one of them."""
        return list(tasks[self.index - 1 :: self.number])


def list_rows(
    table: str,
    scale: str,
    output: str,
    pattern: str,
    extra: Sequence[str] = (),
    data_dir: str | None = None,
) -> str:
    """Returns which rows of a table are finished and which are to run; arguments as below."""
    lines = []
    for file in row_files(table, pattern):
        run = _config(file, scale, pathlib.Path(output), extra, data_dir)
        state = "is to run" if finished_rows(run) is None else "is finished"
        lines.append(f"{short_name(file)} {state}: {run.workdir}")
    return "\n".join(lines)


def reproduce(
    table: str,
    scale: str,
    output: str,
    pattern: str,
    extra: Sequence[str] = (),
    data_dir: str | None = None,
    shard: Shard | None = None,
) -> list[pathlib.Path]:
    """Runs what is missing of a table, and writes it anew after every row.

    Networks and attacks are shared by all tables of the same `output`. A row that was
    finished with the same flags is read and not run again; one that was killed goes on.

    Args:
        table: a key of `rse_tf.papers.TABLES`.
        scale: `"smoke"`, `"cpu"` or `"paper"`.
        output: folder of all runs.
        pattern: which rows are run. The table has all that are finished.
        extra: flags that go on top of every row, such as `--num_images=100`.
        data_dir: where the data sets of TensorFlow Datasets are.
        shard: which part of the work this process does; others do the rest, at the same time
            and with the same `output`. It writes no table: that is for a call without it,
            once all are through.

    Returns:
        The files of the table or figure.

    Raises:
        ConfigError: if there is no such table, or a flag is impossible.
        TrainingError: at the end, if a row could not be trained.
    """
    if scale not in SCALES:
        raise ConfigError(f"--scale must be one of {', '.join(SCALES)}. Received: {scale!r}")
    chosen = row_files(table, pattern)
    runs = {
        file: _config(file, scale, pathlib.Path(output), extra, data_dir)
        for file in row_files(table)
    }
    if any(run.strategy == "multi_worker" for run in runs.values()):
        raise ConfigError("--strategy=multi_worker is for one run: share a table out by --shard")
    command = _command(table, scale, output, pattern, extra)
    if shard is not None:
        _train_members([runs[file] for file in chosen], shard)
        chosen = shard.of(chosen)
    paths: list[pathlib.Path] = []
    durations: list[float] = []
    failed = []
    for number, file in enumerate(chosen, start=1):
        left = _time_left(durations, len(chosen))
        log(f"[{number}/{len(chosen)}] {short_name(file)}{left}")
        start = time.monotonic()
        if finished_rows(runs[file]) is None:
            keras.backend.clear_session()  # else each row's graphs would stay in memory
            try:
                experiment.run(runs[file])
            except TrainingError as error:  # the other rows can do without this one
                log(f"error: {error}")
                failed.append(short_name(file))
            durations.append(time.monotonic() - start)
        else:
            log(f"finished before: {runs[file].workdir}")
            durations.append(0.0)
        if shard is None:
            paths = _write(table, list(runs.values()), pathlib.Path(output) / scale, command)
    if failed:
        raise TrainingError(f"not finished: {', '.join(failed)}; the reasons stand above")
    return paths


def _train_members(runs: Sequence[Config], shard: Shard) -> None:
    """Trains the shard's part of the members of all ensembles, each a task by itself."""
    members = [
        (place, defense, number)
        for place, run in enumerate(runs)
        if finished_rows(run) is None
        for defense in run.defense
        if isinstance(ensemble := run.make_defense(defense), Ensemble)
        for number in range(ensemble.members)
    ]
    for place, own in itertools.groupby(shard.of(members), key=lambda member: member[0]):
        experiment.assemble(runs[place])
        dataset = experiment.load_data(runs[place])
        for _, defense, number in own:
            keras.backend.clear_session()
            try:
                experiment.train_member(runs[place], defense, number, dataset)
            except TrainingError as error:  # its row will not be finished, and says so
                log(f"error: {error}")


def _write(
    table: str, runs: Sequence[Config], folder: pathlib.Path, command: str
) -> list[pathlib.Path]:
    """Writes a table from all its runs that are finished, those of other commands included."""
    finished = [(run, rows) for run in runs if (rows := finished_rows(run)) is not None]
    galleries = []
    for run, _ in finished:
        workdir = pathlib.Path(str(run.workdir))
        with reading(workdir / "gallery_*.npz", f"delete {workdir}, and its row is run anew"):
            galleries += load_galleries(workdir)
    return write_table(
        table,
        [row for _, rows in finished for row in rows],
        folder,
        _head(command, len(finished), len(runs)),
        galleries,
        flags={"command": command},
        versions=experiment.versions(),
        formats=runs[0].figure_format,
    )


def finished_rows(run: Config) -> list[Row] | None:
    """Returns the rows of a run that is finished with the very same flags, else `None`."""
    file = pathlib.Path(str(run.workdir)) / "result.json"
    if not file.exists():
        return None
    try:
        result = read_json(file)
    except DAMAGE as error:  # or of another version
        log(f"{file} is not used, and written anew: {error}")
        return None
    flags = plain(run.values(), "flags")
    same = _set_flags(result.flags) == _set_flags(flags)
    return result.rows if same and result.versions == experiment.versions() else None


def _set_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that are set, but for those that change no row; one that is new does not either."""
    certification = {flag.name for flag in settings_flags(CertificationSettings).values()}
    others = {"data_dir", "figure_format"} | certification
    return {n: v for n, v in flags.items() if n not in others and v is not None and v is not False}


def _command(table: str, scale: str, output: str, pattern: str, extra: Sequence[str]) -> str:
    """The command in the head of a table, without local data folders."""
    own = [f"--table={table}", f"--scale={scale}"]
    own += [] if pattern == "*" else [f"--rows={pattern}"]
    own += [] if output == OUTPUT else [f"--output={output}"]
    return shlex.join(["python", "-m", "rse_tf.reproduce", *own, *extra])


def _head(command: str, finished: int, total: int) -> str:
    """How a table was made, by what, and how far it is."""
    made_by = ", ".join(f"{name} {number}" for name, number in experiment.versions().items())
    missing = "" if finished == total else f"\n\n{finished} of {total} runs are finished."
    return f"Made by `{command}`\n\nwith {made_by}.{missing}"


def _config(
    file: pathlib.Path,
    scale: str,
    output: pathlib.Path,
    extra: Sequence[str],
    data_dir: str | None,
) -> Config:
    folder = file.relative_to(FOLDER).with_suffix("")
    flags = [
        "rse_tf.reproduce",
        f"--flagfile={file}",
        f"--flagfile={scale_file(file, scale)}",
        f"--workdir={output / scale / folder}",
        f"--models_dir={output / 'models'}",
        f"--attacks_dir={output / 'attacks'}",
        *extra,
    ]
    run = parse(flags, "")
    if not comes_from_tfds(run.dataset):  # some rows need no folder of data sets
        return run
    return dataclasses.replace(run, data_dir=data_dir or run.data_dir)


def _time_left(durations: Sequence[float], total: int) -> str:
    done = [seconds for seconds in durations if seconds]
    if not done:
        return ""
    minutes = (total - len(durations)) * sum(done) / len(done) / 60
    return f"  (about {minutes:.0f} minutes left, by the mean of the rows so far)"
