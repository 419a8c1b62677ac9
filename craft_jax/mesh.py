"""The mesh: all of this process's devices on one axis, "data". One device is the mesh of size one.

Several processes are not supported yet: nothing calls `jax.distributed.initialize`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Key, Shaped


def make_mesh() -> Mesh:
    """A mesh of all devices; the compiler places what is between the shardings that jit is given."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicated_on(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole: state, teacher, a resident data set."""
    return NamedSharding(mesh, P())


def split_over(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Every device holds its share of one axis: the first of a batch, the second of a stack of batches."""
    return NamedSharding(mesh, P(*[None] * axis, "data"))


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
