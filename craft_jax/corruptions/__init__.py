"""Common corruptions as pure JAX functions of (key, images, severity).

The definition is Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019), programs ImageNet-C/create_c/make_*_c.py. The settings
follow the shorter side of the images: below 64 pixels CIFAR-C's, below 224 Tiny-ImageNet-C's, from
224 on ImageNet-C's, each for the size that it was made for (32, 64, 224) and used as it is at the
others (`settings`). Images made here are "regenerated" corruptions: the algorithm is the original's,
the random draws are not, and the result is not stored as a JPEG of quality 85, which the published
Tiny-ImageNet-C and ImageNet-C are. Without a package of photographs frost is procedural (`frost`).

Ten more are CIFAR-10-C-bar's (Mintun, Kirillov and Xie 2021), chosen to be unlike those, in its spelling.
They are for evaluation alone: nothing is trained on them.

>>> corrupt(jax.random.key(0), images, "gaussian_noise", severity=3)   # (B, H, W, 3) -> the same

The room stands alone: it imports nothing of training (JAX, NumPy, SciPy, Pillow and jaxtyping). `corrupt`
works under `jax.jit` with `static_argnames=("name", "severity")` and under `vmap` over keys, images or both.
`python -m craft_jax.corruptions DIR_IN DIR_OUT` corrupts a folder of pictures.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from craft_jax.corruptions import blur, c_bar_draw, c_bar_noise, c_bar_warp, digital, noise, spatter, weather
from craft_jax.corruptions.frost import frost_source
from craft_jax.corruptions.ops import to_unit, truncate
from craft_jax.corruptions.settings import original_side

# Name -> function(key, image, severity): one image of whole grey levels 0..255, float32, to one on the
# same scale, before clipping and truncation.
CORRUPTIONS = {
    **noise.CORRUPTIONS,
    **blur.CORRUPTIONS,
    **weather.CORRUPTIONS,
    **digital.CORRUPTIONS,
    **spatter.CORRUPTIONS,
    **c_bar_noise.CORRUPTIONS,
    **c_bar_draw.CORRUPTIONS,
    **c_bar_warp.CORRUPTIONS,
}

FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
TEST = tuple(name for family in FAMILIES.values() for name in family)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
CIFAR10_C = TEST + EXTRA
CIFAR10_C_BAR = (
    *("blue_noise_sample", "brownish_noise", "checkerboard_cutout", "inverse_sparkles", "pinch_and_twirl"),
    *("ripple", "circular_motion_blur", "lines", "sparkles", "transverse_chromatic_abberation"),
)
NAMES = CIFAR10_C + CIFAR10_C_BAR
SEVERITIES = (1, 2, 3, 4, 5)
LEAST_SIDE = 16  # pixels

__all__ = ["CIFAR10_C", "CIFAR10_C_BAR", "CORRUPTIONS", "EXTRA", "FAMILIES", "NAMES", "SEVERITIES", "TEST"]
__all__ += ["corrupt", "corrupt_each", "frost_source", "program", "programs"]


def corrupt(
    key: Key[Array, "..."] | UInt32[Array, "..."],
    images: Float[Array | np.ndarray, "B H W 3"] | UInt8[Array | np.ndarray, "B H W 3"],
    name: str,
    severity: int,
) -> Float[Array, "B H W 3"] | UInt8[Array, "B H W 3"]:
    """Images under one corruption, as an 8-bit image file would hold them.

    Pixels are first rounded to the nearest k/255. The result is truncated, not rounded, to a
    multiple of 1/255, as the original program does. Image i depends on its own key and pixels
    alone, never on its place in the batch. Of the levels 0..255 in uint8 it makes the same levels.

    Args:
      key: one key (image i then uses fold_in(key, i)) or one for each image; typed
        (`jax.random.key`) or raw uint32.
      images: float32 in [0, 1], or uint8; H and W at least 16. The shorter of them decides
        which original's settings are used: see above.
      name: one of `NAMES`, static.
      severity: 1..5, static.

    Returns:
      float32, multiples of 1/255 in [0, 1]; of uint8 images uint8.

    Raises:
      ValueError: unknown name, severity outside 1..5, images or keys of a wrong shape or type.
    """
    _check(images, name)
    severity = _static_severity(severity)
    keys, images = _image_keys(key, images.shape[0]), jnp.asarray(images)
    levels, group = images.dtype == jnp.uint8, program(name, images.shape[1:], severity)
    unit = images.astype(jnp.float32) / 255 if levels else images
    corrupted = corrupt_each(keys, unit, name, group, jnp.int32(severity))
    return jnp.round(corrupted * 255).astype(jnp.uint8) if levels else corrupted


def programs(name: str, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Which severities share one compiled program: tuples that together are 1..5.

    Several do where their settings have one form: what differs is then looked up by a traced severity.

    Args:
      name: one of `NAMES`.
      shape: of an image, (H, W, 3).
    """
    small = original_side(shape) == 32
    return _PROGRAMS_BELOW_64.get(name, _ONE_EACH) if small or name in _ALL_SIZES else _ONE_EACH


def program(name: str, shape: Sequence[int], severity: int) -> tuple[int, ...]:
    """The one of `programs` that a severity, a Python int, belongs to."""
    (group,) = (group for group in programs(name, shape) if severity in group)
    return group


_TOGETHER, _ONE_EACH = (SEVERITIES,), tuple((severity,) for severity in SEVERITIES)
_ALL_SIZES = (*FAMILIES["noise"], "speckle_noise", "frost", "fog", "brightness", "contrast")
_ALL_SIZES += ("jpeg_compression", "saturate", "blue_noise_sample", "brownish_noise", "checkerboard_cutout")
_ALL_SIZES += ("inverse_sparkles", "sparkles")
# Not those whose program for all takes as long as the slowest severity's, or twice as long: a blur of
# constant weights is much faster (defocus_blur, motion_blur, zoom_blur).
_BELOW_64 = ("gaussian_blur", "snow", "elastic_transform")
_PROGRAMS_BELOW_64 = dict.fromkeys((*_ALL_SIZES, *_BELOW_64), _TOGETHER) | {
    "glass_blur": ((1,), (2, 4), (3, 5)),  # one blur each
    "spatter": ((1, 2, 3), (4, 5)),
}


@functools.partial(jax.jit, static_argnames=("name", "group"))
def corrupt_each(
    keys: Key[Array, " B"],
    images: Float[Array, "B H W 3"],
    name: str,
    group: tuple[int, ...],
    severities: Int[Array, " B"] | Int[Array, ""],
) -> Float[Array, "B H W 3"]:
    """`corrupt` with a severity an image.

    Args:
      keys: one an image.
      images: float32 in [0, 1].
      name: one of `NAMES`, static.
      group: one of `programs`, static.
      severities: each in `group`, traced; one for all means fewer look-ups, and is faster.
    Returns:
      float32, multiples of 1/255 in [0, 1].
    """
    levels = jnp.clip(jnp.round(images * 255), 0, 255)
    if len(group) == 1:
        one_image = functools.partial(CORRUPTIONS[name], severity=group[0])
        return to_unit(truncate(jax.vmap(one_image)(keys, levels)))
    one_image = _OF_GROUP.get((name, group), CORRUPTIONS[name])
    per_image = jax.vmap(one_image, in_axes=(0, 0, 0 if jnp.ndim(severities) else None))
    return to_unit(truncate(per_image(keys, levels, severities)))


_OF_GROUP = {
    ("glass_blur", (2, 4)): functools.partial(blur.glass_pair, pair=(2, 4)),
    ("glass_blur", (3, 5)): functools.partial(blur.glass_pair, pair=(3, 5)),
    ("spatter", (1, 2, 3)): spatter.water,
    ("spatter", (4, 5)): spatter.mud,
}


def _check(images, name):
    if name not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {name!r}; one of {', '.join(NAMES)}")
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    if shape is None or len(shape) != 4 or shape[-1] != 3 or min(shape[1:3]) < LEAST_SIDE:
        raise ValueError(f"images must be (B, H, W, 3) with H, W >= {LEAST_SIDE}, got shape {shape}")
    if dtype not in (jnp.float32, jnp.uint8):
        raise ValueError(f"images must be float32 in [0, 1] or uint8, got {dtype}")


def _static_severity(severity):
    try:
        value = operator.index(severity)
    except (TypeError, jax.errors.JAXTypeError):
        value = None
    if value not in SEVERITIES or isinstance(severity, bool):
        raise ValueError(f"severity must be a Python int, one of {SEVERITIES}, got {severity!r}")
    return value


def _image_keys(key, batch):
    """Typed keys (batch,): `key` itself if it has one key an image, else fold_in(key, i)."""
    key = jnp.asarray(key)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        try:
            key = jax.random.wrap_key_data(key)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"key must be a JAX key or an array of them, got {key.dtype}{list(key.shape)}"
            ) from error
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch))
    if key.shape != (batch,):
        raise ValueError(f"key must be one key or one for each of {batch} images, got {key.shape}")
    return key
