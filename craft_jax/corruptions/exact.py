"""Weighted sums of whole grey levels in integers, truncated where the original's float64 is.

The weights are constants and become integers of two or three words of some 20 bits, so that int32
holds the sum of each word's products without any rounding, on every device the same. What is left is
where the exact result is a whole level itself: there float64's own rounding decides.
"""

import functools
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from craft_jax.corruptions.ops import bordered, gaussian_taps, once

TOP = 23  # bits after the point of the mean's first word: 255 times 2^23 is just below 2^31
AT_ONCE = 24  # copies in memory, a byte a value


def words(weights: Iterable[float], *bits: int) -> list[Int[np.ndarray, " n"]]:
    """Float64 weights as integers of several words, one for each entry of `bits`, the first the highest.

    Weight i is sum_k words[k][i] 2^-(bits[0] + ... + bits[k]), to half the last word's unit.
    """
    scaled, out = [round(float(w) * 2 ** sum(bits)) for w in weights], []
    for size in bits[:0:-1]:
        out.append([w % 2**size for w in scaled])
        scaled = [w >> size for w in scaled]
    return [np.array(w, np.int32) for w in (scaled, *out[::-1])]


def gaussian_floor(image: Float[Array, "H W C"], sigma: float | int) -> Float[Array, "H W C"]:
    """Gaussian blur of whole levels, the border repeated, and truncated to whole levels.

    The result less the pixel is a sum of second differences, down, right and both, whose integers
    vanish together where the blur changes nothing. SciPy's float64 then falls short of the level for
    some levels: those for which it does in an even area (`_short`). At CIFAR's widest blur, 0.4, that
    is not so for 1 in 10 of the whole results that are not even areas: in 300 test images of CIFAR-10
    for 7 in a million values. At 0.25 it was so for all.
    """
    taps = gaussian_taps(sigma)
    radius, (height, width, step) = len(taps) // 2, image.shape
    if not radius:
        return image
    distances, side = range(1, radius + 1), taps[radius:]
    whole = bordered(image.astype(jnp.int16), radius, "edge")
    middle = whole[radius : radius + height]

    def right(plane, distance):
        return plane[:, (radius + distance) * step :][:, : width * step]

    def across(plane, d):
        return right(plane, -d) + right(plane, d) - 2 * right(plane, 0)

    def down(d):
        return once(whole[radius - d :][:height] + whole[radius + d :][:height] - 2 * middle)

    rows = {d: down(d) for d in distances}
    terms = [(side[d], across(middle, d) + right(rows[d], 0)) for d in distances]
    terms += [(side[d] ** 2, across(rows[d], d)) for d in distances]
    pairs = [(d, e) for d in distances for e in distances if d < e]
    terms += [(side[d] * side[e], across(rows[d], e) + across(rows[e], d)) for d, e in pairs]
    # The differences are at most 1020 for one direction, 2040 for both, 4080 for both both ways.
    bits = 31 - math.ceil(math.log2(3060 * radius + 4080 * len(pairs)))
    change, rest = _sum(terms, bits)
    own = right(middle, 0).astype(jnp.int32)
    short = (change == 0) & (rest == 0) & _among(own, _short(sigma))
    return (own + change - short).astype(image.dtype).reshape(image.shape)


def _sum(terms, bits):
    """sum of w x for (w, x) in `terms`, x integers: (its floor, whether there is a rest, as != 0)."""
    factors, planes = [w for w, _ in terms], [x.astype(jnp.int32) for _, x in terms]
    weights = words(factors, bits, bits, bits)
    sums = [sum(int(w) * x for w, x in zip(word, planes, strict=True) if w) for word in weights]
    high, mid, low = (jnp.int32(s) for s in sums)
    mid += low >> bits
    high += mid >> bits
    return high >> bits, (high | mid | low) & ((1 << bits) - 1)


@functools.cache
def _short(sigma):
    """(256,) booleans: for which level SciPy's blur of an even area is below it, times 255.

    Its sum, in float64: the middle, then the pairs from the outermost in, over rows, then columns.
    """
    radius = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    taps = (taps / taps.sum())[: radius + 1]
    levels = np.arange(256)
    x = levels / 255
    for _ in range(2):
        total = x * taps[radius]
        for tap in taps[:radius]:
            total += (x + x) * tap
        x = total
    return x * 255 < levels


def _among(levels, chosen):
    """Whether whole levels are among the chosen: `chosen` (256,) is static. Bits, no gather."""
    if not chosen.any():
        return jnp.zeros(levels.shape, bool)
    sets = np.packbits(chosen, bitorder="little").view("<i4")
    found = jnp.int32(int(sets[0]))
    for i, bits in enumerate(sets[1:], 1):
        found = jnp.where(levels >= 32 * i, jnp.int32(int(bits)), found)
    return (found >> (levels & 31)) & 1 == 1


def ray_words(weights: Float[np.ndarray, " n"], shift: float) -> Int[np.ndarray, "2 n+1"]:
    """The weights of `ray_floor` and what it adds, as integers.

    Args:
      weights: float64; their sum is 1. To 2^-39 or so they are exact. The split depends on n: fill
        rays of one program up with zeros to the same n.
      shift: levels, below 1/2.
    Returns:
      The higher words and the lower ones, those of `shift` last.
    """
    return np.stack(words([*weights, shift], TOP, _low_bits(len(weights))))


def _low_bits(count):
    return 30 - math.ceil(math.log2(255 * count))


def ray_floor(
    image: Float[Array, "H W C"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    weights: Int[Array | np.ndarray, "2 n+1"],
) -> Float[Array, "H W C"]:
    """The weighted mean of shifted copies of whole levels, plus a shift, truncated to whole levels.

    Args:
      image: whole levels 0..255; its border is repeated.
      rows, columns: below n in size, traced: where the sample for a pixel lies.
      weights: from `ray_words`; may be traced.

    Copies of bytes: many at a time, each moved once, at CIFAR's size more than twice as fast on a
    CPU as a float32 sum that moves them itself. The loop is what keeps XLA from repeating the sum of
    a grey layer (snow) for whatever uses it: half the speed, without.
    """
    (height, width, step), count = image.shape, len(rows)
    group, reach, shape = min(count, AT_ONCE if step > 1 else 8), count - 1, (height, width * step)
    high, low = jnp.asarray(weights)
    around = bordered(image.astype(jnp.uint8), reach, "edge")

    def add(sums, samples):
        rows, columns, high, low = samples
        copies = [jax.lax.dynamic_slice(around, (rows[i], columns[i]), shape) for i in range(group)]
        for i, copy in enumerate(jax.lax.optimization_barrier(copies)):
            levels = copy.astype(jnp.int32)
            sums = sums[0] + high[i] * levels, sums[1] + low[i] * levels
        return jax.lax.optimization_barrier(sums), None

    samples = rows + reach, (columns + reach) * step, high[:-1], low[:-1]
    samples = [jnp.pad(sample, (0, -count % group)).reshape(-1, group) for sample in samples]
    sums, _ = jax.lax.scan(add, (jnp.full(shape, high[-1]), jnp.full(shape, low[-1])), samples)
    levels = (sums[0] + (sums[1] >> _low_bits(count))) >> TOP
    return levels.astype(image.dtype).reshape(image.shape)
