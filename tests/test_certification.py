"""Certificates of classifiers whose radius is known, and what no certificate is given for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from digits import some_digits
from scipy import stats
from smoothed import NORM, at_distances, linear, without_time

import rse_tf
from rse_tf.evaluation import Certificate, certification, certified_accuracy, certify
from rse_tf.evaluation.confidence import lower_bound

DISTANCES = np.linspace(0.02, 0.4, 8)
ONES = np.ones(8, int)


def radii_between(probability: np.ndarray, sigma: float, n: int, alpha: float) -> np.ndarray:
    """Radii of the smallest and the largest number of votes out of a million repetitions."""
    counts = [stats.binom.ppf(error, n, probability) for error in (1e-6, 1 - 1e-6)]
    bounds = [lower_bound(count.astype(int), n, alpha) for count in counts]
    return np.array([np.where(b > 0.5, sigma * stats.norm.ppf(b), 0) for b in bounds])


# A linear classifier at distance a: p = Phi(a / sigma), and the radius is a.


@pytest.mark.parametrize("own_noise", [0.0, 0.25])
def test_the_radius_of_a_linear_classifier_is_its_distance(own_noise: float) -> None:
    sigma, n, alpha = 0.25, 4_000, 0.001
    given = None if own_noise else sigma  # with noise of its own, that is switched off
    found = certify(linear(own_noise), at_distances(DISTANCES), ONES, given, n=n, alpha=alpha)
    low, high = radii_between(stats.norm.cdf(DISTANCES / sigma), sigma, n, alpha)
    radii = np.array([one.radius for one in found])
    assert (low <= radii).all() and (radii <= high).all()
    assert (radii <= DISTANCES).all() and (radii[2:] > 0.8 * DISTANCES[2:]).all()
    assert all(one.correct for one in found[1:])
    # Votes and mean probability are the same here; the bound of the latter is looser.
    means = np.array([one.mean_radius for one in found])
    assert (means <= radii).all() and (means[2:] > 0.6 * DISTANCES[2:]).all()


@pytest.mark.parametrize("sampler", ["pool", "exact"])
def test_the_radius_with_noise_inside(sampler: str) -> None:
    # z = w.x + b + s u: p = Phi(a ||w|| / sqrt(sigma^2 ||w||^2 + s^2)).
    sigma, inner, n, alpha = 0.25, 1.5, 4_000, 0.001
    model = linear(sigma, inner, sampler=sampler)
    found = certify(model, at_distances(DISTANCES), ONES, n=n, alpha=alpha)
    probability = stats.norm.cdf(DISTANCES * NORM / np.hypot(sigma * NORM, inner))
    low, high = radii_between(probability, sigma, n, alpha)
    radii = np.array([one.radius for one in found])
    assert (low <= radii).all() and (radii <= high).all()
    limit = sigma * DISTANCES * NORM / np.hypot(sigma * NORM, inner)
    assert (radii <= limit).all() and (radii[3:] > 0.75 * limit[3:]).all()


def test_the_radius_by_the_mean_probability() -> None:
    # The probability of class 1 is the logistic function of 2 * scale * z. Its mean over the
    # noise is an integral over one normal number.
    sigma, n, alpha, scale = 0.25, 4_000, 0.001, 1.0
    found = certify(linear(scale=scale), at_distances(DISTANCES), ONES, sigma, n=n, alpha=alpha)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z = NORM * (DISTANCES[:, None] + sigma * nodes)
    mean = (1 / (1 + np.exp(-2 * scale * z))) @ weights / weights.sum()
    limit = sigma * stats.norm.ppf(mean)
    radii = np.array([one.mean_radius for one in found])
    assert (radii <= limit).all()
    # Hoeffding at alpha / 2, from a sample mean that is 5 standard errors too low at worst.
    lowest = mean - np.sqrt(np.log(2 / alpha) / (2 * n)) - 5 * 0.5 / np.sqrt(n)
    assert (radii >= np.where(lowest > 0.5, sigma * stats.norm.ppf(lowest), 0)).all()
    assert (radii[4:] > 0).all() and all(one.mean_correct for one in found[4:])


@pytest.mark.parametrize("z", [0.8, 0.0])
def test_a_certificate_fails_as_rarely_as_it_says(z: float) -> None:
    # 3,000 certificates of one image, each of 60 votes of its own, p = Phi(z). How often the bound
    # exceeds p follows from the binomial law; at z = 0 both classes are alike, and it would do so
    # twice as often if the votes that choose the class were counted again.
    sigma, n, alpha, repeats = 0.25, 60, 0.05, 3_000
    images = at_distances(np.full(repeats, z * sigma))
    found = certify(
        linear(), images, np.ones(repeats, int), sigma, n0=n, n=n, alpha=alpha, batch_size=10_000
    )
    wrong = sum(one.radius > z * sigma for one in found)
    counts, probability = np.arange(n + 1), stats.norm.cdf(z)
    too_high = lower_bound(counts, n, alpha) > probability
    share = stats.binom.pmf(counts, n, probability)[too_high].sum()
    assert 0.02 < share <= alpha
    # 4.5 standard deviations.
    assert abs(wrong - repeats * share) < 4.5 * np.sqrt(repeats * share * (1 - share))


def test_at_the_decision_it_abstains() -> None:
    (one,) = certify(linear(), at_distances(np.zeros(1)), [1], 0.25, n=1_000, alpha=1e-6)
    assert (one.predicted, one.radius, one.correct) == (certification.ABSTAIN, 0, False)
    assert (one.mean_predicted, one.mean_radius, one.mean_correct) == (-1, 0, False)


def test_certified_accuracy_by_hand() -> None:
    rows = [(0, 0.0, 1, 0.3), (1, 0.5, 1, 0.6), (1, 0.3, 1, 0.0), (-1, 0.0, -1, 0.0)]
    found = [Certificate(i, 1, *row, seconds=0.0) for i, row in enumerate(rows)]
    assert [certified_accuracy(found, r) for r in (0, 0.25, 0.5, 0.75)] == [0.5, 0.5, 0.25, 0]
    assert [certified_accuracy(found, r, by_mean=True) for r in (0, 0.25, 0.5)] == [0.75, 0.5, 0.25]


# What the numbers follow from.


def small_network(**settings: object) -> keras.Model:
    defaults = {"init_noise": 0.25, "inner_noise": 0.1}
    return rse_tf.models.build(
        "mnist_cnn",
        input_shape=(28, 28, 1),
        **{**defaults, **settings},  # type: ignore[arg-type]
    )


def test_the_numbers_follow_from_seed_and_image_not_from_the_batch() -> None:
    model = small_network()
    images, labels = some_digits(6)
    images = (images / 255).astype(np.float32)
    found = certify(model, images, labels, n0=30, n=110)
    again = certify(model, images, labels, n0=30, n=110)
    assert without_time(again) == without_time(found)
    other = certify(model, images, labels, n0=30, n=110, seed=1)
    assert without_time(other) != without_time(found)
    # Sums in another order, and kernels for other sizes, round the mean differently.
    for options, part in (
        ({"batch_size": 60}, slice(None)),
        ({"indices": [2, 5], "batch_size": 1_000}, [2, 5]),
    ):
        some = certify(model, images[part], labels[part], n0=30, n=110, **options)
        for one, whole in zip(some, np.array(found, object)[part]):
            assert one.predicted == whole.predicted and one.index == whole.index
            assert one.radius == whole.radius
            assert one.mean_radius == pytest.approx(whole.mean_radius, abs=1e-5)


def test_one_hot_labels_and_functions_will_do() -> None:
    model, images = linear(), at_distances(DISTANCES)
    found = certify(model, images, np.eye(2)[ONES], 0.25, n=200)
    assert without_time(found) == without_time(certify(model, images, ONES, 0.25, n=200))
    by_function = certify(lambda x: model(x), images, ONES, 0.25, n=200)
    assert without_time(by_function) == without_time(found)


def test_the_noise_of_the_model_is_its_own_again_afterwards() -> None:
    model, image = linear(0.25, 1.0), at_distances(np.zeros(64))
    certify(model, image[:1], [1], n=50)
    assert len(np.unique(model(image).numpy()[:, 0])) == 64
    assert not any("call" in layer.__dict__ for layer in model.layers)


# Against an attack.


@pytest.mark.long
def test_no_attack_breaks_a_certified_image() -> None:
    images, labels = some_digits(1_000)
    images = (images / 255).astype(np.float32)
    model = small_network()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, epochs=6, verbose=0)
    images, labels = images[::50], labels[::50]
    found = certify(model, images, labels, n=500)
    # As far as so many votes reach: most of the images, under one attack.
    radius = max(one.radius for one in found)
    kept = [one for one in found if one.correct and one.radius == radius]
    assert len(kept) >= 8 and radius > 0.5
    chosen = [one.index for one in kept]
    attack = rse_tf.attacks.PGD(
        rse_tf.SelfEnsemble(model, 10),
        epsilon=0.98 * radius,
        step_size=0.25 * radius,
        steps=10,
        norm="l2",
    )
    adversarial = attack(images[chosen], labels[chosen]).adversarial
    distances = np.linalg.norm((adversarial - images[chosen]).reshape(len(kept), -1), axis=1)
    assert (distances < radius).all() and distances.max() > 0.9 * radius
    # Certain of another class on an attacked image, but for one chance in a million: none.
    numbers = np.add(chosen, 1_000)
    there = certify(model, adversarial, labels[chosen], n=500, alpha=1e-6, indices=numbers.tolist())
    for one, other in zip(kept, there):
        assert other.predicted in (one.predicted, certification.ABSTAIN)


# What cannot be.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stddev": 0.0}, "stddev must be a finite number > 0"),
        ({"n": 1}, "n must be an integer of at least 2"),
        ({"n0": 0}, "n0 must be an integer of at least 1"),
        ({"alpha": 1.0}, "alpha must be a probability"),
        ({"seed": 2**32}, "seed must be an integer from 0"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"labels": [1, 1]}, r"labels must be integer \[1\]"),
        ({"labels": [2]}, "labels must be classes from 0 to 1"),
        ({"images": np.full((1, 2, 2, 1), 255.0)}, r"images must be within bounds"),
        ({"indices": [1, 1]}, r"indices must be \[1\] different"),
        ({"indices": [-1]}, "indices must be from 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    arguments = {"images": at_distances(np.zeros(1)), "labels": [1], "stddev": 0.25} | options
    with pytest.raises(ValueError, match=f"certify: {message}"):
        certify(linear(), **arguments)


def test_a_model_that_returns_nan_under_noise_has_no_votes() -> None:
    def fragile(images: tf.Tensor) -> tf.Tensor:
        z = tf.reshape(images, [-1, 4])[:, :2]
        return tf.math.log(z + 0.4)  # of a negative number

    with pytest.raises(ValueError, match="model must be finite under noise"):
        certify(fragile, at_distances(np.zeros(1)), [1], 1.0, n=500)


def test_an_average_of_draws_is_not_a_vote() -> None:
    with pytest.raises(ValueError, match="pass ensemble.model"):
        certify(rse_tf.SelfEnsemble(linear(0.25), 3), at_distances(np.zeros(1)), [1])


def test_votes_that_depend_on_each_other_are_refused() -> None:
    model = linear()
    inputs = [keras.Input(model.input_shape[1:]), model, keras.layers.BatchNormalization()]
    network = keras.Sequential(inputs)
    images = at_distances(np.linspace(0.1, 0.4, 4))

    def of_batch_statistics(x: tf.Tensor) -> tf.Tensor:
        return network(x, training=True)

    with pytest.raises(ValueError, match="nothing else in the batch"):
        certify(of_batch_statistics, images, np.ones(4, int), 0.25, n=50)
    before = [weights.numpy() for weights in network.variables]
    certify(network, images, np.ones(4, int), 0.25, n=50)
    for weights, old in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(weights, old)


def test_half_precision_inside_gets_its_noise_in_float32() -> None:
    model = small_network(dtype="mixed_bfloat16")
    images, labels = some_digits(2)
    found = certify(model, (images / 255).astype(np.float32), labels, 0.25, n0=25, n=50)
    assert [one.index for one in found] == [0, 1]
