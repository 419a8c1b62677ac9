"""The corruptions' random numbers against the hash's definition and SciPy's distributions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from craft_jax.corruptions import draws, noise


@functools.partial(jax.jit, static_argnums=(0, 2))
def many(sampler, keys, shape):
    return jax.vmap(lambda key: sampler(key, shape))(keys)


def keys(count, kind=None):
    return jax.random.split(jax.random.key(5, impl=kind), count)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_words_are_triple32_of_the_place_with_the_key_in_it(kind):
    (key,) = keys(1, kind)
    first, second = (int(word) for word in jax.random.bits(key, (2,), "uint32"))
    for place, got in enumerate(np.asarray(draws.words(key, 50))):
        x = (place + first) % 2**32
        x = (x ^ x >> 17) * 0xED5AD4BB % 2**32
        x = (x ^ x >> 11 ^ second) * 0xAC4C1B51 % 2**32
        x = (x ^ x >> 15) * 0x31848BAB % 2**32
        assert got == x ^ x >> 14


def test_words_are_independent_within_and_between_keys():
    """Pairs of bytes, one place or one key apart, and sums over a key and over a place."""
    base = jax.random.key(0)
    folded = jax.vmap(functools.partial(jax.random.fold_in, base))(jnp.arange(1000))
    words = np.asarray(many(draws.words, folded, 4096)).astype(np.int64)
    chances = []
    for shift in (0, 16, 24):
        byte = words >> shift & 255
        for a, b in ((byte[:, 1:], byte[:, :-1]), (byte[1:], byte[:-1]), (byte, words >> 8 & 255)):
            chances.append(stats.chisquare(np.bincount((a << 8 | b).ravel(), minlength=65536)).pvalue)
    uniform = (words + 0.5) / 2**32 - 0.5
    for axis in (0, 1):
        sums = uniform.sum(axis) / np.sqrt(words.shape[axis] / 12)
        chances.append(stats.kstest(sums, stats.norm.cdf).pvalue)
        above = stats.chi2.sf((sums**2).sum(), sums.size)
        chances.append(2 * min(above, 1 - above))
    assert min(chances) > 1e-4, chances


@pytest.mark.parametrize("count", [1, 2, 5, 3072])
def test_numbers_are_the_words_halves(count):
    (key,) = keys(1)
    words = np.asarray(draws.words(key, (count + 1) // 2))
    want = np.concatenate([words & 0xFFFF, words >> 16])[:count]
    np.testing.assert_array_equal(draws.bits(key, (count,)), want)
    np.testing.assert_array_equal(draws.full_bits(key, (count,)), draws.words(key, count))


def test_uniform_and_normal_are_what_they_say():
    uniform = np.asarray(many(draws.uniform, keys(100), (40, 50)), float).ravel()
    normal = np.asarray(many(draws.normal, keys(100), (40, 50)), float).ravel()
    assert stats.kstest(uniform, stats.uniform.cdf).pvalue > 1e-4
    assert stats.kstest(normal, stats.norm.cdf).pvalue > 1e-4
    for lag in (1, 2, 50, 1000):  # 1000: the two halves of a word
        for x in (uniform, normal):
            assert abs(np.corrcoef(x[lag:], x[:-lag])[0, 1]) < 4.5 / np.sqrt(x.size)


def test_every_16_bit_number_comes_up_evenly():
    counts = np.bincount(np.asarray(many(draws.bits, keys(400), (4096,))).ravel(), minlength=65536)
    assert counts.size == 65536 and stats.chisquare(counts).pvalue > 1e-4


def test_the_normal_table_has_the_normal_moments():
    table = draws._quantiles().astype(float)
    assert abs(table.mean()) < 1e-6 and abs(table.std() - 1) < 1e-6
    assert abs((table**4).mean() - 3) < 0.01
    middles = stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    np.testing.assert_allclose(table[10:-10], middles[10:-10], atol=1e-3)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_log_gammas_are_gamma(alpha):
    sampler = functools.partial(draws.log_gamma, alpha=alpha)
    found = np.asarray(many(sampler, keys(100), (40, 50)), float).ravel()
    assert stats.kstest(np.exp(found), stats.gamma(alpha).cdf).pvalue > 1e-4
    # Near 0 too, where a linear scale shows nothing: log x is stats.loggamma's.
    np.testing.assert_allclose(
        draws._log_gammas(alpha)[[0, 100, 30_000, -1]],
        stats.loggamma(alpha).ppf((np.array([0, 100, 30_000, 65_535]) + 0.5) / 65536),
        rtol=1e-5,
    )


def test_log_gammas_of_a_small_alpha_are_finite():
    """At 0.005 many are below what float64 holds; there the chance of less than x is x^a / Gamma(a + 1)."""
    table = draws._log_gammas(0.005).astype(float)
    assert np.isfinite(table).all() and (np.diff(table) >= 0).all() and table[0] < -2000
    chances = (np.arange(65536) + 0.5) / 65536
    below = table < -50
    np.testing.assert_allclose(np.exp(0.005 * table[below]) / special.gamma(1.005), chances[below], rtol=1e-5)


@pytest.mark.parametrize("photons", [500, 50])
def test_alias_tables_hold_the_poisson_distribution(photons):
    table = noise._shot_table(photons).reshape(256, 256)
    counts = np.arange(5000)
    levels = np.floor(np.clip(counts / photons, 0, 1) * 255).astype(int)
    for level in (0, 1, 100, 255):
        kept, other = (table[level] >> 8) / 65536, table[level] & 255
        got = (kept + np.bincount(other, 1 - kept, 256)) / 256
        chance = stats.poisson.pmf(counts, level / 255 * photons)
        np.testing.assert_allclose(got, np.bincount(levels, chance, 256), atol=2e-6)
