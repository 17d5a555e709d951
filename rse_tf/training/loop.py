"""The training loop: resumable after every epoch, on any strategy."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.data import Batches, Dataset, Split
from rse_tf.layers import seed_noise
from rse_tf.training.device_pool import DevicePool
from rse_tf.training.devices import use_xla
from rse_tf.training.hyperparameters import TrainingSettings
from rse_tf.training.objectives import Objective
from rse_tf.utils.curves import write_point
from rse_tf.utils.files import DAMAGE, atomic_path, atomic_write_text, writing
from rse_tf.utils.log import log, progress_bar

_EVALUATION_BATCH = 256


class TrainingError(RuntimeError):
    """A network cannot be trained, or is not trained."""


class TrainingDivergedError(TrainingError):
    """The loss became NaN or infinite."""


class Loop:
    """Trains one network in one directory.

    Everything random in an epoch follows from the seed and the epoch's number, so a run that
    was killed and goes on ends where an uninterrupted one does.

    Args:
        build: returns a new network for a dtype policy.
        dataset: training images, and validation images to choose the checkpoint by. Without
            any of these the last epoch is kept.
        settings: how to train.
        objective: what to minimise.
        strategy: where to.
        directory: holds the checkpoint of the last finished epoch, `best.weights.h5` and
            `history.json`. Several workers must share it; only their chief writes there.
        label: what the progress lines call this training.
        start: the model whose weights to start from, or `None` for fresh ones.

    Raises:
        TrainingError: if the batch size is not divisible by the number of replicas.
    """

    def __init__(
        self,
        build: Callable[[str], keras.Model],
        dataset: Dataset,
        settings: TrainingSettings,
        objective: Objective,
        strategy: tf.distribute.Strategy,
        directory: pathlib.Path,
        label: str,
        start: keras.Model | None = None,
    ) -> None:
        self._dataset, self._settings, self._strategy = dataset, settings, strategy
        self._objective, self._directory, self._label = objective, directory, label
        self._is_chief = DevicePool(strategy).is_chief
        self._batches = Batches(
            dataset.train, settings.batch_size, settings.augmentation, settings.seed
        )
        if self._batches.batch_size % strategy.num_replicas_in_sync:
            raise TrainingError(
                "batch_size must be divisible by the number of replicas "
                f"({strategy.num_replicas_in_sync}). Received: {self._batches.batch_size}"
            )
        keras.utils.set_random_seed(settings.seed)
        with strategy.scope():
            self.model = build(settings.dtype_policy)
            if start is not None:
                self.model.set_weights(start.get_weights())
            self._optimizer = settings.make_optimizer(self._batches.per_epoch)
            self._optimizer.build(self.model.trainable_variables)
        self._epoch = tf.Variable(0, trainable=False)  # epochs finished
        self._train_step = self._compile_train_step()
        self._predict = tf.function(
            lambda images: tf.argmax(self.model(images, training=False), axis=-1),
            input_signature=[tf.TensorSpec([None, *dataset.image_shape], tf.float32)],
            autograph=False,
        )

    @property
    def best_weights(self) -> pathlib.Path:
        """The weights of the epoch with the highest validation accuracy, or of the last one."""
        return self._directory / "best.weights.h5"

    def run(self) -> list[dict[str, float | None]]:
        """Trains from the last finished epoch on; returns one record per epoch.

        Raises:
            TrainingDivergedError: if the loss becomes NaN or infinite.
            TrainingError: if what there is to go on from is damaged.
            FileError: if the directory is not to be written, or the disk is full.
        """
        checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self._optimizer, epoch=self._epoch
        )
        manager = tf.train.CheckpointManager(
            checkpoint, str(self._directory / "checkpoint"), max_to_keep=2
        )
        self._restore(checkpoint)
        history = self._read_history(int(self._epoch))
        for known in history:
            self._write_curves(known)
        for epoch in range(int(self._epoch), self._settings.epochs):
            seed_noise(self.model, self._settings.seed, epoch)
            start = time.perf_counter()
            loss = self._train_epoch(epoch)
            validation = self._dataset.validation
            accuracy = self._accuracy(validation) if len(validation) else None
            record: dict[str, float | None] = {
                "epoch": epoch + 1,
                "loss": loss,
                "validation_accuracy": accuracy,
                "seconds": round(time.perf_counter() - start, 2),
            }
            # The order matters: whatever a kill leaves behind, the checkpoint is never ahead
            # of the other files, and repeating an epoch writes the same ones again.
            before = [h["validation_accuracy"] or 0.0 for h in history]
            best = accuracy is None or accuracy >= max(before, default=0.0)
            history.append(record)
            self._write_curves(record)
            self._epoch.assign(epoch + 1)
            if self._is_chief:
                if best or not self._objective.save_best_only:
                    self._save_best()
                self._write_history(history)
                with writing(self._directory / "checkpoint"):
                    manager.save()
            validated = "" if accuracy is None else f"validation {accuracy:.1%}  "
            log(
                f"{self._label}: epoch {epoch + 1}/{self._settings.epochs}  loss {loss:.4f}  "
                f"{validated}{record['seconds']:.0f} s"
            )
        return history

    def _compile_train_step(self) -> Any:
        strategy, model, settings = self._strategy, self.model, self._settings
        variables = model.trainable_variables
        replicas = strategy.num_replicas_in_sync

        def replica_step(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                losses = self._objective.losses(model, images, labels, key)
                loss = tf.reduce_sum(losses) / self._batches.batch_size
            gradients = tape.gradient(loss, [v.value for v in variables])
            # Added to the gradient, so that it passes through the momentum as it did for the
            # paper; Keras' own weight_decay is the decoupled kind, ten times weaker here.
            # The optimizer sums over replicas, hence the division.
            decay = settings.weight_decay / replicas
            gradients = [g + decay * v for g, v in zip(gradients, variables)]
            self._optimizer.apply(gradients, variables)
            return loss

        # Not a function of its own otherwise: the optimizer cannot sum over replicas from there.
        step: Any = replica_step
        if use_xla(strategy):
            step = tf.function(replica_step, jit_compile=True, autograph=False)

        # Keras wants seeds below 2**32, TensorFlow's stateless ones below 2**31.
        seed = settings.seed % 2**31

        @tf.function(autograph=False)
        def train_step(images: Any, labels: Any) -> tf.Tensor:
            key = tf.stack([seed, tf.cast(self._optimizer.iterations, tf.int32)])
            losses = strategy.run(step, args=(images, labels, key))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

        return train_step

    def _train_epoch(self, epoch: int) -> float:
        batches = self._strategy.experimental_distribute_dataset(self._batches.epoch(epoch))
        description = f"{self._label}: epoch {epoch + 1}/{self._settings.epochs}"
        losses = []
        for images, labels in progress_bar(batches, self._batches.per_epoch, description):
            losses.append(self._train_step(images, labels))
            # Looked at now and then, for reading it waits for the device.
            if len(losses) % 20 == 0 or len(losses) == self._batches.per_epoch:
                if not np.isfinite(float(losses[-1])):
                    raise TrainingDivergedError(
                        f"{self._label}: the loss became {float(losses[-1])} in epoch {epoch + 1}; "
                        f"lower --learning_rate (now {self._settings.learning_rate}) or the noise"
                    )
        return float(np.mean([float(loss) for loss in losses]))

    def _accuracy(self, split: Split) -> float:
        """Share of images that one pass gets right."""
        right = 0
        for start in range(0, len(split), _EVALUATION_BATCH):
            part = split[start : start + _EVALUATION_BATCH]
            right += int(np.sum(self._predict(part.images).numpy() == part.labels))
        return right / len(split)

    def _save_best(self) -> None:
        with atomic_path(self.best_weights, weights_size(self.model)) as unfinished:
            self.model.save_weights(unfinished)

    @property
    def _history(self) -> pathlib.Path:
        return self._directory / "history.json"

    def _restore(self, checkpoint: tf.train.Checkpoint) -> None:
        """Takes up the last checkpoint that is whole, if there are any."""
        folder = self._directory / "checkpoint"
        # By their names: of two files that say which ones there are, one could be damaged.
        saved = {int(path.stem.partition("-")[2]): path for path in folder.glob("ckpt-*.index")}
        for number in sorted(saved, reverse=True):
            path = saved[number].with_suffix("")
            try:
                checkpoint.restore(str(path))
            except (tf.errors.OpError, IndexError) as error:  # so it calls a file that is cut off
                log(f"{self._label}: {path} is damaged ({type(error).__name__}), not used")
                continue
            log(f"{self._label}: going on after epoch {int(self._epoch)}")
            return
        if saved:
            raise TrainingError(
                f"{self._label}: no checkpoint in {folder} is whole; delete {self._directory}, and "
                "the network is trained from the start"
            )

    def _read_history(self, epochs: int) -> list[dict[str, float | None]]:
        """The records of the epochs that are finished: which of them is the best one is there."""
        if not epochs:
            return []
        try:
            history = json.loads(self._history.read_text())[:epochs]
            if len(history) < epochs:
                raise ValueError(f"{len(history)} of {epochs} epochs")
            [float(record["validation_accuracy"] or 0.0) for record in history]
        except DAMAGE as error:
            raise TrainingError(
                f"{self._history} is damaged ({error}); repair it, or delete {self._directory}, "
                "and the network is trained from the start"
            ) from error
        return history

    def _write_curves(self, record: dict[str, float | None]) -> None:
        if self._is_chief:
            curves = {name: record[name] for name in ("loss", "validation_accuracy")}
            write_point(self._directory.name, int(record["epoch"] or 0), curves)

    def _write_history(self, history: list[dict[str, float | None]]) -> None:
        atomic_write_text(self._history, json.dumps(history, indent=1))


def weights_size(model: keras.Model) -> int:
    """Bytes that the files of a model take at most: its weights, and their names."""
    return sum(weight.nbytes for weight in model.get_weights()) + 2**20
