"""The mesh: all devices of all processes on one axis, "data". One device is the mesh of size one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, Key, Shaped

_NVIDIA = ("gpu", "cuda")
_CUDNN_KERNEL = Layout((3, 0, 1, 2))  # of (H, W, in, out): outputs outermost, inputs innermost


def make_mesh() -> Mesh:
    """A mesh of all devices; the compiler places what is between the shardings that jit is given."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicated_on(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole: state, teacher, a resident data set."""
    return NamedSharding(mesh, P())


def split_over(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Every device holds its share of one axis: the first of a batch, the second of a stack of batches."""
    return NamedSharding(mesh, P(*[None] * axis, "data"))


def spreads(mesh: Mesh, rows: int) -> bool:
    """Whether a bank of so many rows is split over the devices: there are several, and each gets as many."""
    return mesh.size > 1 and rows % mesh.size == 0


def held(tree: Any) -> Any:
    """How a step holds arrays, on devices or their ShapeDtypeStructs: as they are sharded.

    But on an NVIDIA GPU the kernels of convolutions, all arrays of four axes, lie in the order in which cuDNN
    reads them; in JAX's own order each step would transpose each kernel. The values are the same.

    Returns:
      The tree's shardings, for kernels their Formats.
    """

    def of(x):
        on_gpu = next(iter(x.sharding.device_set)).platform in _NVIDIA
        return Format(_CUDNN_KERNEL, x.sharding) if on_gpu and x.ndim == 4 else x.sharding

    return jax.tree.map(of, tree)


def hold(tree: Any) -> Any:
    """Arrays on devices, as `held` says."""
    wanted = held(tree)
    as_they_are = all(isinstance(x, NamedSharding) for x in jax.tree.leaves(wanted))
    return tree if as_they_are else jax.jit(lambda same: same, out_shardings=wanted)(tree)


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays of the host, the same in every process, on the devices of all: each process fills its own."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda at: np.asarray(x)[at]), tree
    )


def put_rows(
    source: Shaped[np.ndarray, "N ..."], rows: Int[np.ndarray, "..."], sharding: NamedSharding
) -> Shaped[Array, "..."]:
    """`put` of source[rows], of which a process reads those rows alone that its devices hold."""
    if sharding.is_fully_addressable:
        return jax.device_put(source[rows], sharding)
    shape = (*rows.shape, *source.shape[1:])
    return jax.make_array_from_callback(shape, sharding, lambda at: source[rows[at[: rows.ndim]]])


def share_of(count: int, sharding: NamedSharding) -> Int[np.ndarray, " n"]:
    """Which of the rows 0..count - 1 of an array the devices of this process hold, sorted."""
    held = sharding.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[at] for at in held]))


def put_share(
    share: Shaped[np.ndarray, "n ..."], places: Int[np.ndarray, " n"], count: int, sharding: NamedSharding
) -> Shaped[Array, "..."]:
    """`put` of `count` rows, of which this process has those of its own devices (`share_of`) alone."""
    if sharding.is_fully_addressable:
        return jax.device_put(share, sharding)
    rows = np.arange(count)
    return jax.make_array_from_callback(
        (count, *share.shape[1:]), sharding, lambda at: share[np.searchsorted(places, rows[at[0]])]
    )


def fetch(tree: Any) -> Any:
    """A tree on the host, whole in every process. All must ask: what is split over them is gathered first,
    so that each device holds the whole of one such array for a moment."""

    def whole(x):
        held = not isinstance(x, Array) or x.is_fully_addressable or x.is_fully_replicated
        return x if held else multihost_utils.process_allgather(x, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


def on_each_device(
    function: Callable[..., Array], key: Key[Array, "..."], rows: Shaped[Array, "B ..."], mesh: Mesh
) -> Shaped[Array, "B ..."]:
    """function(key data, numbers, rows) on each device's share of the rows.

    A number is a row's place in the global batch: what draws by it does not depend on the number of devices.
    """
    spread = jax.shard_map(
        function, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P("data"), check_vma=False
    )
    return spread(jax.random.key_data(key), jnp.arange(rows.shape[0]), rows)
