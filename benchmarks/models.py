"""What noise, ensembles and low precision cost, beside the plain network.

Weights and images are random: no time depends on them.
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.memory import CHECKOUT, peak_megabytes
from benchmarks.race import Contestant, Done, Goal, Measurement, Outcome, race, verdict
from benchmarks.report import Case, Options, main
from benchmarks.subjects import bare_forwards, network, random_images
from rse_tf import SelfEnsemble

NOISE = {"init_noise": 0.2, "inner_noise": 0.1}
POLICIES = ("float32", "mixed_bfloat16")
BATCH = {"vgg16": 64, "model_a": 32}
# How many times as fast mixed_bfloat16 is to be.
BFLOAT16_TARGETS = {"vgg16": 1.3, "model_a": 2.0}
Maker = Callable[[Any, np.ndarray], Callable[[], Done]]


def training_steps(model: keras.Model, images: np.ndarray, xla: bool = False) -> Callable[[], Done]:
    """A compiled training step of SGD with momentum; warmed up."""
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    x, y = tf.constant(images), tf.constant(np.arange(len(images)) % 10)

    @tf.function(jit_compile=xla or None)
    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    def run() -> Done:
        step(x, y).numpy()
        return Done(len(images))

    run()
    return run


WORK: dict[str, Maker] = {
    "forward": functools.partial(bare_forwards, calls=3),
    "training": training_steps,
    "xla_training": functools.partial(training_steps, xla=True),
}


def noise(name: str, policy: str, what: str, options: Options) -> Outcome:
    """The noisy network with either sampler against the plain one."""
    images = random_images(name, options.images or BATCH[name])
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "rse pool": {**NOISE, "sampler": "pool"},
        "rse exact": {**NOISE, "sampler": "exact"},
    }
    racers = [
        Contestant(key, functools.partial(_make, name, what, images, {**given, "dtype": policy}))
        for key, given in settings.items()
    ]
    return race(
        f"{name}, {policy}, {what} of {len(images)} random images, noise 0.2 and 0.1",
        racers,
        [Goal("rse pool", "plain", 0.85), Goal("rse exact", "plain")],
        unit="images",
        repeats=options.repeats,
    )


def low_precision(name: str, what: str, options: Options) -> Outcome:
    """The plain network in bfloat16 against float32."""
    images = random_images(name, options.images or BATCH[name])
    racers = [
        Contestant(policy, functools.partial(_make, name, what, images, {"dtype": policy}))
        for policy in POLICIES
    ]
    return race(
        f"{name}, plain, {what} of {len(images)} random images",
        racers,
        [Goal("mixed_bfloat16", "float32", BFLOAT16_TARGETS[name])],
        unit="images",
        repeats=options.repeats,
    )


def _make(name: str, what: str, images: np.ndarray, settings: dict[str, Any]) -> Callable[[], Done]:
    return WORK[what](network(name, **settings), images)


def self_ensemble(name: str, options: Options) -> Outcome:
    """50 draws against as many plain forward passes."""
    draws, images = 50, random_images(name, options.images or 32)

    def make() -> Callable[[], Done]:
        ensemble = SelfEnsemble(network(name, **NOISE), draws)
        run = bare_forwards(ensemble, images)
        return lambda: Done(draws * run().work)

    plain = random_images(name, 2 * len(images))
    return race(
        f"{name}, {draws} draws of {len(images)} random images, plain batches of {len(plain)}",
        [
            Contestant("50 draws", make),
            Contestant("plain", lambda: bare_forwards(network(name), plain, 5)),
        ],
        [Goal("50 draws", "plain", 0.85)],
        unit="passes",
        repeats=options.repeats,
    )


def ensemble_memory(options: Options) -> Outcome:
    """Peak memory of a self-ensemble with more draws."""
    # So many that both go through in several parts: a single part grows with the draws.
    images = 64
    found = [
        Measurement(
            f"{draws} draws",
            megabytes=peak_megabytes("ensemble", f"--images={images}", f"--draws={draws}"),
        )
        for draws in (10, 50)
    ]
    goal = Goal("50 draws", "10 draws", 1.1, True, "megabytes")
    return Outcome(f"vgg16, {images} random images", found, [verdict(goal, found)])


def start_up(options: Options) -> Outcome:
    """How long the command line takes to say what it can do."""
    command = [sys.executable, "-m", "rse_tf.main", "--help"]

    def run() -> Done:
        subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True)
        return Done(1)

    return race(
        "python -m rse_tf.main --help, wall time in seconds",
        [Contestant("--help", lambda: run)],
        [Goal("--help", None, 1.5, True, "seconds")],
        unit="starts",
        repeats=options.repeats,
    )


CASES: dict[str, Case] = {
    **{
        f"noise_{what}/{name}/{policy}": functools.partial(noise, name, policy, what)
        for what, name, policy in itertools.product(("forward", "training"), BATCH, POLICIES)
    },
    **{
        f"bfloat16_{what}/{name}": functools.partial(low_precision, name, what)
        for what, name in itertools.product(("forward", "training"), BATCH)
    },
    # What a GPU user runs: XLA, which on a CPU shows whether noise is compiled once.
    **{
        f"noise_xla_training/{name}": functools.partial(noise, name, "float32", "xla_training")
        for name in BATCH
    },
    "self_ensemble/vgg16": functools.partial(self_ensemble, "vgg16"),
    "memory/vgg16": ensemble_memory,
    "start/help": start_up,
}

if __name__ == "__main__":
    main(CASES, __doc__)
