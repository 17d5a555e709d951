"""Three accuracies of a randomised model, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from noisy_models import noisy_coin
from rows import attacked, make_row
from scipy import stats

from rse_tf import reporting
from rse_tf.evaluation import Answers, Scorer, score
from rse_tf.evaluation.metrics import interval
from rse_tf.utils import seeds

NUMBER = 2000
PIXEL = 0.5
# A single draw is correct with probability P(noise > -0.5) = 0.6915.
SINGLE = float(stats.norm.cdf(PIXEL))


def coins(pixel: float = PIXEL, number: int = NUMBER) -> tuple[np.ndarray, np.ndarray]:
    return np.full((number, 1, 1, 1), pixel, np.float32), np.ones(number, int)


def error(p: float, number: int = NUMBER) -> float:
    """Five standard errors of a share of so many images."""
    return 5 * np.sqrt(p * (1 - p) / number)


@pytest.mark.parametrize("num_draws", [1, 5, 25])
def test_average_vote_and_worst_of_ten_have_their_closed_forms(num_draws: int) -> None:
    answers = Scorer(noisy_coin(1.0), num_draws, eval_seeds=3).answers(*coins(), 0)
    # The majority of the draws is correct: more than half of num_draws, which is odd.
    vote = stats.binom.sf(num_draws // 2, num_draws, SINGLE)
    assert answers.correct.shape == answers.draws.shape == (3, NUMBER)
    assert abs(answers.correct.mean() - vote) < error(vote, 3 * NUMBER)
    draws = 3 * NUMBER * (10 if num_draws > 1 else 1)
    assert abs(answers.draws.mean() - SINGLE) < error(SINGLE, draws)
    # Ten independent answers: 0.6915^10 = 0.025, 0.842^10 = 0.18, 0.979^10 = 0.81.
    assert abs(answers.worst.mean() - vote**10) < error(vote**10)
    assert not answers.worst[~answers.correct.all(axis=0)].any()


def test_only_answers_in_doubt_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Draws of the three groups are correct with probability 1, 0.69 and 0: settled, open, lost.
    images = np.concatenate([coins(pixel, 100)[0] for pixel in (6.0, PIXEL, -6.0)])
    asked: list[np.ndarray] = []
    predictions = Scorer.predictions

    def recorded(self: Scorer, some: np.ndarray, *seed: int, label: str) -> np.ndarray:
        asked.append(some)
        return predictions(self, some, *seed, label=label)

    monkeypatch.setattr(Scorer, "predictions", recorded)
    answers = Scorer(noisy_coin(1.0), 50, eval_seeds=3).answers(images, np.ones(300, int), 0)
    assert len(asked) == 7  # ten answers are three and seven
    assert all((some == np.float32(PIXEL)).all() and 0 < len(some) <= 100 for some in asked)
    assert answers.worst[:100].all() and not answers.worst[200:].any()
    vote = stats.binom.sf(25, 50, SINGLE) + 0.5 * stats.binom.pmf(25, 50, SINGLE)
    assert abs(answers.worst[100:200].mean() - vote**10) < error(vote**10, 100)
    # With ten seeds, everything is there already.
    asked.clear()
    every = Scorer(noisy_coin(1.0), 50, eval_seeds=10).answers(images, np.ones(300, int), 0)
    assert asked == [] or all(len(some) == 0 for some in asked)
    np.testing.assert_array_equal(every.worst, every.correct.all(axis=0))


def test_where_drawing_stops_early_no_answer_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(noisy_coin(1.0), 50, eval_seeds=3, stop_error=0.05)
    asked: list[int] = []
    monkeypatch.setattr(
        Scorer, "predictions", lambda self, x, *_, label: asked.append(len(x)) or np.ones(len(x))
    )
    assert scorer.answers(*coins(6.0, 20), 0).worst.all() and asked == [20] * 7


def test_the_accuracies_of_a_deterministic_model_are_one() -> None:
    images, labels = coins(number=8)
    labels[:2] = 0
    answers = Scorer(noisy_coin(0.0), num_draws=50, eval_seeds=3).answers(images, labels, 0)
    found = score(images, images, answers.correct, answers)
    assert found.accuracy == found.average == found.worst_of_10 == 0.75
    assert found.average_std == found.accuracy_std == 0


def test_a_score_has_intervals_and_spreads_of_its_own_seeds() -> None:
    images = np.zeros((100, 1, 1, 1))
    correct = np.zeros((2, 100), bool)
    correct[0, :50] = correct[1, :60] = True
    draws = np.full((2, 100), 0.25)
    draws[1] = 0.75
    found = score(images, images, correct, Answers(correct, draws, correct.all(axis=0)))
    assert (found.accuracy, found.average, found.worst_of_10) == (0.55, 0.5, 0.5)
    assert found.accuracy_std == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert found.average_std == pytest.approx(np.std([0.25, 0.75], ddof=1))
    # Clopper and Pearson for 50 of 100, as in tables: 0.3983 to 0.6017.
    assert found.average_low == found.worst_of_10_low == pytest.approx(0.3983, abs=1e-4)
    assert found.average_high == found.worst_of_10_high == pytest.approx(0.6017, abs=1e-4)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx(interval(0.55, 100))


def test_an_interval_rounds_a_part_of_a_success_outwards() -> None:
    assert interval(0.57, 100) == pytest.approx((0.4671, 0.6686), abs=1e-4)  # 57, not 56.99...
    low, high = interval(0.575, 100)
    assert (low, high) == (interval(0.57, 100)[0], interval(0.58, 100)[1])
    assert interval(0.0, 10)[0] == 0 and interval(1.0, 10)[1] == 1


def test_the_terminal_shows_three_accuracies_and_says_what_they_are() -> None:
    three = {
        "accuracy_low": 0.5,
        "accuracy_high": 0.7,
        "average": 0.55,
        "average_std": 0.01,
        "worst_of_10": 0.45,
    }
    rows = [
        attacked(accuracy=0.6, eval_seeds=3, accuracy_std=0.01, **three),
        make_row(
            "none", accuracy=0.9, accuracy_low=0.8, accuracy_high=0.95, average=0.9, worst_of_10=0.9
        ),
    ]
    header, _, noisy, plain, *notes = reporting.format_table(rows).splitlines()
    for name, first, second in (
        ("95 % interval", "50.0-70.0", "80.0-95.0"),
        ("average %", "55.00", "-"),
        ("worst of 10 %", "45.00", "-"),
    ):
        end = header.index(name) + len(name)  # the columns are aligned to the right
        assert noisy[:end].endswith(first) and plain[:end].endswith(second)
        assert any(note.startswith(f"{name}: ") for note in notes)
    assert "60.00 +- 1.00" in noisy
    assert "average" not in reporting.format_table(rows[1:])


def test_every_stream_of_random_numbers_is_there_once() -> None:
    streams = {name: value for name, value in vars(seeds).items() if name.isupper()}
    assert len(set(streams.values())) == len(streams)
    # Cached images and trained networks are found by these.
    assert (streams["ATTACK"], streams["BAGGING"], streams["GAUSS_NOISE"]) == (
        0xA77AC,
        0xBA66,
        0x6A55,
    )
