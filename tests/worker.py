"""One of two workers, as test_workers starts it: python worker.py FOLDER KILLED_AT.

It trains a linear network, draws noise, and runs an experiment, all with its peer, and leaves what
it saw in FOLDER. Worker 1 kills itself at the start of epoch KILLED_AT, if that is not -1.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from test_training import linear_network
from trainings import SETTINGS, SMALL

from rse_tf import experiment
from rse_tf.config import Config
from rse_tf.layers import NoiseLayer
from rse_tf.training import CrossEntropy, Loop, loop, make_strategy

EPOCHS = 4


def config(folder: pathlib.Path, **settings: Any) -> Config:
    """The experiment, for the workers and for one process."""
    return Config(
        dataset="mnist_5k",
        defense=("rse",),
        attack=("bim",),
        epsilon=(0.1,),
        epochs=1,
        num_images=60,
        attack_batch_size=20,
        num_draws=(9,),
        eval_seeds=2,
        workdir=str(folder),
        regularity=True,
        stop_error=0.5,
        models_dir=str(folder.parent / "models"),
        **settings,
    )


def train(folder: pathlib.Path, strategy: tf.distribute.Strategy) -> list[float | None]:
    """The losses of a linear network; the same on any devices at the same global batch."""
    settings = dataclasses.replace(SETTINGS, epochs=EPOCHS)
    made = Loop(linear_network, SMALL, settings, CrossEntropy(), strategy, folder, "linear")
    return [record["loss"] for record in made.run()]


def noise(strategy: tf.distribute.Strategy) -> np.ndarray:
    with strategy.scope():
        layer = NoiseLayer(1.0, seed=1)
    drawn = strategy.run(tf.function(lambda: layer(tf.zeros([1000]))))
    return np.stack(strategy.experimental_local_results(drawn))


def main(folder: pathlib.Path, killed_at: int) -> None:
    strategy = make_strategy("multi_worker")  # before anything is computed
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    original = loop.seed_noise

    def seed_or_die(model: keras.Model, *seed: int) -> None:
        if index == 1 and seed[-1] == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        original(model, *seed)

    loop.seed_noise = seed_or_die  # type: ignore[assignment]
    # What a worker writes, it writes below its own folder; what the chief writes is shared.
    losses = train(folder / "linear", strategy)
    np.savez(folder / f"worker_{index}.npz", losses=losses, noise=noise(strategy))
    if killed_at == -1:
        rows = experiment.run(config(folder / "run", strategy="multi_worker"))
        text = json.dumps([row.to_json() for row in rows])
        (folder / f"rows_{index}.json").write_text(text)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
