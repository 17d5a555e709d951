"""What the attacks of a suite found for every image, and which of it is worst for the defense."""

from __future__ import annotations

import dataclasses

import numpy as np

from rse_tf.evaluation.scoring import Scorer
from rse_tf.utils import seeds

# Noisy passes of one block of the selection, and how many wrong answers in a row break an image.
# Two may be luck: of the many candidates of an image one would have it, and all attacks would stop.
_BLOCK = 50
_WRONG = 10
# What decides among candidates of the same share of correct answers: less than one answer of 50.
_MARGIN = 1e-3
# How many candidates of an image stay in the race. Answers of these further blocks, which break no
# image, decide among them, but for images whose answers are as good as certainly all correct.
_KEPT = 3
_FURTHER_BLOCKS = range(_WRONG, _WRONG + 7)
_SAFE_SHARE, _UNSAFE = 0.99, 0.01


@dataclasses.dataclass(frozen=True)
class Selection:
    """What the defense answers for candidates, under noise that no attack and no scoring meets.

    Attributes:
        correct: which answers are correct, bool `[answers, number]`; all answers are of the first
            block of noisy passes.
        key: how bad the candidate is for the defense, float `[number]`: the share of correct
            answers and, among equals, the margin. The smallest is the worst.
        margin: the mean probability of the true class less the largest of another, `[number]`.
        broken: whether no answer is correct in two independent blocks, nor in the further ones that
            make ten answers, bool `[number]`. A margin that is clear after two takes no further.
    """

    correct: np.ndarray
    key: np.ndarray
    margin: np.ndarray
    broken: np.ndarray


class Selector:
    """Judges candidates by the defense's own answers.

    Args:
        scorer: the defense.
        labels: the true classes of all images, integer `[number]`.
        seed: the noise of the selection follows from it, and from nothing that an attack or a
            scoring meets.

    Attributes:
        is_random: whether the defense is.
        safe_margin: from this margin on, an answer is as good as certainly correct; below its
            negative, as good as certainly wrong.
    """

    def __init__(self, scorer: Scorer, labels: np.ndarray, seed: int) -> None:
        self._scorer, self._labels, self._seed = scorer, labels, seed
        self.is_random = scorer.is_random
        self._answers = max(1, _BLOCK // scorer.num_draws) if scorer.is_random else 1
        self._blocks = max(2, -(-_WRONG // self._answers)) if scorer.is_random else 1
        # By the inequality of Hoeffding, an answer of n draws with this margin is wrong with
        # probability exp(-n margin^2 / 2) at most.
        self.safe_margin = float(np.sqrt(-2 * np.log(_UNSAFE) / scorer.num_draws))

    def judge(self, images: np.ndarray, rows: np.ndarray) -> Selection:
        """Judges one candidate for each of some images.

        Args:
            images: the candidates, `[number, height, width, channels]`.
            rows: which images they are candidates for, integer `[number]`.
        """
        correct, margin = self._block(images, rows, 0)
        share = correct.mean(axis=0)
        broken = ~np.any(correct, axis=0)
        again = np.flatnonzero(broken)
        for block in range(1, self._blocks):  # one may be luck
            more, other = self._block(images[again], rows[again], block)
            for mean, new in ((share, more.mean(axis=0)), (margin, other)):
                mean[again] += (new - mean[again]) / (block + 1)
            broken[again] = ~more.any(axis=0)
            again = again[broken[again] & (margin[again] > -self.safe_margin)]
        return Selection(correct, share + _MARGIN * margin, margin, broken)

    def judge_again(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The keys of candidates in further blocks alone, float `[number]`; see `judge`."""
        blocks = [self._block(images, rows, block) for block in _FURTHER_BLOCKS]
        keys = [correct.mean(axis=0) + _MARGIN * margin for correct, margin in blocks]
        return np.mean(keys, axis=0)

    def _block(
        self, images: np.ndarray, rows: np.ndarray, block: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which answers of a block are correct `[answers, number]`, and the margin `[number]`."""
        if not len(rows):
            return np.zeros([self._answers, 0], bool), np.zeros(0)
        labels = self._labels[rows]
        correct, probabilities = [], []
        for answer in range(self._answers):
            logits = self._scorer.logits(
                images, seeds.SELECTION, self._seed, block, answer, label="selection"
            )
            correct.append(logits.argmax(axis=-1) == labels)
            probabilities.append(_softmax(logits.astype(np.float64)))
        total = np.mean(probabilities, axis=0)
        own = np.take_along_axis(total, labels[:, None], axis=1)[:, 0]
        np.put_along_axis(total, labels[:, None], -np.inf, axis=1)
        return np.stack(correct), own - total.max(axis=1)


class Candidates:
    """The worst candidates so far for every image.

    Args:
        selector: judges them.
        images: the images without an attack: the first candidates.
        clean: what `selector` says of these.

    Attributes:
        broken: which images the defense no longer answers correctly, bool `[number]`.
        correct: the answers for the worst candidates, as in `Selection`.
    """

    def __init__(self, selector: Selector, images: np.ndarray, clean: Selection) -> None:
        self._selector = selector
        # By rank, the worst first; a place without a candidate has the key infinity.
        nothing = np.full([_KEPT - 1, len(images)], np.inf)
        self._images = np.stack([images] * _KEPT)
        self._keys = np.concatenate([clean.key[None], nothing])
        self._margins = np.concatenate([clean.margin[None], nothing])
        self._names = np.array([["clean"] * len(images)] * _KEPT, dtype=object)
        self.broken = clean.broken.copy()
        self.correct = clean.correct.copy()

    def add(self, name: str, images: np.ndarray, rows: np.ndarray, found: Selection) -> None:
        """Adds one candidate for each of some images.

        Args:
            name: where they are from.
            images: the candidates.
            rows: which images they are candidates for.
            found: what the selector says of them.
        """
        self.broken[rows] |= found.broken
        kept = self._images, self._keys, self._margins, self._names
        for i, row in enumerate(rows):
            rank = int(np.searchsorted(self._keys[:, row], found.key[i], side="right"))
            if rank == _KEPT:
                continue
            if rank == 0:
                self.correct[:, row] = found.correct[:, i]
            for array, new in zip(kept, (images[i], found.key[i], found.margin[i], name)):
                array[rank + 1 :, row] = array[rank:-1, row].copy()
                array[rank, row] = new

    @property
    def worst(self) -> np.ndarray:
        """The worst candidates so far, `[number, height, width, channels]`."""
        return self._images[0]

    def choose(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the worst candidate of every image, and where it is from.

        Of a randomised model further noise decides: the candidate of the smallest score in one
        block may owe it to the luck of that block.
        """
        place = np.zeros(len(self.broken), int)
        safe = (self._keys > _SAFE_SHARE) & (self._margins > self._selector.safe_margin)
        rows = np.flatnonzero(~self.broken & ~safe.all(axis=0) & np.isfinite(self._keys[1]))
        if self._selector.is_random and len(rows):
            again = np.full([_KEPT, len(rows)], np.inf)
            for rank in range(_KEPT):
                there = np.flatnonzero(np.isfinite(self._keys[rank, rows]))
                some = rows[there]
                again[rank, there] = self._selector.judge_again(self._images[rank, some], some)
            place[rows] = again.argmin(axis=0)
        everywhere = np.arange(len(place))
        return self._images[place, everywhere], self._names[place, everywhere]


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)
