"""Contrast, saturation and what encoders and resizing do.

Each corruption takes (key, image, severity): one image (H, W, 3) of whole grey levels 0..255 in
float32, to the same shape on the same scale, neither clipped nor truncated. Source: Hendrycks &
Dietterich 2019, make_cifar_c.py.
"""

import functools

import jax.numpy as jnp
import numpy as np

from craft_jax.corruptions.jpeg import jpeg
from craft_jax.corruptions.ops import resize_axis


def contrast(key, image, severity):
    """(x - mean) c + mean, the mean of each channel over the image."""
    del key
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * factor + mean


def saturate(key, image, severity):
    """S of HSV times a plus b, clipped to [0, 1].

    A channel is V (1 - S w) with w = (V - channel)/(V - min) in [0, 1]; V and w stay. A grey pixel
    has hue 0, red: its w is (0, 1, 1). The least channel, w = 1, is often whole in exact arithmetic
    (half the time at severity 3), where float64 and float32 truncate differently: a table has it.
    """
    del key
    factor, shift = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    value, least = image.max(-1, keepdims=True), image.min(-1, keepdims=True)
    spread = value - least
    w = jnp.where(spread > 0, (value - image) / jnp.maximum(spread, 1), jnp.array([0.0, 1, 1]))
    saturation = jnp.clip(spread / jnp.maximum(value, 1) * factor + shift, 0, 1)
    index = (value * 256 + least).astype(jnp.int32)
    lowest = jnp.asarray(_least_channel(factor, shift))[index].astype(jnp.float32)
    return jnp.where(w == 1, lowest, value * (1 - saturation * w))


@functools.cache
def _least_channel(factor, shift):
    """Truncated level of the least channel after `saturate`, in float64: uint8 at 256 V + min."""
    value, least = np.meshgrid(np.arange(256) / 255.0, np.arange(256) / 255.0, indexing="ij")
    saturation = np.divide(value - least, value, out=np.zeros_like(value), where=value > 0)
    scaled = np.clip(saturation * factor + shift, 0, 1)
    return (np.clip(value * (1 - scaled), 0, 1) * 255).astype(np.uint8).ravel()


def pixelate(key, image, severity):
    """Down to a share of the size and up again, with Pillow's BOX filter; exact.

    Pillow resizes along the rows first and rounds to 8 bits after each pass.
    """
    del key
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width, _ = image.shape
    for rows, columns in ((int(height * share), int(width * share)), (height, width)):
        image = _box_pass(_box_pass(image, columns, 1), rows, 0)
    return image


def _box_pass(image, size, axis):
    """Pillow's BOX resize of one axis of whole levels (H, W, C) to `size`, in its fixed point."""
    members, weight = _box(image.shape[axis], size)
    shape = (1, size, 1) if axis else (size, 1, 1)
    total = resize_axis(image, members, axis).astype(jnp.int32)
    return ((total * weight.reshape(shape) + (1 << 21)) >> 22).astype(jnp.float32)


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


def jpeg_compression(key, image, severity):
    """JPEG at Pillow's quality 80 to 40, chroma 4:2:0; exact."""
    del key
    return jpeg(image, (80, 65, 58, 50, 40)[severity - 1])


CORRUPTIONS = {
    "contrast": contrast,
    "saturate": saturate,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
