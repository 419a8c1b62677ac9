"""Statistics over seeds, of pairs of runs and over test images; pure numbers, by SciPy.

A statistic that is not defined is None, never NaN.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import optimize, stats

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of the tests whose power is told
POWER = 0.8
LEAST_PAIRS = 3  # for a test: with two, t has one degree of freedom and says next to nothing
LEAST_PAIRS_WILCOXON = 6  # with five, its least two-sided p is 2 / 2^5 = 0.0625
RESAMPLES = 10_000
_SEED = 0  # of the bootstrap: the same files give the same interval
_DECIMALS = 9  # beyond them differences differ by rounding alone: 1/75 of an image in 10,000 is 1e-4


class Spread(NamedTuple):
    """Values and the mean that they are a sample of.

    Attributes:
      n: how many.
      mean: None of none.
      sd: sample standard deviation (n - 1); None below two.
      low, high: 95% t-interval of the mean; None below two.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


class Test(NamedTuple):
    """A test of paired differences against 0, two-sided.

    Attributes:
      t, p: of the paired t-test.
      d_z: Cohen's, the differences' mean in their standard deviations.
      wilcoxon_p: of the signed-rank test; None below `LEAST_PAIRS_WILCOXON` pairs.
      why_not: why there is none, and all of these are None; else "".
    """

    __test__ = False  # no test of pytest's

    t: float | None
    p: float | None
    d_z: float | None
    wilcoxon_p: float | None
    why_not: str


def spread(values):
    """The Spread of a sequence of numbers; equal ones have SD 0 and an interval of no width."""
    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 2:
        return Spread(n, float(values[0]) if n else None, None, None, None)
    mean = float(values.mean())
    if _are_equal(values):
        return Spread(n, mean, 0.0, mean, mean)
    sd = float(values.std(ddof=1))
    low, high = stats.t.interval(LEVEL, n - 1, loc=mean, scale=sd / np.sqrt(n))
    return Spread(n, mean, sd, float(low), float(high))


def paired_test(first, second):
    """The Test of the differences first - second, whose entries i belong together."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    differences = first - second
    n = len(differences)
    if n < LEAST_PAIRS:
        pairs = "1 pair" if n == 1 else f"{n} pairs"
        return Test(None, None, None, None, f"{pairs}: no test below {LEAST_PAIRS}")
    if _are_equal(differences):
        return Test(None, None, None, None, "identical differences (SD 0)")
    t, p = stats.ttest_rel(first, second)
    wilcoxon = None
    if n >= LEAST_PAIRS_WILCOXON:
        wilcoxon = float(stats.wilcoxon(np.round(differences, _DECIMALS)).pvalue)  # ties are ties
    return Test(float(t), float(p), float(differences.mean() / differences.std(ddof=1)), wilcoxon, "")


def _are_equal(values):
    return bool(np.ptp(np.round(values, _DECIMALS)) == 0)


def holm(p_values):
    """Holm's step-down correction (1979): the i-th least p of m times m - i + 1, made monotone, at most 1.

    Args:
      p_values: of all planned comparisons; None where one could not be tested, which counts as p = 1: its
        test, once it is made, can only lower the others.
    Returns:
      As many; None for None.
    """
    corrected, least = [None] * len(p_values), 0.0
    tested = [i for i, p in enumerate(p_values) if p is not None]
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def least_difference(sd, n, alpha=ALPHA):
    """The true difference that a two-sided paired t-test of n pairs finds in `POWER` of all cases.

    Exact, from the noncentral t distribution, taking the measured standard deviation as the true one.

    Args:
      sd: of the differences.
      n: pairs.
      alpha: the test's level.
    Returns:
      In the unit of `sd`; None below `LEAST_PAIRS` pairs and at SD 0.
    """
    if n < LEAST_PAIRS or not sd:
        return None
    critical = stats.t.isf(alpha / 2, n - 1)

    def missing(shift):
        # The lower tail as an upper one of the mirrored distribution: `nct.cdf` is NaN far out.
        found = stats.nct.sf(critical, n - 1, shift) + stats.nct.sf(critical, n - 1, -shift)
        return found - POWER

    shift = optimize.brentq(missing, 0.0, 1.5 * critical + 3.0)
    return float(shift * sd / np.sqrt(n))


def over_images(first: Bool[np.ndarray, "C N"], second: Bool[np.ndarray, "C N"]):
    """Bootstrap of the difference in accuracy of two networks over test images.

    An image is a cluster: all its corrupted copies are drawn together. Resampling images and averaging needs
    only how often each difference occurs among them, which under resampling is multinomial.

    Args:
      first, second: whether each of N images is classified rightly in each of C cells.
    Returns:
      (difference, low, high) in points of accuracy: first minus second, and its 95% percentile interval.
    """
    cells, images = np.shape(first)
    gained = np.sum(first, axis=0, dtype=np.int64) - np.sum(second, axis=0, dtype=np.int64)
    values, counts = np.unique(gained, return_counts=True)
    drawn = np.random.default_rng(_SEED).multinomial(images, counts / images, size=RESAMPLES)
    means = 100.0 / (cells * images) * (drawn @ values)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return 100.0 * float(gained.sum()) / (cells * images), float(low), float(high)
