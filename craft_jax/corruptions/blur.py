"""Blurs.

Each corruption takes (key, image, severity): one image of whole grey levels 0..255 in float32,
to one on the same scale, neither clipped nor truncated. Source: Hendrycks & Dietterich 2019,
make_cifar_c.py and, for larger images, its relatives: see `settings`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from craft_jax.corruptions import draws
from craft_jax.corruptions.exact import gaussian_floor, ray_floor, ray_words
from craft_jax.corruptions.ops import (
    add_change,
    bordered,
    gaussian_levels,
    once,
    resize_axis,
    taps_at,
    zoom_matrix,
)
from craft_jax.corruptions.settings import Image, Severity, possible, settings


def gaussian_blur(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A Gaussian of s pixels, cut at 4 s, the border repeated."""
    del key
    return gaussian_levels(image, taps_at("gaussian_blur", image.shape, severity))


def defocus_blur(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A disk smoothed by a 3x3 Gaussian, the border mirrored; CIFAR's 1 to 3 are that Gaussian alone.

    At CIFAR's severity 4 the Gaussian is nearly nothing, and the mean of five whole levels is whole one
    time in five: then the sign of what the Gaussian changes decides what truncation does. So that
    change is summed by itself, as differences from the pixel, which float32 holds well.
    """
    del key
    disk, kernel = _disk(*settings("defocus_blur", image.shape, severity))
    (height, width, step), reach = image.shape, len(disk) // 2
    around, own = bordered(image, reach, "reflect"), image.reshape(height, -1)
    total, change = jnp.zeros_like(own), np.float32(kernel.sum() - 1) * own
    for i, j in np.argwhere(kernel > 1e-9):
        pixel = around[i : i + height, j * step :][:, : width * step]
        total += disk[i, j] * pixel
        change += np.float32(kernel[i, j] - disk[i, j] / disk.sum()) * (pixel - own)
    return add_change(total / np.float32(disk.sum()), change).reshape(image.shape)


def _disk(radius, alias):
    """A disk of 0 and 1, (2n + 1, 2n + 1), and the kernel that the original makes of it in float32:
    normalised and blurred by a Gaussian of `alias` pixels and 3x3 taps, 5x5 above a radius of 8.

    The original's grid reaches 8 pixels, or the radius above 8, and the Gaussian mirrors its border.
    Here it is cut where nothing is left of the disk.
    """
    edge, cut = max(8, radius), 1 if radius <= 8 else 2
    offset = np.arange(-edge, edge + 1)
    disk = np.float32(offset[:, None] ** 2 + offset**2 <= radius**2)
    taps = np.exp(-0.5 * (np.arange(-cut, cut + 1) / alias) ** 2)
    taps, size = np.float32(taps / taps.sum())[cut:], len(disk)
    kernel = disk / disk.sum()
    for axis in (1, 0):
        padding = [(cut, cut) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.moveaxis(np.pad(kernel, padding, mode="reflect"), axis, 0)
        near = [padded[cut - i :][:size] + padded[cut + i :][:size] for i in range(1, cut + 1)]
        blurred = taps[0] * padded[cut:-cut] + sum(w * pair for w, pair in zip(taps[1:], near, strict=True))
        kernel = np.moveaxis(blurred, 0, axis)
    reach = min(edge, max(2, int(radius) + cut))
    kept = slice(edge - reach, edge + reach + 1)
    return disk[kept, kept], kernel[kept, kept].astype(np.float64)


def glass_blur(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Blur, to 8 bits, each pixel replaced by one that is -reach..reach - 1 rows and columns away, blur.

    At CIFAR's size the reach is 1: it is one of the four up and left, itself included.
    """
    sigma, reach, times = settings("glass_blur", image.shape, severity)
    height, width, _ = image.shape
    if reach > 1:
        offsets = draws.bits(key, (times, height, width, 2)) * (2 * reach) // draws.LEVELS - reach
        return _far_glass(image, sigma, reach, offsets)
    return _glass(image, sigma, _moves(key, image.shape)[:times])


def glass_pair(key: Key[Array, ""], image: Image, severity: Int[Array, ""], pair: tuple[int, int]) -> Image:
    """Glass blur at two severities that differ in their walks alone, one and two: `pair`, static."""
    sigma, _, _ = settings("glass_blur", image.shape, pair[0])
    first, (up, left) = _moves(key, image.shape)
    twice = severity == pair[1]
    return _glass(image, sigma, [first, (up & twice, left & twice)])


def _moves(key, shape):
    """The moves of two walks for `_glass`, by four bits a pixel."""
    height, width, _ = shape
    coins = draws.bits(key, (height - 2, width - 2, 1))
    return [((coins >> 2 * i & 1) == 1, (coins >> 2 * i & 2) == 2) for i in (0, 1)]


def _glass(image, sigma, moves):
    """Glass blur with given draws.

    Args:
      image: (H, W, 3) whole levels.
      sigma: of both blurs, static.
      moves: for each walk over the image (up, left), booleans (H - 2, W - 2, 1) for the rows and
        columns from 2 on: whether a pixel's new value is from the row above, the column before.

    The original walks from the last pixel to the first and its "swap" is a copy, so every pixel
    that it reads is still untouched: a walk is one parallel selection. Pixels are one row here, so
    that a neighbour is as many places before, and the border needs no care: nothing moves there.
    """
    shape, step = image.shape, image.shape[-1]
    line = image.shape[1] * step
    pixels = once(gaussian_floor(image, sigma)).ravel()
    for move in moves:
        up, left = (jnp.broadcast_to(jnp.pad(m, ((2, 0), (2, 0), (0, 0))), shape).ravel() for m in move)
        before = jnp.concatenate([pixels[: line + step], pixels])
        before = jax.lax.optimization_barrier(before)
        here, above = before[line + step :], before[step:-line]
        here = jnp.where(left, before[line:-step], here)
        pixels = once(jnp.where(up, jnp.where(left, before[: -line - step], above), here))
    return gaussian_floor(pixels.reshape(shape), sigma)


def _far_glass(image, sigma, reach, offsets):
    """Glass blur with given draws, for any reach.

    Args:
      image: (H, W, 3) whole levels.
      sigma, reach: static.
      offsets: for each walk the (columns, rows) from a pixel to the one whose value it takes,
        integers -reach..reach - 1, (times, H, W, 2); those within `reach` of the border are unused.

    The original walks from the last pixel to the first and its "swap" is a copy, so a pixel takes
    its source's value before the walk where the walk has yet to reach the source, and after it
    otherwise: which is the value of the source's own source, and so on. A path of copies only goes
    back in the walk and so ends; following all paths at once, two copies as one in the next round,
    takes log2(pixels) rounds. This is the sequential walk exactly.
    """
    height, width, _ = image.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    walked = (reach < rows) & (rows <= height - reach) & (reach < columns) & (columns <= width - reach)
    own, walked, count = np.arange(height * width), jnp.asarray(walked.ravel()), height * width
    image = gaussian_floor(image, sigma).reshape(count, 3)
    for offset in offsets.reshape(-1, count, 2):
        source = jnp.where(walked, own + offset[:, 1] * width + offset[:, 0], own)
        after = (source > own) & walked[source]
        # Node p is pixel p after the walk, node count + p before it.
        path = jnp.concatenate([source + jnp.where(after, 0, count), count + own])
        path = jax.lax.fori_loop(0, count.bit_length(), lambda _, path: path[path], path)
        image = image[path[:count] - count]
    return gaussian_floor(image.reshape(height, width, 3), sigma)


def motion_blur(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """ImageMagick's motion blur of radius r and sigma s at an angle within 45 degrees."""
    weights = ray_at("motion_blur", image.shape, severity)
    return motion(image, weights, jax.random.uniform(key, (), minval=-45, maxval=45))


def ray_at(
    name: str,
    shape: Sequence[int],
    severity: Severity,
    pick: Callable[[Any], Any] = lambda setting: setting,
) -> Int[Array | np.ndarray, "2 n"]:
    """The weights of a corruption's ray, of the radius and sigma `pick(setting)`; see `settings`, `ray`.

    At a traced severity they are filled up with zeros to the longest of the five.
    """
    length = max(len(_half_gaussian(*pick(row))) for row in possible(name, shape, severity))
    return settings(name, shape, severity, lambda setting: ray(*pick(setting), length))


def ray(radius: int, sigma: float | int, length: int = 0) -> Int[np.ndarray, "2 n"]:
    """The weights of `motion`: half a Gaussian of `sigma` pixels on 2 radius + 1 samples.

    Zeros fill them up to `length`. ImageMagick computes in 16 bits, where a level is 257 steps, and rounds
    there: half a step decides what truncation does.
    """
    weights = _half_gaussian(radius, sigma)
    return ray_words(np.pad(weights, (0, max(length - len(weights), 0))), 0.5 / 257)


def _half_gaussian(radius, sigma):
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    return weights[weights > 1e-11]  # what is cut off is below 3e-9 levels


def motion(
    image: Float[Array, "H W C"], weights: Int[Array | np.ndarray, "2 n"], degrees: Float[Array, ""]
) -> Float[Array, "H W C"]:
    """The mean along a ray, each sample at a whole pixel, the border repeated; whole levels, truncated.

    Args:
      image: whole levels.
      weights: of `ray`; may be traced.
      degrees: the ray's angle, traced.
    """
    down, right = _ray(degrees, weights.shape[1] - 1)
    return ray_floor(image, down, right, weights)


def _ray(degrees, count):
    """Rows down and columns right, (count,) int32 each, of the pixel at i = 0 .. count - 1 steps along
    a ray: i times its sine and cosine, rounded to whole numbers, halves down.

    Within 45 degrees of an axis both are monotonic in the angle, and how many bounds it has passed is
    exact where float32's sine, times i, is not.
    """
    quarter = jnp.round(degrees / 90)
    rest = degrees - 90 * quarter
    steps, halves = np.arange(count)[:, None], np.arange(-count, count) + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.abs(halves) < steps, halves / steps, np.sign(halves) * 2)
        aside, ahead = np.degrees(np.arcsin(ratio)), np.degrees(np.arccos(ratio))
    # Of the halves, those beyond 1 step are never passed, those below -1 always.
    aside = np.where(np.abs(ratio) > 1, np.sign(ratio) * 360, aside)
    ahead = np.where(np.abs(ratio) > 1, np.sign(ratio) * -360, ahead)
    aside = (rest > _below(aside)).sum(1) - count
    ahead = (jnp.abs(rest) <= _below(ahead)).sum(1) - count
    turned = quarter.astype(jnp.int32) % 4
    rows, columns = jnp.stack([aside, ahead, -aside, -ahead]), jnp.stack([ahead, -aside, -ahead, aside])
    return rows[turned], columns[turned]


def _below(bounds):
    """Float64 bounds as float32, none above: a float32 is > either or neither."""
    near = np.float32(bounds)
    return np.where(near > bounds, np.nextafter(near, np.float32(-np.inf)), near)


def zoom_blur(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """The mean of the image and of n enlargements of its centre by 1, 1 + step, 1 + 2 step, ...

    All of them together are one sum over the pixels nearby, with weights that depend on the place:
    twenty times as fast as n products of matrices, while the pixels nearby are few.
    """
    del key
    end, step = settings("zoom_blur", image.shape, severity)
    height, width, channels = image.shape
    rows, columns = _zooms(height, end, step), _zooms(width, end, step)
    if max(height, width) > 64:
        total = image
        for row, column in zip(rows, columns, strict=True):
            total += resize_axis(resize_axis(image, row, 0), column, 1)
        return total / (len(rows) + 1)
    nearby = _neighbours(height, width, end, step)
    reach = max(abs(offset) for place in nearby for offset in place)
    around, total = bordered(image, reach), image.reshape(height, -1)
    for (i, j), weight in nearby.items():
        pixel = around[reach + i :][:height, (reach + j) * channels :][:, : width * channels]
        total += np.repeat(weight, channels, 1) * pixel
    return (total / (len(rows) + 1)).reshape(image.shape)


@functools.cache
def _zooms(size, end, step):
    """(n, size, size) float64: linear enlargements of an axis, their factors arange(1, end, step)."""
    return np.stack([zoom_matrix(size, factor) for factor in np.arange(1, end, step)])


@functools.cache
def _neighbours(height, width, end, step):
    """{(i, j): (H, W) float32 weights of the pixel i rows down and j columns right} of all zooms."""
    rows, columns = _bands(_zooms(height, end, step)), _bands(_zooms(width, end, step))
    pairs = {(i, j): row.T @ columns[j] for i, row in rows.items() for j in columns}
    return {place: np.float32(weight) for place, weight in pairs.items() if weight.any()}


def _bands(matrices):
    """(n, S, S) matrices as {d: (n, S)}: what each takes from the sample d after its own."""
    count, size, _ = matrices.shape
    own, bands = np.arange(size), {}
    for d in range(1 - size, size):
        inside = own[(own + d >= 0) & (own + d < size)]
        band = np.zeros((count, size))
        band[:, inside] = matrices[:, inside, inside + d]
        if band.any():
            bands[d] = band
    return bands


CORRUPTIONS = {
    "gaussian_blur": gaussian_blur,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
}
