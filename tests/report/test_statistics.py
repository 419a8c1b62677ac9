"""Statistics against cases worked by hand, loops, and integrals of other distributions."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from craft_jax.report import statistics


def test_a_spread_worked_by_hand():
    """1, 2, 3, 4, 5: SD sqrt(10/4), t of 4 degrees of freedom 2.776445 (any table's)."""
    found = statistics.spread([1, 2, 3, 4, 5])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)
    assert found[:2] == (5, 3.0)
    assert found[2:] == pytest.approx((math.sqrt(2.5), 3 - half, 3 + half), rel=1e-7)


def test_a_spread_of_few_or_equal_values_has_no_nan():
    assert statistics.spread([]) == (0, None, None, None, None)
    assert statistics.spread([7.0]) == (1, 7.0, None, None, None)
    # With one degree of freedom t is Cauchy's: tan(0.475 pi) = 12.706205
    two = statistics.spread([70.0, 72.0])
    assert two[:3] == pytest.approx((2, 71.0, math.sqrt(2)))
    assert two.high - 71.0 == pytest.approx(math.tan(0.475 * math.pi), rel=1e-9)
    third = 100 / 3
    equal = statistics.spread([third, third + 1e-14, third])
    assert equal.n == 3 and equal.sd == 0.0 and equal.low == equal.high == equal.mean


def test_a_paired_test_worked_by_hand():
    """Differences 1, 2, 3: mean 2, SD 1, t = 2 sqrt(3); p of 2 degrees of freedom is 1 - t/sqrt(2 + t^2)."""
    found = statistics.paired_test([71.0, 74.0, 72.0], [70.0, 72.0, 69.0])
    t = 2 * math.sqrt(3)
    assert found[:3] == pytest.approx((t, 1 - t / math.sqrt(2 + t * t), 2.0), rel=1e-9)
    assert found.wilcoxon_p is None and found.why_not == ""


def test_a_paired_test_is_scipys_of_differences_against_zero():
    random = np.random.RandomState(0)
    first, second = random.normal(70, 1, 8), random.normal(69, 1, 8)
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = math.fsum(differences) / 8
    sd = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / 7)
    found = statistics.paired_test(first, second)
    assert found.d_z == pytest.approx(mean / sd, rel=1e-12)
    assert found.t == pytest.approx(mean / sd * math.sqrt(8), rel=1e-12)
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=1e-9)


def test_wilcoxon_from_six_pairs_on():
    """All of one sign: two of the 2^n patterns are as extreme. With five that is 0.0625, never below 0.05."""
    first = np.array([1.0, 2, 3, 4, 5, 6])
    assert statistics.paired_test(first, np.zeros(6)).wilcoxon_p == pytest.approx(2 / 2**6)
    assert statistics.paired_test(first[:5], np.zeros(5)).wilcoxon_p is None
    # The one negative difference has rank 1: rank sums 0 and 1, two patterns on each side.
    assert statistics.paired_test(first * [-1, 1, 1, 1, 1, 1], np.zeros(6)).wilcoxon_p == pytest.approx(
        4 / 64
    )


def test_no_test_of_two_pairs_and_none_of_equal_differences():
    two = statistics.paired_test([1.0, 2.0], [0.0, 0.5])
    assert two[:4] == (None,) * 4 and two.why_not == "2 pairs: no test below 3"
    assert "1 pair:" in statistics.paired_test([1.0], [0.0]).why_not
    # Differences of 10 but for rounding, which would make t of 1e15.
    first, second = [80.1, 81.3, 90.7], [70.0, 71.2, 80.6]
    assert len({a - b for a, b in zip(first, second, strict=True)}) > 1
    equal = statistics.paired_test(first, second)
    assert equal[:4] == (None,) * 4 and "identical differences" in equal.why_not


def test_holm_worked_by_hand():
    """0.01, 0.02, 0.03, 0.04 of four: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04, made monotone."""
    assert statistics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_counts_what_could_not_be_tested():
    found = statistics.holm([None, 0.01, None, 0.03])
    assert found[0] is None and found[2] is None
    assert (found[1], found[3]) == pytest.approx((0.04, 0.09))  # times 4 and 3
    for p in (0.0, 0.005, 0.02, 0.5, 1.0):  # whatever the test yields, the others do not rise
        done = statistics.holm([p, 0.01, 1.0, 0.03])
        assert done[1] <= found[1] and done[3] <= found[3]


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (3, 0.05 / 20), (5, 0.05), (5, 0.01), (34, 0.05)])
def test_the_least_difference_has_its_power(n, alpha):
    """Power as an integral over the chi of the standard deviation, with normal tails: no noncentral t."""
    shift = statistics.least_difference(2.0, n, alpha) * math.sqrt(n) / 2.0
    critical = stats.t.ppf(1 - alpha / 2, n - 1)

    def found(s):  # the chance to reject at the standard deviation s / sqrt(n - 1)
        edge = critical * s / math.sqrt(n - 1)
        return stats.chi.pdf(s, n - 1) * (stats.norm.cdf(shift - edge) + stats.norm.cdf(-shift - edge))

    power, _ = integrate.quad(found, 0, stats.chi.isf(1e-12, n - 1), epsabs=1e-10, limit=200)
    assert power == pytest.approx(0.8, abs=1e-8)


def test_the_least_difference_is_that_of_the_tables():
    """A paired t-test for d_z = 0.5 needs 34 pairs for 80% at 0.05, two-sided, as G*Power says."""
    assert statistics.least_difference(1.0, 34) < 0.5 < statistics.least_difference(1.0, 33)
    assert statistics.least_difference(3.0, 5) == pytest.approx(3 * statistics.least_difference(1.0, 5))
    assert statistics.least_difference(1.0, 2) is None
    assert statistics.least_difference(0.0, 5) is None and statistics.least_difference(None, 1) is None


def bootstrap_by_loops(first, second, resamples, seed):
    """Images drawn with replacement one by one, all cells of each together."""
    random = np.random.RandomState(seed)
    cells, images = first.shape
    means = []
    for _ in range(resamples):
        total = 0.0
        for i in random.randint(images, size=images):
            total += sum(float(first[c, i]) - float(second[c, i]) for c in range(cells))
        means.append(100 * total / (cells * images))
    return np.percentile(means, [2.5, 97.5])


def test_the_bootstrap_draws_images_with_all_their_cells():
    random = np.random.RandomState(0)
    hard = random.rand(60) < 0.4  # images that the second gets wrong in every cell
    first = random.rand(5, 60) < 0.9
    second = (random.rand(5, 60) < 0.9) & ~hard
    difference, low, high = statistics.over_images(first, second)
    assert difference == pytest.approx(100 * (first.mean() - second.mean()), abs=1e-12)
    assert (low, high) == pytest.approx(bootstrap_by_loops(first, second, 4000, 1), abs=1.5)
    cellwise = statistics.over_images(first.reshape(1, -1), second.reshape(1, -1))
    assert high - low > 1.3 * (cellwise[2] - cellwise[1])  # as if copies of an image were new images
    assert statistics.over_images(first, second) == (difference, low, high)


def test_the_bootstrap_of_one_cell_is_the_binomials():
    """Against a network that is always wrong, a resampled accuracy is a binomial share."""
    right = np.arange(200) < 140
    difference, low, high = statistics.over_images(right[None], np.zeros((1, 200), bool))
    assert difference == 70.0
    exact = 100 * stats.binom.ppf([0.025, 0.975], 200, 0.7) / 200
    assert (low, high) == pytest.approx(exact, abs=0.6)
    assert statistics.over_images(right[None], right[None]) == (0.0, 0.0, 0.0)
