"""AugMix: a convex mixture of an image and of chains of simple operations on it, as pure JAX.

Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty" (ICLR 2020);
the operations, their magnitudes and their draws are those of its public code, google-research/augmix. That
code leaves out colour, contrast, brightness and sharpness, which resemble test corruptions; so does this one.

An operation is a table for each channel (256 levels to 256) or an affine warp, and Pillow's to within one
grey level. Whatever was drawn, an image costs one look-up and one warp: under `vmap` there is no branch to
take, and a `lax.switch` would run all nine.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, Real, UInt8

from craft_jax.corruptions.draws import log_gamma
from craft_jax.mesh import on_each_device

_GREATEST = 10.0  # the level at which a magnitude is all of its range
_DEGREES = np.radians(np.arange(31))  # rotations are by whole degrees


def _magnitude(level, greatest):
    return jnp.floor(level * (greatest / _GREATEST)).astype(jnp.int32)


# ----------------------------------------------------------------------------------------------------
# Tables: (counts (C, 256) of an image's levels, level) -> (C, 256) or (256,) int32


def _autocontrast(counts, level):
    """The channel's least level to 0, its greatest to 255, linear between; a flat channel stays."""
    values = jnp.arange(256)
    low = jnp.argmax(counts > 0, axis=1)[:, None]
    spread = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1)[:, None] - low
    stretched = jnp.clip((values - low) * 255 // jnp.maximum(spread, 1), 0, 255)
    return jnp.where(spread > 0, stretched, values)


def _equalize(counts, level):
    """Levels to equal shares of the pixels, in Pillow's integer arithmetic."""
    values = jnp.arange(256)
    greatest = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1)[:, None]
    share = (jnp.sum(counts, axis=1) - jnp.take_along_axis(counts, greatest, 1)[:, 0])[:, None] // 255
    below = jnp.cumsum(counts, axis=1) - counts
    spread = jnp.minimum((share // 2 + below) // jnp.maximum(share, 1), 255)
    return jnp.where(share > 0, spread, values)


def _posterize(counts, level):
    dropped = 4 + _magnitude(level, 4)  # bits
    return jnp.arange(256) >> dropped << dropped


def _solarize(counts, level):
    values = jnp.arange(256)
    return jnp.where(values < 256 - _magnitude(level, 256), values, 255 - values)


# ----------------------------------------------------------------------------------------------------
# Warps: (level, sign, height, width) -> a, b, c, d, e, f: the pixel at (x, y) comes from
# (a x + b y + c, d x + e y + f), with centres of pixels at halves


def _rotate(level, sign, height, width):
    degrees = _magnitude(level, 30)
    cos = jnp.float32(np.cos(_DEGREES))[degrees]
    sin = -sign * jnp.float32(np.sin(_DEGREES))[degrees]
    x, y = width / 2, height / 2
    return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y


def _shear_x(level, sign, height, width):
    return 1, sign * level * 0.03, 0, 0, 1, 0


def _shear_y(level, sign, height, width):
    return 1, 0, 0, sign * level * 0.03, 1, 0


def _translate_x(level, sign, height, width):
    return 1, 0, sign * _magnitude(level, width / 3), 0, 1, 0


def _translate_y(level, sign, height, width):
    return 1, 0, 0, 0, 1, sign * _magnitude(level, height / 3)


TABLES = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "solarize": _solarize,
}
WARPS = {
    "rotate": _rotate,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
OPERATIONS = (*TABLES, *WARPS)
NOTHING = len(OPERATIONS)


def operate(
    image: Int[Array, "H W C"],
    operation: Int[Array, ""],
    level: Real[Array, ""],
    sign: Real[Array, ""],
) -> Int[Array, "H W C"]:
    """One operation on one image, at most one grey level from Pillow's.

    Args:
      image: levels 0..255, as those returned.
      operation: an index of OPERATIONS, or NOTHING for none.
      level: in [0, 10], the operation's strength.
      sign: 1 or -1, the direction of a warp.
    """
    offsets = 256 * jnp.arange(image.shape[-1])
    return _table(image + offsets, operation, level)[_warp(image, operation, level, sign) + offsets]


def _table(index, operation, level):
    """The drawn operation's tables, (C * 256,); `index` is an image's levels plus 256 a channel, (H, W, C).

    A product with a one-hot row selects: XLA fuses a chain of `where` into the look-up, which then makes
    the table anew for every pixel, several times as slow on a CPU. Whole numbers up to 255 are exact in any
    precision.
    """
    shape = (index.shape[-1], 256)
    counts = jnp.zeros(shape, jnp.int32).ravel().at[index.ravel()].add(1).reshape(shape)
    unchanged = jnp.arange(256)
    tables = [make(counts, level) for make in TABLES.values()] + [unchanged]
    tables = jnp.stack([jnp.broadcast_to(table, shape) for table in tables]).astype(jnp.float32)
    drawn = jnp.arange(len(tables)) == jnp.minimum(operation, len(TABLES))
    return jnp.einsum("o,ocv->cv", drawn.astype(jnp.float32), tables).astype(jnp.int32).ravel()


def _warp(image, operation, level, sign):
    """Pillow's bilinear AFFINE: the border repeated up to half a pixel, black beyond, fractions dropped."""
    height, width, channels = image.shape
    matrix = jnp.float32([1, 0, 0, 0, 1, 0])
    for name, make in WARPS.items():
        rows = jnp.stack([jnp.float32(x) for x in make(level, sign, height, width)])
        matrix = jnp.where(operation == OPERATIONS.index(name), rows, matrix)
    a, b, c, d, e, f = matrix
    x, y = jnp.arange(width) + 0.5, jnp.arange(height)[:, None] + 0.5
    x, y = a * x + b * y + c, d * x + e * y + f
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    across, down = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
    columns = [jnp.clip(left.astype(jnp.int32) + i, 0, width - 1) for i in (0, 1)]
    rows = [jnp.clip(top.astype(jnp.int32) + i, 0, height - 1) for i in (0, 1)]
    pixels = image.reshape(height * width, channels).astype(jnp.float32)
    (nw, ne), (sw, se) = [[pixels[row * width + column] for column in columns] for row in rows]
    north, south = nw + (ne - nw) * across, sw + (se - sw) * across
    return jnp.where(inside[..., None], north + (south - north) * down, 0).astype(jnp.int32)


# ----------------------------------------------------------------------------------------------------
# Draws and the mixture


class Draws(NamedTuple):
    """What is random in one image's view; S steps, W chains.

    Attributes:
      operations: indices of OPERATIONS, and NOTHING where a chain has ended.
      levels: uniform in [0.1, severity].
      signs: 1 or -1 alike.
      weights: Dirichlet(alpha, ..., alpha), of the chains in the mixture.
      share: Beta(alpha, alpha), of the mixture in the view; the rest is the image itself.
    """

    operations: Int[Array, "S W"]
    levels: Float[Array, "S W"]
    signs: Float[Array, "S W"]
    weights: Float[Array, " W"]
    share: Float[Array, ""]


def draw(key: Key[Array, ""], severity: float | int, width: int, depth: int, alpha: float | int) -> Draws:
    """The Draws of one image; the arguments are `augment`'s."""
    keys = jax.random.split(key, 5)
    shape = (depth or 3, width)
    ends = depth or jax.random.randint(keys[0], (width,), 1, 4)
    operations = jax.random.randint(keys[1], shape, 0, len(OPERATIONS))
    # Gamma(alpha) over their sum are Dirichlet, and Beta(alpha, alpha) where they are two; by logarithms,
    # since a small alpha's underflow.
    gammas = log_gamma(keys[4], (width + 2,), alpha)
    return Draws(
        jnp.where(jnp.arange(shape[0])[:, None] < ends, operations, NOTHING),
        jax.random.uniform(keys[2], shape, minval=0.1, maxval=severity),
        jax.random.rademacher(keys[3], shape, jnp.float32),
        jax.nn.softmax(gammas[:width]),
        jax.nn.softmax(gammas[width:])[0],
    )


def augment(
    keys: Key[Array, " B"],
    images: UInt8[Array, "B H W C"],
    severity: float | int,
    width: int,
    depth: int,
    alpha: float | int,
) -> Float[Array, "B H W C"]:
    """One AugMix view of each image: (1 - m) x + m sum_i w_i chain_i(x).

    Image i depends on keys[i] and its own pixels alone.

    Args:
      keys: one an image.
      images: levels 0..255.
      severity: 1 to 10, the greatest level of an operation; the paper's is 3.
      width: how many chains; the paper's is 3.
      depth: operations in a chain, 0 for 1 to 3 at random (the public code's -1).
      alpha: of the Dirichlet and Beta distributions; the paper's is 1.
    Returns:
      float32 in [0, 1].
    """
    one_image = functools.partial(_augment, severity=severity, width=width, depth=depth, alpha=alpha)
    return jax.vmap(one_image)(keys, images)


def _augment(key, image, severity, width, depth, alpha):
    image = image.astype(jnp.int32)
    draws = draw(key, severity, width, depth, alpha)

    def step(chains, drawn):
        return jax.vmap(operate)(chains, *drawn), None

    chains = jnp.broadcast_to(image, (width, *image.shape))
    chains, _ = jax.lax.scan(step, chains, (draws.operations, draws.levels, draws.signs))
    # Shares in whole 2^-14 make the sum exact in float32: the same to the bit however XLA orders or fuses it.
    shares = jnp.floor(draws.share * draws.weights * 2**14) / 2**14
    mixture = (1 - jnp.sum(shares)) * image
    for share, chain in zip(shares, chains, strict=True):
        mixture += share * chain
    return mixture / 255


def augmixed(
    view_keys: Key[Array, " M"],
    images: UInt8[Array, "B H W 3"],
    severity: float | int,
    width: int,
    depth: int,
    alpha: float | int,
    mesh: Mesh,
) -> Float[Array, "B M H W 3"]:
    """AugMix views; an image's draws depend on its place in the global batch, as in `corrupted`.

    Args:
      view_keys: one a view; a view depends on its own alone.
      images: levels 0..255, sharded over the mesh's "data" axis.
      severity, width, depth, alpha: see `augment`.
      mesh: a mesh with the one axis "data".
    Returns:
      float32 in [0, 1].
    """
    count = len(view_keys)

    def local(key_data, numbers, images):
        keys = jax.random.wrap_key_data(key_data)
        keys = jax.vmap(lambda number: jax.vmap(lambda key: jax.random.fold_in(key, number))(keys))(numbers)
        # On a CPU a tenth faster with the barrier: XLA does not fuse the crops into what reads them.
        each = jax.lax.optimization_barrier(jnp.repeat(images, count, 0))
        views = augment(keys.ravel(), each, severity, width, depth, alpha)
        return views.reshape(-1, count, *images.shape[1:])

    return on_each_device(local, view_keys, images, mesh)
