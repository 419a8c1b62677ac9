"""Checkpoints: the whole state of a run in DIR/checkpoints/STEP, by Orbax."""

import hashlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from craft_jax.errors import CheckpointError

# Orbax and its helpers report every file at INFO and WARNING; a run's first lines are for the user.
logging.set_verbosity(logging.ERROR)


def manager(workdir, config):
    """An Orbax CheckpointManager on DIR/checkpoints that saves asynchronously and keeps the newest few."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=config.checkpoint.keep,
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
    )
    return _open(workdir, options)


def _open(workdir, options):
    # The handler, named here, lets item_metadata read what an earlier process wrote.
    directory = Path(workdir).absolute() / "checkpoints"
    handler = ocp.StandardCheckpointHandler()
    return ocp.CheckpointManager(directory, options=options, item_handlers=handler)


def save(checkpoints, step, state):
    """Start to save `state` as `step`; it is there when `checkpoints.wait_until_finished()` returns."""
    checkpoints.save(step, args=ocp.args.StandardSave(state))


def restore(checkpoints, abstract_state):
    """The newest state.

    Args:
      checkpoints: a CheckpointManager.
      abstract_state: the expected tree of ShapeDtypeStructs with shardings.
    Returns:
      The state, with those shapes, types and shardings.
    Raises:
      CheckpointError: the stored tree has other leaves (all are listed), or cannot be read.
    """
    step = checkpoints.latest_step()
    place = Path(checkpoints.directory) / str(step)
    stored, expected = _leaves(_metadata(checkpoints, step)), _leaves(abstract_state)
    faults = [f"missing: {p} {expected[p]}" for p in sorted(expected.keys() - stored.keys())]
    faults += [f"unexpected: {p} {stored[p]}" for p in sorted(stored.keys() - expected.keys())]
    faults += [
        f"differs: {p} is {stored[p]}, should be {expected[p]}"
        for p in sorted(stored.keys() & expected.keys())
        if stored[p] != expected[p]
    ]
    if faults:
        raise CheckpointError("\n".join([f"{place} does not fit this run:", *faults]))
    try:
        return checkpoints.restore(step, args=ocp.args.StandardRestore(abstract_state))
    except Exception as error:  # Orbax raises many kinds for damaged files
        raise _damaged(place, error) from error


def restore_student(workdir):
    """The newest student of a run, without the rest of its state.

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
    options = ocp.CheckpointManagerOptions(read_only=True)
    with _open(workdir, options) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise CheckpointError(f"{directory}: empty; give the --workdir of a training run")
        stored = _metadata(checkpoints, step)
        one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one_device), stored
        )
        try:
            state = checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:
            raise _damaged(directory / str(step), error) from error
    return jax.tree.map(np.asarray, state["student"]), step


def _metadata(checkpoints, step):
    """The tree of array metadata (shape, dtype) of a stored state."""
    place = Path(checkpoints.directory) / str(step)
    try:
        tree = checkpoints.item_metadata(step)
        return tree.tree if hasattr(tree, "tree") else tree
    except Exception as error:
        raise _damaged(place, error) from error


def _damaged(place, error):
    kind = type(error).__name__
    return CheckpointError(f"{place}: damaged ({kind}); move it away to go on from an earlier one")


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
