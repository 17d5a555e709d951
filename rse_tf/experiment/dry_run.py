"""What a run would do, and about how long it would take, without doing it."""

from __future__ import annotations

import pathlib
import time

import tensorflow as tf

from rse_tf import data, experiment
from rse_tf.config import Config
from rse_tf.defenses import Ensemble
from rse_tf.evaluation.cost import attack_passes, scoring_passes
from rse_tf.evaluation.suites import DETERMINISTIC, ENSEMBLE, RANDOMISED, suite_steps
from rse_tf.models import NetworkSpec
from rse_tf.training.dry_trainer import DryTrainer, PlannedTraining

# Images whose time is measured.
_TIMED = 64


def plan(config: Config) -> str:
    """Returns the settings of a run, which networks are trained already, and what the rest costs.

    The time is what one pass of the network takes on this machine, times the passes of all
    trainings, attacks and scores that are not done: an attack that succeeds early takes less.

    Args:
        config: the run. Nothing of it is done or written; its images are loaded.
    """
    experiment.assemble(config)
    dataset = experiment.load_data(config)
    spec = experiment.network_spec(config, dataset)
    lines = ["# The settings of this run", *config.as_flags(), "", "# Networks"]
    planned: dict[str, PlannedTraining] = {}  # networks that defenses share count once
    for name in config.defense:
        trainer = DryTrainer(
            dataset,
            config.training_settings(),
            pathlib.Path(str(config.models_dir)),
            config.strategy,
        )
        config.make_defense(name).train(spec, trainer)
        for one in trainer.planned.values():
            lines.append(f"{name}: {one.name} {'is trained' if one.is_done else 'is to train'}")
        planned |= trainer.planned
    training = sum(one.passes for one in planned.values())
    attacks = sum(_evaluation(config, name, dataset) for name in config.defense)
    seconds = _seconds_per_pass(spec, dataset)
    lines += ["", "# Cost, in passes of an image through the network, and time on this machine"]
    for what, passes in (("training", training), ("attacks and scores, at most", attacks)):
        lines.append(f"{what}: {passes:.3g} passes, about {_duration(passes * seconds)}")
    return "\n".join(lines)


def _evaluation(config: Config, defense: str, dataset: data.Dataset) -> float:
    """Passes of all images in the attacks and scores of one defense."""
    own = config.make_defense(defense)
    networks = own.members if isinstance(own, Ensemble) else 1
    is_noisy = defense.rpartition("+")[2].startswith("rse") and "train_noise" not in defense
    draws, seeds = (max(config.num_draws), config.eval_seeds) if is_noisy else (1, 1)
    points = [point for name in config.attacks for point in config.attack_points(name)]
    averaged = config.attack_draws if is_noisy else 1
    passes = sum(attack_passes(point, averaged) for point in points)
    passes += scoring_passes(draws, seeds, len(points) + 1)
    kind = RANDOMISED if is_noisy else ENSEMBLE if networks > 1 else DETERMINISTIC
    for norm, distances in config.suite_epsilons.items():
        steps = suite_steps(kind, norm, config.suite_scale, dataset.num_classes)
        passes += len(distances) * sum(attack_passes({"steps": step.passes}) for step in steps)
    return passes * networks * min(int(config.num_images or 0), len(dataset.test))


def _seconds_per_pass(spec: NetworkSpec, dataset: data.Dataset) -> float:
    """Measures the network, with its noise."""
    model = spec.build(dtype="float32")
    predict = tf.function(lambda images: model(images, training=False), autograph=False)
    images = tf.constant(dataset.train.images[:_TIMED])
    predict(images)  # compiles it
    start = time.perf_counter()
    predict(images).numpy()
    return (time.perf_counter() - start) / len(images)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
