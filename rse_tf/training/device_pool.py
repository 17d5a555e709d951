"""Runs independent tasks in parallel on all devices of a distribution strategy."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from rse_tf.models.copying import Copier
from rse_tf.utils.log import progress_bar

T = TypeVar("T")

_SPREAD = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)


class DevicePool:
    """Runs independent tasks, such as batches to attack, on the devices of a strategy.

    Training synchronises its replicas at every step. Attack and scoring batches are independent,
    so each runs on one device without waiting. Noise is seeded per batch, so the result does not
    depend on the device.

    Task number k goes to device k modulo their number. Each process runs the tasks of its own
    devices, all at the same time, with a replica of the model on every device.

    Args:
        strategy: a `MirroredStrategy`, a `MultiWorkerMirroredStrategy`, or the default one.

    Attributes:
        is_chief: whether this process is the one of its run that writes and reports.
        num_devices: of all processes together.

    Raises:
        ValueError: if this process is neither chief nor worker of the strategy's cluster.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self._strategy = strategy or tf.distribute.get_strategy()
        self._worker, self._workers = _place(self._strategy)
        self._devices: tuple[str, ...] = ("",)  # wherever TensorFlow likes
        if isinstance(self._strategy, _SPREAD):
            self._devices = tuple(self._strategy.extended.worker_devices)
        self._replicas: dict[int, list[tuple[keras.Model, Copier]]] = {}

    @property
    def is_chief(self) -> bool:
        return self._worker == 0

    @property
    def num_devices(self) -> int:
        return len(self._devices) * self._workers

    def replicas(self, model: keras.Model, image_shape: Sequence[int]) -> list[keras.Model]:
        """Returns a model for each device of this process: itself, and replicas of it.

        The replicas are kept, and have the state that the model has at every call: its weights and
        all else that Keras would save. Each has random streams of its own.

        Raises:
            ValueError: if a copy is needed and the model does not say how to make one, or if the
                copy gives other outputs.
        """
        if len(self._devices) == 1:
            return [model]
        if id(model) not in self._replicas:
            _check_model(model, len(self._devices))
            if not model.built:
                model(tf.zeros([1, *image_shape]))
            others = [self._copy(model, image_shape, device) for device in self._devices[1:]]
            self._replicas[id(model)] = [(model, Copier("DevicePool")), *others]
        for device, (_, copier) in zip(self._devices, self._replicas[id(model)]):
            with tf.device(device):
                copier.copy_state(random_streams=False)
        return [copy for copy, _ in self._replicas[id(model)]]

    def _copy(
        self, model: keras.Model, image_shape: Sequence[int], device: str
    ) -> tuple[keras.Model, Copier]:
        copier = Copier("DevicePool")
        with tf.device(device):
            copy = copier.copy(model)
            copy(tf.zeros([1, *image_shape]))  # a subclassed one has no weights before
            copier.copy_state(random_streams=False)
            copier.check(model, copy, keras.KerasTensor((None, *image_shape), "float32"))
        return copy, copier

    def map(self, do: Callable[[int, T], None], tasks: Sequence[T], description: str) -> None:
        """Runs all tasks; returns when those of the other processes are done as well.

        Args:
            do: runs one, called with the number of the device and the task. With several devices
                each has a thread of its own.
            tasks: the same ones in every process.
            description: what the progress bar says.
        """
        num_devices = len(self._devices)
        first, everybody = num_devices * self._worker, num_devices * self._workers
        mine = [
            (number % everybody - first, task)
            for number, task in enumerate(tasks)
            if 0 <= number % everybody - first < num_devices
        ]
        if num_devices == 1:
            for device, task in progress_bar(mine, len(mine), description):
                do(device, task)
        else:
            self._work_in_threads(do, mine, description)
        self.barrier()

    def _work_in_threads(
        self, do: Callable[[int, T], None], mine: Sequence[tuple[int, T]], description: str
    ) -> None:
        def do_there(device: int, task: T) -> None:
            with tf.device(self._devices[device]):
                do(device, task)

        # One thread for each device: a copy of the model does one task at a time.
        threads = [concurrent.futures.ThreadPoolExecutor(1) for _ in self._devices]
        try:
            futures = [threads[device].submit(do_there, device, task) for device, task in mine]
            done = concurrent.futures.as_completed(futures)
            for future in progress_bar(done, len(futures), description):
                future.result()
        finally:
            for thread in threads:
                thread.shutdown(cancel_futures=True)

    def all_reduce_sum(self, array: np.ndarray) -> np.ndarray:
        """The sum over all processes of an array that each of them has."""
        if self._workers == 1:
            return array

        # A strategy adds up over replicas, of which each process has some.
        def own(context: Any) -> tf.Tensor:
            local = context.replica_id_in_sync_group % len(self._devices)
            return tf.constant(array if local == 0 else np.zeros_like(array))

        values = self._strategy.experimental_distribute_values_from_function(own)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()

    def broadcast_from_chief(self, answer: bool) -> bool:
        """Broadcasts the chief's answer: other processes may see other files."""
        return bool(self.all_reduce_sum(np.array([answer and self.is_chief], np.int32))[0])

    def barrier(self) -> None:
        """Waits until all processes of the run are here."""
        self.all_reduce_sum(np.zeros([1], np.int32))


def _check_model(model: Any, devices: int) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"DevicePool: model must be a Keras model, to be copied to {devices} devices; or "
            f"use one device. Received: model={model!r}"
        )


def _place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Which of how many processes this one is; the chief is number 0.

    Raises:
        ValueError: if it is none of the workers, such as an evaluator.
    """
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 0, 1
    jobs = resolver.cluster_spec().as_dict()
    if jobs and resolver.task_type not in ("chief", "worker"):
        raise ValueError(
            "DevicePool: strategy must be of a chief or a worker of its cluster. "
            f"Received: task type {resolver.task_type!r}"
        )
    chiefs, workers = len(jobs.get("chief", [])), len(jobs.get("worker", []))
    before = chiefs if resolver.task_type == "worker" else 0
    return before + (resolver.task_id or 0), max(chiefs + workers, 1)
