"""Certified accuracy beside the worst case of a suite: the same network, images and L2 radii."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tabulate
from scipy import stats

from rse_tf.evaluation import (
    CaseCell,
    Certificate,
    SanityRow,
    WorstCases,
    certified_accuracy,
)
from rse_tf.evaluation.confidence import lower_bound
from rse_tf.evaluation.metrics import interval
from rse_tf.evaluation.sanity.report_rows import e3_certificate
from rse_tf.evaluation.sanity.verdict import FAIL, WARN
from rse_tf.reporting.certificates import CertificateFile, load_certificates
from rse_tf.reporting.names import counted, display_name
from rse_tf.reporting.worst_cases import read_worst_cases

HEADERS = ("L2 radius", "certified %", "95 % interval", "worst case %", "95 % interval", "gap")
_MEANING = (
    "certified: by the votes of noisy passes; worst case: the adaptive suite's, as the class of "
    "the mean probability of {draws} draws; gap: points that neither a proof nor an attack decides"
)
# Error with which the single draws of an attacked image call it fooled, at each distance.
_ERROR = 1e-3


class Share(NamedTuple):
    """A share of the images, and its 95 % interval."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """What is certain, and what an attack left, at one radius."""

    radius: float
    certified: Share
    worst: Share

    @property
    def cells(self) -> list[str]:
        """The line as text, below `HEADERS`."""
        shares = [
            (f"{100 * one.value:.1f}", f"{100 * one.low:.1f} to {100 * one.high:.1f}")
            for one in (self.certified, self.worst)
        ]
        gap = 100 * (self.worst.value - self.certified.value)
        return [f"{self.radius:g}", *(cell for pair in shares for cell in pair), f"{gap:.1f}"]


class ImagePoint(NamedTuple):
    """One image: how far it is certified, and where the nearest adversarial image lies.

    Attributes:
        number: in the test set.
        radius: certified L2 radius of its correct class; 0 without one.
        distance: L2 distance of the nearest image that the defense answers wrongly; `None` if the
            suite found none.
    """

    number: int
    radius: float
    distance: float | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Certified and attacked accuracy of one defense.

    Attributes:
        defense: its name.
        lines: one for each radius; none where the two cannot be compared.
        verdict: whether they contradict each other, `"PASS"`, `"WARN"`, `"FAIL"`, or
            `"NOT_RUN"` if no image is certified; empty without lines.
        words: what the verdict rests on, or why there is no comparison.
        notes: what a reader must know of the numbers.
        points: one for each image.
        farthest: largest L2 distance at which the images were attacked.
    """

    defense: str
    lines: tuple[Line, ...] = ()
    verdict: str = ""
    words: str = ""
    notes: tuple[str, ...] = ()
    points: tuple[ImagePoint, ...] = ()
    farthest: float = 0.0


def compare(folder: str | os.PathLike[str]) -> Comparison | None:
    """Sets the certificate of a run beside the worst case of its suite in L2.

    Args:
        folder: of the run, with `certificate.json` and `worst_cases.json`.

    Returns:
        The comparison of the certified defense; `None` if the run has not both.

    Raises:
        FileError: if one of the two files is damaged.
    """
    folder = pathlib.Path(folder)
    flags, cases = read_worst_cases(folder / "worst_cases.json")
    file = load_certificates(folder / "certificate.json") if cases else None
    for one in cases:
        cells = [cell for cell in one.cells if cell.norm == "l2"]
        if file is not None and one.defense == file.defense and cells:
            return _comparison(file, one, cells, flags)
    return None


def format_comparison(found: Comparison) -> str:
    """A comparison as plain text for the terminal."""
    title = f"{display_name(found.defense)}, certified beside attacked"
    if not found.lines:
        return f"{title}: {found.words}"
    body = [line.cells for line in found.lines]
    table = tabulate.tabulate(body, HEADERS, disable_numparse=True, colalign=["right"] * 6)
    return "\n".join([f"{title}:", "", table, "", f"{found.verdict}: {found.words}", *found.notes])


def _comparison(
    file: CertificateFile, cases: WorstCases, cells: list[CaseCell], flags: Mapping[str, Any]
) -> Comparison:
    places = {number: place for place, number in enumerate(cases.numbers)}
    own = [one for one in file.certificates if one.index in places]
    if why_not := _difference(file, cases, own, cells, flags):
        return Comparison(file.defense, words=f"not compared: {why_not}")
    rows = [places[one.index] for one in own]
    reach = _reach(file)
    within = [cell for cell in cells if cell.epsilon <= reach]
    lines = tuple(_line(cell, own, rows) for cell in within)
    verdict, words = _verdict(lines, _contradiction(own, rows, cases, cells))
    notes = [_MEANING.format(draws=cases.num_draws), _images(file, cases, own)]
    if beyond := [f"{cell.epsilon:g}" for cell in cells if cell.epsilon > reach]:
        notes.append(
            f"radius {', '.join(beyond)}: {file.n} votes certify no further than {reach:.3f}"
        )
    return Comparison(
        defense=file.defense,
        lines=lines,
        verdict=verdict,
        words=words,
        notes=tuple(notes),
        points=tuple(_point(one, row, cells) for one, row in zip(own, rows)),
        farthest=max(cell.epsilon for cell in cells),
    )


def _difference(
    file: CertificateFile,
    cases: WorstCases,
    own: list[Certificate],
    cells: list[CaseCell],
    flags: Mapping[str, Any],
) -> str:
    """Why a certificate and a worst case are of different things; empty if they are not."""
    if not file.is_of(cases.network, flags):
        return "the certificate is of another network than the suite"
    noise = float(file.certificates[0].stddev or 0.0)
    if cases.stddev is None or not math.isclose(noise, cases.stddev, rel_tol=1e-6):
        added = "adds none" if cases.stddev is None else f"adds {cases.stddev:g}"
        return f"the certificate is for noise of {noise:g} on the pixels, and the network {added}"
    if not own:
        given = f"{counted(len(file.certificates), 'image')} from number "
        given += f"{min(one.index for one in file.certificates)} on"
        return (
            f"no image is both certified ({given}) and attacked "
            f"({counted(len(cases.numbers), 'image')} from number {min(cases.numbers)} on)"
        )
    places = dict(zip(cases.numbers, cases.labels))
    if any(one.label != places[one.index] for one in own):
        return "images of the same number have different labels: the data set has changed"
    if _reach(file) < min(cell.epsilon for cell in cells):
        return f"no L2 distance of the suite is within {_reach(file):.3f}, the reach of the votes"
    return ""


def _images(file: CertificateFile, cases: WorstCases, own: list[Certificate]) -> str:
    """Which images the figures are over."""
    certified, attacked = len(file.certificates), len(cases.numbers)
    if certified == attacked == len(own):
        return f"images: the same {certified:,} are certified and attacked"
    return (
        f"images: the {len(own):,} that are both certified ({certified:,}) and attacked "
        f"({attacked:,}); elsewhere in this report each figure is over its own images"
    )


def _reach(file: CertificateFile) -> float:
    """The largest radius that the votes can certify."""
    first = file.certificates[0]
    bound = lower_bound(file.n, file.n, first.alpha)
    return float(first.stddev or 0.0) * float(stats.norm.ppf(bound))


def _line(cell: CaseCell, own: list[Certificate], rows: list[int]) -> Line:
    shares = (
        certified_accuracy(own, cell.epsilon),
        float(np.mean([cell.correct[row] for row in rows])),
    )
    certified, worst = (Share(one, *interval(one, len(own))) for one in shares)
    return Line(cell.epsilon, certified, worst)


def _contradiction(
    own: list[Certificate], rows: list[int], cases: WorstCases, cells: list[CaseCell]
) -> SanityRow:
    """Row E3 for what the suite found: the single draws are votes, as the certificate counts them.

    An image counts as fooled if fewer than half of its votes are correct by more than chance.
    """
    trials = cases.single_draws
    distance = np.full(len(own), np.inf)
    for cell in cells:
        wrong = np.round([(1 - cell.draws[row]) * trials for row in rows]).astype(np.int64)
        fooled = lower_bound(wrong, trials, _ERROR) > 0.5
        found = np.where(fooled, [cell.l2[row] for row in rows], np.inf)
        distance = np.minimum(distance, found)
    radius = np.array([one.radius if one.correct else 0.0 for one in own])
    alpha = max(one.alpha for one in own) + _ERROR * len(cells)
    return e3_certificate(radius, distance, np.isfinite(distance), alpha)


def _verdict(lines: Sequence[Line], row: SanityRow) -> tuple[str, str]:
    above = [line for line in lines if line.certified.value > line.worst.value]
    far = [line for line in above if line.certified.low > line.worst.high]
    told = "; ".join(
        f"at radius {line.radius:g} the certified accuracy, {100 * line.certified.value:.1f} %, is "
        f"above the worst case, {100 * line.worst.value:.1f} %"
        for line in far or above
    )
    found = f"{row.reason} (row {row.id})"
    if row.verdict == FAIL or far:
        words = "the certificate and the attack contradict each other, and one of them is wrong"
        return FAIL, "; ".join(filter(None, (words, told, found)))
    if row.verdict == WARN or above:
        words = "within what chance and the two ways to answer explain; --audit attacks the votes"
        return WARN, "; ".join(filter(None, (told, words, found)))
    return row.verdict, found


def _point(one: Certificate, row: int, cells: list[CaseCell]) -> ImagePoint:
    distances = [d for cell in cells if (d := cell.nearest[row]) is not None]
    radius = one.radius if one.correct else 0.0
    return ImagePoint(one.index, radius, min(distances, default=None))
