"""Which devices a training runs on."""

from __future__ import annotations

import functools
import json
import os

import tensorflow as tf

from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.log import silence

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")


def enable_memory_growth() -> None:
    """Lets TensorFlow take GPU memory as it needs it, not all at once.

    Call it before the first operation.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns the distribution strategy of a name.

    Args:
        name: `"one_device"`: the GPU if there is one, else the CPU. `"mirrored"`: all GPUs of
            the machine, or without a GPU all logical CPU devices. `"multi_worker"`: all devices
            of all machines that the environment variable TF_CONFIG names; the first call must
            come before any other operation, and silences all processes but the chief. `"auto"`:
            mirrored with two GPUs or more, else one device.

    Raises:
        ValueError: if `name` is not one of `STRATEGIES`, or TF_CONFIG is missing or does not give
            this process a place among the workers.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"make_strategy: name must be one of {STRATEGIES}. Received: name={name!r}"
        )
    if name == "multi_worker":
        if "TF_CONFIG" not in os.environ:
            raise ValueError(
                "make_strategy: name='multi_worker' needs the environment variable TF_CONFIG with "
                "the addresses of all workers and the place of this one. Received: none"
            )
        _check_cluster(os.environ["TF_CONFIG"])
        return _multi_worker()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        return _mirrored(tuple(devices))
    return tf.distribute.get_strategy()


def _check_cluster(text: str) -> None:
    expected = (
        'make_strategy: TF_CONFIG must be like {"cluster": {"worker": ["host1:2222", '
        '"host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    )
    try:
        found = json.loads(text)
        jobs, task = found["cluster"], found["task"]
        kind, index = task["type"], int(task["index"])
        places = {job: len(addresses) for job, addresses in jobs.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{expected}. Received: {text!r} ({error!r})") from error
    others = sorted({*places, kind} - {"chief", "worker"})
    if others:
        raise ValueError(
            f"{expected}; all processes of a run are workers, one of which may be called its "
            f"chief. Received: {', '.join(others)}"
        )
    if not 0 <= index < places.get(kind, 0):
        raise ValueError(
            f"{expected}, with an index below the number of addresses. Received: {kind} {index} "
            f"of {places.get(kind, 0)}"
        )


# One for all trainings of a process: each numbers its collective operations from the same number
# on, so that two of them on the same devices could take each other's tensors for their own.
_mirrored = functools.cache(tf.distribute.MirroredStrategy)


@functools.cache
def _multi_worker() -> tf.distribute.Strategy:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    if not DevicePool(strategy).is_chief:
        silence()
    return strategy


def use_xla(strategy: tf.distribute.Strategy) -> bool:
    """XLA helps on one GPU. On CPUs its convolutions are 2 to 10 times slower."""
    return bool(tf.config.list_logical_devices("GPU")) and strategy.num_replicas_in_sync == 1
