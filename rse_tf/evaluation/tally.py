"""Counting votes, in batches that are kept."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from rse_tf.evaluation.smoothing import Voter
from rse_tf.layers import NOISE_VERSION, noise_layers
from rse_tf.training import weights_digest
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.checks import argument_error
from rse_tf.utils.files import atomic_path, exclusive_lock, is_whole_archive
from rse_tf.utils.log import log

# Images whose votes go through the model in one stream, and into one file: about so many votes.
_VOTES = 20_000
# Part of the name of every file of votes: raise it when the same settings no longer give the same.
_FORMAT = 1


class Tally(NamedTuple):
    """The votes on several images, as certificates are computed from them.

    Attributes:
        voted: class that the first round chose by votes, int64 `[images]`.
        successes: votes for it in the second round, int64 `[images]`.
        likely: class that the first round chose by mean probability, int64 `[images]`.
        mean: its mean probability in the second round, float64 `[images]`.
        variance: the sample variance of that probability, float64 `[images]`.
        seconds: float64 `[images]`.
    """

    voted: np.ndarray
    successes: np.ndarray
    likely: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    seconds: np.ndarray


def tally_in_batches(
    voters: Sequence[Voter],
    images: np.ndarray,
    numbers: np.ndarray,
    n0: int,
    n: int,
    directory: pathlib.Path | None,
    pool: DevicePool,
) -> Tally:
    """Counts the votes on all images, in batches of which a kill loses no more than one.

    Args:
        voters: one for each device of the pool.
        images: float32 `[images, ...]`.
        numbers: of the images, integer `[images]`.
        n0: votes of the first round, on each image.
        n: votes of the second round, likewise.
        directory: keeps a file for each batch; one that is there, and whole, is not voted again.
        pool: who votes. All its processes must share the directory.

    Raises:
        ValueError: if there is a directory, and the model is none of Keras.
    """
    if directory is not None and not isinstance(voters[0].model, keras.layers.Layer):
        expected = "None for a callable that is no Keras model: its votes could be another one's"
        raise argument_error("certify", "directory", expected, directory)
    size = max(_VOTES // (n0 + n), 1)
    table = np.zeros([len(Tally._fields), len(images)])
    of_model = _model_facts(voters[0].model) if directory is not None else []

    def tally_batch(device: int, start: int) -> None:
        part, voter = slice(start, start + size), voters[device]
        file = None
        if directory is not None:
            facts = [n0, n, voter.stddev, voter.seed, numbers[part].tolist(), *of_model]
            digest = hashlib.sha256(repr(facts).encode() + images[part].tobytes()).hexdigest()
            file = directory / f"votes_{numbers[start]:05d}_{digest[:16]}.npz"
            if file.exists():
                if is_whole_archive(file):
                    with np.load(file) as saved:
                        table[:, part] = [saved[name] for name in Tally._fields]
                    return
                log(f"{file} is damaged: its images are voted on anew")
        tally = _tally(voter, images[part], numbers[part], n0, n)
        table[:, part] = tally
        if file is not None:
            with atomic_path(file) as unfinished:
                np.savez(unfinished, **tally._asdict())

    # Of several workers of one run, each has batches of its own; another run is to wait.
    alone = directory is not None and pool.is_chief
    with exclusive_lock(str(directory)) if alone else contextlib.nullcontext():
        pool.barrier()
        pool.map(tally_batch, range(0, len(images), size), "certifying")
    voted, successes, likely, *others = pool.all_reduce_sum(table)
    return Tally(voted.astype(int), successes, likely.astype(int), *others)


def _tally(voter: Voter, images: np.ndarray, numbers: np.ndarray, n0: int, n: int) -> Tally:
    """Both rounds of votes on some images."""
    begin = time.perf_counter()
    counts = np.zeros([len(images), voter.classes(images)])
    sums = np.zeros_like(counts)
    for rows, classes, probabilities in voter.votes(images, numbers, 0, n0):
        np.add.at(counts, (rows, classes), 1)
        np.add.at(sums, rows, probabilities)
    voted, likely = counts.argmax(axis=1), sums.argmax(axis=1)
    successes, total, squares = np.zeros([3, len(images)])
    for rows, classes, probabilities in voter.votes(images, numbers, 1, n):
        np.add.at(successes, rows, classes == voted[rows])
        chosen = probabilities[np.arange(len(rows)), likely[rows]].astype(np.float64)
        np.add.at(total, rows, chosen)
        np.add.at(squares, rows, chosen**2)
    mean = total / n
    variance = np.maximum(squares - n * mean**2, 0) / (n - 1)
    seconds = np.full(len(images), (time.perf_counter() - begin) / len(images))
    return Tally(voted, successes, likely, mean, variance, seconds)


def _model_facts(model: keras.layers.Layer) -> list[Any]:
    """What the votes of a model follow from, beside its class."""
    noise = [(one.stddev, one.distribution, one.active, one.sampler) for one in noise_layers(model)]
    return [_FORMAT, NOISE_VERSION, noise, weights_digest(model)]
