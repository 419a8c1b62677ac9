"""Finished runs evaluated again: one, or several in one pass, for which corrupted images are made once."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from craft_jax import data, files, processes
from craft_jax.config import rules, tree
from craft_jax.errors import ConfigError
from craft_jax.evaluation import adaptation, correctness, names, targets
from craft_jax.evaluation.evaluate import Subject, evaluate_each, predictor
from craft_jax.mesh import make_mesh, put, replicated_on
from craft_jax.runs import checkpoint, directory, predict, teachers

# Runs may differ in these: no figure depends on them, or what is loaded is compared instead.
_APART = ("data.dir", "data.crop_padding", "data.flip", "eval.batch_size", "eval.clean_every_epochs")
_APART += ("data.crop", "data.crop_scale", "data.streaming", "data.memory_gb", "data.workers")


def evaluate_workdir(config: ConfigDict, workdir: str | Path, name: str = "") -> tuple[dict[str, Any], Path]:
    """Evaluate a run's newest student under `config.eval`; leaves its results.json alone.

    Args:
      config: the run's configuration; eval.*, data.dir, log.* and checkpoint.* may differ from it.
      workdir: the run's working directory.
      name: what to call the evaluation; "" for `names.default`.
    Returns:
      (result, path): what was measured, and DIR/eval/NAME.json, where it was written; NAME.npz beside it
      says which images were classified right (`correctness`).
    Raises:
      CheckpointError: no student there, or one of another configuration or data set.
      ConfigError, DataError: what `eval.source` or `eval.reference` names is missing or does not fit, or
        the name is taken by an evaluation of other settings.
    """
    return evaluate_workdirs([config], [workdir], name)[0]


def evaluate_workdirs(
    configs: Sequence[ConfigDict], workdirs: Sequence[str | Path], name: str = ""
) -> list[tuple[dict[str, Any], Path]]:
    """`evaluate_workdir` of each, in one pass over images that are made once; figures are the same.

    Args:
      configs: one a run, with the same eval.* and the same data.
      workdirs: the runs' working directories, each once.
      name: as there.
    Returns:
      (result, path) of each; nothing is written before all is measured.
    Raises:
      As `evaluate_workdir`; and ConfigError where runs are not evaluated on the same images or one adapts.
    """
    workdirs = [Path(workdir) for workdir in workdirs]
    _check_same(configs, workdirs)
    for config in configs:
        rules.validate(config)
    students = [processes.writer_first(predict.load, workdir) for workdir in workdirs]
    runs = list(zip(configs, workdirs, students, strict=True))
    for config, _, student in runs:
        adaptation.check(config, student.config.student.name, student.variables)
    paths = [names.path_of(workdir, config, student.config, name) for config, workdir, student in runs]
    config = configs[0]
    dataset = processes.writer_first(data.load, config)
    known = [processes.writer_first(_known, each, workdir, dataset) for each, workdir, _ in runs]
    wanted, mesh = processes.writer_first(targets.prepare, config, dataset), make_mesh()
    on_mesh = _Networks(mesh)
    subjects = [
        Subject(on_mesh.put(student), each, on_mesh.teacher(teacher) if teacher else None, *records)
        for (each, _, student), (teacher, *records) in zip(runs, known, strict=True)
    ]
    adapter = adaptation.make(config, students[0].model, mesh) if wanted.record["adaptation"] else None
    with contextlib.ExitStack() as held:
        for each, path in zip(configs, paths, strict=True):
            held.enter_context(files.lock(path.with_name(f".{path.stem}.lock"), wait=False))
            processes.decided(names.check_free, path, each, wanted.record)
        found = evaluate_each(subjects, dataset, config, mesh, wanted, adapter)
        return [_written(*run, path, *one) for run, path, one in zip(runs, paths, found, strict=True)]


def _check_same(configs, workdirs):
    """Refuse runs that one pass cannot serve: each is then to be evaluated by itself."""
    first = tree.flatten(configs[0])
    faults = []
    for config, workdir in zip(configs[1:], workdirs[1:], strict=True):
        other = tree.flatten(config)
        keys = sorted(key for key in first.keys() | other.keys() if key.startswith(("eval.", "data.")))
        keys = [key for key in keys if key not in _APART]
        different = [f"config.{key}" for key in keys if first.get(key) != other.get(key)]
        if different:
            faults.append(f"{workdir}: {', '.join(different)} not as in {workdirs[0]}")
    if len({workdir.resolve() for workdir in workdirs}) < len(workdirs):
        faults.append("a directory is named twice")
    if configs[1:] and configs[0].eval.adaptation != "none":
        faults.append(
            f"config.eval.adaptation: {configs[0].eval.adaptation!r}; allowed for several runs: 'none'"
        )
    if faults:
        head = "runs are evaluated together on the same images; evaluate these apart, or set the keys:"
        raise ConfigError("\n".join([head, *faults]))


class _Networks:
    """Networks on a mesh, (predict, variables): one program a model, a teacher of several runs there once."""

    def __init__(self, mesh):
        self._mesh, self._predictors, self._teachers = mesh, {}, {}

    def put(self, network):
        """Of what has a model and variables."""
        if network.model not in self._predictors:
            self._predictors[network.model] = predictor(network.model, self._mesh)
        variables = put(network.variables, replicated_on(self._mesh))
        return self._predictors[network.model], variables

    def teacher(self, teacher):
        """Of a teachers.Teacher."""
        key = teacher.record["params_sha256"], teacher.model
        if key not in self._teachers:
            self._teachers[key] = self.put(teacher)
        return self._teachers[key]


def _known(config, workdir, dataset):
    """What the files of a run say for its evaluation, checked: its Teacher, the records of teacher and start,
    each None where there is none."""
    directory.check_same_run(workdir, config, data.record(dataset))
    record, started_from = directory.begun_with(workdir), directory.started_from(workdir)
    teachers.check_overlap(record, config)
    teachers.check_overlap(started_from, config, "the start")
    teacher = _teacher(config, workdir, dataset) if record else None
    return teacher, record, started_from


def _teacher(config, workdir, dataset):
    """The run's teacher, or None where none is asked for, or it is no longer there."""
    if not config.eval.teacher:
        return None
    try:
        return teachers.known(config, workdir, dataset)
    except teachers.TeacherGone as error:
        print(f"note: evaluated without its teacher: {error}", file=sys.stderr)
        return None


def _written(config, workdir, student, path, result, correct):
    """(the result with which student it is of, where it was written)."""
    result |= {
        "method": config.method,
        "dataset": result["data"]["name"],
        "seed": config.seed,
        "step": student.step,
        "params_sha256": checkpoint.params_sha256(student.variables),
        "config": tree.to_json(config),
        "workdir": str(workdir),
    }
    correctness.write(path.with_suffix(".npz"), correct)
    files.write_json(path, result)
    return result, path
