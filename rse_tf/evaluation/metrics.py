"""What an attack did to a defense, in numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rse_tf.evaluation.confidence import clopper_pearson
from rse_tf.evaluation.result import Score
from rse_tf.evaluation.scoring import Answers

# The shares of a score that have an interval.
_WITH_INTERVAL = ("accuracy", "average", "worst_of_10")


def score(
    clean: np.ndarray, adversarial: np.ndarray, correct_clean: np.ndarray, answers: Answers
) -> Score:
    """Scores one attack setting.

    Args:
        clean: the original images `[number, height, width, channels]`.
        adversarial: the images after the attack, likewise.
        correct_clean: which clean images are predicted correctly, bool `[seeds, number]`.
        answers: what the defense answers for the adversarial images.
    """
    perturbation = adversarial - clean
    l2 = l2_lengths(perturbation)
    linf = np.max(np.abs(perturbation.reshape(len(clean), -1).astype(np.float64)), axis=1)
    success = correct_clean & ~answers.correct
    # A success counts once for every evaluation seed that it fooled.
    l2_of_successes = np.broadcast_to(l2, success.shape)[success]
    linf_of_successes = np.broadcast_to(linf, success.shape)[success]
    accuracies = answers.correct.mean(axis=1)
    averages = None if answers.draws is None else answers.draws.mean(axis=1)
    return _with_intervals(
        len(clean),
        accuracy=float(accuracies.mean()),
        accuracy_std=_spread(accuracies),
        average=None if averages is None else float(averages.mean()),
        average_std=None if averages is None else _spread(averages),
        worst_of_10=None if answers.worst is None else float(answers.worst.mean()),
        rms_l2=float(np.sqrt(np.mean(l2**2))),
        mean_l2=float(l2_of_successes.mean()) if success.any() else None,
        median_l2=float(np.median(l2_of_successes)) if success.any() else None,
        mean_linf=float(linf_of_successes.mean()) if success.any() else None,
        max_linf=float(linf.max()),
        success_rate=float(success.sum() / correct_clean.sum()) if correct_clean.any() else None,
        misclassified_clean=float(1 - correct_clean.mean()),
    )


def l2_lengths(changes: np.ndarray) -> np.ndarray:
    """L2 norm of each of `[number, height, width, channels]`, float64 `[number]`."""
    return np.sqrt(np.sum(changes.reshape(len(changes), -1).astype(np.float64) ** 2, axis=1))


def mean_score(
    clean: np.ndarray,
    adversarial: Sequence[np.ndarray],
    correct_clean: Sequence[np.ndarray],
    answers: Sequence[Answers],
) -> Score:
    """Averages over the members of an ensemble, of which each was attacked or scored by itself.

    The spreads over the evaluation seeds are those of the mean; `accuracy_std_members` is that of
    the members, each at its mean over the seeds. A number that one member lacks, such as the
    distortion of its successes, is averaged over the others.

    Args:
        clean: as for `score`.
        adversarial: for each member, as for `score`.
        correct_clean: likewise.
        answers: likewise.
    """
    parts = zip(adversarial, correct_clean, answers, strict=True)
    scores = [score(clean, *part) for part in parts]
    if len(scores) == 1:
        return scores[0]
    columns = {
        field.name: [getattr(one, field.name) for one in scores]
        for field in dataclasses.fields(Score)
    }
    means: dict[str, Any] = {}
    for name, column in columns.items():
        known = [value for value in column if value is not None]
        means[name] = float(np.mean(known)) if known else None
    means["accuracy_std"] = _spread_of_mean([one.correct for one in answers])
    draws = [one.draws for one in answers if one.draws is not None]
    means["average_std"] = _spread_of_mean(draws) if draws else None
    means["accuracy_std_members"] = _spread(np.array(columns["accuracy"]))
    means["rms_l2"] = float(np.sqrt(np.mean(np.square(columns["rms_l2"]))))
    means["max_linf"] = max(columns["max_linf"])
    return _with_intervals(len(clean), **means)


def interval(share: float, number: int) -> tuple[float, float]:
    """The Clopper-Pearson 95 % interval of a mean over images.

    What is averaged lies in [0, 1] for every image: it may be a mean over seeds, draws or members
    itself. Such numbers vary less than a yes or no of the same mean, for which the interval is
    exact. A part of a success is rounded outwards.

    Args:
        share: the mean, in [0, 1].
        number: the number of images, at least 1.
    """
    successes = round(share * number, 6)  # 0.57 * 100 is 56.99999999999999
    low, _ = clopper_pearson(math.floor(successes), number)
    _, high = clopper_pearson(math.ceil(successes), number)
    return float(low), float(high)


def _with_intervals(number: int, **values: Any) -> Score:
    for name in _WITH_INTERVAL:
        if values[name] is not None:
            low, high = interval(values[name], number)
            values |= {f"{name}_low": low, f"{name}_high": high}
    return Score(**values)


def _spread_of_mean(by_member: Sequence[np.ndarray]) -> float:
    # A member without noise has one seed, which stands for all.
    by_seed = np.broadcast_arrays(*(values.mean(axis=1) for values in by_member))
    return _spread(np.mean(by_seed, axis=0))


def _spread(accuracies: np.ndarray) -> float:
    return float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
