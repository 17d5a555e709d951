"""What a count of images says, beside what chance alone would make of so few."""

from __future__ import annotations

from typing import Any

import numpy as np

from rse_tf.evaluation.confidence import lower_bound
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, WARN, Rule, SanityRow
from rse_tf.utils.checks import argument_error

# One-sided error with which a row may fail by chance.
ALPHA = 0.05
# What the rounding of a difference of accuracies may add to a limit.
ROUNDING = 1e-9


def shares(caller: str, name: str, correct: Any) -> np.ndarray:
    """For each image the share of seeds that got it right, float64 `[number]`.

    Args:
        caller: what stands in front of an error.
        name: the argument's name.
        correct: bool `[number]`, or `[seeds, number]`.

    Raises:
        ValueError: if it is anything else, or there is no image.
    """
    correct = np.asarray(correct)
    if correct.dtype != bool or correct.ndim not in (1, 2) or not correct.size:
        expected = "bool [number] or [seeds, number] with at least one image"
        raise argument_error(caller, name, expected, f"{correct.dtype} {correct.shape}")
    return np.atleast_2d(correct).mean(axis=0)


def paired_shares(caller: str, **masks: Any) -> list[np.ndarray]:
    """`shares` of several masks of the same images.

    Raises:
        ValueError: as `shares`, or if their numbers of images differ.
    """
    found = [shares(caller, name, mask) for name, mask in masks.items()]
    if len({len(one) for one in found}) > 1:
        sizes = {name: len(one) for name, one in zip(masks, found)}
        raise argument_error(caller, " and ".join(masks), "of the same images", sizes)
    return found


def judge_share(
    rule: Rule, count: int, number: int, passes: float, fails: float, what: str
) -> SanityRow:
    """Judges the share of images to which something happened.

    Above the limit `fails` a row fails only if the count is too large for a true share of
    `passes`: of 64 images one is 1.6 %, which says little about a limit of 1 %.

    Args:
        rule: what is judged.
        count: images to which it happened.
        number: all images, at least 1.
        passes: the largest share that passes.
        fails: the share above which it fails.
        what: what happened to them, after "12 of 64 ".
    """
    share = count / number
    reason = f"{count} of {number} {what}"
    if share <= passes:
        return rule.row(PASS, share, reason)
    if share > fails:
        if lower_bound(count, number, ALPHA) > passes:
            return rule.row(FAIL, share, reason)
        reason += f"; too few images to tell it from {passes:.1%}"
    return rule.row(WARN, share, reason)


def is_more_often(more: int, less: int) -> bool:
    """Whether of two things that may each happen to an image the first is the likelier one.

    The one-sided sign test at `ALPHA`, which McNemar's test becomes with exact probabilities.
    """
    return more + less > 0 and bool(lower_bound(more, more + less, ALPHA) > 0.5)


def judge_drop(
    rule: Rule, before: np.ndarray, after: np.ndarray, passes: float, fails: float, what: str
) -> SanityRow:
    """Judges by how much the accuracy falls between two measurements of the same images.

    Above the limit `fails` a row fails only if more images are lost than regained by more than
    chance, for a randomised model loses and regains some at every measurement.

    Args:
        rule: what is judged.
        before: for each image the share of seeds that got it right, as `shares` returns it.
        after: likewise.
        passes: the largest fall of the accuracy that passes, 0.01 for a point.
        fails: the fall above which it fails.
        what: what lies between the two.
    """
    drop = float(np.mean(before - after))
    reason = f"{what}: accuracy {before.mean():.1%} -> {after.mean():.1%}"
    if drop <= passes + ROUNDING:
        return rule.row(PASS, drop, reason)
    lost = int(np.sum((before > 0.5) & (after <= 0.5)))
    regained = int(np.sum((before <= 0.5) & (after > 0.5)))
    if drop > fails + ROUNDING:
        if is_more_often(lost, regained):
            return rule.row(FAIL, drop, reason)
        reason += f"; too few images to tell ({lost} lost, {regained} regained)"
    return rule.row(WARN, drop, reason)
