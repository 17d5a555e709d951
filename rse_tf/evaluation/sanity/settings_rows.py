"""Rows C1 to C7: are the steps, the draws and the scoring of an attack enough?

Masks say which images were correct: bool `[number]`, or `[seeds, number]` where a randomised model
was scored several times. All masks of a row are of the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rse_tf.evaluation.confidence import clopper_pearson, lower_bound
from rse_tf.evaluation.sanity.counting import judge_drop, judge_share, paired_shares
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, WARN, Rule, SanityRow
from rse_tf.utils.checks import argument_error

# One point of accuracy, and three: half the seed spread of an accuracy on 1,000 images, and the
# half-width of its interval.
_POINT, _THREE_POINTS = 0.01, 0.03
# Pintor et al. (2022), arXiv:2106.09947: how much of its range a loss may still gain at the end.
_STILL_MOVING, _END = 0.05, 0.1

C1 = Rule(
    "C1",
    "Does an attack of strength 0 leave the clean accuracy?",
    "inside its 99 % interval, and McNemar p > 0.01; else FAIL",
)
C2 = Rule(
    "C2",
    "Do more draws in the gradient change the result?",
    "up to 1 point PASS, up to 3 WARN, else FAIL",
)
C3 = Rule(
    "C3", "Do twice the steps break more?", "drop up to 1 point PASS, up to 3 WARN, else FAIL"
)
C4 = Rule(
    "C4", "Do twice the starts break more?", "drop up to 1 point PASS, up to 3 WARN, else FAIL"
)
C5 = Rule(
    "C5",
    "Has the attack converged?",
    "survivors whose best margin still moves by 5 % of its range in the last 10 % of steps, or "
    "never moved: up to 10 % PASS, above 30 % FAIL",
)
C6 = Rule(
    "C6",
    "Does the score take all that the attack found?",
    "images broken on the way and counted as robust: none PASS, up to 1 % WARN, else FAIL",
)
C7 = Rule("C7", "Did all attacks run?", "all PASS, some left out for want of time WARN")


def c1_control(clean: Any, control: Any) -> SanityRow:
    """Whether the whole suite at epsilon 0 gives the clean accuracy.

    A score that takes the worst of many single draws of a randomised model breaks images that
    nobody attacked. AutoAttack's version for them demands three correct draws in a row, which
    keeps p^3 of an image that is correct in a share p of its draws.

    Args:
        clean: mask of the images without an attack.
        control: mask after the suite at epsilon 0.

    Raises:
        ValueError: if they are no masks of the same images; likewise all functions below.
    """
    before, after = paired_shares("c1_control", clean=clean, control=control)
    number = len(before)
    low, high = clopper_pearson(int(np.sum(before > 0.5)), number, 0.99)
    lost = int(np.sum((before > 0.5) & (after <= 0.5)))
    regained = int(np.sum((before <= 0.5) & (after > 0.5)))
    accuracy = float(np.mean(after > 0.5))
    change = accuracy - float(np.mean(before > 0.5))
    reason = f"{lost} images lost and {regained} regained of {number}"
    outside = not low <= accuracy <= high
    return C1.row(FAIL if outside or _is_uneven(lost, regained, 0.01) else PASS, change, reason)


def c2_draws(correct: dict[int, Any]) -> SanityRow:
    """Whether the accuracy stands on a plateau over the draws that a gradient averages.

    Args:
        correct: masks by the number of draws, at least two; the two largest decide. As many steps
            for each.
    """
    if len(correct) < 2:
        raise argument_error("c2_draws", "correct", "masks of two numbers of draws", len(correct))
    fewer, more = sorted(correct)[-2:]
    before, after = paired_shares("c2_draws", fewer=correct[fewer], more=correct[more])
    told = ", ".join(f"{n}: {np.mean(correct[n]):.1%}" for n in sorted(correct))
    change = float(np.mean(before - after))
    if change < 0:  # more draws, weaker attack: as little a plateau
        before, after = after, before
    return judge_drop(C2, before, after, _POINT, _THREE_POINTS, f"draws {told}")


def c3_steps(correct: Any, correct_doubled: Any) -> SanityRow:
    """Whether twice the steps lower the accuracy.

    Args:
        correct: mask at the steps of the suite.
        correct_doubled: mask at twice as many.
    """
    before, after = paired_shares("c3_steps", correct=correct, correct_doubled=correct_doubled)
    return judge_drop(C3, before, after, _POINT, _THREE_POINTS, "steps x 2")


def c4_restarts(correct: Any, correct_doubled: Any) -> SanityRow:
    """Whether twice the random starts lower the accuracy.

    Args:
        correct: mask at the restarts of the suite.
        correct_doubled: mask at twice as many, the first ones included.
    """
    before, after = paired_shares("c4_restarts", correct=correct, correct_doubled=correct_doubled)
    return judge_drop(C4, before, after, _POINT, _THREE_POINTS, "starts x 2")


def c5_convergence(margins: Any) -> SanityRow:
    """Whether the attack still gains when it stops (Pintor et al., 2022).

    Pintor et al. look at the loss, rescaled to its range. This row looks at the margin instead,
    the best other logit minus the true class' own: it does not saturate. It counts survivors only,
    for an attack that has won may go on to gain. A margin that never rises at all has not converged
    either: behind zero gradients nothing moves.

    Args:
        margins: float `[calls, number]`, positive where the attack wins, in the order of the steps.
    """
    margins = np.asarray(margins, np.float64)
    if margins.ndim != 2 or not margins.size or not np.isfinite(margins).all():
        expected = "finite numbers [calls, number]"
        raise argument_error("c5_convergence", "margins", expected, margins.shape)
    best = np.maximum.accumulate(margins, axis=0)
    lost = best[-1] <= 0
    survivors = int(lost.sum())
    if not survivors:
        return C5.row(PASS, 0.0, "no image survives")
    last = max(1, round(_END * (len(margins) - 1)))
    earlier = best[max(0, len(margins) - 1 - last)]
    gained, reach = best[-1] - earlier, best[-1] - margins.min(axis=0)
    moving = (gained > _STILL_MOVING * reach) | (best[-1] <= margins[0])
    count = int(np.sum(moving & lost))
    return judge_share(C5, count, survivors, 0.10, 0.30, "survivors have not converged")


def c6_silent_success(broken_on_the_way: Any, correct: Any) -> SanityRow:
    """Whether an image counts as robust although the attack had broken it on its way.

    Of a randomised model only images count that every seed decides: chance breaks the others now
    and then.

    Args:
        broken_on_the_way: bool `[number]`: which images have a point of the path that the deployed
            prediction, asked anew, gets wrong, whatever the seed.
        correct: mask of what is reported.
    """
    broken, reported = paired_shares(
        "c6_silent_success", broken_on_the_way=broken_on_the_way, correct=correct
    )
    count = int(np.sum((broken == 1) & (reported == 1)))
    what = "images were broken on the way and count as robust"
    return judge_share(C6, count, len(broken), 0.0, _POINT, what)


def c7_complete(left_out: Sequence[str] = ()) -> SanityRow:
    """Whether every attack had its time.

    Args:
        left_out: names of those that had not.
    """
    if not left_out:
        return C7.row(PASS, 0, "no attack was left out")
    return C7.row(WARN, len(left_out), f"left out: {', '.join(left_out)}")


def _is_uneven(more: int, less: int, alpha: float) -> bool:
    """McNemar's exact test, two-sided: whether the two counts differ by more than chance."""
    both = more + less
    return both > 0 and bool(lower_bound(max(more, less), both, alpha / 2) > 0.5)
