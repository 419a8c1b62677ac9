"""Random numbers of an image's own key, 16 bits each: a third of what `jax.random` costs on a CPU.

The generator is JAX's default, Threefry-2x32 with 20 rounds (Salmon et al., "Parallel Random Numbers:
As Easy as 1, 2, 3", SC 2011), a hash of the key and a counter. `jax.random` throws half of each hash
away and spends 32 bits a number. Here 128 bits of hash are eight numbers, more than the 256 grey
levels need: shares are exact to 2^-16, and a Gaussian ends at 4.4 standard deviations.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

LEVELS = 1 << 16
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def words(key, count):
    """`count` random uint32, rounded up to an even number, from one key of any kind."""
    first, second = jax.random.bits(key, (2,), "uint32")
    keys = first, second, first ^ second ^ np.uint32(0x1BD11BDA)
    left = jnp.arange((count + 1) // 2, dtype=jnp.uint32) + first
    right = jnp.broadcast_to(second, left.shape)
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            left += right
            right = left ^ (right << np.uint32(rotation) | right >> np.uint32(32 - rotation))
        left += keys[(group + 1) % 3]
        right += keys[(group + 2) % 3] + np.uint32(group + 1)
    return jnp.concatenate([left, right])


def bits(key, shape):
    """Whole numbers, uniform in 0..65535: `shape` int32."""
    count = math.prod(shape)
    pairs = words(key, (count + 1) // 2)
    numbers = jnp.concatenate([pairs & 0xFFFF, pairs >> 16]).astype(jnp.int32)
    # The barrier keeps the hash a loop of its own, over a row: that is what vectorises.
    return jax.lax.optimization_barrier(numbers)[:count].reshape(shape)


def full_bits(key, shape):
    """Random `shape` uint32, for what needs more than 16 bits."""
    count = math.prod(shape)
    return jax.lax.optimization_barrier(words(key, count))[:count].reshape(shape)


def uniform(key, shape, low=0.0, high=1.0):
    """Uniform in (low, high): `shape` float32."""
    return low + (high - low) / LEVELS * (bits(key, shape).astype(jnp.float32) + 0.5)


def normal(key, shape):
    """Standard normal, by a table of 65,536 quantiles: `shape` float32."""
    return jnp.asarray(_quantiles()).at[bits(key, shape)].get(mode="promise_in_bounds")


@functools.cache
def _quantiles():
    """(65536,) float32: the mean of each of as many equally likely parts, scaled to variance 1."""
    edges = stats.norm.pdf(special.ndtri(np.arange(LEVELS + 1) / LEVELS))
    means = (edges[:-1] - edges[1:]) * LEVELS
    return np.float32(means / means.std())
