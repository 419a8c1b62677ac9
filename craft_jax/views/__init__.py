"""Views of a batch: crop and flip, then corruptions of that same crop. uint8 images -> (B, V, H, W, C).

Every view of an image corrupts the same crop (design: view m is c_m(v_0)), so that views differ by the
corruption alone and the teacher's movement between them measures sensitivity to corruption, not to crops.
Instead of corruptions the views beside the clean one may be AugMix's (`views.kind`).
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from craft_jax.views.augmix import augmixed
from craft_jax.views.corrupted import corrupted
from craft_jax.views.crops import LARGEST_SIDE, crop_and_flip, resized_crop_and_flip

__all__ = ["CROPS", "KINDS", "LARGEST_SIDE", "augmixed", "corrupted", "crop_and_flip", "make"]
__all__ += ["resized_crop_and_flip"]

KINDS = ("corruptions", "augmix")
CROPS = ("padded", "resized")


def make(
    crop_key: Key[Array, ""],
    corruption_key: Key[Array, ""],
    images: UInt8[Array, "B H W 3"],
    count: int,
    config: ConfigDict,
    mesh: Mesh,
) -> Float[Array, "B {count} H W 3"]:
    """The views of a batch.

    Args:
      crop_key, corruption_key, images: of the batch.
      count: how many views to make; view 0 is the clean one.
      config: reads data.crop, data.crop_*, data.flip, views.* and augmix.*.
      mesh: a mesh with the one axis "data".
    Returns:
      float32 in [0, 1].
    """
    if config.data.crop == "resized":
        images = resized_crop_and_flip(crop_key, images, config.data.crop_scale, config.data.flip)
    else:
        images = crop_and_flip(crop_key, images, config.data.crop_padding, config.data.flip)
    clean = images.astype(jnp.float32) / 255.0
    if count == 1:
        return clean[:, None]
    view_keys = jax.vmap(functools.partial(jax.random.fold_in, corruption_key))(jnp.arange(1, count))
    if config.views.kind == "augmix":
        settings = config.augmix.severity, config.augmix.width, config.augmix.depth, config.augmix.alpha
        others = augmixed(view_keys, images, *settings, mesh)
    else:
        settings = config.views.corruptions, config.views.severities, config.views.lanes
        others = corrupted(view_keys, clean, *settings, mesh)
    return jnp.concatenate([clean[:, None], others], axis=1)
