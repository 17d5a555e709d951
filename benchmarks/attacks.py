"""Attacks of rse_tf beside the bare network's gradients and beside other libraries' attacks.

All contestants of a case get the same weights, images, labels and budget, take turns, and have
their images judged by the same forward pass.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from benchmarks import peers
from benchmarks.averaged import averaged
from benchmarks.contestants import ART, CLEVERHANS, FLOOR, FOOLBOX, FORWARD, US, ours, peer
from benchmarks.memory import peak_megabytes
from benchmarks.minimal import minimal
from benchmarks.race import Contestant, Done, Goal, Measurement, Outcome, race, verdict
from benchmarks.report import Case, Options, main
from benchmarks.subjects import bare_forwards, bare_gradients, network, subject
from rse_tf import AveragedEnsemble, attacks

LEARNING_RATE = 1e-2
# L-infinity radius, and the length of a step.
BALL = {"mnist_cnn": (0.2, 0.01), "cifar_cnn": (0.03, 0.0025), "vgg16": (0.03, 0.0025)}


def fixed_c(name: str, images: int, options: Options) -> Outcome:
    """C&W at a fixed c, all images to the last step, against as many bare gradients."""
    victim, steps = subject(name, options.images or images), options.steps or 50
    attack = attacks.CarliniWagnerL2(
        victim.model, const=1.0, steps=steps, learning_rate=LEARNING_RATE
    )
    work = steps * len(victim.images)
    floor = Contestant(FLOOR, lambda: bare_gradients(victim, steps))
    return race(
        f"{victim.note}; {len(victim.images)} images, c = 1, {steps} steps",
        [ours(attack, victim, work, dataclasses.replace(attack, steps=1)), floor],
        [Goal(US, FLOOR, 0.9)],
        unit="gradients",
        repeats=options.repeats,
        judge=victim.judge,
    )


def search(name: str, images: int, targets: dict[str, float], options: Options) -> Outcome:
    """C&W with the binary search over c, against other libraries' own."""
    victim = subject(name, options.images or images)
    steps, rounds = options.steps or 200, options.binary_search_steps or 9
    attack = attacks.CarliniWagnerL2(
        victim.model,
        steps=steps,
        binary_search_steps=rounds,
        learning_rate=LEARNING_RATE,
        initial_const=1e-3,
    )
    short = dataclasses.replace(attack, steps=1, binary_search_steps=1)
    work = len(victim.images)
    racers = [ours(attack, victim, work, short)]
    for other, theirs in (
        (FOOLBOX, peers.foolbox_carlini_wagner),
        (ART, peers.art_carlini_wagner),
    ):
        if other in targets:
            racers.append(
                peer(
                    other,
                    lambda n, f=theirs: f(  # type: ignore[misc]
                        victim.model, n, rounds if n == steps else 1, LEARNING_RATE, 1e-3
                    ),
                    victim,
                    work,
                    steps,
                    # It takes about an hour.
                    at_most=1 if other == ART else None,
                    number=options.art_images if other == ART else None,
                )
            )
    goals = [Goal(US, other, target) for other, target in targets.items()]
    goals += [Goal(US, other, 1.0, True, "mean_distance") for other in targets]
    goals += [Goal(US, other, 1.0, False, "success") for other in targets]
    return race(
        f"{victim.note}; {work} images, {rounds} x {steps} steps, confidence 0, initial c 0.001, "
        f"learning rate {LEARNING_RATE}, early abort as each library has it",
        racers,
        goals,
        unit="images",
        repeats=options.repeats,
        judge=victim.judge,
        rehearsal=False,
    )


def iterative(kind: str, name: str, images: int, options: Options) -> Outcome:
    """BIM, PGD or MIM, against bare gradients and other libraries' own."""
    victim, steps = subject(name, options.images or images), options.steps or 40
    epsilon, step_size = BALL[name]
    attack = attacks.ATTACKS[kind](
        victim.model,
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,  # type: ignore[call-arg]
    )
    work = steps * len(victim.images)
    short = dataclasses.replace(attack, steps=1)  # type: ignore[call-arg]
    racers = [
        ours(attack, victim, work, short),
        Contestant(FLOOR, lambda: bare_gradients(victim, steps)),
    ]
    for other, theirs in (
        (FOOLBOX, peers.foolbox_linf),
        (CLEVERHANS, peers.cleverhans_linf),
    ):
        made = functools.partial(theirs, victim.model, kind, epsilon, step_size)
        racers.append(peer(other, made, victim, work, steps))
    return race(
        f"{victim.note}; {len(victim.images)} images, epsilon {epsilon}, {steps} steps of "
        f"{step_size}",
        racers,
        [Goal(US, FLOOR, 0.9), Goal(US, FOOLBOX), Goal(US, CLEVERHANS)],
        unit="gradients",
        repeats=options.repeats,
        judge=victim.judge,
    )


def zoo(options: Options) -> Outcome:
    """ZOO at a fixed c, by the queries, against bare forward passes and ART."""
    coordinates, const, steps = 128, 1.0, options.steps or 20
    victim = subject("mnist_cnn", options.images or 4)
    rows = len(victim.images) * coordinates
    attack = attacks.ZOO(victim.model, const=const, steps=steps, coordinates=coordinates)

    def make() -> Callable[[], Done]:
        dataclasses.replace(attack, steps=1)(victim.images, victim.labels)

        def run() -> Done:
            result = attack(victim.images, victim.labels)
            return Done(float(result.queries.sum()), result.adversarial)

        return run

    def make_art() -> Callable[[], Done]:
        theirs = peers.ArtZoo(victim.model, steps, coordinates, const)
        part = slice(options.art_images)

        def run() -> Done:
            adversarial = theirs(victim.images[part], victim.labels[part])
            return Done(theirs.queries, adversarial)

        theirs(victim.images[:1], victim.labels[:1])
        return run

    batch = np.resize(victim.images, (min(rows, attack.max_rows), *victim.images.shape[1:]))
    return race(
        f"{victim.note}; {len(victim.images)} images, ART one by one, {steps} steps of "
        f"{coordinates} coordinates, c = {const:g}; forward passes of {len(batch)} images",
        [
            Contestant(US, make),
            Contestant(FORWARD, lambda: bare_forwards(victim.model, batch, 2 * steps)),
            Contestant(ART, make_art, peer=ART),
        ],
        [Goal(US, FORWARD, 0.85), Goal(US, ART, 20.0)],
        unit="queries",
        repeats=options.repeats,
        judge=victim.judge,
    )


def members_gradient(options: Options) -> Outcome:
    """FGSM along the mean gradient of ten members, against ten FGSMs."""
    victim = subject("mnist_cnn", options.images or 128)
    members = [network("mnist_cnn") for _ in range(10)]
    together = attacks.FGSM(AveragedEnsemble(members).stacked_logits, epsilon=0.1)
    alone = [attacks.FGSM(member, epsilon=0.1) for member in members]

    def make(some: list[attacks.FGSM]) -> Callable[[], Done]:
        def run() -> Done:
            for attack in some:
                attack(victim.images, victim.labels)
            return Done(10 * len(victim.images))

        run()
        return run

    return race(
        f"10 mnist_cnn with random weights, {len(victim.images)} digits",
        [Contestant(US, lambda: make([together])), Contestant("ten FGSMs", lambda: make(alone))],
        [Goal(US, "ten FGSMs", 1.1, True, "seconds")],
        unit="gradients",
        repeats=options.repeats,
    )


def peak_memory(options: Options) -> Outcome:
    """Peak memory of C&W, ten times the images or ten times the steps."""
    images, steps = options.images or 128, options.steps or 20
    sizes = [(images, steps), (10 * images, steps), (images, 10 * steps)]
    names = [f"{images} images, {steps} steps", f"{10 * images} images", f"{10 * steps} steps"]
    found = [
        Measurement(
            name,
            megabytes=peak_megabytes("attack", f"--images={size[0]}", f"--steps={size[1]}"),
        )
        for name, size in zip(names, sizes)
    ]
    goals = [Goal(name, names[0], 1.1, True, "megabytes") for name in names[1:]]
    return Outcome(
        "C&W at a fixed c on mnist_cnn with random weights, each in a process of its own",
        found,
        [verdict(goal, found) for goal in goals],
    )


CASES: dict[str, Case] = {
    "cw_fixed/mnist_cnn": functools.partial(fixed_c, "mnist_cnn", 128),
    "cw_fixed/cifar_cnn": functools.partial(fixed_c, "cifar_cnn", 128),
    "cw_fixed/vgg16": functools.partial(fixed_c, "vgg16", 64),
    "cw_search/mnist_cnn": functools.partial(search, "mnist_cnn", 128, {FOOLBOX: 5.0, ART: 50.0}),
    "cw_search/vgg16": functools.partial(search, "vgg16", 64, {FOOLBOX: 2.5}),
    **{
        f"{kind}/{name}": functools.partial(iterative, kind, name, images)
        for kind in ("bim", "pgd", "mim")
        for name, images in (("mnist_cnn", 128), ("vgg16", 64))
    },
    "minimal_l2/mnist_cnn": functools.partial(minimal, "l2", "mnist_cnn", 100),
    "minimal_linf/mnist_cnn": functools.partial(minimal, "linf", "mnist_cnn", 100),
    "averaged/mnist_cnn": functools.partial(averaged, "mnist_cnn", 128),
    "averaged/cifar_cnn": functools.partial(averaged, "cifar_cnn", 32),
    "averaged/vgg16": functools.partial(averaged, "vgg16", 8),
    "zoo/mnist_cnn": zoo,
    "grad2/mnist_cnn": members_gradient,
    "memory/mnist_cnn": peak_memory,
}

if __name__ == "__main__":
    main(CASES, __doc__)
