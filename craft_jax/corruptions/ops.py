"""What several corruptions share: truncation to grey levels and separable filters.

Images are (H, W, C) float32 in grey levels 0..255 unless a docstring says otherwise: on this scale
a pixel that a corruption leaves alone is a whole number, and stays exactly that number.
"""

import jax
import jax.numpy as jnp
import numpy as np

# The original computes in float64 and truncates. A value that is a whole number k in exact
# arithmetic reaches float32 as k +- 3e-5 at most: the slack keeps it at k.
SLACK = 1e-4

UPPER = np.float32(np.round(2**23 / 255) / 2**23)  # 16 bits of 1/255
LOWER = np.float32(1 / 255 - float(UPPER))  # the rest


def truncate(levels):
    """Clip to 0..255 and drop the fraction, as np.uint8(np.clip(x, 0, 255)) does; any shape."""
    return jnp.floor(jnp.clip(levels, 0, 255) + SLACK)


def to_unit(levels):
    """Whole levels k to the float32 nearest to k/255, bit for bit; any shape.

    XLA turns a division by 255 into a product with its rounded inverse, one unit in the last place
    off for half the levels. Here the inverse has two parts, and k times the first is exact.
    """
    return levels * UPPER + levels * LOWER


def gaussian_taps(sigma, cut=4.0):
    """Normalised float64 weights (2r + 1,) of a Gaussian cut at r = int(cut sigma + 0.5)."""
    radius = int(cut * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2) if sigma else np.ones(1)
    return weights / weights.sum()


def filter_axis(image, taps, axis, mode="edge"):
    """Correlate (H, W, ...) along one axis with taps (2r + 1,); `mode` is jnp.pad's.

    A sum of shifted copies: seven times as fast on a CPU as a convolution, and the same to the bit
    whatever the batch. The barrier stops XLA from padding anew for each copy.
    """
    radius, size = len(taps) // 2, image.shape[axis]
    padding = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
    padded = jax.lax.optimization_barrier(jnp.pad(image, padding, mode=mode))
    shifted = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(len(taps)))
    return sum(x * np.float32(w) for x, w in zip(shifted, taps, strict=True))


def gaussian(image, sigma, cut=4.0, mode="edge"):
    """Gaussian blur of (H, W, ...) over rows and columns; `mode` "edge" repeats the border."""
    taps = gaussian_taps(sigma, cut)
    if len(taps) == 1:
        return image
    return filter_axis(filter_axis(image, taps, 0, mode), taps, 1, mode)


def resize_axis(image, matrix, axis):
    """A matrix (P, H) applied to axis 0 or (Q, W) to axis 1 of (H, W, C), in full float32."""
    equation = ("hwc,ph->pwc", "hwc,qw->hqc")[axis]
    matrix = jnp.asarray(matrix, jnp.float32)
    return jnp.einsum(equation, image, matrix, precision=jax.lax.Precision.HIGHEST)


def zoom_matrix(size, factor):
    """(size, size) float64: an axis's centre enlarged by `factor` >= 1 and cut to `size` again.

    The centre is ceil(size / factor) samples, enlarged linearly, ends on ends, to the rounded
    product with `factor`; what exceeds `size` is cut on both sides.
    """
    source = int(np.ceil(size / factor))
    target = round(source * factor)
    place = np.arange(target) * ((source - 1) / (target - 1))
    first = np.minimum(place.astype(int), source - 2)
    share = place - first
    matrix, every = np.zeros((target, size)), np.arange(target)
    matrix[every, first + (size - source) // 2] = 1 - share
    matrix[every, first + 1 + (size - source) // 2] = share
    cut = (target - size) // 2
    return matrix[cut : cut + size]
