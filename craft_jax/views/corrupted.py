"""One corrupted view of a batch."""

import functools
from collections.abc import Sequence

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from craft_jax import corruptions
from craft_jax.mesh import on_each_device


def corrupted(
    key: Key[Array, ""],
    images: Float[Array, "B H W 3"],
    names: Sequence[str],
    severities: Sequence[int],
    group_size: int,
    mesh: Mesh,
) -> Float[Array, "B H W 3"]:
    """One corrupted view: a corruption and a severity drawn for each group of neighbouring images.

    A vmapped `lax.switch` runs every branch, so the draw is per group and `lax.map` runs the drawn
    branch alone. Each device maps over the groups it holds; a group's draw depends on its place in the
    global batch, so the value does not depend on the number of devices.

    Args:
      key: one for the whole batch.
      images: float32 in [0, 1], sharded over the mesh's "data" axis.
      names: the corruptions to draw from.
      severities: the severities to draw from, 1 to 5.
      group_size: images in a group; divides B over the number of devices.
      mesh: a mesh with the one axis "data".
    Returns:
      float32 in [0, 1], multiples of 1/255.
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
    return on_each_device(local, key, groups, mesh).reshape(images.shape)
