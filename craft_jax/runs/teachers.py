"""The frozen teacher of a run: given by its working directory, or trained once and found again."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from craft_jax import data, files, methods
from craft_jax.config import tree
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.models.folding import fold
from craft_jax.runs import checkpoint, directory, predict

# How a run was measured, of its result: accuracies that are quoted elsewhere say nothing without it.
_PROTOCOL = ("source", "evaluation_split", "clean_examples", "examples", "evaluated_corruptions")
_FIGURES = ("clean_accuracy", "robust_accuracy", "corruptions", "cost", "trained_corruptions", "notes")


class TeacherGone(CheckpointError):
    """The teacher that a run was begun with is at none of the places where it may be."""


class TeacherRecord(TypedDict):
    """What is known of a teacher: DIR/teacher.json, and "teacher" in results; JSON as it is.

    Attributes:
      name: of its network, a key of models.REGISTRY.
      method, seed, step: how it was trained, and for how many steps; of weights of other code "import", None
        and 0.
      dataset: the name of the data it was trained on.
      other_data: whether that is another data set than the student's.
      checkpoint: the absolute path of its working directory when the run last had it.
      params_sha256: what it is: `checkpoint.params_sha256` of its parameters.
      clean_accuracy, robust_accuracy, corruptions, cost, trained_corruptions, notes: from its own
        results.json; of an older version, or of weights of other code, some are absent.
      measured: how these accuracies were obtained: "dataset" and "test_examples", how many images its split
        has; "severities"; and, as in results.json, "source", "evaluation_split", "clean_examples",
        "examples", "evaluated_corruptions".
    """

    name: str
    method: str
    seed: int | None
    step: int
    dataset: str
    other_data: bool
    checkpoint: str
    params_sha256: str
    clean_accuracy: NotRequired[float]
    robust_accuracy: NotRequired[float | None]
    corruptions: NotRequired[dict]
    cost: NotRequired[dict | None]
    trained_corruptions: NotRequired[list[str]]
    notes: NotRequired[list[str]]
    measured: dict[str, Any]


class Teacher(NamedTuple):
    """A frozen network.

    Attributes:
      model: a models.Model.
      variables: {"params", "batch_stats"}, NumPy arrays; never trained, never in the student's checkpoint.
      record: what is known of it.
    """

    model: Any
    variables: Any
    record: TeacherRecord


def folded(teacher, dataset):
    """The Teacher as a step asks it, which never trains it (`models.folding`): the same but for rounding."""
    model, variables_of = fold(teacher.model, dataset.train_images.shape[1:])
    return teacher._replace(model=model, variables=variables_of(teacher.variables))


def known(config, workdir, dataset):
    """The teacher that a run already has: the one it was begun with, or that `teacher.checkpoint` names.

    Args:
      config: the run's.
      workdir: the run's working directory; it may not be there yet.
      dataset: the run's data.Dataset.
    Returns:
      A Teacher; None where the method has none, or it is to be trained or found in the cache.
    Raises:
      TeacherGone: the one it was begun with is not found.
      CheckpointError: teacher.checkpoint is not a finished run, does not fit the data, or is another network
        than the one the run was begun with.
      ConfigError: see `check_overlap`.
    """
    if not methods.needs_teacher(config):
        return None
    begun, named = directory.begun_with(workdir), config.teacher.checkpoint
    if named and (begun is None or is_named_anew(config, workdir)):
        if not Path(_absolute(named)).is_dir():
            raise CheckpointError(
                f"config.teacher.checkpoint: no directory {named}; allowed: a run's workdir"
            )
        teacher = load(named, dataset, config)
        if begun:
            directory.check_same_teacher(workdir, begun, teacher.record)
    elif begun:
        teacher = _find(begun, config, dataset)
    else:
        return None
    check_overlap(teacher.record, config)
    return teacher


def is_named_anew(config, workdir):
    """Whether `teacher.checkpoint` is another path than the one a working directory was begun with."""
    path = Path(workdir) / "config.json"
    if not config.teacher.checkpoint or not path.exists():
        return False
    return files.read_json(path)["teacher"]["checkpoint"] != config.teacher.checkpoint


def _find(begun, config, dataset):
    """The Teacher of a TeacherRecord: where it lay last or, if it was moved, where `config` says."""
    places = [begun["checkpoint"]]
    if config.teacher.checkpoint:
        places.append(config.teacher.checkpoint)
    else:
        places.append(Path(config.teacher.cache) / Path(begun["checkpoint"]).name)
    faults = []
    for place in dict.fromkeys(map(_absolute, places)):
        try:
            teacher = load(place, dataset, config)
        except CheckpointError as error:
            faults.append(str(error))
        else:
            if teacher.record["params_sha256"] == begun["params_sha256"]:
                return teacher
            faults.append(f"{place}: another network")
    raise TeacherGone(
        f"the run's {begun['name']}, of parameters {begun['params_sha256'][:10]}, is not found: "
        f"{'; '.join(faults)}; --config.teacher.checkpoint=DIR says where it lies now"
    )


def _absolute(path):
    """A path that means the same from every directory."""
    return os.path.abspath(os.path.expanduser(path))


def cached(config, dataset):
    """(configuration, working directory) of the run that trains `config.teacher`, trained or not.

    The directory is named by what the teacher is trained on and how.
    """
    wanted = tree.teacher_config(config)
    recipe = tree.teacher_recipe(wanted) | {"data": dataset.fingerprint}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
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
    path = Path(workdir) / "config.json"
    if path.exists():  # of an older version it stays unsealed: its checkpoints have no checksums
        files.write_json(path, tree.to_json(wanted), sealed=files.is_sealed(path))


def load(workdir, dataset, config):
    """Load a trained teacher and check that it fits.

    Args:
      workdir: the working directory of a finished run.
      dataset: the data.Dataset that it shall teach on.
      config: reads dtype, precision and teacher.allow_other_data.
    Returns:
      A Teacher. The accuracies of its record are those of its own run, which may have been evaluated in
      another way ("measured"): they are not measured anew, since the student's evaluation does that.
    Raises:
      CheckpointError: no finished run there, or one of other classes, another input or other data, or that
        may have seen held-out images.
    """
    workdir = Path(_absolute(workdir))
    if not workdir.is_dir():
        raise CheckpointError(f"{workdir}: no directory")
    own, wanted = data.current(files.read_json(workdir / "dataset.json")), data.record(dataset)
    _check_fit(workdir, own, wanted, config.teacher.allow_other_data)
    if not (workdir / "results.json").exists():
        raise CheckpointError(f"{workdir}: no results.json; finish the teacher's run first")
    result = files.read_json(workdir / "results.json")
    if result["status"] != "done":
        raise CheckpointError(f"{workdir}: the teacher's run stopped; its results.json says at which step")
    network = predict.load(workdir, config.dtype, config.precision)
    return Teacher(network.model, network.variables, _record(workdir, network, own, wanted, result))


def _record(workdir, network, own, wanted, result):
    """The TeacherRecord of a network trained on `own`, for a run on `wanted`, both DataRecords."""
    return {
        "name": network.config.student.name,
        "method": result["method"],  # of imported weights no method at all
        "dataset": own["name"],
        "other_data": is_other(own, wanted),
        "seed": result["seed"],
        "step": network.step,
        "checkpoint": str(workdir),
        "params_sha256": checkpoint.params_sha256(network.variables),
        **_present(result, _FIGURES),
        "measured": {
            "dataset": own["name"],
            "test_examples": _examples(own, result),
            **_present(result, _PROTOCOL),
            "severities": result["config"]["eval"]["severities"],
        },
    }


def _examples(own, result):
    """How many images the split has that a teacher was evaluated on; None where an older version said not."""
    held_out = result.get("evaluation_split") == "validation"
    return own.get("validation_examples" if held_out else "test_examples")


def _present(result, keys):
    """Those of the keys that a result has: of an older version it lacks some."""
    return {key: result[key] for key in keys if key in result}


def check_overlap(record, config, whose="the teacher"):
    """Refuse a network that was trained on corruptions that are evaluated, as a student would be.

    Args:
      record: a TeacherRecord, a start.StartRecord, or None.
      config: reads eval.corruptions and views.allow_overlap.
      whose: what it is to the run.
    Raises:
      ConfigError: it was, and views.allow_overlap is False.
    """
    trained = (record or {}).get("trained_corruptions", [])  # absent from records of older versions
    overlap = sorted(set(trained) & set(config.eval.corruptions))
    if overlap and not config.views.allow_overlap:
        raise ConfigError(
            f"config.eval.corruptions: {whose} in {record['checkpoint']} was trained on "
            f"{', '.join(overlap)}; allowed: others (--config.views.allow_overlap=True marks the results)"
        )


def _check_fit(workdir, own, wanted, allow_other_data):
    faults = []
    for key in ("num_classes", "input_shape"):
        if own[key] != wanted[key]:
            faults.append(f"its {key} is {own[key]}, the data's {wanted[key]}")
    if is_other(own, wanted):
        if not allow_other_data:
            faults.append(
                f"it was trained on other data, {_named(own)}, than this run's {_named(wanted)} "
                "(--config.teacher.allow_other_data=True allows it and marks the results)"
            )
    # A larger held-out part contains a smaller (`data.dataset.validation_split`).
    elif own["validation_examples"] < wanted["validation_examples"]:
        faults.append("it may have seen the images that config.data.validation holds out")
    if faults:
        raise CheckpointError(f"the teacher in {workdir} does not fit: " + "; ".join(faults))


def is_other(own, wanted):
    """Whether two data.DataRecords are of different data sets, whatever each leaves out of its own."""
    if own["fingerprint"] == wanted["fingerprint"]:
        return False
    # An older version's record has no "source_fingerprint"; of a whole data set the two are the same.
    whole = own["source_fingerprint"] if "source_fingerprint" in own else own["fingerprint"]
    return whole != wanted["source_fingerprint"]


def _named(own):
    return f"{own['name']} (fingerprint {own['fingerprint'][:10]})"
