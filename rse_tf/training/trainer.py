"""Finds a trained model, resumes its training, or trains it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
from typing import Any

import keras

from rse_tf.data import Dataset
from rse_tf.layers import NOISE_VERSION
from rse_tf.models import NetworkSpec
from rse_tf.training.device_pool import DevicePool
from rse_tf.training.devices import make_strategy
from rse_tf.training.hyperparameters import TrainingSettings
from rse_tf.training.loop import Loop, TrainingError, weights_size
from rse_tf.training.objectives import CrossEntropy, Objective
from rse_tf.utils.files import (
    DAMAGE,
    atomic_path,
    atomic_write_text,
    exclusive_lock,
    is_whole_archive,
)
from rse_tf.utils.log import log

# Part of every key: raise it when the same settings no longer give the same model.
_FORMAT = 1


class NotTrainedError(TrainingError):
    """A network is needed that has not been trained to its end."""


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains networks on one data set and stores them for reuse.

    Attributes:
        dataset: the images.
        settings: how to train.
        models_dir: every trained model has a folder of its own here, named after what it
            follows from: network, noise, data and settings.
        strategy: name of the distribution strategy. It is not part of the folder's name: how
            the work is spread over devices changes which noise is drawn, not its law.
        may_train: whether `fit` trains what is not there yet.
        label: what the progress lines say in front of the folder's name.
    """

    dataset: Dataset
    settings: TrainingSettings
    models_dir: pathlib.Path
    strategy: str = "auto"
    may_train: bool = True
    label: str = ""

    def fit(
        self,
        spec: NetworkSpec,
        objective: Objective = CrossEntropy(),
        start: keras.Model | None = None,
    ) -> keras.Model:
        """Returns the trained float32 network.

        It is loaded if it was trained before, and a killed training goes on where it stopped. A
        model of a file is returned as it is, where nothing but a plain training is asked for.

        Args:
            spec: what the network is built from.
            objective: what to minimise. Default: cross-entropy.
            start: a model of the same network whose weights to start from, or `None`.

        Raises:
            NotTrainedError: if it is not there and `may_train` is false.
            TrainingError: if what there is to go on from is damaged.
            FileError: if `models_dir` is not to be written, or the disk is full.
            TrainingDivergedError: if the loss becomes NaN or infinite.
        """
        if spec.is_trained and start is None and objective == CrossEntropy():
            return spec.build(dtype="float32")
        directory = self.directory(spec, objective, start)
        finished = directory / "model.keras"
        pool = DevicePool(make_strategy(self.strategy))
        if pool.is_chief and finished.exists() and not is_whole_archive(finished):
            with exclusive_lock(directory):
                self._make_anew(spec, directory)
        # Another run may write it at this moment; what the chief sees counts for all workers.
        if not pool.broadcast_from_chief(finished.exists()):
            if not self.may_train:
                raise NotTrainedError(
                    f"no trained network in {directory}; run `python -m rse_tf.train` with the "
                    "same flags first"
                )
            with exclusive_lock(directory) if pool.is_chief else contextlib.nullcontext():
                if not pool.broadcast_from_chief(finished.exists()):
                    self._train(spec, objective, start, directory, pool)
                pool.barrier()
        return keras.models.load_model(finished)

    def directory(
        self,
        spec: NetworkSpec,
        objective: Objective = CrossEntropy(),
        start: keras.Model | None = None,
    ) -> pathlib.Path:
        """Where the network of these settings is kept; arguments as for `fit`."""
        text = json.dumps(self._facts(spec, objective, start), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        dataset = pathlib.Path(self.dataset.name).stem.replace("/", "_")
        noise = "plain" if spec.noise.is_silent else "noisy"
        return self.models_dir / f"{dataset}-{spec.name}-{noise}-{digest}"

    def _train(
        self,
        spec: NetworkSpec,
        objective: Objective,
        start: keras.Model | None,
        directory: pathlib.Path,
        pool: DevicePool,
    ) -> None:
        if pool.is_chief:
            facts = json.dumps(self._facts(spec, objective, start), indent=1)
            atomic_write_text(directory / "settings.json", facts)
        loop = Loop(
            lambda dtype: spec.build(dtype=dtype),
            self.dataset,
            self.settings,
            objective,
            make_strategy(self.strategy),
            directory,
            label=" ".join(filter(None, (self.label, directory.name))),
            start=start,
        )
        loop.run()
        if pool.is_chief:
            try:
                self._keep(spec, loop.best_weights)
            except DAMAGE as error:
                raise TrainingError(
                    f"{loop.best_weights} is damaged ({error}); delete {directory}, and the "
                    "network is trained from the start"
                ) from error
            shutil.rmtree(directory / "checkpoint")  # of use only to go on

    @staticmethod
    def _keep(spec: NetworkSpec, weights: pathlib.Path) -> None:
        """Writes the finished network beside its weights."""
        # Training may have run in low precision; the result does not depend on that.
        model = spec.build(dtype="float32")
        model.load_weights(weights)
        with atomic_path(weights.with_name("model.keras"), weights_size(model)) as unfinished:
            model.save(unfinished)

    def _make_anew(self, spec: NetworkSpec, directory: pathlib.Path) -> None:
        """Replaces a damaged network by one from its weights; without these it is removed."""
        weights, finished = directory / "best.weights.h5", directory / "model.keras"
        try:
            self._keep(spec, weights)
            log(f"{finished} is damaged: made anew from {weights.name}")
        except DAMAGE:
            finished.unlink()
            log(f"{finished} and {weights.name} are damaged: the network is to be trained anew")

    def _facts(
        self, spec: NetworkSpec, objective: Objective, start: keras.Model | None
    ) -> dict[str, Any]:
        """Everything the trained weights follow from."""
        revision = {"revision": objective.revision} if objective.revision else {}
        return {
            **({} if spec.noise.is_silent else {"noise_version": NOISE_VERSION}),
            "format": _FORMAT,
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "network": spec.facts(),
            "training": dataclasses.asdict(self.settings),
            "objective": objective.facts() | revision,
            "start": None if start is None else weights_digest(start),
        }


def weights_digest(model: keras.Model) -> str:
    """Returns a checksum of all weights of a model: what a model is, whatever its name."""
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(weights.tobytes())  # bfloat16 has no buffer that others could read
    return digest.hexdigest()[:16]
