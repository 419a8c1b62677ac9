"""Random numbers of an image's own key, 16 bits each: a tenth of what `jax.random` costs on a CPU.

A number is a hash of the key's 64 bits and of its place: triple32 (C. Wellons, "hash-prospector"), a
permutation of 32 bits that a search for the least avalanche bias found, where `jax.random` has 20
rounds of Threefry. Good for pictures; not for cryptography, nor for a network's weights. 16 bits are
more than 256 grey levels need: shares are exact to 2^-16, a Gaussian ends at 4.4 standard deviations.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32
from scipy import special, stats

LEVELS = 1 << 16


def words(key: Key[Array, ""], count: int) -> UInt32[Array, " {count}"]:
    """Random words of 32 bits, from one key of any kind."""
    first, second = jax.random.bits(key, (2,), "uint32")
    x = jnp.arange(count, dtype=jnp.uint32) + first
    x = (x ^ x >> 17) * np.uint32(0xED5AD4BB)
    x = (x ^ x >> 11 ^ second) * np.uint32(0xAC4C1B51)
    x = (x ^ x >> 15) * np.uint32(0x31848BAB)
    return x ^ x >> 14


def bits(key: Key[Array, ""], shape: tuple[int, ...]) -> Int[Array, "..."]:
    """Whole numbers, uniform in 0..65535: int32 of a shape."""
    return _halves(key, shape, lambda number: number)


def full_bits(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random words of 32 bits, of a shape, for what needs more than 16 bits."""
    return jax.lax.optimization_barrier(words(key, math.prod(shape))).reshape(shape)


def uniform(
    key: Key[Array, ""], shape: tuple[int, ...], low: float | int = 0.0, high: float | int = 1.0
) -> Float[Array, "..."]:
    """Uniform in (low, high): float32 of a shape."""
    step = (high - low) / LEVELS
    return _halves(key, shape, lambda number: low + step * (number.astype(jnp.float32) + 0.5))


def normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal, by a table of 65,536 quantiles: float32 of a shape."""
    table = jnp.asarray(_quantiles())
    return _halves(key, shape, lambda number: table.at[number].get(mode="promise_in_bounds"))


def log_gamma(key: Key[Array, ""], shape: tuple[int, ...], alpha: float | int) -> Float[Array, "..."]:
    """Logarithms of Gamma(alpha, 1), alpha > 0 static, by a table of 65,536 quantiles: float32 of a shape.

    `jax.random.loggamma` rejects until every draw is accepted, so that a GPU waits for the host.
    """
    table = jnp.asarray(_log_gammas(alpha))
    return _halves(key, shape, lambda number: table.at[number].get(mode="promise_in_bounds"))


def _halves(key, shape, function):
    """`function` of random 0..65535, elementwise: the lower halves of words, then the upper ones.

    The barrier keeps it a loop of its own, over one row: that is what vectorises.
    """
    count = math.prod(shape)
    pairs = words(key, (count + 1) // 2)
    halves = [function(half.astype(jnp.int32)) for half in (pairs & 0xFFFF, pairs >> 16)]
    return jax.lax.optimization_barrier(jnp.concatenate(halves))[:count].reshape(shape)


@functools.cache
def _quantiles():
    """(65536,) float32: the mean of each of as many equally likely parts, scaled to variance 1."""
    edges = stats.norm.pdf(special.ndtri(np.arange(LEVELS + 1) / LEVELS))
    means = (edges[:-1] - edges[1:]) * LEVELS
    return np.float32(means / means.std())


@functools.cache
def _log_gammas(alpha):
    """(65536,) float32: the logarithm of the median of each of as many equally likely parts.

    Near 0 the chance of less than x is x^alpha / Gamma(alpha + 1), and float64 may not hold x itself.
    """
    chances = (np.arange(LEVELS) + 0.5) / LEVELS
    near = (np.log(chances) + special.gammaln(alpha + 1)) / alpha
    with np.errstate(divide="ignore"):
        logs = np.log(special.gammaincinv(alpha, chances))
    return np.float32(np.where(near < -50, near, logs))
