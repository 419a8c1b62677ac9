"""What several corruptions share: truncation to grey levels and separable filters.

Images are float32 in grey levels 0..255 unless a docstring says otherwise: on this scale a pixel
that a corruption leaves alone is a whole number, and stays exactly that number.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from craft_jax.corruptions.settings import Severity, possible, settings

# The original computes in float64 and truncates. A value that is a whole number k in exact
# arithmetic reaches float32 as k +- 3e-5 at most: the slack keeps it at k.
SLACK = 1e-4

UPPER = np.float32(np.round(2**23 / 255) / 2**23)  # 16 bits of 1/255
LOWER = np.float32(1 / 255 - float(UPPER))  # the rest

WIDE = 24  # pixels: a Gaussian that reaches further is a matrix


def truncate(levels: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Clip to 0..255 and drop the fraction, as np.uint8(np.clip(x, 0, 255)) does."""
    return jnp.floor(jnp.clip(levels, 0, 255) + SLACK)


def to_unit(levels: Float[Array | np.ndarray, "*shape"]) -> Float[Array | np.ndarray, "*shape"]:
    """Whole levels k to the float32 nearest to k/255, bit for bit.

    XLA turns a division by 255 into a product with its rounded inverse, one unit in the last place
    off for half the levels. Here the inverse has two parts, and k times the first is exact.
    """
    return levels * UPPER + levels * LOWER


def once(array: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """The same array, computed once.

    XLA for CPUs computes what several others read anew for each of them, a whole filter for each of
    its neighbours' taps. Only a concatenation it never repeats, so that the array is made of two
    parts there; the barriers stop it from looking through that. XLA for GPUs weighs what repeating
    costs, and would launch three kernels for the parts.
    """
    return jax.lax.platform_dependent(array, cpu=_of_two_parts, default=lambda array: array)


def _of_two_parts(array):
    parts = jax.lax.optimization_barrier((array[:1], array[1:]))
    return jax.lax.optimization_barrier(jnp.concatenate(parts))


def gaussian_taps(sigma: float | int, cut: float | int = 4.0) -> Float[np.ndarray, " taps"]:
    """The 2 r + 1 normalised float64 weights of a Gaussian cut at r = int(cut sigma + 0.5)."""
    radius = int(cut * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2) if sigma else np.ones(1)
    return weights / weights.sum()


def shifted(
    image: Float[Array, "H W *C"], radius: int, axis: int, mode: str = "edge"
) -> list[Float[Array, "H W *C"]]:
    """The 2 radius + 1 shifts of an image along an axis; `mode` is jnp.pad's.

    A filter is a sum of them: seven times as fast on a CPU as a convolution, and the same to the
    bit whatever the batch. The barrier stops XLA from padding anew for each.
    """
    padding = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
    padded, size = jnp.pad(image, padding, mode=mode), image.shape[axis]
    padded = jax.lax.optimization_barrier(padded)
    return [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]


def gaussian(
    image: Float[Array, "H W *C"], sigma: float | int, cut: float | int = 4.0, mode: str = "edge"
) -> Float[Array, "H W *C"]:
    """Gaussian blur over rows and columns; `mode` "edge" repeats the border.

    A wide Gaussian is one product of matrices an axis: fifty times as fast on a CPU as the sum of
    the 1,025 shifts that elastic_transform has at 224 pixels.
    """
    taps = np.float32(gaussian_taps(sigma, cut))
    if len(taps) // 2 <= WIDE:
        return smooth(image, taps, mode)
    for axis in (0, 1):
        image = resize_axis(image, gaussian_matrix(image.shape[axis], sigma, cut, mode), axis)
    return image


def smooth(
    image: Float[Array, "H W *C"], taps: Float[Array | np.ndarray, " taps"], mode: str = "edge"
) -> Float[Array, "H W *C"]:
    """An image filtered with 2 r + 1 taps, which may be traced, over rows and columns."""
    for axis in (0, 1):
        copies = shifted(image, len(taps) // 2, axis, mode)
        image = sum(w * copy for w, copy in zip(taps, copies, strict=True))
    return image


def taps_at(
    name: str,
    shape: Sequence[int],
    severity: Severity,
    sigma: Callable[[Any], float | int] = lambda setting: setting,
) -> Float[Array | np.ndarray, " taps"]:
    """The taps, float32, of a corruption's Gaussian of `sigma(setting)` pixels; see `settings`.

    At a traced severity they are filled up with zeros to the widest of the five.
    """
    reach = max(len(gaussian_taps(sigma(row))) for row in possible(name, shape, severity)) // 2

    def make(setting):
        taps = np.float32(gaussian_taps(sigma(setting)))
        return np.pad(taps, reach - len(taps) // 2)

    return settings(name, shape, severity, make)


@functools.cache
def gaussian_matrix(
    size: int, sigma: float | int, cut: float | int, mode: str
) -> Float[np.ndarray, "{size} {size}"]:
    """In float64, what each sample of an axis, extended by `mode`, adds to each result."""
    taps, matrix = gaussian_taps(sigma, cut), np.zeros((size, size))
    source = np.pad(np.arange(size), len(taps) // 2, mode=mode)
    for i, weight in enumerate(taps):
        np.add.at(matrix, (np.arange(size), source[i : i + size]), weight)
    return matrix


def gaussian_levels(
    image: Float[Array, "H W C"], taps: Float[Array | np.ndarray, " taps"]
) -> Float[Array, "H W C"]:
    """Gaussian blur, by 2 r + 1 taps, of whole levels that are truncated next, the border repeated.

    With a small sigma the change is often far below float32's resolution at 255 and its sign
    decides. So the change is summed by itself, from differences to the two neighbours at each
    distance, which are whole and cancel exactly. It is the rows' change and the columns' change,
    and, of second order, the columns' change of the rows' change.
    """
    radius, (height, width, step) = len(taps) // 2, image.shape
    if not radius:
        return image
    weighted = [(d, taps[radius + d]) for d in range(1, radius + 1)]
    whole = bordered(image, radius, "edge")
    middle = whole[radius : radius + height]

    def down(distance):
        return whole[radius + distance :][:height]

    def right(plane, distance):
        return plane[:, (radius + distance) * step :][:, : width * step]

    rows = once(sum(w * ((down(-d) - middle) + (down(d) - middle)) for d, w in weighted))
    change = own = right(rows, 0)
    for d, w in weighted:
        first = (right(middle, -d) - right(middle, 0)) + (right(middle, d) - right(middle, 0))
        change += w * (first + ((right(rows, -d) - own) + (right(rows, d) - own)))
    return add_change(right(middle, 0), change).reshape(image.shape)


def bordered(
    image: Shaped[Array, "H W C"], reach: int, mode: str = "constant"
) -> Shaped[Array, "H+2*{reach} C*(W+2*{reach})"]:
    """An image with `reach` pixels more on every side, a pixel C entries of its row.

    Over such rows XLA's loops vectorise, over an axis of three they do not.
    """
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode=mode)
    return jax.lax.optimization_barrier(padded.reshape(padded.shape[0], -1))


def add_change(levels: Float[Array, "*shape"], change: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """levels + change for `truncate`: below a whole level by ever so little, if change is."""
    return levels + change - 2 * SLACK * ((change < 0) & (change > -2 * SLACK))


def resize_axis(
    image: Float[Array, "H W *C"], matrix: Float[Array | np.ndarray, "new old"], axis: int
) -> Float[Array, "P Q *C"]:
    """A matrix applied to axis 0 or 1 of an image, in full float32."""
    equation = ("h...,ph->p...", "hw...,qw->hq...")[axis]
    matrix = jnp.asarray(matrix, jnp.float32)
    return jnp.einsum(equation, image, matrix, precision=jax.lax.Precision.HIGHEST)


def interpolate(
    image: Float[Array, "H W C"],
    y: Float[Array, "P Q"],
    x: Float[Array, "P Q"],
    border: Callable[[Any, int], Any],
) -> Float[Array, "P Q C"]:
    """Linear interpolation of an image at places; `border` folds indices, (index, size), into range."""
    height, width, channels = image.shape
    pixels = image.reshape(-1, channels)
    # Computed twice, a place might round to both sides of a whole number: index and share would differ.
    y, x = once(jnp.stack([y, x]))
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    rows = [border(top.astype(jnp.int32) + i, height) * width for i in (0, 1)]
    columns = [border(left.astype(jnp.int32) + i, width) for i in (0, 1)]
    upper, lower = (pixels[row + columns[0]] * (1 - right) + pixels[row + columns[1]] * right for row in rows)
    return upper * (1 - down) + lower * down


def mirror(index: Int[Array | np.ndarray, "*shape"], size: int) -> Int[Array | np.ndarray, "*shape"]:
    """Indices folded about the last sample: -1 -> 1, size -> size - 2."""
    return size - 1 - abs(index % (2 * size - 2) - (size - 1))


def zoom_matrix(size: int, factor: float | int) -> Float[np.ndarray, "{size} {size}"]:
    """In float64, an axis's centre enlarged by `factor` >= 1 and cut to `size` again.

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
