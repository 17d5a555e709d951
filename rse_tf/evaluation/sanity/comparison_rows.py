"""Rows D1 to D6: do the attacks stand to each other as they must?

Masks say which images were correct, as in `settings_rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rse_tf.evaluation.sanity.counting import (
    ROUNDING,
    is_more_often,
    judge_share,
    paired_shares,
    shares,
)
from rse_tf.evaluation.sanity.verdict import FAIL, PASS, WARN, Rule, SanityRow
from rse_tf.utils.checks import argument_error

D1 = Rule(
    "D1",
    "Is the iterative attack at least as strong as one step?",
    "images that one step alone breaks: up to 1 % PASS; FAIL above, or if it wins by 0.5 points",
)
D2 = Rule(
    "D2",
    "Is a larger epsilon never weaker?",
    "images broken at the smaller one alone: up to 1 % PASS, above 5 % FAIL",
)
D3 = Rule(
    "D3",
    "Does an attack without a limit break every image?",
    "none left PASS, up to 1 % or a single one WARN, else FAIL",
)
D4 = Rule(
    "D4",
    "Does a search without gradients break nothing that the gradient attack leaves?",
    "images that it alone breaks: none PASS, up to 0.5 % or a single one WARN, else FAIL",
)
D5 = Rule(
    "D5",
    "Does a transferred attack break nothing that the direct attack leaves?",
    "images that it alone breaks: none PASS, up to 0.5 % or a single one WARN, else FAIL",
)
D6 = Rule(
    "D6",
    "Is the model with its noise frozen at least as easy to attack?",
    "accuracy with frozen noise at most 2 points higher, else FAIL",
)


def d1_iterative(one_step: Any, iterative: Any) -> SanityRow:
    """Whether the iterative attack is at least as strong as one step (Carlini et al., 2019).

    Args:
        one_step: mask after one step of size epsilon.
        iterative: mask after the iterative attack at the same epsilon.

    Raises:
        ValueError: if they are no masks of the same images; likewise all functions below.
    """
    single, many = paired_shares("d1_iterative", one_step=one_step, iterative=iterative)
    only, other = int(_clearly(many, single).sum()), int(_clearly(single, many).sum())
    lead = float(np.mean(many - single))
    row = judge_share(D1, only, len(single), 0.01, 0.01, "images are broken by one step alone")
    if row.verdict == PASS and lead > 0.005 + ROUNDING and is_more_often(only, other):
        return D1.row(FAIL, row.figure or 0.0, f"one step wins by {lead:.1%}")
    return row


def d2_larger_epsilon(correct: dict[float, Any]) -> SanityRow:
    """Whether an image that a smaller ball breaks is broken by the larger one, too.

    Of the raw results, before the images of a smaller ball become candidates of a larger one.

    Args:
        correct: masks by epsilon, at least two.
    """
    if len(correct) < 2:
        raise argument_error("d2_larger_epsilon", "correct", "masks of two epsilons", len(correct))
    sizes = sorted(correct)
    masks = paired_shares("d2_larger_epsilon", **{f"epsilon {e:g}": correct[e] for e in sizes})
    violated = np.zeros(len(masks[0]), bool)
    for smaller, larger in zip(masks, masks[1:]):
        violated |= _clearly(larger, smaller)
    told = ", ".join(f"{e:g}: {mask.mean():.1%}" for e, mask in zip(sizes, masks))
    what = f"images are broken at a smaller epsilon alone ({told})"
    return judge_share(D2, int(violated.sum()), len(violated), 0.01, 0.05, what)


def d3_unbounded(correct: Any) -> SanityRow:
    """Whether an attack that may move every pixel anywhere breaks every image.

    Any image can be made one of another class, so what is left tells how often the attack fails
    (Athalye et al., 2018).

    Args:
        correct: mask after an attack as far as the pixels go.
    """
    left = shares("d3_unbounded", "correct", correct) > 0.5
    return _by_count(D3, int(left.sum()), len(left), 0.01, f"{left.sum()} of {len(left)} are left")


def d4_black_box(black_box: Any, white_box: Any) -> SanityRow:
    """Whether a search without gradients breaks what the gradient attack leaves.

    Args:
        black_box: mask after the search.
        white_box: mask after the gradient attack.
    """
    other, attack = paired_shares("d4_black_box", black_box=black_box, white_box=white_box)
    return _beaten(D4, other, attack, "the search")


def d5_transfer(transferred: Any, direct: Any) -> SanityRow:
    """Whether images made on another model break what the direct attack leaves.

    Args:
        transferred: mask of images that were made on a substitute.
        direct: mask after the direct attack.
    """
    other, attack = paired_shares("d5_transfer", transferred=transferred, direct=direct)
    return _beaten(D5, other, attack, "transfer")


def d6_frozen_noise(frozen: Any, random: Any) -> SanityRow:
    """Whether frozen noise leaves a model that is easier to attack, as it must.

    The gap is the part of the robustness that is randomness. Where the frozen model is the more
    robust one, it is not the noise that protects it, and the attack is at fault.

    Args:
        frozen: mask of the model under one draw, attacked and scored under that draw.
        random: mask of the randomised model, attacked at no smaller budget.
    """
    fixed, fresh = paired_shares("d6_frozen_noise", frozen=frozen, random=random)
    gap = float(fresh.mean() - fixed.mean())
    reason = f"accuracy {fixed.mean():.1%} frozen, {fresh.mean():.1%} random: {gap:.1%} is noise"
    lost, kept = int(_majority(fixed, fresh).sum()), int(_majority(fresh, fixed).sum())
    if gap >= -0.02 - ROUNDING:
        return D6.row(PASS, gap, reason)
    if is_more_often(lost, kept):
        return D6.row(FAIL, gap, reason)
    return D6.row(WARN, gap, reason + "; too few images to tell")


def _beaten(rule: Rule, other: np.ndarray, attack: np.ndarray, name: str) -> SanityRow:
    """Judges the images that the other attack alone breaks."""
    only = int(_clearly(attack, other).sum())
    reason = f"{name} alone breaks {only} of {len(other)}"
    reason += f"; accuracy {other.mean():.1%} against {attack.mean():.1%}"
    return _by_count(rule, only, len(other), 0.005, reason)


def _by_count(rule: Rule, count: int, number: int, warns: float, reason: str) -> SanityRow:
    """Judges images on which the attack is proved to have failed.

    One of them says little about the rest: it warns however few the images are.
    """
    share = count / number
    if count > 1 and share > warns:
        return rule.row(FAIL, share, reason)
    return rule.row(WARN if count else PASS, share, reason)


def _clearly(kept: np.ndarray, broken: np.ndarray) -> np.ndarray:
    """Which images are correct in all seeds of one mask, and in none of the other.

    Noise alone makes an image of a randomised model correct now and wrong then.
    """
    return (kept == 1) & (broken == 0)


def _majority(kept: np.ndarray, broken: np.ndarray) -> np.ndarray:
    return (kept > 0.5) & (broken <= 0.5)
