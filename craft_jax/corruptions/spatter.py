"""Spatter: drops of water or splashes of mud on the lens.

`spatter` takes (key, image, severity): one image of whole grey levels 0..255 in float32,
to one on the same scale, neither clipped nor truncated. Source: Hendrycks & Dietterich 2019, see
`settings`. Water goes through five steps of OpenCV, in the integer arithmetic that OpenCV
has for 8-bit planes: (H, W) int32 here.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from craft_jax.corruptions import draws
from craft_jax.corruptions.components import components
from craft_jax.corruptions.ops import SLACK, once, smooth, taps_at
from craft_jax.corruptions.settings import Image, Severity, settings

WATER, MUD = (175.0, 238.0, 238.0), (63.0, 42.0, 20.0)
# Lengths of a step along a side, a diagonal and a knight's move, in units of 2^-16 pixels.
SIDE, DIAGONAL, KNIGHT = (round(length * 65536) for length in (1, 1.4, 2.1969))
FAR = 20  # distances are cut off here
EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def spatter(key: Key[Array, ""], image: Image, severity: int) -> Image:
    """Drops where a blurred normal layer exceeds a threshold: water at 1 to 3, mud at 4 and 5."""
    return (water if severity <= 3 else mud)(key, image, severity)


def water(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Spatter at the severities 1 to 3."""
    return _spatter(_water, key, image, severity)


def mud(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Spatter at the severities 4 and 5."""
    return _spatter(_mud, key, image, severity)


def _spatter(kind, key, image, severity):
    loc, scale, _, threshold, last = settings("spatter", image.shape, severity)
    layer = loc + scale * draws.normal(key, image.shape[:2])
    taps = taps_at("spatter", image.shape, severity, lambda setting: setting[2])
    if kind is _mud:
        last = taps_at("spatter", image.shape, severity, lambda setting: setting[4])
    return kind(image, layer, taps, threshold, last)


def _water(image, layer, taps, threshold, intensity):
    """Drops brighter away from their edges, embossed; `layer` (H, W) is the normal draw.

    Without a single drop the original divides by zero; here the image stays.
    """
    layer = smooth(layer, taps)
    # Above 1 the cast to 8 bits wraps around.
    layer = jnp.floor(255 * jnp.where(layer < threshold, 0, layer) + SLACK).astype(jnp.int32) & 255
    layer = once(layer)
    distance = once(jnp.minimum(_distance(_canny(layer, 50, 150)), FAR << 16))
    distance = once(_window_sum(distance) // (9 << 16))
    relief = once(jnp.clip(_filter3(once(_equalise(distance)), EMBOSS), 0, 255))
    relief = (2 * _window_sum(relief) + 9) // 18
    mask = once(layer * relief)
    share = intensity * mask / jnp.maximum(mask.max(), 1)
    return image + share[..., None] * jnp.array(WATER)


def _mud(image, layer, taps, threshold, mask_taps):
    """Opaque brown where a smoothed mask of the drops is 0.8 at least."""
    mask = (smooth(layer, taps) >= threshold).astype(jnp.float32)
    mask = smooth(mask, mask_taps)
    share = jnp.where(mask < 0.8, 0, mask)[..., None]
    return image * (1 - share) + share * jnp.array(MUD)


def _filter3(plane, kernel, mode="reflect"):
    """Correlation of (H, W) with a 3x3 kernel, in int32; `mode` is jnp.pad's."""
    (height, width), padded = plane.shape, jnp.pad(plane, 1, mode=mode)
    places = [(w, i, j) for i, row in enumerate(kernel) for j, w in enumerate(row) if w]
    return sum(w * padded[i : i + height, j : j + width] for w, i, j in places)


def _window_sum(plane):
    return _filter3(plane, np.ones((3, 3), int).tolist())


def _canny(plane, low, high):
    """Canny's edges of 8-bit levels (H, W), as OpenCV finds them: boolean.

    Sobel gradients, |dx| + |dy|; an edge is a maximum across itself, above `low`, that a path of
    such maxima joins to one above `high`.
    """
    dx = _filter3(plane, ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), "edge")
    dy = _filter3(plane, ((-1, -2, -1), (0, 0, 0), (1, 2, 1)), "edge")
    size = jnp.abs(dx) + jnp.abs(dy)
    at = _neighbours(size)
    # 13573 is tan(22.5 degrees) and tan(67.5 degrees) is 2 more, in units of 2^-15.
    flat, steep = jnp.abs(dx) * 13573, jnp.abs(dy) << 15
    horizontal = (size > at[0, -1]) & (size >= at[0, 1])
    vertical = (size > at[-1, 0]) & (size >= at[1, 0])
    falling = (size > at[-1, -1]) & (size > at[1, 1])
    rising = (size > at[-1, 1]) & (size > at[1, -1])
    diagonal = jnp.where((dx ^ dy) < 0, rising, falling)
    peak = jnp.where(steep > flat + (jnp.abs(dx) << 16), vertical, diagonal)
    peak = jnp.where(steep < flat, horizontal, peak)
    candidate = peak & (size > low)
    return _join(candidate & (size > high), candidate)


def _join(edges, candidates):
    """Edges and all candidates that a path of candidates, diagonals included, joins to them."""
    labels = components(candidates)
    reached = jnp.zeros(labels.size, bool).at[labels].max(edges & candidates)
    return candidates & reached[labels]


def _neighbours(plane, fill=0):
    """{(i, j): the plane moved so that each place holds its neighbour i rows down, j right}."""
    (height, width), padded = plane.shape, jnp.pad(plane, 1, constant_values=fill)
    places = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    return {(i, j): padded[1 + i : 1 + i + height, 1 + j : 1 + j + width] for i, j in places}


def _distance(edges):
    """Chamfer distance to the nearest edge, 5x5, in units of 2^-16 pixels; right up to FAR.

    The original sweeps the plane twice. A shortest path has steps of two neighbouring directions, a
    of one and b of the other, in any order. So passes with steps of 16, 8, 4, 2 and 1 at once make
    any path up to FAR: two of each, as a and b may both need it, but both are never 8 or more.
    """
    far, (height, width) = (FAR + 1) << 16, edges.shape
    lengths = {0: 0, 1: SIDE, 2: DIAGONAL, 5: KNIGHT}  # by squared Euclidean length
    offsets = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if i * i + j * j in lengths]
    distance = jnp.where(edges, 0, far)
    for times in (16, 8, 4, 4, 2, 2, 1, 1):
        steps = [(i, j, times * lengths[i * i + j * j]) for i, j in offsets]
        steps = [(times * i, times * j, length) for i, j, length in steps if length < far]
        reach = max(i for i, _, _ in steps)
        padded = once(jnp.pad(distance, reach, constant_values=far))
        moved = [padded[reach + i :, reach + j :][:height, :width] + length for i, j, length in steps]
        distance = functools.reduce(jnp.minimum, moved)
    return distance


def _equalise(plane):
    """Histogram equalisation of levels 0..FAR (H, W) to 0..255, in float32 as OpenCV has it."""
    up_to = jnp.stack([(plane <= level).sum() for level in range(FAR + 1)])
    darkest = up_to[plane.min()]
    scale = 255 / jnp.maximum(plane.size - darkest, 1).astype(jnp.float32)
    table = jnp.round((up_to - darkest) * scale).astype(jnp.int32)
    equalised = sum((plane == level) * table[level] for level in range(FAR + 1))
    return jnp.where(darkest == plane.size, plane, equalised)


CORRUPTIONS = {"spatter": spatter}
