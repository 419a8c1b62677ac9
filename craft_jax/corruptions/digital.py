"""Contrast, saturation and what encoders and resizing do.

Each corruption takes (key, image, severity): one image of whole grey levels 0..255 in float32,
to one on the same scale, neither clipped nor truncated. Source: Hendrycks & Dietterich 2019,
make_cifar_c.py and, for larger images, its relatives: see `settings`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from craft_jax.corruptions import draws
from craft_jax.corruptions.jpeg import jpeg, quantisation
from craft_jax.corruptions.ops import gaussian, gaussian_matrix, interpolate, mirror, once, resize_axis
from craft_jax.corruptions.settings import Image, Severity, lookup, settings


def contrast(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """(x - mean) c + mean, the mean of each channel over the image."""
    del key
    factor = settings("contrast", image.shape, severity)
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * factor + mean


def saturate(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """S of HSV times a plus b, clipped to [0, 1].

    A channel is V (1 - S w) with w = (V - channel)/(V - min) in [0, 1]; V and w stay. A grey pixel
    has hue 0, red: its w is (0, 1, 1). The least channel, w = 1, is often whole in exact arithmetic
    (half the time at severity 3), where float64 and float32 truncate differently: a table has it.
    """
    del key
    factor, shift = settings("saturate", image.shape, severity)
    value, least = image.max(-1, keepdims=True), image.min(-1, keepdims=True)
    spread = value - least
    w = jnp.where(spread > 0, (value - image) / jnp.maximum(spread, 1), jnp.array([0.0, 1, 1]))
    saturation = jnp.clip(spread / jnp.maximum(value, 1) * factor + shift, 0, 1)
    index = (value * 256 + least).astype(jnp.int32)
    lowest = lookup("saturate", image.shape, severity, _least_channel, index).astype(jnp.float32)
    return jnp.where(w == 1, lowest, value * (1 - saturation * w))


@functools.cache
def _least_channel(setting):
    """Truncated level of the least channel after `saturate`, in float64: uint8 at 256 V + min."""
    factor, shift = setting
    value, least = np.meshgrid(np.arange(256) / 255.0, np.arange(256) / 255.0, indexing="ij")
    saturation = np.divide(value - least, value, out=np.zeros_like(value), where=value > 0)
    scaled = np.clip(saturation * factor + shift, 0, 1)
    return (np.clip(value * (1 - scaled), 0, 1) * 255).astype(np.uint8).ravel()


def pixelate(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Down to a share of the size and up again, with Pillow's BOX filter; exact.

    Pillow resizes along the rows first and rounds to 8 bits after each pass. The way up copies, so
    that each axis may go both ways at once.
    """
    del key
    share = settings("pixelate", image.shape, severity)
    height, width, channels = image.shape
    plane = image.reshape(height, width * channels)
    plane = _down_and_up(plane, int(width * share), 1, channels)
    return _down_and_up(plane, int(height * share), 0, 1).reshape(image.shape)


def _down_and_up(plane, target, axis, step):
    """An axis of whole levels (A, B), a pixel `step` of its entries, to `target` pixels and back.

    In Pillow's fixed point. A sum over the few pixels nearby, each with a mask of the places that
    average it: ten times as fast as a product with the matrix of all.
    """
    size = plane.shape[axis]
    members, weight = _box(size // step, target)
    back = _box(target, size // step)[0].argmax(1)
    members, weight = members[back], np.repeat(weight[back], step)
    place, source = np.nonzero(members)
    offsets = np.unique(source - place)
    before, after = max(-offsets[0], 0) * step, max(offsets[-1], 0) * step
    padded = jnp.pad(plane, [(before, after) if a == axis else (0, 0) for a in (0, 1)])
    padded, total = jax.lax.optimization_barrier(padded), 0
    for offset in offsets:
        mask = np.repeat(np.isin(np.arange(size // step), place[source - place == offset]), step)
        start = before + offset * step
        moved = jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
        total += jnp.expand_dims(np.float32(mask), 1 - axis) * moved
    scaled = total.astype(jnp.int32) * jnp.expand_dims(weight, 1 - axis)
    return ((scaled + (1 << 21)) >> 22).astype(jnp.float32)


@functools.cache
def _box(source, target):
    """Which of `source` pixels each of `target` averages, (target, source) of 0 and 1; and the
    weight of one of them in units of 2^-22, (target,) int32."""
    scale = source / target
    center, support = (np.arange(target)[:, None] + 0.5) * scale, 0.5 * max(scale, 1.0)
    offset = (np.arange(source) + 0.5 - center) / max(scale, 1.0)
    first = np.maximum((center - support + 0.5).astype(int), 0)
    last = np.minimum((center + support + 0.5).astype(int), source)
    inside = (first <= np.arange(source)) & (np.arange(source) < last)
    members = inside & (offset > -0.5) & (offset <= 0.5)
    weight = (0.5 + 2**22 / members.sum(1)).astype(np.int32)
    return members.astype(np.float32), weight


def jpeg_compression(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """JPEG at a quality of Pillow's, chroma 4:2:0; exact."""
    del key
    return jpeg(image, *settings("jpeg_compression", image.shape, severity, quantisation))


def elastic_transform(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A random affine map, then displacements that a Gaussian smooths, of strength 0 at CIFAR's 1.

    Lengths are shares of the image's shorter side.
    """
    _, _, jitter = settings("elastic_transform", image.shape, severity)
    height, width, _ = image.shape
    size, (map_key, field_key) = min(height, width), jax.random.split(key)
    corners = draws.uniform(map_key, (3, 2), -1, 1) * (jitter * size)
    image = _affine(image, corners)
    field = draws.uniform(field_key, (2, height, width), -1, 1)
    return _displace(once(image), _smoothed(field, severity))


def _smoothed(field, severity):
    """How far pixels move to the right and down, (2, H, W), of a `field` uniform in +-1.

    Both borders are mirrored, the last pixel repeated. At a traced severity a Gaussian is the product of
    two matrices: of five that differ in reach by a factor of six, the widest would else serve all.
    """
    strength, sigma, _ = settings("elastic_transform", field.shape[1:], severity)
    size = min(field.shape[1:])
    if isinstance(severity, int):
        return jnp.stack([strength * size * gaussian(x, sigma * size, 3, "symmetric") for x in field])
    make = functools.partial(_smoothers, field.shape[1:])
    down, right = settings("elastic_transform", field.shape[1:], severity, make)
    return jnp.stack([resize_axis(resize_axis(x, down, 0), right, 1) for x in field])


def _smoothers(shape, setting):
    """The matrices (H, H) and (W, W) of `_smoothed`, the strength in the first."""
    strength, sigma, _ = setting
    down, right = (gaussian_matrix(size, sigma * min(shape), 3, "symmetric") for size in shape)
    return np.float32(strength * min(shape) * down), np.float32(right)


def _affine(image, jitter):
    """The affine map that moves three points about the centre by `jitter` (3, 2), in pixels (x, y).

    A pixel takes the value at the point that moves onto it, linear, the border mirrored about the
    last pixel.
    """
    height, width, _ = image.shape
    side = min(height, width) // 3
    # As in the original, which takes (H, W) for (x, y); the images are square there.
    points = np.array([height // 2, width // 2]) + side * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points.astype(np.float32) + jitter
    down, across = moved[0] - moved[1], moved[1] - moved[2]  # images of (0, 2 side), (2 side, 0)
    determinant = across[0] * down[1] - across[1] * down[0]
    x = np.arange(width, dtype=np.float32) - moved[2, 0]
    y = np.arange(height, dtype=np.float32)[:, None] - moved[2, 1]
    source_x = points[2, 0] + 2 * side * (x * down[1] - y * down[0]) / determinant
    source_y = points[2, 1] + 2 * side * (y * across[0] - x * across[1]) / determinant
    return interpolate(image, source_y, source_x, mirror)


def _displace(image, moves):
    """Each pixel takes the value at a place nearby, `moves` (2, H, W) to the right and down, linear.

    The border is mirrored, the last pixel repeated.
    """
    height, width, _ = image.shape
    right, down = moves
    y = np.arange(height, dtype=np.float32)[:, None] + down
    x = np.arange(width, dtype=np.float32) + right
    return interpolate(image, y, x, _reflect)


def _reflect(index, size):
    """Fold about the edge: -1 -> 0, size -> size - 1."""
    index = index % (2 * size)
    return jnp.minimum(index, 2 * size - 1 - index)


CORRUPTIONS = {
    "elastic_transform": elastic_transform,
    "contrast": contrast,
    "saturate": saturate,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
