"""Crop and flip: what every view of an image shares."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt8


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
    if not flip:
        return images
    mirrored = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)
