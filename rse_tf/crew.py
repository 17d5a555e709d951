"""All devices of a run, on this machine and on others, as hands for independent pieces of work."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from rse_tf.models.copying import Copier
from rse_tf.progress import progress_bar

T = TypeVar("T")

_SPREAD = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)


class Crew:
    """Deals pieces of work, such as batches to attack, to the devices of a strategy.

    Where a training has its replicas compute one step together, pieces that do not depend on
    each other are better done each by one device on its own: nobody waits, and with noise that
    is seeded by the piece the result is the same whoever does it.

    Piece number k goes to device k modulo their number. Each process does the pieces of its own
    devices, all at the same time, a copy of the model on every device.

    Args:
        strategy: a `MirroredStrategy`, a `MultiWorkerMirroredStrategy`, or the default one.

    Attributes:
        is_chief: whether this process is the one of its run that writes and reports.

    Raises:
        ValueError: if this process is neither chief nor worker of the strategy's cluster.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self._strategy = strategy or tf.distribute.get_strategy()
        self._worker, self._workers = _place(self._strategy)
        self._devices: tuple[str, ...] = ("",)  # wherever TensorFlow likes
        if isinstance(self._strategy, _SPREAD):
            self._devices = tuple(self._strategy.extended.worker_devices)
        self._copies: dict[int, list[tuple[keras.Model, Copier]]] = {}

    @property
    def is_chief(self) -> bool:
        return self._worker == 0

    def copies(self, model: keras.Model, image_shape: Sequence[int]) -> list[keras.Model]:
        """A model for each device of this process: itself, and copies for all but the first.

        The copies are kept, and have the state that the model has at every call: its weights and
        all else that Keras would save. Each has random streams of its own.

        Raises:
            ValueError: if a copy is needed and the model does not say how to make one, or if the
                copy gives other outputs.
        """
        if len(self._devices) == 1:
            return [model]
        if id(model) not in self._copies:
            _check_model(model, len(self._devices))
            if not model.built:
                model(tf.zeros([1, *image_shape]))
            others = [self._copy(model, image_shape, device) for device in self._devices[1:]]
            self._copies[id(model)] = [(model, Copier("Crew")), *others]
        for device, (_, copier) in zip(self._devices, self._copies[id(model)]):
            with tf.device(device):
                copier.copy_state(random_streams=False)
        return [copy for copy, _ in self._copies[id(model)]]

    def _copy(
        self, model: keras.Model, image_shape: Sequence[int], device: str
    ) -> tuple[keras.Model, Copier]:
        copier = Copier("Crew")
        with tf.device(device):
            copy = copier.copy(model)
            copy(tf.zeros([1, *image_shape]))  # a subclassed one has no weights before
            copier.copy_state(random_streams=False)
            copier.check(model, copy, keras.KerasTensor((None, *image_shape), "float32"))
        return copy, copier

    def work(self, do: Callable[[int, T], None], pieces: Sequence[T], description: str) -> None:
        """Does all pieces; returns when those of the other processes are done as well.

        Args:
            do: does one, called with the number of the device and the piece. With several devices
                each has a thread of its own.
            pieces: the same ones in every process.
            description: what the progress bar says.
        """
        hands = len(self._devices)
        first, everybody = hands * self._worker, hands * self._workers
        mine = [
            (number % everybody - first, piece)
            for number, piece in enumerate(pieces)
            if 0 <= number % everybody - first < hands
        ]
        if hands == 1:
            for device, piece in progress_bar(mine, len(mine), description):
                do(device, piece)
        else:
            self._work_in_threads(do, mine, description)
        self.wait()

    def _work_in_threads(
        self, do: Callable[[int, T], None], mine: Sequence[tuple[int, T]], description: str
    ) -> None:
        def do_there(device: int, piece: T) -> None:
            with tf.device(self._devices[device]):
                do(device, piece)

        # One thread for each device: a copy of the model does one piece at a time.
        threads = [concurrent.futures.ThreadPoolExecutor(1) for _ in self._devices]
        try:
            futures = [threads[device].submit(do_there, device, piece) for device, piece in mine]
            done = concurrent.futures.as_completed(futures)
            for future in progress_bar(done, len(futures), description):
                future.result()
        finally:
            for thread in threads:
                thread.shutdown(cancel_futures=True)

    def total(self, array: np.ndarray) -> np.ndarray:
        """The sum over all processes of an array that each of them has."""
        if self._workers == 1:
            return array

        # A strategy adds up over replicas, of which each process has some.
        def own(context: Any) -> tf.Tensor:
            local = context.replica_id_in_sync_group % len(self._devices)
            return tf.constant(array if local == 0 else np.zeros_like(array))

        values = self._strategy.experimental_distribute_values_from_function(own)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()

    def chief_says(self, answer: bool) -> bool:
        """The chief's answer, in every process: whoever looks for himself may see another."""
        return bool(self.total(np.array([answer and self.is_chief], np.int32))[0])

    def wait(self) -> None:
        """Waits until all processes of the run are here."""
        self.total(np.zeros([1], np.int32))


def _check_model(model: Any, devices: int) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Crew: model must be a Keras model, to be copied to {devices} devices; or use one "
            f"device. Received: model={model!r}"
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
            "Crew: strategy must be of a chief or a worker of its cluster. "
            f"Received: task type {resolver.task_type!r}"
        )
    chiefs, workers = len(jobs.get("chief", [])), len(jobs.get("worker", []))
    before = chiefs if resolver.task_type == "worker" else 0
    return before + (resolver.task_id or 0), max(chiefs + workers, 1)
