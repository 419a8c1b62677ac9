"""The frozen teacher of a run: given by its working directory, or trained once and found again."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from craft_jax import checkpoint, data, predict
from craft_jax import config as configuration
from craft_jax.errors import CheckpointError


class Teacher(NamedTuple):
    """A frozen network.

    Attributes:
      model: a models.Model.
      variables: {"params", "batch_stats"}, NumPy arrays; never trained, never in the student's checkpoint.
      record: what results.json says of it: name, method, seed, accuracies, where it lies.
    """

    model: Any
    variables: Any
    record: dict


def find_or_train(config, dataset, train):
    """The teacher that a run asks for.

    Args:
      config: the run's; reads teacher.* and, for a teacher yet to be trained, what its training reads.
      dataset: the run's data.Dataset.
      train: train(config, workdir, dataset), which trains a run to its end or finds it trained.
    Returns:
      A Teacher.
    Raises:
      CheckpointError: teacher.checkpoint is not a finished run, or does not fit the data.
    """
    if config.teacher.checkpoint:
        return load(config.teacher.checkpoint, dataset, config)
    wanted = configuration.teacher_config(config)
    workdir = cache_path(config, wanted, dataset)
    with checkpoint.lock(Path(f"{workdir}.lock"), wait=True):
        if not _is_done(workdir):
            print(f"training the teacher first, {wanted.student.name}, into {workdir}", flush=True)
            if (workdir / "config.json").exists():
                # Its name says that it is this teacher; what else differs does not bear on its training.
                checkpoint.write_json(workdir / "config.json", configuration.to_json(wanted))
            train(wanted, workdir, dataset)
    return load(workdir, dataset, config)


def _is_done(workdir):
    path = Path(workdir) / "results.json"
    return path.exists() and checkpoint.read_json(path)["status"] == "done"


def cache_path(config, wanted, dataset):
    """Where the teacher of a teacher configuration lies: named by what it was trained on and how."""
    identity = configuration.teacher_identity(wanted)
    identity["data"] = dataset.fingerprint
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    name = f"{dataset.name}-{wanted.student.name}-seed{wanted.seed}-{digest[:10]}"
    return Path(config.teacher.cache) / name


def load(workdir, dataset, config):
    """Load a trained teacher and check that it fits.

    Args:
      workdir: the working directory of a finished run.
      dataset: the data.Dataset that it shall teach on.
      config: reads dtype.
    Raises:
      CheckpointError: see `find_or_train`.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise CheckpointError(f"config.teacher.checkpoint: no directory {workdir}")
    card = checkpoint.read_json(workdir / "dataset.json")
    _check_fit(workdir, card, data.card(dataset))
    if not (workdir / "results.json").exists():
        raise CheckpointError(f"{workdir}: no results.json; finish the teacher's run first")
    result = checkpoint.read_json(workdir / "results.json")
    if result["status"] != "done":
        raise CheckpointError(f"{workdir}: the teacher's run stopped; its results.json says at which step")
    network = predict.load(workdir, dtype=config.dtype)
    kept = ("clean_accuracy", "robust_accuracy", "corruptions", "cost")
    record = {
        "name": network.config.student.name,
        "method": network.config.method,
        "dataset": card["name"],
        "seed": network.config.seed,
        "step": network.step,
        "checkpoint": str(workdir),
        "params_sha256": checkpoint.params_sha256(network.variables),
        **{key: result[key] for key in kept if key in result},
    }
    return Teacher(network.model, network.variables, record)


def _check_fit(workdir, card, wanted):
    faults = []
    for key in ("num_classes", "input_shape"):
        if card[key] != wanted[key]:
            faults.append(f"its {key} is {card[key]}, the data's {wanted[key]}")
    if wanted["evaluation_split"] == "validation" and card["fingerprint"] != wanted["fingerprint"]:
        faults.append("it may have seen the images that config.data.validation holds out")
    if faults:
        raise CheckpointError(f"the teacher in {workdir} does not fit: " + "; ".join(faults))
