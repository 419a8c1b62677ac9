"""Pictures of frost and random crops of them.

The original lays crops of five photographs over the image. Their provenance is not documented, so
none are shipped: they are read from the PyPI package `imagecorruptions` where that is installed
(`pip install --no-deps imagecorruptions==1.1.2`; it need not be importable). Elsewhere five textures
stand in for them, with the photographs' colours, contrast and autocorrelation but no crystals.
"""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from PIL import Image
from scipy import ndimage

from craft_jax.corruptions.settings import FROST_REDUCTION, original_side

FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

# Of the photographs at a fifth of their size: mean and standard deviation of R, G and B.
STATISTICS = (
    ((77.5, 149.0, 165.7), (26.8, 16.4, 15.3)),
    ((200.8, 205.4, 214.5), (21.4, 22.1, 22.6)),
    ((200.8, 205.4, 214.5), (21.4, 22.1, 22.6)),
    ((138.0, 153.2, 165.6), (29.0, 29.0, 30.2)),
    ((112.3, 123.3, 134.7), (44.3, 43.2, 41.6)),
)
# Shares of the variance by grain, Gaussians of so many pixels at a fifth of the size.
GRAINS = {0.136: 0.36, 1.5: 0.16, 5.0: 0.16, 16.0: 0.32}


def frost_source() -> str:
    """Where frost comes from here: "imagecorruptions" (photographs) or "procedural" (textures)."""
    return "procedural" if _folder() is None else "imagecorruptions"


def frost_crop(key: Key[Array, ""], shape: tuple[int, int, int]) -> Float[Array, "H W 3"]:
    """A crop of one of the five pictures, place and picture uniform: whole levels."""
    pictures, sizes = _pictures(_reduction(shape))
    chance = jax.random.uniform(key, (3,))
    index = (chance[0] * len(sizes)).astype(jnp.int32)
    room = jnp.asarray(sizes)[index] - np.array(shape[:2], np.int32)
    top, left = (chance[1:] * room).astype(jnp.int32)
    crop = jax.lax.dynamic_slice(pictures, (index, top, left, 0), (1, *shape))
    return crop[0].astype(jnp.float32)


def _reduction(shape):
    """How many pixels of a picture become one: 5 for images of 32, 10/3 of 64, 1 of 224; between
    and beyond in proportion, so that a crop always fits (below 1 the pictures are enlarged)."""
    side = original_side(shape)
    return FROST_REDUCTION[side] * side / max(shape[:2])


def _folder():
    spec = importlib.util.find_spec("imagecorruptions")
    folders = [pathlib.Path(p) / "frost" for p in spec.submodule_search_locations] if spec else []
    return next((f for f in folders if all((f / name).is_file() for name in FILES)), None)


@functools.cache
def _pictures(reduction):
    """The five, `reduction` times as small: one array (5, H, W, 3) uint8, filled up with zeros, and
    their sizes (5, 2)."""
    folder = _folder()
    pictures = _textures(reduction) if folder is None else _photographs(folder, reduction)
    sizes = np.array([picture.shape[:2] for picture in pictures], np.int32)
    stack = np.zeros((len(pictures), *sizes.max(0), 3), np.uint8)
    for slot, picture in zip(stack, pictures, strict=True):
        slot[: picture.shape[0], : picture.shape[1]] = picture
    return stack, sizes


def _photographs(folder, reduction):
    """As OpenCV's linear resize has them: to the bit at 5 and 1, a level off here and there at 10/3."""
    pictures = (np.asarray(Image.open(folder / name).convert("RGB")) for name in FILES)
    pictures = (_resize(_resize(picture, reduction, 0), reduction, 1) for picture in pictures)
    return [np.round(picture).astype(np.uint8) for picture in pictures]


def _resize(picture, reduction, axis):
    """One axis of a picture of levels, linear: at 5 the middle one of every five."""
    size = picture.shape[axis]
    place = np.clip((np.arange(round(size / reduction)) + 0.5) * reduction - 0.5, 0, size - 1)
    first = place.astype(int)
    share = (place - first).reshape(-1, *[1] * (2 - axis))
    before, after = picture.take(first, axis), picture.take(np.minimum(first + 1, size - 1), axis)
    return before * (1 - share) + after * share


def _textures(reduction):
    """Gaussian fields with the statistics above, always the same five."""
    random, pictures = np.random.default_rng(2019), []
    for mean, deviation in STATISTICS:
        field = np.zeros((int(400 / reduction), int(600 / reduction)))
        for grain, share in GRAINS.items():
            noise = random.normal(size=field.shape)
            noise = ndimage.gaussian_filter(noise, grain * 5 / reduction, mode="wrap")
            field += np.sqrt(share) * (noise - noise.mean()) / noise.std()
        levels = np.array(mean) + np.array(deviation) * (field / field.std())[..., None]
        pictures.append(np.clip(np.round(levels), 0, 255).astype(np.uint8))
    return pictures
