"""The attacks that look for the nearest adversarial image, with as many gradients for each."""

from __future__ import annotations

import dataclasses
import functools

from benchmarks import peers
from benchmarks.contestants import ART, FOOLBOX, US, ours, peer
from benchmarks.race import Contestant, Goal, Outcome, race
from benchmarks.report import Options
from benchmarks.subjects import Subject, subject
from rse_tf import attacks
from rse_tf.attacks.base import Attack

KINDS = {"l2": ("DDN", "FMN"), "linf": ("FMN",)}
# How many times the gradients our attacks also get, to see what is left to find.
LONGER = 3
# ART has DeepFool alone, which takes the gradient of every class in each step.
CLASSES = 10
# Descents of C&W, and steps long enough for them to arrive.
SEARCHES, LEARNING_RATE = 9, 0.1


def minimal(norm: str, name: str, images: int, options: Options) -> Outcome:
    """DDN and FMN beside Foolbox' own, and in L2 beside ART's DeepFool and our C&W."""
    victim, steps = subject(name, options.images or images), options.steps or 100
    racers: list[Contestant] = []
    goals: list[Goal] = []
    for kind in KINDS[norm]:
        us, them = f"{US} {kind}", f"{FOOLBOX} {kind}"
        make = functools.partial(peers.foolbox_minimal, victim.model, kind, norm)
        work = steps * len(victim.images)
        racers += [_ours(kind, norm, victim, steps, us)]
        racers += [peer(FOOLBOX, make, victim, work, steps, label=them)]
        racers += [_ours(kind, norm, victim, LONGER * steps, f"{us}, {LONGER * steps}")]
        goals += [Goal(us, them, 1.0, True, "mean_distance"), Goal(us, them, 1.0, False, "success")]
        goals += [Goal(us, them)]
    if norm == "l2":
        racers += [_deep_fool(victim, steps), _carlini_wagner(victim, steps)]
        us, them = f"{US} DDN", f"{ART} DeepFool"
        goals += [Goal(us, them, 1.0, True, "mean_distance"), Goal(us, them, 1.0, False, "success")]
        goals += [Goal(us, racers[-1].name, None, True, "mean_distance")]
    return race(
        f"{victim.note}; {len(victim.images)} images, distances in {norm}, {steps} gradients; "
        "after them ours take twelve forward passes, the others one; DeepFool counts the gradients "
        f"of all classes; C&W has the learning rate {LEARNING_RATE}",
        racers,
        goals,
        unit="gradients",
        repeats=options.repeats,
        judge=functools.partial(victim.judge, norm=norm),
        rehearsal=False,
    )


def _ours(kind: str, norm: str, victim: Subject, steps: int, label: str) -> Contestant:
    attack: Attack = (
        attacks.DDN(victim.model, steps=steps)
        if kind == "DDN"
        else attacks.FMN(victim.model, norm=norm, steps=steps)
    )
    short = dataclasses.replace(attack, steps=1)  # type: ignore[call-arg]
    return ours(attack, victim, steps * len(victim.images), short, label)


def _deep_fool(victim: Subject, steps: int) -> Contestant:
    rounds = max(steps // CLASSES, 1)
    make = functools.partial(peers.art_deep_fool, victim.model)
    work = rounds * CLASSES * len(victim.images)
    return peer(ART, make, victim, work, rounds, label=f"{ART} DeepFool")


def _carlini_wagner(victim: Subject, steps: int) -> Contestant:
    attack = attacks.CarliniWagnerL2(
        victim.model, steps=steps, binary_search_steps=SEARCHES, learning_rate=LEARNING_RATE
    )
    short = dataclasses.replace(attack, steps=1, binary_search_steps=1)
    work = SEARCHES * steps * len(victim.images)
    return ours(attack, victim, work, short, f"{US} C&W, {SEARCHES} x {steps}")
