"""Noise: Gaussian, shot (Poisson), impulse (salt and pepper) and speckle.

Each function takes (key, image, severity): one image of whole grey levels 0..255 in float32,
to one on the same scale, neither clipped nor truncated. Source: Hendrycks & Dietterich 2019,
make_cifar_c.py and, for larger images, its relatives: see `settings`.
"""

import functools

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Key
from scipy import special

from craft_jax.corruptions import draws
from craft_jax.corruptions.ops import once
from craft_jax.corruptions.settings import Image, Severity, lookup, settings


def gaussian_noise(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """x + N(0, s), x in [0, 1]."""
    scale = settings("gaussian_noise", image.shape, severity, lambda s: 255 * s)
    return image + scale * draws.normal(key, image.shape)


def speckle_noise(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """x + x N(0, s), x in [0, 1]."""
    scale = settings("speckle_noise", image.shape, severity)
    return image + image * scale * draws.normal(key, image.shape)


def impulse_noise(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A share p of the channel elements becomes 0 or 255, half each; the others stay."""
    chance = draws.bits(key, image.shape)
    # Of 1%, 0.1% off; less of the others.
    half = settings("impulse_noise", image.shape, severity, lambda share: round(share / 2 * draws.LEVELS))
    salted = jnp.where(chance >= draws.LEVELS - half, 255.0, image)
    return jnp.where(chance < half, 0.0, salted)


def shot_noise(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Poisson(c x) / c, x in [0, 1], by an alias table (Walker 1974) for each of the 256 levels.

    Eight bits of a draw choose one of 256 equally likely entries, 16 bits decide between its two
    levels: one look-up, and chances exact to 2^-25. (`jax.random.poisson` takes 100 times as long
    and accepts threefry keys only.)
    """
    word = draws.full_bits(key, image.shape)
    first = (word >> 24).astype(jnp.int32)
    place = once(image.astype(jnp.int32) << 8 | first)
    entry = lookup("shot_noise", image.shape, severity, _shot_table, place)
    other = (word & 0xFFFF).astype(jnp.int32) >= entry >> 8
    return jnp.where(other, entry & 255, first).astype(jnp.float32)


@functools.cache
def _shot_table(photons) -> npt.NDArray[np.int32]:
    """(65536,): at 256 level + k, in units of 2^-16 the share of level k in entry k, times 256, plus
    the level that has the rest of the entry."""
    counts = np.arange(photons)
    levels = np.floor(counts / photons * 255).astype(int)  # several counts may be one level
    cumulative = special.pdtr(counts, np.arange(256)[:, None] / 255.0 * photons)
    chance = np.zeros((256, 256))
    np.add.at(chance.T, levels, np.diff(cumulative, axis=1, prepend=0).T)
    chance[:, 255] += 1 - cumulative[:, -1]
    return _alias(chance)


def _alias(chance):
    """The table of `_shot_table` for chances (256, 256), rows summing to 1: in each row, again and
    again, the least entry is filled up from the fullest, and closed."""
    share, rows = chance * 256, np.arange(256)
    kept, other = np.ones((256, 256)), np.tile(rows, (256, 1))
    least = share.copy()  # infinite where closed
    for _ in range(255):
        low, high = least.argmin(1), np.where(np.isinf(least), -1, least).argmax(1)
        kept[rows, low], other[rows, low] = least[rows, low], high
        least[rows, high] -= 1 - least[rows, low]
        least[rows, low] = np.inf
    kept = np.clip(np.round(kept * 65536), 0, 65535).astype(np.int32)
    return (kept << 8 | other).ravel().astype(np.int32)


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
}
