"""Weather and light.

Each corruption takes (key, image, severity): one image of whole grey levels 0..255 in float32,
to one on the same scale, neither clipped nor truncated. Source: Hendrycks & Dietterich 2019,
make_cifar_c.py and, for larger images, its relatives: see `settings`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from craft_jax.corruptions import draws
from craft_jax.corruptions.blur import motion, ray_at
from craft_jax.corruptions.frost import frost_crop
from craft_jax.corruptions.ops import resize_axis, truncate, zoom_matrix
from craft_jax.corruptions.settings import Image, Severity, settings


def brightness(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A constant added to V of HSV; hue and saturation stay, so the channels keep their ratio."""
    del key
    shift = settings("brightness", image.shape, severity)
    value = image.max(-1, keepdims=True)
    brighter = jnp.minimum(value + 255 * shift, 255)
    return jnp.where(value > 0, image * brighter / jnp.maximum(value, 1), brighter)


def fog(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """(x + c P) max/(max + c): P a plasma in [0, 1], max over the image, x in [0, 1].

    The plasma's side is the next power of two: 32 at 32 pixels, 256 at 224, of which it is cropped.
    """
    thickness, decay = settings("fog", image.shape, severity)
    height, width, _ = image.shape
    size = 1 << (max(height, width) - 1).bit_length()
    chance = draws.uniform(key, (size * size - 1,), -1, 1)
    return _fog(image, plasma(chance, size, decay)[:height, :width], thickness)


def _fog(image, haze, thickness):
    """Fog with a given plasma (H, W) in [0, 1]."""
    most, added = image.max(), 255 * thickness
    return (image + added * haze[..., None]) * (most / (most + added))


def plasma(
    chance: Float[Array, " {size}**2-1"], size: int, decay: float | int | Float[Array, ""]
) -> Float[Array, "{size} {size}"]:
    """Diamond-square on a torus, scaled to 0..1.

    Args:
      chance: in [-1, 1]: at each level of n x n cells the n^2 draws of the cells'
        centres, then of the midpoints of their upper edges, then of their left edges.
      size: a power of two, static.
      decay: what the wibble w, 100 at first, is divided by after each level; noise is w^2 chance.
    """
    corners, wibble, used = jnp.zeros((1, 1)), 100.0, 0
    while len(corners) < size:
        n = len(corners)
        noise = chance[used : used + 3 * n * n].reshape(3, n, n) * wibble**2
        below, right = jnp.roll(corners, -1, 0), jnp.roll(corners, -1, 1)
        centers = (corners + below + right + jnp.roll(below, -1, 1)) / 4 + noise[0]
        upper = (centers + jnp.roll(centers, 1, 0) + corners + right) / 4 + noise[1]
        left = (centers + jnp.roll(centers, 1, 1) + corners + below) / 4 + noise[2]
        even, odd = jnp.stack([corners, upper], -1), jnp.stack([left, centers], -1)
        corners = jnp.stack([even, odd], 1).reshape(2 * n, 2 * n)
        wibble, used = wibble / decay, used + 3 * n * n
    corners = corners - corners.min()
    return corners / corners.max()


def snow(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Flakes, blurred along the wind and twice laid over a whitened image."""
    loc, scale, *_ = settings("snow", image.shape, severity)
    layer_key, wind_key = jax.random.split(key)
    layer = loc + scale * draws.normal(layer_key, image.shape[:2])
    degrees = jax.random.uniform(wind_key, (), minval=-135, maxval=-45)
    return _snow(image, layer, degrees, severity)


def _zooms(shape, setting):
    """The matrices (H, H) and (W, W) that enlarge the layer's axes."""
    return tuple(np.float32(zoom_matrix(size, setting[2])) for size in shape[:2])


def _snow(image, layer, degrees, severity):
    """Snow with given draws: a normal `layer` (H, W) and the wind's angle."""
    _, _, _, threshold, _, _, blend = settings("snow", image.shape, severity)
    down, right = settings("snow", image.shape, severity, functools.partial(_zooms, image.shape))
    weights = ray_at("snow", image.shape, severity, lambda setting: setting[4:6])
    layer = resize_axis(resize_axis(layer[..., None], down, 0), right, 1)
    flakes = truncate(jnp.where(layer < threshold, 0, 255 * layer))
    flakes = motion(flakes, weights, degrees)
    grey = 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]
    whitened = jnp.maximum(image, 1.5 * grey + 127.5)
    return blend * image + (1 - blend) * whitened + flakes + flakes[::-1, ::-1]


def frost(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """a x + b f, f a random crop of a picture of frost; see `frost_source` for which."""
    kept, added = settings("frost", image.shape, severity)
    return kept * image + added * frost_crop(key, image.shape)


CORRUPTIONS = {"snow": snow, "frost": frost, "fog": fog, "brightness": brightness}
