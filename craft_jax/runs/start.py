"""What a student's training starts from: with `student.checkpoint` the student of a finished run.

DIR/start.json says which, from the run's first moment on; results have it as "started_from".
"""

import os
from pathlib import Path
from typing import TypedDict

import jax
import numpy as np

from craft_jax import data, files
from craft_jax.errors import CheckpointError
from craft_jax.mesh import put as put_on
from craft_jax.runs import checkpoint, directory, predict, teachers, weights


class StartRecord(TypedDict):
    """What is known of a start, JSON as it is.

    Attributes:
      name: of its network.
      method, seed, step: how it was trained, and for how many steps.
      dataset: the name of the data it was trained on.
      other_data: whether that is another data set than the run's.
      checkpoint: the absolute path of its working directory when the run was begun.
      params_sha256: what it is: `checkpoint.params_sha256` of its parameters.
      trained_corruptions: which it, its teacher, or what it started from itself is known to be trained on.
    """

    name: str
    method: str
    seed: int | None
    step: int
    dataset: str
    other_data: bool
    checkpoint: str
    params_sha256: str
    trained_corruptions: list[str]


def find(config, workdir, dataset):
    """The StartRecord of a run: the one it was begun with, or of what `student.checkpoint` names.

    Args:
      config: the run's.
      workdir: its working directory; it may not be there yet.
      dataset: its data.Dataset.
    Returns:
      A StartRecord; None where training starts from random parameters.
    Raises:
      CheckpointError: that is no finished run, or of another network, of other classes, or one that may have
        seen the images held out.
      ConfigError: see `teachers.check_overlap`.
    """
    if not config.student.checkpoint:
        return None
    record = directory.started_from(workdir) or _load(config, dataset)[1]
    teachers.check_overlap(record, config, "the start")
    return record


def put(state, config, workdir, dataset):
    """A fresh state with the student that the run starts from, on the devices where the fresh one lies.

    Args:
      state: of `training.step.initial`, not yet stepped.
      config, workdir, dataset: as of `find`; the directory is claimed.
    Raises:
      CheckpointError: as `find`; or it is another one than the run was begun with.
    """
    if not config.student.checkpoint:
        return state
    variables, record = _load(config, dataset)
    begun, fresh = directory.started_from(workdir), state["student"]
    if begun and begun["params_sha256"] != record["params_sha256"]:
        raise CheckpointError(
            f"{workdir} was begun from another student: its parameters' sha256 was "
            f"{begun['params_sha256']}, that of {record['checkpoint']} is {record['params_sha256']}"
        )
    shapes = [{p: (x.shape, x.dtype) for p, x in weights.leaves(t).items()} for t in (fresh, variables)]
    if shapes[0] != shapes[1]:
        other = sorted(p for p in shapes[0].keys() | shapes[1].keys() if shapes[0].get(p) != shapes[1].get(p))
        raise CheckpointError(
            f"config.student.checkpoint: {record['checkpoint']} does not fit {config.student.name}: "
            f"other arrays: {', '.join(other[:5])}"
        )
    placed = jax.tree.map(lambda old, new: put_on(np.asarray(new), old.sharding), fresh, variables)
    return {**state, "student": placed}


def _load(config, dataset):
    """(variables, StartRecord) of `student.checkpoint`, checked."""
    given = config.student.checkpoint
    workdir = Path(os.path.abspath(os.path.expanduser(given)))
    if not teachers.is_done(workdir):
        raise CheckpointError(f"config.student.checkpoint: {given}; allowed: the workdir of a finished run")
    own, wanted = data.current(files.read_json(workdir / "dataset.json")), data.record(dataset)
    network, result = predict.load(workdir), files.read_json(workdir / "results.json")
    name, other_data = network.config.student.name, teachers.is_other(own, wanted)
    faults = []
    if name != config.student.name:
        faults.append(f"its network is {name}, the run's {config.student.name}")
    if own["num_classes"] != wanted["num_classes"]:
        faults.append(f"it has {own['num_classes']} classes, the data {wanted['num_classes']}")
    if not other_data and own["validation_examples"] < wanted["validation_examples"]:
        faults.append("it may have seen the images that config.data.validation holds out")
    if faults:
        raise CheckpointError(f"config.student.checkpoint: {given} does not fit: {'; '.join(faults)}")
    return network.variables, {
        "name": name,
        "method": result["method"],
        "seed": result["seed"],
        "step": network.step,
        "dataset": own["name"],
        "other_data": other_data,
        "checkpoint": str(workdir),
        "params_sha256": checkpoint.params_sha256(network.variables),
        "trained_corruptions": sorted(
            {
                *result.get("trained_corruptions", []),
                *(result.get("teacher_trained_corruptions") or []),  # None where they are not known
                *(result.get("started_from") or {}).get("trained_corruptions", []),
            }
        ),
    }
