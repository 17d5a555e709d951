"""A small data set, network and training, and a wait for what a training writes."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import time
from typing import Any

import keras

from rse_tf import data
from rse_tf.models import NetworkSpec, NoiseSettings
from rse_tf.training import CrossEntropy, Objective, Trainer, TrainingSettings

DIGITS = data.load("mnist_5k")
SMALL = data.Dataset(
    "digits", DIGITS.train[:384], DIGITS.validation[:200], DIGITS.test[:200], DIGITS.class_names
)
SPEC = NetworkSpec("mnist_cnn", SMALL.image_shape, 10, NoiseSettings(0.2, 0.1))
SETTINGS = TrainingSettings(
    epochs=3, batch_size=64, learning_rate=0.05, schedule="one_cycle", augmentation="none"
)


def _shrunk(split: data.Split) -> data.Split:
    return data.Split(split.images[:128, ::3, ::3], split.labels[:128])


# For what is about the road and not about the result: 10 x 10 pixels.
TINY = data.Dataset(
    "tiny",
    *map(_shrunk, (SMALL.train, SMALL.validation, SMALL.test)),
    class_names=DIGITS.class_names,
)
TINY_SPEC = dataclasses.replace(SPEC, input_shape=TINY.image_shape)


@dataclasses.dataclass(frozen=True)
class Recorder(Trainer):
    """Notes what it is asked to train, and trains nothing.

    Attributes:
        fits: network, objective, start and epochs of every call.
        models: what was returned for each.
        trainers: the trainers that were asked, copies of this one.
    """

    fits: list[tuple[NetworkSpec, Objective, keras.Model | None, int]] = dataclasses.field(
        default_factory=list
    )
    models: list[Any] = dataclasses.field(default_factory=list)
    trainers: list[Trainer] = dataclasses.field(default_factory=list)

    def fit(
        self,
        spec: NetworkSpec,
        objective: Objective = CrossEntropy(),
        start: keras.Model | None = None,
    ) -> keras.Model:
        self.fits.append((spec, objective, start, self.settings.epochs))
        self.trainers.append(self)
        self.models.append(spec.build())
        return self.models[-1]


def wait_for(
    folder: pathlib.Path, pattern: str, process: subprocess.Popen[bytes], seconds: float = 240
) -> None:
    """Waits until a running process has written a file, somewhere in a folder."""
    end = time.monotonic() + seconds
    while not list(folder.rglob(pattern)):
        assert process.poll() is None, f"the process ended before it wrote {pattern}"
        assert time.monotonic() < end, f"no {pattern} after {seconds} s"
        time.sleep(0.02)
