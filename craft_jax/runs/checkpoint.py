"""Checkpoints: the whole state of a run in DIR/checkpoints/STEP, by Orbax.

Orbax and TensorStore check the form of their files and not the values in them: of single flipped bits about
half come back as other numbers, without a word. So a step holds the SHA-256 of every leaf, written with it.
"""

import hashlib
import logging
import math
import os
import sys
import warnings
from pathlib import Path

import absl.logging
import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from craft_jax import files, processes
from craft_jax.errors import CheckpointDamaged, CheckpointError
from craft_jax.mesh import fetch, put
from craft_jax.runs import orbax_faults

# Orbax's name of old for what a step holds; kept, so that the runs of every version lie alike.
_ITEM = "default"

# Orbax and its helpers report every file at INFO and WARNING; a run's first lines are for the user. At ERROR
# its threads print, with their stack, what is raised here and told in a line.
absl.logging.set_verbosity(absl.logging.FATAL)
# Where reading fails, one failure is told; asyncio would print those of the other arrays around it.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class Checkpoints:
    """DIR/checkpoints: whole states by step, written in the background. A context manager.

    A step is written under a temporary name and renamed when it is whole, so that a process that dies leaves
    no half of one; what it left is cleared away here. Of several processes of a run all call each of these
    functions: each writes what its devices hold.
    """

    def __init__(self, workdir, keep):
        """Open, and make if need be, the checkpoints of a run.

        Args:
          workdir: the run's working directory.
          keep: how many steps stay, the newest.
        """
        self._workdir = Path(workdir).absolute()
        self._directory, self._keep = self._workdir / "checkpoints", keep
        self._opened, self._saving = None, None

    @property
    def _steps(self):
        """Orbax's own view, opened when `restore` has put aside what it would stumble over."""
        if self._opened is None:
            self._opened = ocp.training.Checkpointer(
                self._directory,
                preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
                cleanup_tmp_directories=True,
            )
        return self._opened

    def save(self, step, state):
        """Start to save `state`, which may be donated at once, as `step`; it is there when `wait` returns.

        Raises:
          CheckpointError: this step, or the one before it, cannot be written.
        """
        self.wait()
        record = {"step": step, "sha256": sums(state)}
        with orbax_faults.saving(self._directory):
            self._saving = self._steps.save_async(
                step, state, checkpointable_name=_ITEM, force=True, custom_metadata=record
            )

    def wait(self):
        """Wait until what was saved is on disk.

        Raises:
          CheckpointError: it cannot be written.
        """
        # Asking for the result also ends the thread that Orbax starts with every save.
        saving, self._saving = self._saving, None
        if saving:
            with orbax_faults.saving(self._directory):
                saving.result()

    def restore(self, abstract_state):
        """The newest state that is whole. Damaged ones after it are moved to DIR/damaged, and told.

        Args:
          abstract_state: the expected tree of ShapeDtypeStructs with shardings.
        Returns:
          (step, state), the state with those shapes, types and shardings; None where nothing is saved.
        Raises:
          CheckpointDamaged: not one of them is whole; they are left where they are.
          CheckpointError: the stored tree has other leaves (all are listed), or cannot be read now.
        """
        if processes.count() > 1:
            found = self._restored_by_all(abstract_state)
        else:
            damaged, found = self._newest_whole(abstract_state)
            self._put_aside(damaged)
        _ = self._steps  # clears away what a process that died left half written
        return found

    def _restored_by_all(self, abstract_state):
        """Each process loads the whole state by itself, the writer first, and keeps what its devices hold.

        All load as often: Orbax counts what a process loads, and names by that what it later waits for.
        """
        alone = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        here = jax.tree.map(lambda x: x.update(sharding=alone), abstract_state)
        with _by_itself():
            damaged, found = processes.writer_first(self._newest_whole, here)
        step = found and found[0]
        if step != processes.decided(lambda: step):
            raise CheckpointError(
                f"{self._directory}: other steps than process 0 finds there; allowed: one file system for all"
            )
        processes.decided(self._put_aside, damaged)
        if not found:
            return None
        return step, jax.tree.map(lambda x, on: put(np.asarray(x), on.sharding), found[1], abstract_state)

    def _newest_whole(self, abstract_state):
        """({damaged step: its error}, (step, state) or None); raises as `restore`."""
        damaged, found = {}, None
        for step in _steps_in(self._directory):
            place = self._directory / str(step)
            try:
                if found:  # those before it are looked at, and not loaded
                    _stored(place)
                else:
                    found = step, _restored(self._workdir, place, abstract_state)
            except CheckpointDamaged as error:
                damaged[step] = error
        if damaged and not found:
            raise CheckpointDamaged("\n".join(map(str, damaged.values())))
        return damaged, found

    def _put_aside(self, damaged):
        """Move damaged steps out of the way of those that will have their numbers."""
        for step, error in damaged.items():
            aside = self._workdir / "damaged" / str(step)
            while aside.exists():
                aside = aside.with_name(aside.name + "_")
            aside.parent.mkdir(exist_ok=True)
            os.rename(self._directory / str(step), aside)
            print(f"note: {error}; moved to {aside}", file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # With a fault of one process alone the others do not come here, and Orbax would wait for them.
        if self._opened is not None and (kind is None or processes.count() == 1):
            with orbax_faults.saving(self._directory):
                self._opened.close()


def _by_itself():
    """Orbax loads in this process without waiting for the others of the run."""
    me = jax.process_index()
    return ocp.Context(
        multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    )


def _steps_in(directory):
    """The numbers of the steps that are there, the newest first."""
    with orbax_faults.reading(directory):
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def _restored(workdir, place, abstract_state):
    described, recorded = _stored(place)
    with orbax_faults.reading(place):
        stored = _leaves(described)
    expected = _leaves(abstract_state)
    if recorded and recorded["sha256"].keys() == expected.keys() != stored.keys():
        raise CheckpointDamaged(f"{place}: {orbax_faults.DAMAGED} (other arrays than were saved)")
    _check_leaves(place, stored, expected)
    with orbax_faults.reading(place):
        state = ocp.load(place, abstract_state, checkpointable_name=_ITEM)
    _check_sums(workdir, place, state, recorded)
    return state


def restore_before(workdir, step, abstract_state):
    """The newest whole state of fewer than `step` steps; writes nothing.

    Args:
      workdir: a run's working directory.
      step: how many steps are too many.
      abstract_state: the expected tree of ShapeDtypeStructs with shardings.
    Returns:
      (step, state) as of `Checkpoints.restore`; None where there is none.
    Raises:
      CheckpointError: the stored tree has other leaves, or cannot be read now.
    """
    workdir = Path(workdir).absolute()
    directory = workdir / "checkpoints"
    for kept in (found for found in _steps_in(directory) if found < step):
        try:
            return kept, _restored(workdir, directory / str(kept), abstract_state)
        except CheckpointDamaged as error:
            print(f"note: {error}; going on from an earlier step", file=sys.stderr)
    return None


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
      CheckpointDamaged: the newest is damaged. An earlier one is not taken for it.
      CheckpointError: no checkpoint there, or it cannot be read now.
    """
    directory = Path(workdir).absolute() / "checkpoints"
    if not directory.is_dir():
        raise CheckpointError(f"{workdir}: no checkpoints; give the --workdir of a training run")
    if not (steps := _steps_in(directory)):
        raise CheckpointError(f"{directory}: empty; give the --workdir of a training run")
    step = steps[0]
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    described, recorded = _stored(directory / str(step))
    with orbax_faults.reading(directory / str(step)), _by_itself():
        _check_size(described)
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one_device), described
        )
        state = ocp.load(directory / str(step), abstract, checkpointable_name=_ITEM)
    _check_sums(Path(workdir), directory / str(step), state, recorded)
    student = {"params": {}, "batch_stats": {}} | state["student"]  # Orbax drops what is empty
    student = jax.tree.map(np.asarray, student)
    _check_result(Path(workdir), student, step)
    return student, step


def _check_result(workdir, student, step):
    """A finished run's student is the one that its result is of: without its last step it has none."""
    if not (workdir / "results.json").exists():
        return
    wanted = files.read_json(workdir / "results.json").get("params_sha256")  # of a run that stopped: none
    if wanted not in (None, params_sha256(student)):
        raise CheckpointDamaged(
            f"{workdir}/checkpoints: the newest, step {step}, is not the student that results.json is of"
        )


def _check_size(described):
    """Refuse a state that claims more than the memory: nothing else bounds that of an unknown run."""
    claimed = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(described))
    if claimed > files.memory():
        raise ValueError(f"it claims {claimed} bytes; this machine has {files.memory()} of memory")


def _stored(place):
    """(the tree of a stored state, its leaves with shape and dtype; what `save` noted of it, or None).

    Raises:
      CheckpointDamaged: it is not what `save` wrote.
      CheckpointError: it cannot be read now.
    """
    with orbax_faults.reading(place):
        found = ocp.metadata(place, checkpointable_name=_ITEM)
        described, recorded = found.metadata, found.custom_metadata
        if described is None:  # Orbax keeps to itself why it could not read the description: loading says why
            with warnings.catch_warnings(action="ignore"):
                described = ocp.load(place, checkpointable_name=_ITEM)
    whole = isinstance(recorded, dict) and recorded.keys() == {"step", "sha256"}
    if recorded and not (whole and isinstance(recorded["sha256"], dict)):
        raise CheckpointDamaged(f"{place}: {orbax_faults.DAMAGED} (its checksums are gone)")
    return described, recorded


def _check_sums(workdir, place, state, recorded):
    """Compare a state with what was noted when it was saved.

    Raises:
      CheckpointDamaged: it is another, or nothing is noted though the run's version notes it.
    """
    if not recorded and not files.is_sealed(workdir / "config.json"):
        print(f"note: {place} is of an older version, which noted no checksums", file=sys.stderr)
        return
    if not recorded:
        raise CheckpointDamaged(f"{place}: {orbax_faults.DAMAGED} (its checksums are gone)")
    if str(recorded["step"]) != place.name:
        raise CheckpointDamaged(f"{place}: {orbax_faults.DAMAGED} (it is of step {recorded['step']})")
    found = sums(state)
    if others := sorted(p for p in found if found[p] != recorded["sha256"].get(p)):
        some = ", ".join(others[:5]) + (f" and {len(others) - 5} others" if others[5:] else "")
        raise CheckpointDamaged(f"{place}: {orbax_faults.DAMAGED} (not as saved: {some})")


def path_of(key_path):
    """A JAX key path as 'a/b/0'."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def _leaves(tree):
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(path): f"{np.dtype(x.dtype).name}{tuple(x.shape)}" for path, x in flat}


def sums(tree):
    """{path: hex SHA-256 over dtype, shape and bytes} of a tree of arrays, fetched from their devices."""
    flat = jax.tree_util.tree_leaves_with_path(fetch(tree))
    found = {}
    for path, leaf in flat:
        digest = hashlib.sha256(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
        found[path_of(path)] = digest.hexdigest()
    return found


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
