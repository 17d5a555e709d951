"""Attacks that average the noise of a randomised network, against its bare gradients."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.contestants import FLOOR, ours
from benchmarks.race import Contestant, Goal, Outcome, race
from benchmarks.report import Options
from benchmarks.subjects import bare_gradients, untrained
from rse_tf import models
from rse_tf.attacks import APGD, PGD

DRAWS = 10
# Of RSE (Liu et al., 2018, Table 1): before the first convolution, and before the others.
NOISE = {"init_noise": 0.2, "inner_noise": 0.1}
EPSILON = 0.03


def averaged(name: str, images: int, options: Options) -> Outcome:
    """PGD and APGD on the mean of ten draws, against as many bare gradients of one draw each."""
    victim = untrained(name, options.images or images, **NOISE)
    steps = options.steps or 20
    draws = models.StackedDraws(victim.model, DRAWS)
    pgd = PGD(draws, EPSILON, steps=steps)
    apgd = APGD(models.MeanProbability(draws), EPSILON, steps=steps)
    work = steps * DRAWS * len(victim.images)
    # The floor has as many rows in a batch, and noise of its own in each.
    every = dataclasses.replace(
        victim,
        images=np.repeat(victim.images, DRAWS, axis=0),
        labels=np.repeat(victim.labels, DRAWS),
    )
    racers = [
        ours(attack, victim, work, dataclasses.replace(attack, steps=1), label)
        for label, attack in (("PGD", pgd), ("APGD", apgd))
    ]
    return race(
        f"{victim.note}; {len(victim.images)} images, {DRAWS} draws, {steps} steps",
        [*racers, Contestant(FLOOR, lambda: bare_gradients(every, steps))],
        [Goal(racer.name, FLOOR, 0.85) for racer in racers],
        unit="gradients",
        repeats=options.repeats,
        judge=victim.judge,
    )
