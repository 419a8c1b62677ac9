"""Changes to the step's program taken back one at a time: what each of them brings."""

import contextlib
from unittest import mock

import jax
import optax

from craft_jax import mesh
from craft_jax.models import batch_norm
from craft_jax.training import step
from launch.benchmarks import setting


def _normalise(x, scale, bias):
    """BatchNorm differentiated by JAX, each of its sums by itself, as Flax's layer is."""
    with mock.patch.object(batch_norm, "_sums", batch_norm._apart):
        return batch_norm._forward(x, scale, bias)[0]


CHANGES = {
    "kernels": "on a GPU kernels and their momentum lie as cuDNN reads them (mesh.held)",
    "batch_norm": "a BatchNorm's sums are taken at once, forward and backward (models/batch_norm.py)",
    "vector": "gradient and parameters as one vector: two norms of it, updates that read it (step.flat)",
    "barriers": "no update before the last gradient is there (optimization_barrier)",
    "folding": "a frozen teacher's BatchNorms are folded into its convolutions (models/folding.py)",
}

_PATCHES = {
    "kernels": [(mesh, "_NVIDIA", ())],
    "batch_norm": [(batch_norm, "normalise", _normalise)],
    "vector": [
        (step, "flat", lambda tree: tree),
        (step, "unflat", lambda tree, like: tree),
        (step, "_norm", optax.tree.norm),
    ],
    "barriers": [(jax.lax, "optimization_barrier", lambda operands: operands)],
    "folding": [(setting, "fold", lambda model, shape: (model, lambda variables: variables))],
}


@contextlib.contextmanager
def taken_back(names):
    """A step that is made and traced inside lacks these of `CHANGES`."""
    with contextlib.ExitStack() as stack:
        for target, attribute, old in (patch for name in names for patch in _PATCHES[name]):
            stack.enter_context(mock.patch.object(target, attribute, old))
        yield


def add_option(parser):
    each = "\n".join(f"  {name:11} {what}" for name, what in CHANGES.items())
    parser.add_argument(
        "--without", nargs="+", choices=CHANGES, default=[], help=f"take back, to see what it brings:\n{each}"
    )
