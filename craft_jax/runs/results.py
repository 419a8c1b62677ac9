"""What a run says of itself: its first lines, and DIR/results.json."""

import datetime
import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax
import ml_collections

from craft_jax import data, errors, files, processes, streams
from craft_jax.config import tree
from craft_jax.errors import CheckpointError
from craft_jax.mesh import spreads
from craft_jax.runs import directory, machine

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(run, workdir, dataset, teacher, steps):
    """Print what a run will do, before it does it."""
    config = run.config
    seen, taught = run.method.views(config)
    made = f" (clean and {config.views.kind})" if max(seen, taught) > 1 else ""
    device, device_count = jax.devices()[0], run.mesh.size
    evaluated = dataset.evaluated(config.eval.split)
    unused = len(dataset.validation_labels) if evaluated.split == "test" else 0
    lines = {
        "workdir": workdir,
        "method": config.method,
        "data": f"{dataset.name}, {len(dataset.train_labels)} training images, "
        + (f"{unused} held out, " if unused else "")
        + f"{len(evaluated.labels)} for {evaluated.split}"
        + ("; decoded as they are met" if isinstance(dataset.train_images, data.Encoded) else ""),
        "classes": _classes(dataset, evaluated),
        "student": f"{config.student.name} ({arithmetic(config)}), seed {config.seed}",
        "views": f"{seen} for the student, {taught} for the teacher" + made,
        "steps": f"{steps} of {config.batch_size} images ({config.epochs} epochs)",
        "devices": f"{device_count} x {device.device_kind} ({device.platform})",
    }
    if processes.count() > 1:
        lines["devices"] += f" of {processes.count()} processes"
    if device_count > 1 and run.method.banks(config):
        rows = len(dataset.train_labels)
        each = f"{rows // device_count} on each device"
        if not spreads(run.mesh, rows):
            each = f"no multiple of {device_count} devices: each holds them all"
        lines["banks"] = f"{rows} rows, {each}"
    if start := directory.started_from(workdir):
        lines["student"] += f", from {start['checkpoint']} ({start['params_sha256'][:10]})"
    if teacher:
        lines["teacher"] = _taught_by(teacher.record)
    print("\n".join(f"{key + ':':9}{value}" for key, value in lines.items()), flush=True)


def arithmetic(config):
    """What the networks compute in on this device, in words; losses and head are in float32 everywhere."""
    if config.dtype == "float32" and config.precision == "default" and jax.default_backend() != "cpu":
        return (
            f"float32, convolutions as {jax.devices()[0].device_kind} does by default: TF32 on an NVIDIA GPU"
        )
    return config.dtype


def _taught_by(record):
    """A teacher in a line; its accuracy with what it is an accuracy on, which need not be this run's."""
    how = record["measured"]
    images = "images not noted by an older version"
    if "clean_examples" in how:
        images = f"{how['clean_examples']} of {how['test_examples']} {how['evaluation_split']} images"
    other = ", OTHER DATA than this run's" if record["other_data"] else ""
    return (
        f"{record['name']} by {record['method']}, {record['clean_accuracy']:.2f}% clean "
        f"on {images} of {how['dataset']}{other} ({record['checkpoint']})"
    )


def _classes(dataset, evaluated):
    """How many classes there are, and which of them have no images: labels from 1 are one class too many."""
    parts = [str(dataset.num_classes)]
    if dataset.classes:
        parts[0] += f" ({_some(dataset.classes)})"
    for labels, split in ((dataset.train_labels, "training"), (evaluated.labels, evaluated.split)):
        if classes := data.absent(labels, dataset.num_classes):
            some = _some([dataset.class_name(label) for label in classes])
            parts.append(f"no {split} image of class {some}")
    return errors.printable("; ".join(parts))


def _some(names):
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


@functools.cache
def commit():
    """The commit of this code, "-dirty" where files differ from it; None where it is no checkout of Git's.

    Files of results/ do not count: a study that keeps its results there changes them, and no code reads them.
    """
    head = _git("describe", "--always", "--abbrev=12", "--exclude=*")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results")
    return f"{head}-dirty" if head and changed else head or None


def _git(*words):
    """What Git prints of the checkout of this code; None where there is no Git, or no checkout."""
    try:
        found = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def record_resume(workdir, start):
    """Note in DIR/resumes.json that a process went on from step `start`; returns all such steps.

    Raises:
      CheckpointError: what is noted there is damaged, or no such list.
    """
    steps = resumes(workdir)
    if start:
        steps = [*steps, start]
        files.write_json(Path(workdir) / "resumes.json", {"steps": steps})
    return steps


def resumes(workdir):
    """The steps that DIR/resumes.json notes, [] without one; those of older versions have no seal.

    Raises:
      CheckpointError: it is damaged, or no such list.
    """
    path = Path(workdir) / "resumes.json"
    if not path.exists():
        return []
    found = files.read_json(path)
    steps = found.get("steps") if isinstance(found, dict) else found
    if not isinstance(steps, list) or not all(type(step) is int for step in steps):
        raise CheckpointError(f"{path}: not a list of steps; without it the run goes on, and forgets them")
    return steps


def circumstances(config: ml_collections.ConfigDict) -> dict:
    """By what, where and when figures are made now, as records of them hold it."""
    return {
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processor": machine.processor(),
        "arithmetic": arithmetic(config),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write(config, workdir, dataset, teacher, result):
    """Complete a run's result with what produced it, and write DIR/results.json.

    Args:
      config: the run's.
      workdir: where to write.
      dataset: the data.Dataset.
      teacher: a teachers.Teacher or None.
      result: "status" and what was measured.
    Returns:
      The dict as written.
    """
    result = {
        "status": result["status"],
        "method": config.method,
        "dataset": dataset.name,
        "seed": config.seed,
        "draws": streams.DRAWS,
        **result,
        "teacher": teacher.record if teacher else None,
        "started_from": directory.started_from(workdir),
        "data": data.record(dataset),
        "config": tree.to_json(config),
        **circumstances(config),
    }
    files.write_json(Path(workdir) / "results.json", result)
    return result
