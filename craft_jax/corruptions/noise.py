"""Noise: Gaussian, shot (Poisson), impulse (salt and pepper) and speckle.

Each function takes (key, image, severity): one image (H, W, 3) of whole grey levels 0..255 in
float32, to the same shape on the same scale, neither clipped nor truncated. Source: Hendrycks &
Dietterich 2019, make_cifar_c.py and, for larger images, its relatives: see `tables`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy import special

from craft_jax.corruptions.ops import draw
from craft_jax.corruptions.tables import settings


def gaussian_noise(key, image, severity):
    """x + N(0, s), x in [0, 1]."""
    scale = settings("gaussian_noise", image.shape, severity)
    return image + 255 * scale * draw(jax.random.normal, key, image.shape)


def speckle_noise(key, image, severity):
    """x + x N(0, s), x in [0, 1]."""
    scale = settings("speckle_noise", image.shape, severity)
    return image + image * scale * draw(jax.random.normal, key, image.shape)


def impulse_noise(key, image, severity):
    """A share p of the channel elements becomes 0 or 255, half each; the others stay."""
    amount = settings("impulse_noise", image.shape, severity)
    chance = draw(jax.random.uniform, key, image.shape)
    salted = jnp.where(chance >= 1 - amount / 2, 255.0, image)
    return jnp.where(chance < amount / 2, 0.0, salted)


def shot_noise(key, image, severity):
    """Poisson(c x) / c, x in [0, 1], by inverting the distribution function.

    A draw of 31 bits is compared with a table of the 256 levels' distribution functions: the count
    is how many entries of the level's row it reaches, found by halving. Counts above c are all
    white, so a row needs no more than c + 1 entries. (`jax.random.poisson` takes 10 times as long
    and accepts threefry keys only.)
    """
    photons = settings("shot_noise", image.shape, severity)
    table, levels = _poisson_table(photons)
    chance = draw(jax.random.bits, key, image.shape, "uint32") >> 1
    row = image.astype(jnp.int32) * table.shape[1]
    count, step = jnp.zeros(image.shape, jnp.int32), table.shape[1] // 2
    while step:
        passed = chance >= jnp.asarray(table.ravel())[row + count + step - 1]
        count, step = count + step * passed, step // 2
    return jnp.asarray(levels)[count]


@functools.cache
def _poisson_table(photons) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """P(count <= n) in units of 2^-31, (256, 2^b) with 2^b > c; and each count's level, (2^b,)."""
    counts = np.arange(1 << int(photons).bit_length())
    cumulative = special.pdtr(counts, np.arange(256)[:, None] / 255.0 * photons)
    table = np.round(cumulative * 2**31).astype(np.uint32)
    levels = np.floor(np.clip(counts / photons, 0, 1) * 255)
    return table, levels.astype(np.float32)


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
}
