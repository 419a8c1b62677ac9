"""What a network is shown in an evaluation: batches of test images, as they are or corrupted here.

The random draws of a corruption belong to the corruption, the severity and the image's index in the data set,
so every run meets the same images, whatever their order, the batch size or the number of devices.
"""

import functools
import zlib
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, UInt8

from craft_jax import corruptions, data
from craft_jax.corruptions.ops import to_unit
from craft_jax.mesh import put, put_rows, replicated_on, split_over

# What the draws of every evaluation are folded from; never config.seed. Changing it changes every figure.
_EVALUATION_SEED = 20260


def corruption_keys(
    name: str, severity: int | Int[Array, ""], index: Int[Array | np.ndarray, " B"]
) -> Key[Array, " B"]:
    """The keys of images of the data set, by their indices there, under one corruption.

    The severity may be traced.
    """
    key = jax.random.key(_EVALUATION_SEED)
    key = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), severity)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


@jax.jit
def _clean(images):
    return to_unit(images.astype(jnp.float32))  # as `corrupt` scales: files give the very same floats


@functools.partial(jax.jit, static_argnames=("name", "group"))
def _corrupted(images, index, name, group, severity):
    """`corrupt`, compiled once for the severities of `group`, of which one is traced."""
    keys = corruption_keys(name, severity, index)
    return corruptions.corrupt_each(keys, _clean(images), name, group, severity)


def shown(
    images: UInt8[data.Images, "N H W 3"],
    batches: Iterable[Int[np.ndarray, " B"]],
    mesh: Mesh,
    name: str | None = None,
    severity: int | None = None,
) -> Iterator[Float[Array, "B H W 3"]]:
    """The images of each batch on the device, clean or corrupted.

    Args:
      images: levels 0..255; may be memory-mapped, or in their files.
      batches: which images each has, by their indices; all of one size, or each size compiles anew.
      mesh: a mesh with the one axis "data": a batch is split over it where it divides evenly.
      name, severity: a corruption to make here, or None for the images as they are.
    Yields:
      float32 in [0, 1].
    """
    group = corruptions.program(name, images.shape[1:], severity) if name else ()
    for index in batches:
        sharding = replicated_on(mesh) if len(index) % mesh.size else split_over(mesh)
        batch, rows = put_rows(images, index, sharding), put(index.astype(np.int32), sharding)
        yield _corrupted(batch, rows, name, group, np.int32(severity)) if name else _clean(batch)
