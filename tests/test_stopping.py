"""Self-ensembles that stop when they are sure: the stated error, and the bookkeeping."""

from __future__ import annotations

import math
import pathlib

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from rse_tf.evaluation import Scorer, Stopping, measure_stopping
from rse_tf.layers import NoiseLayer, noise_state, set_noise_state
from rse_tf.models import SelfEnsemble, export_classifier
from rse_tf.models.stopping import looks


def voter(stddev: float = 1.0, classes: int = 2) -> keras.Model:
    """Images `[2]`: (x, 0) with noise. Votes for class 0 where x plus noise is positive."""
    inputs = keras.Input((2,))
    noisy = NoiseLayer(stddev, seed=3)(inputs)
    # So steep that a draw's probabilities are 0 or 1; further classes never win.
    logits = keras.layers.Dense(classes, use_bias=False)(noisy)
    model = keras.Model(inputs, logits)
    kernel = np.zeros((2, classes))
    kernel[0, :2] = 1e4, -1e4
    model.layers[-1].set_weights([kernel])
    return model


def images(*positions: float) -> np.ndarray:
    return np.array([[x, 0.0] for x in positions], np.float32)


@pytest.mark.parametrize("num_draws", [20, 50, 200])
@pytest.mark.parametrize("error", [0.01, 0.05, 0.2])
def test_no_vote_is_wrong_more_often_than_stated(num_draws: int, error: float) -> None:
    steps = looks(num_draws, error)
    assert all(look.draws < num_draws for look in steps)
    assert [look.lead for look in steps] == sorted((s.lead for s in steps), reverse=True)
    # Of all draws `ones` are for class 1, at least half. Class 0 has k of the first n by chance of
    # the order: hypergeometric. It wins wrongly with a lead of (2k - n) / n.
    for ones in range((num_draws + 1) // 2, num_draws + 1):
        wrong = 0.0
        for n, lead in steps:
            first = scipy.stats.hypergeom(num_draws, num_draws - ones, n)
            wrong += float(first.sf(math.ceil((1 + lead) * n / 2 - 1e-9) - 1))
        assert wrong <= error / 2  # there could be two classes like class 0
        # Of the classes with less behind them, the sum is smaller still.
        assert wrong <= error * (num_draws - ones) / num_draws


def test_a_unanimous_vote_saves_three_draws_of_four() -> None:
    assert looks(50, 0.05)[0].draws <= 50 / 4
    assert looks(50, 0.05)[0].lead < 0.9


def test_too_few_draws_decide_nothing_early() -> None:
    assert looks(2, 0.05) == []


def test_a_sure_image_stops_and_a_close_one_goes_on_whatever_their_batch() -> None:
    steps = looks(50, 0.05)
    model = voter()
    ensemble = SelfEnsemble(model, 50, stop_error=0.05)
    sure, close = 100.0, 0.02
    call = tf.function(ensemble.with_draws)
    for batch in ([sure, close, sure], [close, sure], [sure], [close, close]):
        _, draws = call(images(*batch))
        for position, taken in zip(batch, draws.numpy()):
            # A close vote looks decided after n of them with a probability of 2^(1 - n).
            assert (taken == steps[0].draws) == (position == sure)


def test_the_mean_is_over_the_draws_that_were_taken() -> None:
    model = voter()
    ensemble = SelfEnsemble(model, 50, max_rows=4, stop_error=0.05)
    state = noise_state(model)
    log_probs, draws = ensemble.with_draws(images(0.8))
    set_noise_state(model, state)
    # One image and four rows: four draws in each round until a look.
    votes: list[float] = []
    for end in [*(look.draws for look in looks(50, 0.05)), 50]:
        while len(votes) < min(end, int(draws[0])):
            rows = min(4, end - len(votes))
            noisy = model(images(*[0.8] * rows))
            votes += tf.nn.softmax(noisy)[:, 0].numpy().tolist()
    assert len(votes) == int(draws[0]) < 50
    np.testing.assert_allclose(math.exp(log_probs[0, 0]), np.mean(votes), atol=1e-6)


def test_without_a_stop_error_all_draws_are_taken() -> None:
    model = voter()
    log_probs, draws = SelfEnsemble(model, 7).with_draws(images(100.0, 0.1))
    assert draws.numpy().tolist() == [7, 7]
    assert log_probs.shape == (2, 2)
    empty, none = SelfEnsemble(model, 7, stop_error=0.1).with_draws(images()[:0].reshape(0, 2))
    assert empty.shape == (0, 2) and none.shape == (0,)


def test_a_stopping_ensemble_survives_saving(tmp_path: pathlib.Path) -> None:
    ensemble = SelfEnsemble(voter(), 50, stop_error=0.05)
    ensemble(images(1.0))
    ensemble.save(tmp_path / "e.keras")
    loaded = keras.models.load_model(tmp_path / "e.keras")
    assert loaded.stop_error == 0.05
    assert loaded.with_draws(images(100.0))[1].numpy() < 50


def test_a_stopping_ensemble_serves(tmp_path: pathlib.Path) -> None:
    ensemble = SelfEnsemble(voter(), 50, stop_error=0.05)
    export_classifier(ensemble, (2,), tmp_path / "served")
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    served = serve(images=tf.constant(images(100.0, -100.0, 0.01)))
    np.testing.assert_allclose(served["probabilities"][:2], np.eye(2), atol=1e-6)
    assert 0 < served["probabilities"][2, 0] < 1


@pytest.mark.parametrize("error", [0.0, 1.0, -0.1])
def test_an_impossible_error_is_refused(error: float) -> None:
    with pytest.raises(ValueError, match="stop_error must be .*Received: stop_error="):
        SelfEnsemble(voter(), stop_error=error)


def test_what_is_saved_and_lost_is_measured_on_the_same_draws() -> None:
    model, many = voter(), images(*np.linspace(-2, 2, 1000))
    found = measure_stopping(model, many, 50, 0.05)
    draws = SelfEnsemble(model, 50, stop_error=0.05).with_draws(many)[1].numpy()
    # Two samples of the same law: the standard error of a mean of 1,000 draws is below
    # 50 / 2 / sqrt(1000), the largest a number within [0, 50] can have.
    assert abs(found.mean_draws - draws.mean()) <= 5 * math.sqrt(2) * 25 / math.sqrt(1000)
    assert found.mean_draws < 40
    assert found.disagreement <= 0.05
    # Stopping whenever there is any lead at all is wrong far more often: the control.
    loose = measure_stopping(model, many, 50, 0.999)
    assert loose.disagreement > found.disagreement
    sure = measure_stopping(model, images(100.0, -100.0), 50, 0.05)
    assert sure == Stopping(looks(50, 0.05)[0].draws, 0.0)
    with pytest.raises(ValueError, match="at least one image"):
        measure_stopping(model, many[:0])


def test_the_scorer_stops_where_it_is_told() -> None:
    model, some = voter(), images(100.0, -100.0)
    scorer = Scorer(model, 50, eval_seeds=1, stop_error=0.05)
    assert scorer.classifier.stop_error == 0.05
    assert scorer.correct(some, np.array([0, 1])).all()
