"""Your own images as an .npz file: train a defense on them, attack it, read the results.

python examples/own_data.py

The same on the command line:

python -m rse_tf.main --dataset=mine.npz --model=mnist_cnn --defense=none,rse --attack=pgd ...
"""

import pathlib
import tempfile

import numpy as np
import rse_tf
from rse_tf import experiment
from rse_tf.config import Config

folder = pathlib.Path(tempfile.mkdtemp())

# Images are uint8 from 0 to 255 or floats from 0 to 1, [number, height, width, channels];
# labels number the classes from 0. Here: the digits 0 to 4, at half their size.
digits = rse_tf.data.load("mnist_5k")
parts = {"train": digits.train, "test": digits.test}
arrays = {}
for name, part in parts.items():
    chosen = part.labels < 5
    arrays[f"x_{name}"] = part.images[chosen][:, ::2, ::2]
    arrays[f"y_{name}"] = part.labels[chosen]
np.savez(folder / "mine.npz", **arrays)

config = Config(
    dataset=str(folder / "mine.npz"),
    model="mnist_cnn",
    defense=("none", "rse"),
    init_noise=0.2,
    epochs=3,
    learning_rate=0.05,
    schedule="one_cycle",
    augmentation="none",
    attack=("pgd",),
    epsilon=(0.05, 0.1),
    attack_steps=20,
    num_images=60,
    num_draws=(20,),
    workdir=str(folder / "run"),
)
for row in experiment.run(config):  # prints a table, and writes plots and result.json
    setting = row.parameters.get("epsilon", "clean")
    print(f"{row.defense:<5} {setting!s:<6} {row.score.accuracy:.1%}")
