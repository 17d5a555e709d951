"""Our attacks and those of other libraries, as contestants of a race."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import peers
from benchmarks.race import Contestant, Done
from benchmarks.subjects import Subject
from rse_tf.attacks.base import Attack

US, FLOOR, FORWARD = "rse_tf", "bare gradient", "bare forward"
FOOLBOX, ART, CLEVERHANS = "foolbox", "art", "cleverhans"


def ours(
    attack: Attack, victim: Subject, work: float, short: Attack | None = None, label: str = US
) -> Contestant:
    """Our attack; `short` is the same trace on a smaller budget, for the warm-up."""

    def make() -> Callable[[], Done]:
        (short or attack)(victim.images, victim.labels)
        return lambda: Done(work, attack(victim.images, victim.labels).adversarial)

    return Contestant(label, make)


def peer(
    name: str,
    make_attack: Callable[[int], peers.PeerAttack],
    victim: Subject,
    work: float,
    steps: int,
    at_most: int | None = None,
    number: int | None = None,
    label: str | None = None,
) -> Contestant:
    """Another library's attack, made for a number of steps; `work` is that of all images."""
    images, labels = victim.images[:number], victim.labels[:number]
    done = work * len(images) / len(victim.images)

    def make() -> Callable[[], Done]:
        make_attack(1)(images, labels)
        attack = make_attack(steps)
        return lambda: Done(done, np.asarray(attack(images, labels)))

    note = f"measured once, on {len(images)} images" if at_most == 1 else ""
    return Contestant(label or name, make, peer=name, at_most=at_most, note=note)
