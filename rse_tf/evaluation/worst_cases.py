"""What a suite found, image by image, in numbers small enough to keep beside the rows."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from rse_tf.evaluation.input_noise import own_stddev
from rse_tf.evaluation.metrics import l2_lengths
from rse_tf.evaluation.model_facts import model_digest
from rse_tf.evaluation.scoring import SINGLE_DRAWS
from rse_tf.evaluation.suite_outcome import SuiteCell, SuiteOutcome
from rse_tf.evaluation.suites import RANDOMISED


@dataclasses.dataclass(frozen=True)
class CaseCell:
    """The images at one distance of a suite; every list has one number for each image.

    Attributes:
        norm: `"linf"` or `"l2"`.
        epsilon: the distance.
        correct: share of the evaluation seeds under which the defense answers its worst candidate
            correctly.
        draws: share of single noisy passes that do.
        l2: L2 distance of the worst candidate from the image, in pixel units.
        nearest: L2 distance of the nearest image that the defense answers wrongly; 0 for one that
            is wrong without an attack, `None` where no attack found any. An attack for the nearest
            adversarial image, such as DDN, knows no distance: it may lie beyond `epsilon`.
    """

    norm: str
    epsilon: float
    correct: tuple[float, ...]
    draws: tuple[float, ...]
    l2: tuple[float, ...]
    nearest: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class WorstCases:
    """What a suite found for the images of one defense.

    Attributes:
        defense: its name.
        network: checksum of the model, as `model_digest` returns it.
        stddev: of the Gaussian noise that it adds to its pixels; `None` if no certificate can rest
            on its noise.
        numbers: of the images in the test set.
        labels: their classes.
        num_draws: passes that are averaged for an answer.
        single_draws: single passes behind each of `CaseCell.draws`.
        cells: one for each norm and distance.
    """

    defense: str
    network: str
    stddev: float | None
    numbers: tuple[int, ...]
    labels: tuple[int, ...]
    num_draws: int
    single_draws: int
    cells: tuple[CaseCell, ...]


def worst_cases(
    outcome: SuiteOutcome,
    images: np.ndarray,
    labels: np.ndarray,
    numbers: np.ndarray,
    *,
    defense: str,
    model: keras.Model,
    num_draws: int,
) -> WorstCases:
    """Returns what a suite found, image by image.

    Args:
        outcome: what the suite found.
        images: the images without an attack, `[number, height, width, channels]`.
        labels: their classes, integer `[number]`.
        numbers: of the images in the test set, integer `[number]`.
        defense: its name.
        model: that was attacked.
        num_draws: passes that are averaged for an answer.
    """
    try:
        stddev = own_stddev(model)
    except ValueError:  # a model that no certificate is of
        stddev = None
    random = outcome.kind == RANDOMISED
    wrong = outcome.clean.correct.mean(axis=0) < 0.5
    return WorstCases(
        defense=defense,
        network=model_digest(model),
        stddev=stddev,
        numbers=tuple(int(number) for number in numbers),
        labels=tuple(int(label) for label in labels),
        num_draws=num_draws if random else 1,
        single_draws=len(outcome.clean.correct) * (SINGLE_DRAWS if random and num_draws > 1 else 1),
        cells=tuple(_cell(one, images, wrong) for one in outcome.cells),
    )


def _cell(cell: SuiteCell, images: np.ndarray, wrong: np.ndarray) -> CaseCell:
    correct, lengths = cell.answers.correct.mean(axis=0), l2_lengths(cell.adversarial - images)
    draws = correct if cell.answers.draws is None else cell.answers.draws.mean(axis=0)
    nearest = np.where(correct < 0.5, lengths, np.inf)
    for step in cell.steps:
        nearest[step.attacked] = np.minimum(nearest[step.attacked], step.nearest)
    nearest[wrong] = 0.0
    return CaseCell(
        norm=cell.norm,
        epsilon=cell.epsilon,
        correct=tuple(correct.tolist()),
        draws=tuple(draws.tolist()),
        l2=tuple(lengths.tolist()),
        nearest=tuple(None if np.isinf(one) else float(one) for one in nearest),
    )
