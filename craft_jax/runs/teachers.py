"""The frozen teacher of a run: given by its working directory, or trained once and found again."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from craft_jax import data, files, methods
from craft_jax.config import tree
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.runs import checkpoint, predict


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


def given(config, dataset):
    """The teacher that `teacher.checkpoint` names; None where it is empty or the method has no teacher.

    Args:
      config: the run's.
      dataset: the run's data.Dataset.
    Raises:
      CheckpointError: teacher.checkpoint is not a finished run, or does not fit the data.
      ConfigError: see `check_overlap`.
    """
    if not config.teacher.checkpoint or not methods.needs_teacher(config):
        return None
    teacher = load(config.teacher.checkpoint, dataset, config)
    check_overlap(teacher.record, config)
    return teacher


def cached(config, dataset):
    """(configuration, working directory) of the run that trains `config.teacher`, trained or not.

    The directory is named by what the teacher is trained on and how.
    """
    wanted = tree.teacher_config(config)
    identity = tree.teacher_identity(wanted) | {"data": dataset.fingerprint}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    name = f"{dataset.name}-{wanted.student.name}-seed{wanted.seed}-{digest[:10]}"
    return wanted, Path(config.teacher.cache) / name


def is_done(workdir):
    """Whether a working directory holds a finished run."""
    path = Path(workdir) / "results.json"
    return path.exists() and files.read_json(path)["status"] == "done"


def adopt(workdir, wanted):
    """Give a cached teacher that is not finished yet the configuration of the run that goes on with it.

    Its directory's name says that it is this teacher; what else differs does not bear on its training.
    """
    if (Path(workdir) / "config.json").exists():
        files.write_json(Path(workdir) / "config.json", tree.to_json(wanted))


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
    card = files.read_json(workdir / "dataset.json")
    _check_fit(workdir, card, data.card(dataset))
    if not (workdir / "results.json").exists():
        raise CheckpointError(f"{workdir}: no results.json; finish the teacher's run first")
    result = files.read_json(workdir / "results.json")
    if result["status"] != "done":
        raise CheckpointError(f"{workdir}: the teacher's run stopped; its results.json says at which step")
    network = predict.load(workdir, dtype=config.dtype)
    kept = ("clean_accuracy", "robust_accuracy", "corruptions", "cost", "trained_corruptions")
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


def check_overlap(record, config):
    """Refuse a teacher that was trained on corruptions that are evaluated, as a student would be.

    Args:
      record: a Teacher's, or None.
      config: reads eval.corruptions and views.allow_overlap.
    Raises:
      ConfigError: it was, and views.allow_overlap is False.
    """
    trained = (record or {}).get("trained_corruptions", [])  # absent from records of older versions
    overlap = sorted(set(trained) & set(config.eval.corruptions))
    if overlap and not config.views.allow_overlap:
        raise ConfigError(
            f"config.eval.corruptions: the teacher in {record['checkpoint']} was trained on "
            f"{', '.join(overlap)}; allowed: others (--config.views.allow_overlap=True marks the results)"
        )


def _check_fit(workdir, card, wanted):
    faults = []
    for key in ("num_classes", "input_shape"):
        if card[key] != wanted[key]:
            faults.append(f"its {key} is {card[key]}, the data's {wanted[key]}")
    if wanted["evaluation_split"] == "validation" and card["fingerprint"] != wanted["fingerprint"]:
        faults.append("it may have seen the images that config.data.validation holds out")
    if faults:
        raise CheckpointError(f"the teacher in {workdir} does not fit: " + "; ".join(faults))
