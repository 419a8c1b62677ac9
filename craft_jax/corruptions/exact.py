"""Weighted sums of whole grey levels in integers, truncated where the original's float64 is.

The weights are constants and become integers of two or three words of some 20 bits, so that int32
holds the sum of each word's products without any rounding, on every device the same. What is left is
where the exact result is a whole level itself: there float64's own rounding decides.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax.corruptions.ops import bordered, gaussian_taps, once

TOP = 23  # bits after the point of the mean's first word: 255 times 2^23 is just below 2^31


def words(weights, *bits):
    """Float64 weights as integers: [(n,) int32 for each entry of `bits`], the first the highest.

    Weight i is sum_k words[k][i] 2^-(bits[0] + ... + bits[k]), to half the last word's unit.
    """
    scaled, out = [round(float(w) * 2 ** sum(bits)) for w in weights], []
    for size in bits[:0:-1]:
        out.append([w % 2**size for w in scaled])
        scaled = [w >> size for w in scaled]
    return [np.array(w, np.int32) for w in (scaled, *out[::-1])]


def gaussian_floor(image, sigma):
    """Gaussian blur of whole levels (H, W, C), the border repeated, and truncated to whole levels.

    The result less the pixel is a sum of second differences, down, right and both, whose integers
    vanish together where the blur changes nothing. SciPy's float64 then falls short of the level for
    some levels: the same as for an even area (`_short`), but for 1 in 10 of the pixels that are
    whole and not even, 7 in a million of all pixels at CIFAR's widest blur, none at the others.
    """
    taps = gaussian_taps(sigma)
    radius, (height, width, step) = len(taps) // 2, image.shape
    if not radius:
        return image
    distances, side = range(1, radius + 1), taps[radius:]
    whole = bordered(image.astype(jnp.int32), radius, "edge")
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
    own = right(middle, 0)
    short = (change == 0) & (rest == 0) & _among(own, _short(sigma))
    return (own + change - short).astype(image.dtype).reshape(image.shape)


def _sum(terms, bits):
    """sum of w x for (w, x) in `terms`, x of int32: (its floor, whether there is a rest, as != 0)."""
    weights = words([w for w, _ in terms], bits, bits, bits)
    sums = [sum(int(w) * x for w, (_, x) in zip(word, terms, strict=True) if w) for word in weights]
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
    """Whether whole levels are among the chosen: `chosen` (256,) is static. A gather, faster on CPUs."""
    if not chosen.any():
        return jnp.zeros(levels.shape, bool)
    sets = np.packbits(chosen, bitorder="little").view("<i4")
    found = jnp.int32(int(sets[0]))
    for i, bits in enumerate(sets[1:], 1):
        found = jnp.where(levels >= 32 * i, jnp.int32(int(bits)), found)
    return (found >> (levels & 31)) & 1 == 1


def ray_floor(padded, rows, columns, weights, shape, shift):
    """The weighted mean of windows of whole levels, plus `shift`, truncated to whole levels.

    Args:
      padded: (H', W', C) whole levels.
      rows, columns: (n,) integers, traced: where each window begins.
      weights: (n,) float64, static; their sum is 1. Below 2^-40 they count for nothing.
      shape: of a window, (H, W, C).
      shift: levels, below 1/2.
    """
    low_bits = 30 - math.ceil(math.log2(255 * len(weights)))
    (*high, high_shift), (*low, low_shift) = words([*weights, shift], TOP, low_bits)
    padded = padded.astype(jnp.int32)

    def add(sums, step):
        row, column, high, low = step
        window = jax.lax.dynamic_slice(padded, (row, column, 0), shape)
        return (sums[0] + high * window, sums[1] + low * window), None

    # A scan: unrolled in full, XLA would repeat the sum for whatever uses it (snow: 6 times over).
    start = (jnp.full(shape, high_shift), jnp.full(shape, low_shift))
    samples = (rows, columns, np.array(high), np.array(low))
    (high, low), _ = jax.lax.scan(add, start, samples, unroll=4)
    return (high + (low >> low_bits)) >> TOP
