"""What keeps the number of a suite honest: noise of its own, and the choice among candidates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from noisy_models import noisy_coin
from scipy import stats
from suite_models import PGD

from rse_tf.evaluation import (
    Scorer,
    attacking,
    evaluate_suite,
    scoring,
)
from rse_tf.evaluation.candidates import Candidates, Selection, Selector
from rse_tf.utils import seeds


def test_attacks_selection_and_scoring_never_share_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, set[tuple[int, ...]]] = {"attacks": set(), "scorer": set()}
    for module, name in ((attacking, "attacks"), (scoring, "scorer")):
        original = module.seed_noise  # type: ignore[attr-defined]

        def recorded(model: Any, *seed: int, name: str = name, original: Any = original) -> None:
            used[name].add(seed)
            original(model, *seed)

        monkeypatch.setattr(module, "seed_noise", recorded)
    images, labels = np.full((6, 1, 1, 1), 0.5, np.float32), np.ones(6, int)
    evaluate_suite(noisy_coin(0.5), images, labels, epsilons=[0.0, 0.1], steps=[PGD], num_draws=2)
    assert {seed[0] for seed in used["attacks"]} == {seeds.ATTACK}
    streams = {seed[0] for seed in used["scorer"]}
    assert streams == {seeds.SELECTION, seeds.SCORING, seeds.SINGLE_DRAWS}


def test_lucky_blocks_break_no_image() -> None:
    # The vote of 50 draws of a coin that is almost fair is wrong about every other time: one block
    # would break half of the images, two a quarter. The rest of the suite would never see them.
    images, labels = np.full((400, 1, 1, 1), 0.0, np.float32), np.ones(400, int)
    selector = Selector(Scorer(noisy_coin(1.0), 50, 1), labels, 0)
    found = selector.judge(images, np.arange(400))
    assert found.correct.shape == (1, 400)
    # A tie is class 0, the wrong one.
    p = 0.5 * (1 + stats.binom.pmf(25, 50, 0.5))
    assert found.broken.sum() < stats.binom.ppf(1 - 1e-6, 400, p**10)
    # Where 31 % of the draws are correct, hardly an answer is.
    found = selector.judge(images - 0.5, np.arange(400))
    wrong = stats.binom.cdf(25, 50, stats.norm.cdf(-0.5))
    assert found.broken.mean() > wrong**10 - 5 * np.sqrt(0.25 / 400)
    # With fewer draws an answer, a block has more answers, and all of them must be wrong.
    selector = Selector(Scorer(noisy_coin(1.0), 1, 1), labels, 0)
    found = selector.judge(images, np.arange(400))
    assert found.correct.shape == (50, 400) and not found.broken.any()
    assert abs(found.key.mean() - 0.5) < 5 * 0.5 / np.sqrt(50 * 400)


def test_a_margin_that_is_clear_takes_no_further_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = Selector._block

    def counted(self: Selector, images: np.ndarray, *rest: Any) -> Any:
        looks.append(len(images))
        return look(self, images, *rest)

    monkeypatch.setattr(Selector, "_block", counted)
    # Always correct, always wrong, and wrong in 62 % of the draws.
    images = np.array([5.0, -5.0, -0.3], np.float32).reshape(3, 1, 1, 1)
    found = Selector(Scorer(noisy_coin(1.0), 50, 1), np.ones(3, int), 0).judge(images, np.arange(3))
    assert not found.broken[0] and found.broken[1]
    assert looks[:2] == [3, 2] and set(looks[2:]) == {1}


def selection(keys: list[float]) -> Selection:
    key = np.array(keys)
    return Selection(key[None] > 0.5, key, key, key < 0.1)


def test_the_worst_candidate_of_each_image_is_kept() -> None:
    images = np.zeros((3, 1, 1, 1), np.float32)
    selector = Selector(Scorer(noisy_coin(0.0), 1, 1), np.ones(3, int), 0)
    found = Candidates(selector, images, selection([1.0, 1.0, 0.05]))
    rows = np.arange(3)
    found.add("first", images + 1, rows, selection([0.6, 1.0, 0.2]))
    found.add("second", images[:2] + 2, rows[:2], selection([0.7, 0.0]))
    chosen, names = found.choose()
    assert chosen[:, 0, 0, 0].tolist() == [1, 2, 0]
    assert names.tolist() == ["first", "second", "clean"]
    assert found.broken.tolist() == [False, True, True]
    assert found.correct.tolist() == [[True, False, False]]


def test_among_the_worst_candidates_further_noise_decides() -> None:
    # Draws are correct for the first candidate with probability 1/2, for the second 0.31; the
    # first block had it the other way round.
    images, labels = np.zeros((50, 1, 1, 1), np.float32), np.ones(50, int)
    selector = Selector(Scorer(noisy_coin(1.0), 1, 1), labels, 0)
    rows = np.arange(50)
    found = Candidates(
        selector, images + 5, dataclasses.replace(selection([1.0] * 50), margin=np.full(50, 0.9))
    )
    found.add("fair", images, rows, selection([0.3] * 50))
    found.add("worse", images - 0.5, rows, selection([0.31] * 50))
    _, names = found.choose()
    # 350 draws of each: the difference of 0.19 is five standard errors of 0.037.
    assert (names == "worse").mean() > 0.95
