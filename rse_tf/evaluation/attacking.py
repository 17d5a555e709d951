"""Running an attack batch by batch, so that a kill loses no more than one batch."""

from __future__ import annotations

import contextlib
import pathlib
import time
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from rse_tf.attacks import AttackResult
from rse_tf.attacks.base import Attack
from rse_tf.layers import seed_noise
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils import seeds
from rse_tf.utils.files import atomic_path, exclusive_lock, is_whole_archive
from rse_tf.utils.log import log


def attack_in_batches(
    attacks: Sequence[Attack],
    models: Sequence[keras.Model],
    *,
    pool: DevicePool,
    images: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray | None,
    directory: pathlib.Path,
    seed: int,
    description: str,
) -> tuple[AttackResult, float]:
    """Attacks all images; batches that are in the directory already are not attacked again.

    Those whose file is damaged are. The directory must belong to one model and one setting of
    the attack.

    Args:
        attacks: the attack on each of the models, with the same settings; their `batch_size` is
            the size of a batch.
        models: the model under attack on every device of the pool, as `pool.replicas` gives them.
            Its noise is seeded anew for every batch.
        pool: who attacks the batches. All its processes must share the directory.
        images: float `[number, height, width, channels]`.
        labels: integer `[number]`.
        targets: integer `[number]`, or `None` for an untargeted attack.
        directory: where finished batches are kept.
        seed: the noise that the attack meets follows from it and the batch's number.
        description: what the progress bar says.

    Returns:
        The result over all images, and the seconds that the attack took, added up over all devices.
    """
    size = attacks[0].batch_size
    batches = []
    for number, start in enumerate(range(0, len(images), size)):
        part = slice(start, start + size)
        batch = [None if array is None else array[part] for array in (images, labels, targets)]
        # Named after its content too: a run on more images takes over what a smaller one did.
        file = directory / f"batch_{number:04d}_{_checksum(batch)}.npz"
        batches.append((number, batch, file))

    def attack_batch(device: int, piece: tuple[int, list[Any], pathlib.Path]) -> None:
        number, batch, file = piece
        if file.exists():
            if is_whole_archive(file):
                return
            log(f"{file} is damaged: its images are attacked anew")
        attacks[device].check_model(images)  # before the noise is seeded, for it draws some
        seed_noise(models[device], seeds.ATTACK, seed, number)
        begin = time.perf_counter()
        result = attacks[device](*batch)
        took = time.perf_counter() - begin
        with atomic_path(file) as unfinished:
            np.savez(unfinished, seconds=took, **result._asdict())

    # Of several workers of one run, each has batches of its own; another run is to wait.
    with exclusive_lock(directory) if pool.is_chief else contextlib.nullcontext():
        pool.barrier()
        pool.map(attack_batch, batches, description)
    results, seconds = [], 0.0
    for _, _, file in batches:
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
