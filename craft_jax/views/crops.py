"""Crop and flip: what every view of an image shares."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt8

_ATTEMPTS = 10  # at a box that fits into the image
LARGEST_SIDE = 2896  # pixels, of a crop that is resized: `_enlarged` counts in int32
_RATIO = 4 / 3  # the widest, and the inverse of the narrowest, that a box is


def crop_and_flip(
    key: Key[Array, ""], images: UInt8[Array, "B H W C"], padding: int, flip: bool
) -> UInt8[Array, "B H W C"]:
    """Random crop after zero padding, then a horizontal flip with probability 1/2.

    Args:
      key: one for the whole batch.
      images: levels 0..255.
      padding: pixels added on each side.
      flip: whether to flip.
    """
    batch, height, width, channels = images.shape
    crop_key, flip_key = jax.random.split(key)
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(crop_key, (batch, 2), 0, 2 * padding + 1)

    def crop(image, corner):
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    images = jax.vmap(crop)(padded, corners)
    return _flipped(flip_key, images) if flip else images


def resized_crop_and_flip(
    key: Key[Array, ""], images: UInt8[Array, "B H W C"], scale: Sequence[float | int], flip: bool
) -> UInt8[Array, "B H W C"]:
    """A box of random area and shape (`boxes`), resized to the image's size, then flipped as above.

    Szegedy et al. 2015, section 6. Bilinear, with weights in 256ths: sums are of integers, and every device
    gets the same bytes. A box is never larger than the image, so nothing is shrunk.

    Args:
      key: one for the whole batch.
      images: levels 0..255, of sides of at most `LARGEST_SIDE`.
      scale: the least and the largest share of the image's area.
      flip: whether to flip.
    """
    batch, height, width, _ = images.shape
    crop_key, flip_key = jax.random.split(key)

    def crop(image, box):
        top, left, tall, wide = box
        image = _enlarged(image.astype(jnp.int32), top, tall, height)
        image = _enlarged(image.swapaxes(0, 1), left, wide, width).swapaxes(0, 1)
        return ((image + 2**15) >> 16).astype(jnp.uint8)

    images = jax.vmap(crop)(images, boxes(crop_key, batch, height, width, scale))
    return _flipped(flip_key, images) if flip else images


def boxes(
    key: Key[Array, ""], count: int, height: int, width: int, scale: Sequence[float | int]
) -> Int[Array, "{count} 4"]:
    """Random (top, left, height, width) within images of a size, each independent of the others.

    The area is uniform in `scale` of the image's, the logarithm of width over height uniform in that of 3/4
    to 4/3, the place uniform; a box that does not fit is drawn again, after ten it is the whole image.
    """
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    shape = (count, _ATTEMPTS)
    area = height * width * jax.random.uniform(area_key, shape, minval=scale[0], maxval=scale[1])
    log = jnp.log(_RATIO)
    ratio = jnp.exp(jax.random.uniform(ratio_key, shape, minval=-log, maxval=log))
    tall, wide = (jnp.round(jnp.sqrt(x)).astype(jnp.int32) for x in (area / ratio, area * ratio))
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    first = jnp.argmax(fits, axis=1)[:, None]
    sizes = jnp.concatenate([jnp.take_along_axis(x, first, axis=1) for x in (tall, wide)], axis=1)
    whole = jnp.array([height, width])
    sizes = jnp.where(fits.any(axis=1, keepdims=True), sizes, whole)
    corners = jax.random.randint(place_key, (count, 2), 0, whole - sizes + 1)
    return jnp.concatenate([corners, sizes], axis=1)


def _enlarged(pixels, start, length, size):
    """`length` rows from `start` on, at `size` rows, times 256: half-pixel centres, ends repeated."""
    place = ((2 * jnp.arange(size) + 1) * length - size) * 128 // size
    place = jnp.clip(place, 0, (length - 1) * 256)
    row, weight = place >> 8, (place & 255)[:, None, None]
    upper, lower = (pixels[start + jnp.minimum(row + i, length - 1)] for i in (0, 1))
    return upper * (256 - weight) + lower * weight


def _flipped(key, images):
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)
