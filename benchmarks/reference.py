"""The suite for deterministic models beside AutoAttack, on one trained network and its images.

The weights go over to PyTorch. An image counts as broken by one forward pass of ours, whichever
of the two returned it. The wanted difference of the robust accuracies is at most 0.5 points.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import numpy as np

from benchmarks.race import Measurement, Outcome, Verdict, reason
from benchmarks.report import Case, Options, main
from benchmarks.subjects import Subject, first_digits
from benchmarks.timing import Timing
from benchmarks.torch_model import to_channels_first, to_torch
from rse_tf.attacks.norms import length_of
from rse_tf.evaluation import evaluate_suite
from rse_tf.utils.log import log

PEER = "pyautoattack"
# Points of robust accuracy by which the two may differ.
TOLERANCE = 0.5
# How far rounding may carry an image out of its ball.
_ROUNDING = 1e-5
# Images, and of each the attack that broke it, or nothing.
Found = tuple[np.ndarray, np.ndarray]


def ours(victim: Subject, norm: str, epsilon: float, scale: str) -> Found:
    """The worst image of our suite."""
    outcome = evaluate_suite(
        victim.model, victim.images, victim.labels, epsilons=[epsilon], norm=norm, scale=scale
    )
    return outcome.cells[0].adversarial, outcome.cells[0].source


def auto_attack(victim: Subject, norm: str, epsilon: float) -> Found:
    """AutoAttack `standard`: each attack goes for what those before it left."""
    from pyautoattack import AutoAttack

    import torch

    # Its threads wait busily, and beside other processes two are many times slower than one.
    torch.set_num_threads(1)
    model = to_torch(victim.model, victim.images)
    x, y = to_channels_first(victim.images), torch.from_numpy(victim.labels.astype(np.int64))
    peer = AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, seed=0)
    found, source = x.clone(), np.full(len(x), "clean", object)
    left = model(x).argmax(1) == y
    for name in list(peer.attacks_to_run):
        rows = left.nonzero()[:, 0]
        if not len(rows):
            break
        # One by one, to know which attack it was.
        peer.attacks_to_run = [name]
        found[rows] = peer.run_standard_evaluation(x[rows], y[rows])[0].detach()
        source[rows] = name
        left[rows] = model(found[rows]).argmax(1) == y[rows]
        log(f"{PEER}: {norm} {epsilon:g}, {name}: {len(rows)} attacked, {int(left.sum())} left")
    return np.moveaxis(found.numpy(), 1, -1), source


def compare(norm: str, epsilon: float, scale: str, options: Options) -> Outcome:
    """Both on the same images."""
    victim = first_digits(options.images or 200)
    runs: dict[str, Any] = {
        "rse_tf": functools.partial(ours, victim, norm, epsilon, scale),
        PEER: functools.partial(auto_attack, victim, norm, epsilon),
    }
    measured, sources = [], []
    for name, run in runs.items():
        start = time.perf_counter()
        try:
            images, source = run()
        except Exception as error:
            if name != PEER:
                raise
            measured.append(Measurement(name, "images", note=reason(error, PEER)))
            continue
        timing = Timing((time.perf_counter() - start,))
        _check_ball(name, images, victim.images, norm, epsilon)
        success, distance = victim.judge(images, norm)
        measured.append(Measurement(name, "images", len(images), timing, success, distance))
        sources.append(source)
    setting = f"{victim.note}; {len(victim.images)} images, {norm} {epsilon:g}, suite {scale}"
    return Outcome(setting, differing(measured, sources), [difference(*measured)])


def _check_ball(
    name: str, images: np.ndarray, originals: np.ndarray, norm: str, epsilon: float
) -> None:
    furthest = float(np.max(length_of(images - originals, norm)))
    if furthest > epsilon + _ROUNDING or images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"compare: the images of {name} must be in the bounds and within {epsilon:g}. "
            f"Received: {images.min()} to {images.max()}, at {furthest}"
        )


def differing(measured: list[Measurement], sources: list[np.ndarray]) -> list[Measurement]:
    """The same measurements; each with a note of the images that it alone broke, and how."""
    if len(sources) < 2:
        return measured
    noted = []
    for i, one in enumerate(measured):
        alone = np.flatnonzero(one.success & ~measured[1 - i].success)  # type: ignore[operator]
        which = ", ".join(f"{n} ({sources[i][n]})" for n in alone)
        noted.append(dataclasses.replace(one, note=f"alone broke {which or 'none'}"))
    return noted


def difference(us: Measurement, them: Measurement) -> Verdict:
    """By how many points our robust accuracy is above the reference's."""
    label, target = f"{us.contestant} - {them.contestant}: robust points", f"<= {TOLERANCE:g}"
    if us.success is None or them.success is None:
        return Verdict(label, target=target, note=f"{them.contestant} {them.note}")
    # By counts: one image of 200 is half a point, and not a little more.
    value = 100 * int(them.success.sum() - us.success.sum()) / len(us.success)
    # Who breaks more is not weaker than the reference.
    return Verdict(label, value, target=target, met=value <= TOLERANCE)


CASES: dict[str, Case] = {
    f"{scale}/{norm}_{epsilon:g}": functools.partial(compare, norm, epsilon, scale)
    for scale in ("small", "full")
    for norm, epsilon in (("linf", 0.1), ("linf", 0.2), ("l2", 1.0))
}

if __name__ == "__main__":
    main(CASES, __doc__)
