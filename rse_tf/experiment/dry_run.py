"""What a run would do, and about how long it would take, without doing it."""

from __future__ import annotations

import math
import pathlib
import time

import keras
import tensorflow as tf

from rse_tf import data, experiment
from rse_tf.config import Config
from rse_tf.evaluation.cost import attack_passes, scoring_passes
from rse_tf.evaluation.suites import kind_of_model, suite_steps
from rse_tf.layers import is_random
from rse_tf.models import AveragedEnsemble, NetworkSpec
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
    models: list[keras.Model] = []
    for name in config.defense:
        trainer = DryTrainer(
            dataset,
            config.training_settings(),
            pathlib.Path(str(config.models_dir)),
            config.strategy,
        )
        models.append(config.make_defense(name).train(spec, trainer))
        for one in trainer.planned.values():
            lines.append(f"{name}: {one.name} {'is trained' if one.is_done else 'is to train'}")
        planned |= trainer.planned
    training = sum(one.passes for one in planned.values())
    seconds = _seconds_per_pass(spec, dataset)
    limit = math.inf if config.budget_minutes is None else 60 * config.budget_minutes / seconds
    images = min(int(config.num_images or 0), len(dataset.test))
    attacks = sum(
        images * _evaluation(config, model)
        + min(images * _suite(config, model, dataset.num_classes), limit)
        for model in models
    )
    lines += ["", "# Cost, in passes of an image through the network, and time on this machine"]
    for what, passes in (("training", training), ("attacks and scores, at most", attacks)):
        lines.append(f"{what}: {passes:.3g} passes, about {_duration(passes * seconds)}")
    return "\n".join(lines)


def _evaluation(config: Config, model: keras.Model) -> float:
    """Passes of an image in the attacks and scores of one defense, but for a suite."""
    is_noisy = is_random(model)
    draws, seeds = (max(config.num_draws), config.eval_seeds) if is_noisy else (1, 1)
    points = [point for name in config.attacks for point in config.attack_points(name)]
    averaged = config.attack_draws if is_noisy else 1
    passes = sum(attack_passes(point, averaged) for point in points)
    return _networks(model) * (passes + scoring_passes(draws, seeds, len(points) + 1))


def _suite(config: Config, model: keras.Model, num_classes: int) -> float:
    """Passes of an image in the attacks of the adaptive suite on one defense."""
    passes, kind = 0.0, kind_of_model(model, is_random(model))
    for norm, distances in config.suite_epsilons.items():
        has = _networks(model) > 1, config.substitute is not None
        steps = suite_steps(kind, norm, config.suite_scale, num_classes, *has)
        passes += len(distances) * sum(attack_passes({"steps": step.passes}) for step in steps)
    return _networks(model) * passes


def _networks(model: keras.Model) -> int:
    """How many networks answer for a defense."""
    return len(model.members) if isinstance(model, AveragedEnsemble) else 1


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
