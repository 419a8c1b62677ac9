"""What a working directory holds of a run, and how it is written: Orbax checkpoints and small JSON files.

DIR/config.json        the configuration of the first run
DIR/dataset.json       what the data was: classes, sizes, normalisation, fingerprint
DIR/teacher.json       which teacher it has, if any
DIR/checkpoints/STEP   the whole state, by Orbax
DIR/results.json       the result, once there is one
"""

import hashlib
import os
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from craft_jax import files
from craft_jax.config import tree
from craft_jax.errors import CheckpointError

# Orbax and its helpers report every file at INFO and WARNING; a run's first lines are for the user.
logging.set_verbosity(logging.ERROR)


def check_same_run(workdir, config, card):
    """Check that a working directory is new or holds this very run.

    Args:
      workdir: a path.
      config: the run's configuration.
      card: what its data is, from `data.card`.
    Raises:
      CheckpointError: it holds another run; the message lists every difference.
    """
    workdir = Path(workdir)
    nearest = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise CheckpointError(f"--workdir: {nearest} is not a directory that can be written to")
    if not (workdir / "config.json").exists():
        return
    old = tree.from_json(files.read_json(workdir / "config.json"))
    old_card = files.read_json(workdir / "dataset.json")
    faults = tree.differences(old, config)
    faults += [
        f"data: {key} was {old_card.get(key)!r} in the working directory, is {card[key]!r} now"
        for key in card
        if old_card.get(key) != card[key]
    ]
    if faults:
        head = f"{workdir} holds a run with another configuration; choose another --workdir, or undo:"
        raise CheckpointError("\n".join([head, *faults]))


def claim(workdir, config, card, teacher=None):
    """Make a new working directory this run's; one that already is stays as it was.

    Args:
      workdir: a directory.
      config: the run's configuration.
      card: what its data is, from `data.card`.
      teacher: the record of its teacher, None without one.
    Raises:
      CheckpointError: the run was begun with another teacher.
    """
    path = Path(workdir) / "teacher.json"
    if teacher and path.exists():
        begun = files.read_json(path)["params_sha256"]
        if begun != teacher["params_sha256"]:
            raise CheckpointError(
                f"{workdir} was begun with another teacher: its parameters' sha256 was {begun}, "
                f"that of {teacher['checkpoint']} is {teacher['params_sha256']}"
            )
    elif teacher:
        files.write_json(path, teacher)
    if not (Path(workdir) / "config.json").exists():
        # config.json last: it is what marks the directory as a run's.
        files.write_json(Path(workdir) / "dataset.json", card)
        files.write_json(Path(workdir) / "config.json", tree.to_json(config))


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
