"""What a run says of itself: its first lines, and DIR/results.json."""

import datetime
import importlib.metadata
import platform
from pathlib import Path

import jax

from craft_jax import data, files
from craft_jax.config import tree

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(run, workdir, dataset, teacher, steps):
    """Print what a run will do, before it does it."""
    config = run.config
    seen, taught = run.method.views(config)
    made = f" (clean and {config.views.kind})" if max(seen, taught) > 1 else ""
    device = jax.devices()[0]
    lines = {
        "workdir": workdir,
        "method": config.method,
        "data": f"{dataset.name}, {len(dataset.train_labels)} training images, "
        f"{len(dataset.test_labels)} for {dataset.evaluation_split}",
        "student": f"{config.student.name} ({config.dtype}), seed {config.seed}",
        "views": f"{seen} for the student, {taught} for the teacher" + made,
        "steps": f"{steps} of {config.batch_size} images ({config.epochs} epochs)",
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
    }
    if teacher:
        record = teacher.record
        accuracy = f"{record['clean_accuracy']:.2f}% clean"
        lines["teacher"] = f"{record['name']} by {record['method']}, {accuracy} ({record['checkpoint']})"
    print("\n".join(f"{key + ':':9}{value}" for key, value in lines.items()), flush=True)


def record_resume(workdir, start):
    """Note in DIR/resumes.json that a process went on from step `start`; returns all such steps."""
    path = Path(workdir) / "resumes.json"
    steps = files.read_json(path) if path.exists() else []
    if start:
        steps = [*steps, start]
        files.write_json(path, steps)
    return steps


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
        **result,
        "teacher": teacher.record if teacher else None,
        "data": data.card(dataset),
        "config": tree.to_json(config),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    files.write_json(Path(workdir) / "results.json", result)
    return result
