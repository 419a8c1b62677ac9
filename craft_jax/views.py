"""Views of a batch: crop and flip, then corruptions of that same crop. uint8 images -> (V, B, H, W, C).

Every view of an image corrupts the same crop (design: view m is c_m(v_0)), so that views differ by the
corruption alone and the teacher's movement between them measures sensitivity to corruption, not to crops.
Instead of corruptions the views beside the clean one may be AugMix's (`views.kind`).
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from craft_jax import augmix, corruptions

KINDS = ("corruptions", "augmix")


def crop_and_flip(key, images, padding, flip):
    """Random crop after zero padding, then a horizontal flip with probability 1/2.

    Args:
      key: a scalar key.
      images: (B, H, W, C) uint8.
      padding: pixels added on each side.
      flip: whether to flip.
    Returns:
      (B, H, W, C) uint8.
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


def corrupted(key, images, names, severities, group_size, mesh):
    """One corrupted view: a corruption and a severity drawn for each group of neighbouring images.

    A vmapped `lax.switch` runs every branch, so the draw is per group and `lax.map` runs the drawn
    branch alone. Each device maps over the groups it holds; a group's draw depends on its place in the
    global batch, so the value does not depend on the number of devices.

    Args:
      key: a scalar key.
      images: (B, H, W, 3) float32 in [0, 1], sharded over the mesh's "data" axis.
      names: the corruptions to draw from.
      severities: the severities to draw from, 1 to 5.
      group_size: images in a group; divides B over the number of devices.
      mesh: a mesh with the one axis "data".
    Returns:
      (B, H, W, 3) float32 in [0, 1], multiples of 1/255.
    """
    branches = [
        functools.partial(corruptions.corrupt, name=name, severity=severity)
        for name in names
        for severity in severities
    ]

    def one_group(group, key_data):
        number, group_images = group
        key = jax.random.wrap_key_data(key_data)
        draw_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        branch = jax.random.randint(draw_key, (), 0, len(branches))
        return jax.lax.switch(branch, branches, noise_key, group_images)

    def local(key_data, numbers, groups):
        return jax.lax.map(lambda group: one_group(group, key_data), (numbers, groups))

    batch = images.shape[0]
    groups = images.reshape(batch // group_size, group_size, *images.shape[1:])
    return _on_each_device(local, key, groups, mesh).reshape(images.shape)


def augmixed(key, images, severity, width, depth, alpha, mesh):
    """One AugMix view; an image's draws depend on its place in the global batch, as in `corrupted`.

    Args:
      key: a scalar key.
      images: (B, H, W, 3) uint8, sharded over the mesh's "data" axis.
      severity, width, depth, alpha: see `augmix.augment`.
      mesh: a mesh with the one axis "data".
    Returns:
      (B, H, W, 3) float32 in [0, 1].
    """

    def local(key_data, numbers, images):
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.wrap_key_data(key_data)))(numbers)
        return augmix.augment(keys, images, severity, width, depth, alpha)

    return _on_each_device(local, key, images, mesh)


def _on_each_device(local, key, rows, mesh):
    """local(key data, numbers, rows) on each device's rows; a number is a row's place in the global batch."""
    spread = jax.shard_map(
        local, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P("data"), check_vma=False
    )
    return spread(jax.random.key_data(key), jnp.arange(rows.shape[0]), rows)


def make(crop_key, corruption_key, images, count, config, mesh):
    """The views of a batch.

    Args:
      crop_key, corruption_key: scalar keys.
      images: (B, H, W, 3) uint8.
      count: V, how many views to make; view 0 is the clean one.
      config: reads data.crop_padding, data.flip, views.* and augmix.*.
      mesh: a mesh with the one axis "data".
    Returns:
      (V, B, H, W, 3) float32 in [0, 1].
    """
    images = crop_and_flip(crop_key, images, config.data.crop_padding, config.data.flip)
    clean = images.astype(jnp.float32) / 255.0
    view_key = functools.partial(jax.random.fold_in, corruption_key)
    if config.views.kind == "augmix":
        settings = config.augmix.severity, config.augmix.width, config.augmix.depth, config.augmix.alpha
        # A loop that is compiled once: it takes XLA seconds.
        others = jax.lax.map(lambda m: augmixed(view_key(m), images, *settings, mesh), jnp.arange(1, count))
        return jnp.concatenate([clean[None], others])
    settings = config.views.corruptions, config.views.severities, config.views.group_size
    return jnp.stack([clean, *(corrupted(view_key(m), clean, *settings, mesh) for m in range(1, count))])
