"""Checkpoints: the whole state of a run in DIR/checkpoints/STEP, by Orbax."""

import contextlib
import hashlib
import json
import logging
import re
import warnings
from pathlib import Path

import absl.logging
import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from craft_jax.errors import CheckpointError

# Orbax's name of old for what a step holds; kept, so that the runs of every version lie alike.
_ITEM = "default"

# What is raised where a file is missing, cut short or garbled; TensorStore raises ValueErrors that begin so.
_DAMAGE = (
    FileNotFoundError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    KeyError,
    ocp.errors.InvalidLayoutError,
)
_DAMAGE_WORDS = (
    "DATA_LOSS",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "FAILED_PRECONDITION",
    "Error opening",
    "Error reading",
)

# Orbax and its helpers report every file at INFO and WARNING; a run's first lines are for the user.
absl.logging.set_verbosity(absl.logging.ERROR)
# Where reading fails, one failure is told; asyncio would print those of the other arrays around it.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class Checkpoints:
    """DIR/checkpoints: whole states by step, written in the background. A context manager.

    A step is written under a temporary name and renamed when it is whole, so that a process that dies leaves
    no half of one; what it left is cleared away here.
    """

    def __init__(self, workdir, keep):
        """Open, and make if need be, the checkpoints of a run.

        Args:
          workdir: the run's working directory.
          keep: how many steps stay, the newest.
        """
        self._directory = Path(workdir).absolute() / "checkpoints"
        self._steps = ocp.training.Checkpointer(
            self._directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._saving = None

    def latest_step(self):
        """The newest whole step, None where there is none."""
        latest = self._steps.latest
        return None if latest is None else latest.step

    def save(self, step, state):
        """Start to save `state`, which may be donated at once, as `step`; it is there when `wait` returns."""
        self.wait()
        self._saving = self._steps.save_async(step, state, checkpointable_name=_ITEM, force=True)

    def wait(self):
        """Wait until what was saved is on disk; raises what went wrong with it."""
        # Asking for the result also ends the thread that Orbax starts with every save.
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def restore(self, abstract_state):
        """The newest state.

        Args:
          abstract_state: the expected tree of ShapeDtypeStructs with shardings.
        Returns:
          The state, with those shapes, types and shardings.
        Raises:
          CheckpointError: the stored tree has other leaves (all are listed), or cannot be read.
        """
        place = self._directory / str(self.latest_step())
        with _reading(place):
            stored = _leaves(_stored(place))
        _check_leaves(place, stored, _leaves(abstract_state))
        with _reading(place):
            return ocp.load(place, abstract_state, checkpointable_name=_ITEM)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._steps.close()


def _check_leaves(place, stored, expected):
    faults = [f"missing: {p} {expected[p]}" for p in sorted(expected.keys() - stored.keys())]
    faults += [f"unexpected: {p} {stored[p]}" for p in sorted(stored.keys() - expected.keys())]
    faults += [
        f"differs: {p} is {stored[p]}, should be {expected[p]}"
        for p in sorted(stored.keys() & expected.keys())
        if stored[p] != expected[p]
    ]
    if faults:
        raise CheckpointError("\n".join([f"{place} does not fit this run:", *faults]))


def restore_student(workdir):
    """The newest student of a run, without the rest of its state; writes nothing.

    Args:
      workdir: a run's working directory.
    Returns:
      (variables, step): {"params", "batch_stats"} as NumPy arrays, and the step they are of.
    Raises:
      CheckpointError: no checkpoint there, or it cannot be read.
    """
    directory = Path(workdir).absolute() / "checkpoints"
    if not directory.is_dir():
        raise CheckpointError(f"{workdir}: no checkpoints; give the --workdir of a training run")
    with _reading(directory):
        step = max((x.step for x in ocp.path.step.standard_name_format().find_all(directory)), default=None)
    if step is None:
        raise CheckpointError(f"{directory}: empty; give the --workdir of a training run")
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _reading(directory / str(step)):
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one_device),
            _stored(directory / str(step)),
        )
        state = ocp.load(directory / str(step), abstract, checkpointable_name=_ITEM)
    student = {"params": {}, "batch_stats": {}} | state["student"]  # Orbax drops what is empty
    return jax.tree.map(np.asarray, student), step


def _stored(place):
    """The tree of a stored state, its leaves with shape and dtype."""
    described = ocp.metadata(place, checkpointable_name=_ITEM).metadata
    if described is not None:
        return described
    # Orbax keeps to itself why it could not read the description: loading says why.
    with warnings.catch_warnings(action="ignore"):
        return ocp.load(place, checkpointable_name=_ITEM)


@contextlib.contextmanager
def _reading(place):
    """Turn what Orbax, TensorStore and JAX raise on reading `place` into a CheckpointError with the cause."""
    try:
        yield
    except Exception as error:
        cause = error
        while cause.__cause__:  # Orbax wraps; what went wrong is innermost
            cause = cause.__cause__
        said = re.split(r"\n| \[tensorstore_spec=", str(cause))[0]
        named = f"{type(cause).__name__}: {said}" if said else type(cause).__name__
        raise CheckpointError(f"{place}: {_advice(cause, said)} ({named})") from error


def _advice(cause, said):
    """What went wrong in words, and the way out."""
    if isinstance(cause, PermissionError) or "PERMISSION_DENIED" in said:
        return "this user may not read it; give it the permission, or run as its owner"
    if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in said:
        return "memory or open files ran out while loading it; free some and try again, it is untouched"
    if isinstance(cause, _DAMAGE) or said.startswith(_DAMAGE_WORDS):
        return "damaged; move it away to go on from an earlier one"
    return "cannot be read now; nothing says that it is damaged"


def path_of(key_path):
    """A JAX key path as 'a/b/0'."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def _leaves(tree):
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(path): f"{np.dtype(x.dtype).name}{tuple(x.shape)}" for path, x in flat}


def params_sha256(variables):
    """The hash that names a trained student.

    Args:
      variables: {"params", "batch_stats"}, nested dicts of arrays.
    Returns:
      Hex SHA-256 over the leaves in sorted order of their '/'-joined paths: path, dtype, shape, bytes.
    """
    digest = hashlib.sha256()
    flat = jax.tree_util.tree_leaves_with_path(variables)
    for path, leaf in sorted((path_of(p), np.asarray(x)) for p, x in flat):
        digest.update(f"{path}{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
