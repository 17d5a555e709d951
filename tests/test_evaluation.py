"""Scoring by arithmetic that fits on a page, and attacks that survive a kill."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
from noisy_models import noisy_coin

from rse_tf.attacks import BIM, AttackResult
from rse_tf.evaluation import (
    Answers,
    Scorer,
    attack_in_batches,
    attacking,
    mean_score,
    score,
    scoring,
)
from rse_tf.layers import FrozenNoise, NoiseLayer, noise_state, seed_noise
from rse_tf.training.device_pool import DevicePool


def test_score_of_four_images_by_hand() -> None:
    clean = np.zeros((4, 2, 2, 1))
    adversarial = clean.copy()
    adversarial[0, 0, 0, 0] = 0.3  # L2 0.3, L-infinity 0.3
    adversarial[1, :, :, 0] = 0.2  # L2 0.4, L-infinity 0.2
    adversarial[2, 0, :, 0] = (0.6, 0.8)  # L2 1.0, L-infinity 0.8, but not fooled
    correct_clean = np.array([[True, True, True, False]])
    correct_adversarial = np.array([[False, False, True, False]])
    result = score(clean, adversarial, correct_clean, Answers(correct_adversarial))
    assert result.accuracy == 0.25 and result.accuracy_std == 0
    assert result.misclassified_clean == 0.25
    assert result.success_rate == pytest.approx(2 / 3)
    # Over all four images: sqrt((0.09 + 0.16 + 1 + 0) / 4).
    assert result.rms_l2 == pytest.approx(np.sqrt(1.25 / 4))
    # Over the two successes: (0.3 + 0.4) / 2; the image that was wrong before is none.
    assert result.mean_l2 == pytest.approx(0.35) == result.median_l2
    assert result.mean_linf == pytest.approx(0.25)
    assert result.max_linf == pytest.approx(0.8)


def test_the_spread_is_that_over_evaluation_seeds() -> None:
    images = np.zeros((4, 1, 1, 1))
    right = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    result = score(images, images, np.ones((2, 4), bool), Answers(right))
    assert result.accuracy == 0.75
    assert result.accuracy_std == pytest.approx(np.std([1.0, 0.5], ddof=1))


def test_spreads_over_seeds_and_over_members_are_two() -> None:
    images = np.zeros((4, 1, 1, 1))
    # Member 1: 1 and 1/2 by seed, member 2: 1/4 and 1/2.
    correct = [
        np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool),
        np.array([[1, 0, 0, 0], [1, 1, 0, 0]], bool),
    ]
    clean = [np.ones((2, 4), bool)] * 2
    answers = [Answers(one) for one in correct]
    result = mean_score(images, [images] * 2, clean, answers)
    assert result.accuracy == pytest.approx((0.75 + 0.375) / 2)
    assert result.accuracy_std == pytest.approx(np.std([0.625, 0.5], ddof=1))  # of the mean
    assert result.accuracy_std_members == pytest.approx(np.std([0.75, 0.375], ddof=1))
    # A member that is wholly certain has no noise, and one seed.
    result = mean_score(images, [images] * 2, clean, [answers[0], Answers(np.ones((1, 4), bool))])
    assert result.accuracy_std == pytest.approx(np.std([1.0, 0.75], ddof=1))
    assert result.accuracy_std_members == pytest.approx(np.std([0.75, 1.0], ddof=1))
    alone = mean_score(images, [images], clean[:1], answers[:1])
    assert alone == score(images, images, clean[0], answers[0])
    assert alone.accuracy_std_members is None


def test_without_any_success_there_is_no_mean_distortion() -> None:
    images, right = np.zeros((3, 1, 1, 1)), np.ones((1, 3), bool)
    result = score(images, images, right, Answers(right))
    assert result.mean_l2 is result.median_l2 is result.mean_linf is None
    assert result.success_rate == 0
    assert score(images, images, ~right, Answers(~right)).success_rate is None


def test_more_draws_make_the_majority_right() -> None:
    # A single draw is right with probability P(noise > -0.5) = Phi(0.5) = 0.6915, the majority
    # of 25 with P(Binomial(25, 0.6915) >= 13) = 0.9787. 2,000 images: 5 standard errors are
    # 5 * sqrt(p (1 - p) / 2000) = 0.052 and 0.016.
    images = np.full((2000, 1, 1, 1), 0.5, np.float32)
    labels = np.ones(2000, int)
    one = Scorer(noisy_coin(1.0), num_draws=1, eval_seeds=1).correct(images, labels, 0).mean()
    many = Scorer(noisy_coin(1.0), num_draws=25, eval_seeds=1).correct(images, labels, 0).mean()
    assert abs(one - 0.6915) < 0.052
    assert abs(many - 0.9787) < 0.016


def test_evaluation_seeds_are_fresh_noise_and_repeatable() -> None:
    images, labels = np.zeros((200, 1, 1, 1), np.float32), np.ones(200, int)
    scorer = Scorer(noisy_coin(1.0), num_draws=3, eval_seeds=3)
    right = scorer.correct(images, labels, 5)
    assert right.shape == (3, 200)
    assert len({row.tobytes() for row in right}) == 3
    np.testing.assert_array_equal(scorer.correct(images, labels, 5), right)
    assert (scorer.correct(images, labels, 6) != right).any()


@pytest.mark.parametrize("model", [noisy_coin(0.0), noisy_coin(1.0, active="training")])
def test_a_model_that_is_silent_at_inference_is_scored_once(model: keras.Model) -> None:
    scorer = Scorer(model, num_draws=50, eval_seeds=3)
    assert not scorer.is_random and scorer.num_draws == 1 and len(scorer.seeds) == 1
    assert scorer.classifier is model


@pytest.mark.parametrize("labels", [np.ones((3, 1), int), np.eye(3, dtype=int), np.ones(2, int)])
def test_labels_of_another_shape_are_refused(labels: np.ndarray) -> None:
    scorer, images = Scorer(noisy_coin(1.0), 2, 1), np.zeros((3, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match=r"labels must be integer \[3\].*Received"):
        scorer.correct(images, labels)


@pytest.mark.parametrize("name", ["num_draws", "eval_seeds", "batch_size"])
def test_a_scorer_without_anything_to_do_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1. .*{name}=0"):
        Scorer(noisy_coin(1.0), **{name: 0})


def test_trainings_attacks_and_scorings_meet_different_noise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    seeds: list[tuple[int, ...]] = [(0, epoch) for epoch in range(4)]  # what the training uses

    def recorded(model: keras.Model, *seed: int) -> None:
        seeds.append(seed)

    monkeypatch.setattr(scoring, "seed_noise", recorded)
    monkeypatch.setattr(attacking, "seed_noise", recorded)
    model, images, labels = noisy_network(), np.zeros((4, 2, 2, 1), np.float32), np.zeros(4, int)
    for kind in (0, 1, 2):
        Scorer(model, 2, 3).correct(images, labels, 0, kind)
    attack_in_batches(
        [BIM(model, epsilon=0.1, step_size=0.1, steps=1, batch_size=1)],
        [model],
        pool=DevicePool(),
        images=images,
        labels=labels,
        targets=None,
        directory=tmp_path,
        seed=0,
        description="test",
    )
    keys = []
    deep = keras.Sequential([keras.Input((2,)), *(NoiseLayer(0.1) for _ in range(3))])
    for seed in seeds:
        seed_noise(deep, *seed)
        keys += [tuple(state) for state in noise_state(deep)]
    frozen = FrozenNoise(deep, 0)
    frozen(np.zeros((1, 2)))
    keys += [tuple(state - [0, 1]) for state in noise_state(deep)]  # as before that one call
    assert len(seeds) == 4 + 9 + 4 and len(set(keys)) == len(keys)


def test_no_images_have_no_predictions() -> None:
    assert Scorer(noisy_coin(1.0), 2, 1).predictions(np.zeros((0, 1, 1, 1)), 0).shape == (0,)


class CountingAttack(BIM):
    """Counts its batches, and can die before one of them as a killed process does."""

    calls: list[int] = []
    dies_at: int | None = None

    def __call__(self, images: Any, labels: Any, targets: Any = None) -> AttackResult:
        if len(self.calls) == type(self).dies_at:
            raise KeyboardInterrupt
        self.calls.append(len(images))
        return super().__call__(images, labels, targets)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[CountingAttack]:
    monkeypatch.setattr(CountingAttack, "calls", [])
    monkeypatch.setattr(CountingAttack, "dies_at", None)
    return CountingAttack


def noisy_network() -> keras.Model:
    return keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), NoiseLayer(0.1), keras.layers.Dense(3)]
    )


def test_an_attack_goes_on_after_its_last_finished_batch(
    tmp_path: pathlib.Path, counting: type[CountingAttack]
) -> None:
    model = noisy_network()
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(10, 2, 2, 1)).astype(np.float32)
    labels = rng.integers(0, 3, 10)

    def run(folder: str, number: int = 10) -> AttackResult:
        attack = counting(model, epsilon=0.1, step_size=0.05, steps=3, batch_size=4)
        return attack_in_batches(
            [attack],
            [model],
            pool=DevicePool(),
            images=images[:number],
            labels=labels[:number],
            targets=None,
            directory=tmp_path / folder,
            seed=0,
            description="test",
        )[0]

    whole = run("whole")
    assert counting.calls == [4, 4, 2]
    counting.calls.clear()
    counting.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    counting.dies_at = None
    seed_noise(model, 99)  # what happened to the noise in between does not matter
    resumed = run("killed")
    assert counting.calls == [4, 4, 2]  # two before, one after
    for ours, expected in zip(resumed, whole):
        np.testing.assert_array_equal(ours, expected)
    # A smaller run of the same setting finds its first batches done.
    counting.calls.clear()
    run("killed", 8)
    assert counting.calls == []
