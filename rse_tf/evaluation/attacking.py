"""Running an attack batch by batch, so that a kill loses no more than one batch."""

from __future__ import annotations

import pathlib
import time
import zlib

import keras
import numpy as np

from rse_tf.attacks import AttackResult
from rse_tf.attacks.attack import Attack
from rse_tf.files import atomic_path
from rse_tf.layers import seed_noise
from rse_tf.progress import progress_bar

# Keeps the noise that an attack meets apart from that of trainings and of the scoring.
_ATTACK_NOISE = 0xA77AC


def attack_in_batches(
    attack: Attack,
    model: keras.Model,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray | None,
    directory: pathlib.Path,
    seed: int,
    description: str,
) -> tuple[AttackResult, float]:
    """Attacks all images; batches that are in the directory already are not attacked again.

    The directory must belong to one model and one setting of the attack.

    Args:
        attack: the attack; its `batch_size` is the size of a batch.
        model: the model under attack, whose noise is seeded anew for every batch.
        images: float `[number, height, width, channels]`.
        labels: integer `[number]`.
        targets: integer `[number]`, or `None` for an untargeted attack.
        directory: where finished batches are kept.
        seed: the noise that the attack meets follows from it and the batch's number.
        description: what the progress bar says.

    Returns:
        The result over all images, and the seconds that the attack took.
    """
    directory.mkdir(parents=True, exist_ok=True)
    attack.check_model(images)  # before the noise is seeded, for it draws some
    starts = range(0, len(images), attack.batch_size)
    results, seconds = [], 0.0
    for number, start in enumerate(progress_bar(starts, len(starts), description)):
        part = slice(start, start + attack.batch_size)
        batch = [None if array is None else array[part] for array in (images, labels, targets)]
        # Named after its content too: a run on more images takes over what a smaller one did.
        file = directory / f"batch_{number:04d}_{_checksum(batch)}.npz"
        if not file.exists():
            seed_noise(model, _ATTACK_NOISE, seed, number)
            begin = time.perf_counter()
            result = attack(*batch)
            took = time.perf_counter() - begin
            with atomic_path(file) as unfinished:
                np.savez(unfinished, seconds=took, **result._asdict())
        with np.load(file) as saved:
            results.append([saved[name] for name in AttackResult._fields])
            seconds += float(saved["seconds"])
    return AttackResult(*(np.concatenate(parts) for parts in zip(*results))), seconds


def _checksum(batch: list[np.ndarray | None]) -> str:
    crc = 0
    for array in batch:
        if array is not None:
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return f"{crc:08x}"
