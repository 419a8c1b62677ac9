"""JPEG compression and decompression, to the bit what Pillow (libjpeg-turbo) does.

Everything between the image and the decoded image is here but the lossless entropy coding: YCbCr
with 4:2:0 chroma, the accurate integer DCT ("islow"), quantisation, and the way back. Planes are
int32; the formats are ITU-T T.81 and T.871 with the fixed point of the Independent JPEG Group.
A float DCT would differ on 10 to 21% of the pixels, since quantisation amplifies its rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from craft_jax.corruptions.ops import once
from craft_jax.corruptions.settings import Image

# T.81, annex K: quantisation steps at quality 50.
LUMA_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.int32,
)
CHROMA_STEPS = np.full((8, 8), 99, np.int32)
CHROMA_STEPS[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# The islow DCT before it rounds, in units of 2^-13 / sqrt(8). It is not quite the rounded cosines:
# its factors are sums of rounded constants, hence 11362 beside 11363.
_LEFT = [
    [8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260],
    [10703, 4433, -4433, -10703],
    [9633, -2259, -11362, -6436],
    [8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633],
    [4433, -10704, 10704, -4433],
    [2260, -6436, 9633, -11363],
]
_SIGNS = np.array([1, -1] * 4)[:, None]
DCT = np.concatenate([_LEFT, _SIGNS * np.array(_LEFT)[:, ::-1]], 1).astype(np.int32)


def jpeg(
    image: Image, steps: Int[Array | np.ndarray, "2 8 8"], inverse: Float[Array | np.ndarray, "2 8 8"]
) -> Image:
    """Whole levels through JPEG, with the tables of `quantisation`, to whole levels."""
    height, width, _ = image.shape
    y, cb, cr = once(jnp.stack(_to_ycbcr(image.astype(jnp.int32))))
    half = slice((height + 1) // 2), slice((width + 1) // 2)
    chroma = once(jnp.stack([_downsample(_pad(plane, 2, 16)) for plane in (cb, cr)]))
    planes = [_pad(plane, 8, 8) for plane in (y, *chroma)]
    y, cb, cr = _code(planes, steps, inverse)
    area = slice(height), slice(width)
    planes = once(jnp.stack([y[area], _upsample(cb[half])[area], _upsample(cr[half])[area]]))
    return jnp.moveaxis(once(jnp.stack(_to_rgb(*planes))), 0, -1).astype(jnp.float32)


def quantisation(quality: int) -> tuple[Int[np.ndarray, "2 8 8"], Float[np.ndarray, "2 8 8"]]:
    """The steps of luma and chroma at `quality` 1..100, and what a DCT 8 times too large is multiplied by
    instead of a division."""
    steps = np.stack([_scaled(table, quality) for table in (LUMA_STEPS, CHROMA_STEPS)])
    return steps, np.float32(1 / (8 * steps))


def _scaled(steps, quality):
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((steps * percent + 50) // 100, 1, 255).astype(np.int32)


def _pad(plane, rows, columns):
    """Repeat the last row and column up to multiples of `rows` and `columns`."""
    height, width = plane.shape
    return jnp.pad(plane, ((0, -height % rows), (0, -width % columns)), mode="edge")


def _to_ycbcr(rgb):
    """(H, W, 3) to three planes 0..255, with factors in units of 2^-16."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    middle = (128 << 16) + (1 << 15) - 1
    y = (19595 * r + 38470 * g + 7471 * b + (1 << 15)) >> 16
    cb = (-11059 * r - 21709 * g + 32768 * b + middle) >> 16
    cr = (32768 * r - 27439 * g - 5329 * b + middle) >> 16
    return y, cb, cr


def _to_rgb(y, cb, cr):
    cb, cr, half = cb - 128, cr - 128, 1 << 15
    r = y + ((91881 * cr + half) >> 16)
    g = y + ((-22554 * cb - 46802 * cr + half) >> 16)
    b = y + ((116130 * cb + half) >> 16)
    return [jnp.clip(channel, 0, 255) for channel in (r, g, b)]


def _downsample(plane):
    """Mean of 2x2, halves rounded up in every other column: (H, W) to (H/2, W/2)."""
    height, width = plane.shape
    total = plane.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    return (total + 1 + np.arange(width // 2, dtype=np.int32) % 2) >> 2


def _upsample(plane):
    """Triangle filter: each new sample is 9/16 of the nearest, 3/16, 3/16, 1/16: (2H, 2W)."""
    padded = jnp.pad(plane, 1, mode="edge")
    middle = 3 * padded[1:-1]
    tall = jnp.stack([middle + padded[:-2], middle + padded[2:]], 1)
    tall = tall.reshape(2 * plane.shape[0], -1)
    near = 3 * tall[:, 1:-1]
    wide = jnp.stack([(near + tall[:, :-2] + 8) >> 4, (near + tall[:, 2:] + 7) >> 4], -1)
    return wide.reshape(tall.shape[0], -1)


def _code(planes, steps, inverse):
    """Planes (H, W) of levels, H and W multiples of 8, luma first, after DCT, quantisation and inverse DCT:
    the same. `steps` and `inverse` are those of `quantisation`.

    A pass of the DCT is a product with DCT and one rounding: along the rows first, keeping two
    more bits, and back in the opposite order.
    """
    parts = [_to_blocks(plane) for plane in planes]
    counts = [part.shape[-1] for part in parts]
    of_block = np.repeat([0, 1], [counts[0], sum(counts[1:])])
    steps, inverse = (jnp.moveaxis(jnp.asarray(table)[of_block], 0, -1) for table in (steps, inverse))
    blocks = jax.lax.optimization_barrier(jnp.concatenate(parts, -1)) - 128
    blocks = _descale(_product(DCT, blocks, 1), 11)
    blocks = _descale(_product(DCT, blocks, 0), 15)  # 8 times the orthonormal DCT's
    # The quotient, its rounding in it, is 1/2 / divisor from a whole number: float32 is exact enough.
    size = ((jnp.abs(blocks) + 4 * steps).astype(jnp.float32) + 0.5) * inverse
    blocks = jnp.sign(blocks) * size.astype(jnp.int32) * steps
    blocks = _descale(_product(DCT.T, blocks, 0), 11)
    blocks = _descale(_product(DCT.T, blocks, 1), 18)
    parts = jnp.split(jnp.clip(blocks + 128, 0, 255), np.cumsum(counts[:-1]), -1)
    return [_to_plane(part, plane.shape) for part, plane in zip(parts, planes, strict=True)]


def _to_blocks(plane):
    """(H, W) to (8, 8, n): the long axis last makes each step a sum of vectors."""
    height, width = plane.shape
    return plane.reshape(height // 8, 8, width // 8, 8).transpose(1, 3, 0, 2).reshape(8, 8, -1)


def _to_plane(blocks, shape):
    height, width = shape
    blocks = blocks.reshape(8, 8, height // 8, width // 8)
    return blocks.transpose(2, 0, 3, 1).reshape(height, width)


def _product(matrix, blocks, axis):
    """An (8, 8) integer matrix applied to axis 0 or 1 of (8, 8, n) int32 blocks, written out: XLA's
    integer products for CPUs take three times as long."""
    samples = [jax.lax.index_in_dim(blocks, n, axis, keepdims=False) for n in range(8)]
    rows = [sum(int(w) * x for w, x in zip(row, samples, strict=True)) for row in matrix]
    return jnp.stack(rows, axis)


def _descale(x, bits):
    return (x + (1 << (bits - 1))) >> bits
