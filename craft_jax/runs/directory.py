"""What a run's working directory holds beside its checkpoints, and whose it is.

DIR/config.json        the configuration of the first run
DIR/dataset.json       what the data was: classes, sizes, normalisation, fingerprint
DIR/teacher.json       which teacher it has, if any, and where that lay last
DIR/start.json         which finished run its student started from, if any
DIR/checkpoints/STEP   the whole state, by Orbax
DIR/results.npz        which images the student got right, once there is a result
DIR/results.json       the result, once there is one
"""

import os
from pathlib import Path

from craft_jax import data, files, methods
from craft_jax.config import tree
from craft_jax.errors import CheckpointError


def check_same_run(workdir, config, data_record):
    """Check that a working directory is new or holds this very run.

    Args:
      workdir: a path.
      config: the run's configuration.
      data_record: of its data, a `data.DataRecord`.
    Raises:
      CheckpointError: it holds another run; the message lists every difference.
    """
    workdir = Path(workdir)
    nearest = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise CheckpointError(f"--workdir: {nearest} is not a directory that can be written to")
    if not (workdir / "config.json").exists():
        _check_new(workdir)
        return
    old = tree.from_json(files.read_json(workdir / "config.json"))
    begun_on = data.current(files.read_json(workdir / "dataset.json"))
    faults = tree.differences(old, config)
    faults += [
        f"data: {key} was {begun_on[key]!r} in the working directory, is {data_record[key]!r} now"
        for key in data_record
        if key in begun_on and begun_on[key] != data_record[key]  # an older version noted fewer
    ]
    if faults:
        head = f"{workdir} holds a run with another configuration; choose another --workdir, or undo:"
        raise CheckpointError("\n".join([head, *faults]))


def _check_new(workdir):
    """Refuse a directory without config.json that holds a run's work: going on might mix two runs."""
    kept = [workdir / name for name in ("results.json", "results.npz", "metrics.jsonl")]
    kept += sorted((workdir / "checkpoints").glob("[0-9]*"))
    if found := [path for path in kept if path.exists()]:
        raise CheckpointError(
            f"{workdir}/config.json: gone, and {found[0].relative_to(workdir)} is there: whose work that is "
            "cannot be known; put config.json back, or choose another --workdir"
        )


def claim(workdir, config, data_record, teacher=None, start=None):
    """Make a new working directory this run's; in one that already is, note where the teacher now lies.

    Args:
      workdir: a directory.
      config: the run's configuration.
      data_record: of its data, a `data.DataRecord`.
      teacher: of its teacher, a `runs.teachers.TeacherRecord`; None without one.
      start: what its student starts from, a `runs.start.StartRecord`; None for random parameters.
    Raises:
      CheckpointError: the run was begun with another teacher.
    """
    begun = begun_with(workdir)
    if teacher and begun:
        check_same_teacher(workdir, begun, teacher)
    if teacher and teacher != begun:
        files.write_json(Path(workdir) / "teacher.json", teacher)
    if not (Path(workdir) / "config.json").exists():
        # config.json last: it is what marks the directory as a run's.
        if start:
            files.write_json(Path(workdir) / "start.json", start)
        files.write_json(Path(workdir) / "dataset.json", data_record)
        files.write_json(Path(workdir) / "config.json", tree.to_json(config))


def begun_with(workdir):
    """The `runs.teachers.TeacherRecord` that a run was begun with; None where it has none, or is not begun.

    Raises:
      CheckpointError: DIR/teacher.json is gone, or no such record.
    """
    return _record(workdir, "teacher.json", methods.needs_teacher, {"name", "checkpoint", "params_sha256"})


def started_from(workdir):
    """The `runs.start.StartRecord` of a run; None where it started from random parameters, or is not begun.

    Raises:
      CheckpointError: DIR/start.json is gone, or no such record.
    """
    return _record(
        workdir, "start.json", lambda config: config.student.checkpoint, {"checkpoint", "params_sha256"}
    )


def _record(workdir, name, is_expected, keys):
    """The record of that name in a run's directory; None where there is none, and none to be expected.

    Records are written before config.json. Runs of older versions, whose records have no seal, may lack some.
    """
    path, begun = Path(workdir) / name, Path(workdir) / "config.json"
    if not begun.exists():
        return None
    if not path.exists():
        if files.is_sealed(begun) and is_expected(tree.from_json(files.read_json(begun))):
            raise CheckpointError(
                f"{path}: gone; put it back, or choose another --workdir: what it told cannot be known"
            )
        return None
    record = files.read_json(path)
    if not isinstance(record, dict) or not keys <= record.keys():
        raise CheckpointError(f"{path}: not the record of a {path.stem}")
    return record


def check_same_teacher(workdir, begun, teacher):
    """Check that a teacher is the one that a run was begun with: its parameters say so, not where it lies.

    Args:
      workdir: the run's working directory.
      begun: the record of the teacher it was begun with.
      teacher: the record of the other.
    Raises:
      CheckpointError: it is another.
    """
    if begun["params_sha256"] != teacher["params_sha256"]:
        raise CheckpointError(
            f"{workdir} was begun with another teacher: its parameters' sha256 was "
            f"{begun['params_sha256']}, that of {teacher['checkpoint']} is {teacher['params_sha256']}"
        )
