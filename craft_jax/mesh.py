"""The mesh: all of this process's devices on one axis, "data". One device is the mesh of size one.

Several processes are not supported yet: nothing calls `jax.distributed.initialize`.
"""

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def make():
    """A mesh of all devices; the compiler places what is between the shardings that jit is given."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicated(mesh):
    """Every device holds the whole: state, teacher, a resident data set."""
    return NamedSharding(mesh, P())


def split(mesh):
    """Every device holds its share of the first axis: batches."""
    return NamedSharding(mesh, P("data"))
