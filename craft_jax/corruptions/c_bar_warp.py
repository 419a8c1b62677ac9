"""CIFAR-10-C-bar's corruptions that move pixels: whirls, waves, turns and coloured fringes.

Each corruption takes (key, image, severity): one image of whole grey levels 0..255 in float32, to one on
the same scale, neither clipped nor truncated. Source: Mintun, Kirillov and Xie 2021, see `settings.C_BAR`;
where it knows square images alone, a side is the shorter one. What it does with SciPy's cubic splines is
that library's definition: a border of coefficients is mirrored, what is beyond the last pixel is black.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from scipy import ndimage, special

from craft_jax.corruptions import draws
from craft_jax.corruptions.ops import SLACK, bordered, interpolate, mirror, resize_axis, shifted
from craft_jax.corruptions.settings import Image, Severity, original_side, settings

TURNS = np.linspace(-1, 1, 21)  # of the angle
LARGE = 64  # pixels: beyond it turns are made one by one


def pinch_and_twirl(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Discs in a grid, three along the side (five from 224 pixels on), each twisted one way or the other."""
    (height, width, _), size = image.shape, _grid(image.shape)
    coins = draws.bits(key, (width // size, height // size)) & 1
    return _twirled(image, severity, coins == 1)


def _grid(shape):
    """The side of a square of the grid."""
    return min(shape[:2]) // (5 if original_side(shape) == 224 else 3)


def _twirled(image, severity, positive):
    """`pinch_and_twirl` with given directions: whether each disc's angle is positive, (columns, rows).

    No place that a pixel's new value comes from is beyond its disc, so the original, which writes one
    square after the other over the image, reads what it has not yet written. Beyond the last pixel, which
    discs reach where the grid fills the image, it is black.
    """
    level = settings("pinch_and_twirl", image.shape, severity)
    ways = [
        np.float32(_places(image.shape, 0.04 * level + 0.1, a * level)) for a in (np.pi / 20, -np.pi / 20)
    ]
    square = [
        np.minimum(np.arange(size) // _grid(image.shape), count - 1)
        for size, count in zip(image.shape[:2], positive.shape[::-1], strict=True)
    ]
    y, x = jnp.where(positive[square[1], square[0][:, None]], *ways)
    image = jnp.pad(image, ((0, 1), (0, 1), (0, 0)))
    return interpolate(image, y, x, lambda index, size: jnp.clip(index, 0, size - 1))


@functools.cache
def _places(shape, amount, angle):
    """Where each pixel's new value comes from if all discs turn by one angle: (2, H, W) float64, rows first.

    At a share d of its disc's radius: at d sin(pi d / 2)^-amount, turned by angle (1 - d)^2.
    """
    size, pixels = _grid(shape), np.mgrid[: shape[0], : shape[1]]
    square = pixels // size
    centre = square * size + size / 2
    y, x = pixels - centre
    share = np.hypot(y, x) / (size / 2)
    whole = (square[0] < shape[0] // size) & (square[1] < shape[1] // size)
    moves = whole & (share <= 1) & (share > 0)
    share = np.where(moves, share, 1)
    pull, turn = np.sin(np.pi / 2 * share) ** -amount, angle * (1 - share) ** 2
    moved = pull * np.stack([y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)])
    return np.where(moves, centre + moved, pixels)


def ripple(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Rows and columns each move along a sine of 0.1 to 0.3 of the side, by 0.02 of it at the most."""
    waves, phases = draws.uniform(key, (2, 2))
    return _rippled(image, severity, (0.1 + 0.2 * waves) * min(image.shape[:2]), 2 * np.pi * phases)


def _rippled(image, severity, wavelengths, phases):
    """Rows, then columns, from where a sine moves them, linear, black beyond the image.

    Args:
      image: (H, W, 3) levels.
      severity: static.
      wavelengths, phases: (2,) each, in pixels and radians, of the rows and of the columns.
    """
    amplitude = 0.0025 * settings("ripple", image.shape, severity) * min(image.shape[:2])
    reach = int(np.ceil(amplitude))
    for axis in (0, 1):
        place = np.arange(image.shape[axis], dtype=np.float32)
        move = amplitude * jnp.sin(2 * np.pi * place / wavelengths[axis] + phases[axis])
        offsets = np.arange(-reach, reach + 1, dtype=np.float32)[:, None]
        weights = jnp.expand_dims(jnp.maximum(1 - abs(move - offsets), 0), (2 - axis, 3))
        copies = shifted(image, reach, axis, "constant")
        image = sum(weight * copy for weight, copy in zip(weights, copies, strict=True))
    return image


def circular_motion_blur(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A weighted mean of 21 turns about the middle, by up to 4 to 9 degrees, of cubic splines."""
    del key
    degrees = settings("circular_motion_blur", image.shape, severity, lambda level: 1.5 * level)
    for axis in (0, 1):
        image = resize_axis(image, _coefficients(image.shape[axis]), axis)
    if max(image.shape[:2]) > LARGE:
        return _turned_one_by_one(image, degrees)
    height, width, channels = image.shape
    nearby = _nearby(height, width, degrees)
    reach = max(abs(offset) for place in nearby for offset in place)
    around, total = bordered(image, reach), 0
    for (i, j), weight in nearby.items():
        pixel = around[reach + i :][:height, (reach + j) * channels :][:, : width * channels]
        total += np.repeat(weight, channels, 1) * pixel
    return total.reshape(image.shape)


@functools.cache
def _coefficients(size):
    """(size, size) float64: from an axis's samples to the coefficients of the cubic spline through them."""
    return ndimage.spline_filter1d(np.eye(size), 3, axis=0, mode="mirror")


def _turns(height, width, degrees):
    """(21, 2, H, W) float64: where each turn takes a pixel from; and (21,), what it counts."""
    middle = np.array([height - 1, width - 1])[:, None, None] / 2
    y, x = np.mgrid[:height, :width] - middle
    cos, sin = (f(degrees * TURNS)[:, None, None] for f in (special.cosdg, special.sindg))
    weights = np.exp(-2 * TURNS**2)
    return np.stack([cos * y + sin * x, cos * x - sin * y], 1) + middle, weights / weights.sum()


@functools.cache
def _nearby(height, width, degrees):
    """{(i, j): (H, W) float32 weights of the coefficient i rows down and j columns right} of all turns."""
    weights = {}
    for (y, x), weight in zip(*_turns(height, width, degrees), strict=True):
        weight = weight * _inside(y, x, height, width)
        for (row, down), (column, right) in itertools.product(_spline(y, height), _spline(x, width)):
            offsets = np.stack([row - np.arange(height)[:, None], column - np.arange(width)])
            for i, j in np.unique(offsets.reshape(2, -1), axis=1).T.tolist():
                here = (offsets[0] == i) & (offsets[1] == j)
                weights[i, j] = weights.get((i, j), 0) + here * weight * down * right
    return {place: np.float32(weight) for place, weight in weights.items() if weight.any()}


def _spline(places, size):
    """(index, weight) of each of the four coefficients that a cubic spline has at `places`."""
    floor = places // 1
    t = places - floor
    thirds = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * (t + t**2 - t**3), t**3)
    return [(mirror(floor.astype(int) + i, size), w / 6) for i, w in zip((-1, 0, 1, 2), thirds, strict=True)]


def _inside(y, x, height, width):
    return (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)


def _turned_one_by_one(coefficients, degrees):
    """The same sum, a turn a step: weights for every pixel nearby would fill the memory."""
    height, width, channels = coefficients.shape
    pixels = coefficients.reshape(-1, channels)
    places, weights = _turns(height, width, degrees)

    def add(total, turn):
        (y, x), weight = turn
        rows, columns = _spline(y, height), _spline(x, width)
        weight = weight * _inside(y, x, height, width)
        for (row, down), (column, right) in itertools.product(rows, columns):
            total += (weight * down * right)[..., None] * pixels[row * width + column]
        return total, None

    turns = jnp.float32(places), jnp.float32(weights)
    return jax.lax.scan(add, jnp.zeros_like(coefficients), turns)[0]


def transverse_chromatic_abberation(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """The channels, in a random order, smoothed and enlarged by 1, 1 + s / 2 and 1 + s about the middle."""
    return _fringed(image, severity, draws.bits(key, ()) * 6 // draws.LEVELS)


def _fringed(image, severity, order):
    """`transverse_chromatic_abberation` in one of six orders, traced: that of `itertools.permutations`.

    SciPy's zoom takes samples for a spline's coefficients here, which smooths even what is not enlarged,
    and rounds to whole levels.
    """
    height, width, _ = image.shape
    most = settings("transverse_chromatic_abberation", image.shape, severity, lambda level: 0.05 * level)
    scales = np.array(list(itertools.permutations(range(3))))
    channels = np.argsort(scales, 1)  # which channel has each scale
    factors = (1, 1 + most / 2, 1 + most)
    down, right = (np.float32([_zoom(size, factor) for factor in factors]) for size in (height, width))
    planes = jnp.moveaxis(image, -1, 0)[jnp.asarray(channels)[order]]
    planes = jnp.einsum("spi,sij,sqj->spq", down, planes, right, precision=jax.lax.Precision.HIGHEST)
    levels = jnp.floor(jnp.clip(planes, 0, 255) + 0.5 + SLACK)
    return jnp.moveaxis(levels[jnp.asarray(scales)[order]], 0, -1)


@functools.cache
def _zoom(size, factor):
    """(size, size) float64: an axis's samples as coefficients, enlarged ends on ends, cut to `size` again."""
    target = round(size * factor)
    place = np.arange(target) * ((size - 1) / (target - 1))
    place = place[(target - size) // 2 :][:size]
    matrix, every = np.zeros((size, size)), np.arange(size)
    for index, weight in _spline(place, size):
        np.add.at(matrix, (every, index), weight)
    return matrix


CORRUPTIONS = {
    "pinch_and_twirl": pinch_and_twirl,
    "ripple": ripple,
    "circular_motion_blur": circular_motion_blur,
    "transverse_chromatic_abberation": transverse_chromatic_abberation,
}
