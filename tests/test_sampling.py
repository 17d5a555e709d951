"""Both sources of noise against the laws they claim, by samples of four million."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from test_layers import LAWS

from rse_tf.layers.sampling import BLOCK, POOL_SIZE, SAMPLERS, quantile, sample_noise, unit_pool

N = 2**22  # four pools
BOTH = pytest.mark.parametrize(
    ("distribution", "sampler"), [(law, sampler) for law in LAWS for sampler in SAMPLERS]
)


@functools.cache
def sample(distribution: str, sampler: str, seed: int = 0) -> np.ndarray:
    """N numbers in one call, as a layer of 64 images draws them."""
    shape = tf.constant([64, N // 64])
    noise = sample_noise(shape, distribution, sampler, 1.0, tf.constant([3, seed]), tf.float32)
    return noise.numpy().ravel().astype(np.float64)


def many_calls(sampler: str, calls: int, size: int) -> np.ndarray:
    """`[calls, size]`: normal numbers of small calls, each with the next seed."""

    def draw(i: tf.Tensor) -> tf.Tensor:
        return sample_noise(
            tf.constant([size]), "gaussian", sampler, 1.0, tf.stack([7, i]), tf.float32
        )

    @tf.function
    def draw_all() -> tf.Tensor:
        return tf.map_fn(draw, tf.range(calls), fn_output_signature=tf.float32)

    return draw_all().numpy()


def moment(distribution: str, order: int) -> float:
    if order % 2:
        return 0.0
    return {
        "gaussian": float(np.prod(np.arange(order - 1, 0, -2))),
        "uniform": 3 ** (order / 2) / (order + 1),
        "laplace": math.factorial(order) / 2 ** (order / 2),
    }[distribution]


@BOTH
@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_moments_to_the_fourth_are_the_laws(distribution: str, sampler: str, power: int) -> None:
    expected = moment(distribution, power)
    # The mean of N draws of x^k has variance (E x^2k - (E x^k)^2) / N.
    stddev = math.sqrt((moment(distribution, 2 * power) - expected**2) / N)
    assert abs(np.mean(sample(distribution, sampler) ** power) - expected) <= 5 * stddev


@BOTH
def test_the_distribution_function_is_the_laws(distribution: str, sampler: str) -> None:
    law, _ = LAWS[distribution]
    # P(D > 2 / sqrt(N)) = 2 exp(-8) < 0.001, by Kolmogorov.
    distance = scipy.stats.kstest(sample(distribution, sampler), law.cdf).statistic
    assert distance <= 2 / math.sqrt(N)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
@pytest.mark.parametrize("bound", [3.0, 4.0, 4.5])
def test_tails_hold_as_much_as_the_laws(distribution: str, sampler: str, bound: float) -> None:
    law, _ = LAWS[distribution]
    for tail in (sample(distribution, sampler) > bound, sample(distribution, sampler) < -bound):
        p = float(law.sf(bound))
        assert abs(tail.sum() - N * p) <= 5 * math.sqrt(N * p)  # binomial


@BOTH
def test_neighbours_near_and_far_do_not_correlate(distribution: str, sampler: str) -> None:
    x = sample(distribution, sampler)
    for lag in (1, 2, 3, 16, 32, 64, BLOCK - 1, BLOCK, BLOCK + 1, N // 64, POOL_SIZE):
        # The product of independent numbers of variance 1 has variance 1.
        assert abs(np.mean(x[:-lag] * x[lag:])) <= 5 / math.sqrt(N - lag), lag
        # Nor do their magnitudes: |x| has mean m and variance 1 - m^2.
        size = np.abs(x) - np.abs(x).mean()
        assert abs(np.mean(size[:-lag] * size[lag:])) <= 5 * size.var() / math.sqrt(N - lag), lag


@BOTH
def test_no_position_has_a_mean_or_spread_of_its_own(distribution: str, sampler: str) -> None:
    # Such as a channel of a layer with 256 of them.
    columns = sample(distribution, sampler).reshape(-1, BLOCK)
    rows = len(columns)
    # Sums of 256 squared standard scores: chi-square, with standard deviation sqrt(2 * 256).
    means = columns.mean(axis=0) * math.sqrt(rows)
    spread = math.sqrt((moment(distribution, 4) - 1) / rows)
    variances = ((columns**2).mean(axis=0) - 1) / spread
    for scores in (means, variances):
        assert np.abs(scores).max() <= 5
        assert abs(np.sum(scores**2) - BLOCK) <= 5 * math.sqrt(2 * BLOCK)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_calls_do_not_correlate_at_any_shift(sampler: str) -> None:
    one, other = sample("gaussian", sampler), sample("gaussian", sampler, seed=1)
    # Circular cross-correlation at all N shifts, each normal with standard deviation sqrt(N):
    # the largest of N stays below sqrt(2 ln N) = 5.5 of these but for one time in N^1/2.
    product = np.fft.irfft(np.fft.rfft(one) * np.conj(np.fft.rfft(other)), N)
    assert np.abs(product).max() / math.sqrt(N) <= 6.5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_pixel_and_its_neighbour_over_many_calls(sampler: str) -> None:
    calls = 50_000
    x = many_calls(sampler, calls, size=8)
    for pixel in x.T:
        assert abs(pixel.mean()) <= 5 / math.sqrt(calls)
        assert scipy.stats.kstest(pixel, "norm").statistic <= 2 / math.sqrt(calls)
    correlations = np.corrcoef(x.T) - np.eye(8)
    assert np.abs(correlations).max() <= 5 / math.sqrt(calls)
    for one, two in (x[:-1, 0], x[1:, 0]), (x[:-1, 0] ** 2, x[1:, 0] ** 2):  # successive calls
        assert abs(np.corrcoef(one, two)[0, 1]) <= 5 / math.sqrt(calls)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_mean_of_n_draws_has_a_nth_of_the_variance(sampler: str) -> None:
    size, draws = 20_000, 50
    means = many_calls(sampler, draws, size).mean(axis=0)
    # A sample variance of normal numbers has standard deviation sqrt(2 / size) of itself.
    assert abs(means.var() * draws - 1) <= 5 * math.sqrt(2 / size)


@BOTH
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.float64])
def test_other_dtypes_hold_the_same_noise_rounded(
    distribution: str, sampler: str, dtype: tf.DType
) -> None:
    seed, shape = tf.constant([1, 2]), tf.constant([3, 1000])
    rounded = sample_noise(shape, distribution, sampler, 0.3, seed, dtype)
    full = sample_noise(shape, distribution, sampler, 0.3, seed, tf.float32).numpy()
    assert rounded.dtype == dtype
    spacing = max(np.finfo(dtype.as_numpy_dtype).eps if dtype != tf.bfloat16 else 2**-7, 2**-23)
    np.testing.assert_allclose(tf.cast(rounded, tf.float64), full, rtol=spacing, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("shape", [(0, 3), (1,), (31,), (33, 7), (2, 1, 513)])
def test_any_shape_is_filled_and_none_shares_the_numbers_of_another_seed(
    sampler: str, shape: tuple[int, ...]
) -> None:
    noise = [
        sample_noise(tf.constant(shape), "gaussian", sampler, 1.0, tf.constant([0, i]), tf.float32)
        for i in (1, 2)
    ]
    assert noise[0].shape == shape
    assert not np.any(noise[0] == noise[1])


@pytest.mark.parametrize("distribution", LAWS)
def test_the_pool_is_white_and_has_the_quantiles_of_its_law(distribution: str) -> None:
    pool = unit_pool(distribution)
    rows = len(pool)
    assert pool.shape == (POOL_SIZE // BLOCK, BLOCK)
    np.testing.assert_allclose(pool.mean(axis=0), 0, atol=1e-9)
    # All pairs of a block at once, with the variances on the diagonal.
    np.testing.assert_allclose(pool.T @ pool / rows, np.eye(BLOCK), atol=1e-9)
    law, _ = LAWS[distribution]
    exact = law.ppf((np.arange(POOL_SIZE) + 0.5) / POOL_SIZE)
    outermost = np.abs(exact) > 4
    np.testing.assert_allclose(np.sort(pool, axis=None)[~outermost], exact[~outermost], atol=0.02)
    np.testing.assert_allclose(np.sort(pool, axis=None)[outermost], exact[outermost], rtol=0.01)
    for column in pool.T[::16]:  # a pixel meets one column: a tenth of a random sample's distance
        assert scipy.stats.kstest(column, law.cdf).statistic <= 0.1 * 2 / math.sqrt(rows)


def test_no_pair_of_a_block_has_ranks_that_correlate() -> None:
    ranks = scipy.stats.rankdata(unit_pool("gaussian"), axis=0)
    correlations = np.corrcoef(ranks.T) - np.eye(BLOCK)
    # Of columns that were only shuffled the largest of 32,640 is 4.5 / 64 = 0.07.
    assert np.abs(correlations).max() <= 0.025


@BOTH
def test_pairs_of_a_block_are_as_white_as_the_sample_is_large(
    distribution: str, sampler: str
) -> None:
    blocks = sample(distribution, sampler).reshape(-1, BLOCK)
    found = np.linalg.eigvalsh(blocks.T @ blocks / len(blocks))
    # Marchenko and Pastur: of 16,384 independent rows of 256 from (1 - 1/8)^2 to (1 + 1/8)^2.
    edge = math.sqrt(BLOCK / len(blocks))
    assert (1 - edge) ** 2 - 0.02 <= found[0] and found[-1] <= (1 + edge) ** 2 + 0.02


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_filter_sees_the_variance_of_its_weights(sampler: str) -> None:
    blocks = sample("gaussian", sampler).reshape(-1, BLOCK)
    filters = np.random.default_rng(0).standard_normal((BLOCK, 200))
    filters /= np.linalg.norm(filters, axis=0)
    variances = (blocks @ filters).var(axis=0)
    # A sample variance of n normal numbers has standard deviation sqrt(2 / n); 200 of them.
    assert np.abs(variances - 1).max() <= 5 * math.sqrt(2 / len(blocks))


@pytest.mark.parametrize("distribution", LAWS)
def test_quantiles_invert_the_distribution_function(distribution: str) -> None:
    probability = np.linspace(1e-6, 1 - 1e-6, 1001)
    law, _ = LAWS[distribution]
    found = LAWS[distribution][0].cdf(quantile(distribution, probability))
    np.testing.assert_allclose(found, probability, atol=1e-12)
