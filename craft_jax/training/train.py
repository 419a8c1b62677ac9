"""A run: its teacher, its state, the loop, and the result."""

import time
from pathlib import Path

import jax
import numpy as np

from craft_jax import corruptions, data, files, methods, models, processes, views
from craft_jax.config import rules
from craft_jax.errors import ConfigError, DataError, TrainingStopped
from craft_jax.evaluation import correctness, cost, evaluate, targets
from craft_jax.mesh import hold, put, replicated_on
from craft_jax.runs import checkpoint, directory, results, start, teachers
from craft_jax.training import optimizer, repeat, watch
from craft_jax.training.logs import write_outcome
from craft_jax.training.loop import fit
from craft_jax.training.step import initial, make_run


def train_and_evaluate(config, workdir, dataset=None):
    """Train a student, or go on where an earlier process was stopped, then evaluate it.

    Of several processes of a run all call it (`craft_jax.processes`).

    Args:
      config: a ConfigDict, as of configs/default.py.
      workdir: where the run lives; see craft_jax.runs.directory.
      dataset: the data.Dataset that `config` names, if it is loaded already.
    Returns:
      The contents of DIR/results.json.
    Raises:
      ConfigError, DataError, CheckpointError: what the user can put right; nothing is lost or half-written.
      TrainingStopped: a loss or a gradient was not finite.
    """
    workdir = Path(workdir)
    rules.validate_training(config)
    dataset = dataset or processes.writer_first(data.load, config)
    _check_sizes(config, dataset)
    _check_warmup(config, dataset)
    methods.METHODS[config.method].check(config, dataset.train_labels)
    if result := processes.decided(_finished, workdir, config, dataset):
        return result
    # Now: a file that is missing shall not cost a training.
    wanted = processes.writer_first(targets.prepare, config, dataset)
    known = processes.writer_first(teachers.known, config, workdir, dataset)
    started_from = processes.writer_first(start.find, config, workdir, dataset)
    _check_stages(config, dataset, known)
    with files.lock(workdir / ".lock", wait=False):
        # Again: another run of it may have finished meanwhile.
        if result := processes.decided(_finished, workdir, config, dataset):
            return result
        for place in (workdir, workdir / "checkpoints"):
            processes.decided(files.check_writable, place)  # now: a teacher may take hours
        teacher = known or (_trained_teacher(config, dataset) if methods.needs_teacher(config) else None)
        record = teacher.record if teacher else None
        processes.decided(directory.claim, workdir, config, data.record(dataset), record, started_from)
        return _train_and_evaluate(config, workdir, dataset, teacher, wanted)


def _finished(workdir, config, dataset):
    """The result of this very run if it is done, else None; raises where the directory is another's."""
    directory.check_same_run(workdir, config, data.record(dataset))
    if not (workdir / "results.json").exists():
        return None
    result = files.read_json(workdir / "results.json")
    if result["status"] != "done":
        return None
    if teachers.is_named_anew(config, workdir):
        teachers.known(config, workdir, dataset)  # raises for another teacher than the run's
    print(f"{workdir}: already done; --mode=eval evaluates it under other eval.* keys", flush=True)
    return result


def _trained_teacher(config, dataset):
    """The teacher of `teacher.*`, trained into `teacher.cache` now or found there."""
    wanted, workdir = teachers.cached(config, dataset)
    with files.lock(Path(f"{workdir}.lock"), wait=True):
        if not processes.decided(teachers.is_done, workdir):
            print(f"training the teacher first, {wanted.student.name}, into {workdir}", flush=True)
            _train_teacher(wanted, workdir, dataset)
    return processes.writer_first(teachers.load, workdir, dataset, config)


def _train_teacher(wanted, workdir, dataset):
    rules.validate_training(wanted)
    with files.lock(workdir / ".lock", wait=False):
        processes.decided(_claim_teacher, workdir, wanted, data.record(dataset))
        targets_of_teacher = processes.writer_first(targets.prepare, wanted, dataset)
        _train_and_evaluate(wanted, workdir, dataset, None, targets_of_teacher)


def _claim_teacher(workdir, wanted, record):
    teachers.adopt(workdir, wanted)
    directory.check_same_run(workdir, wanted, record)
    directory.claim(workdir, wanted, record)


def _train_and_evaluate(config, workdir, dataset, teacher, wanted):
    started = time.monotonic()
    steps_per_epoch = len(dataset.train_labels) // config.batch_size
    steps = steps_per_epoch * config.epochs
    asked = teachers.folded(teacher, dataset) if teacher else None
    run = make_run(config, dataset, asked, steps)
    replicated = replicated_on(run.mesh)
    results.describe(run, workdir, dataset, teacher, steps)

    fresh, abstract = initial(run, dataset)
    with checkpoint.Checkpoints(workdir, config.checkpoint.keep) as checkpoints:
        if found := checkpoints.restore(abstract):
            begin, state = found
            print(f"resuming from step {begin}", flush=True)
        else:
            begin, state = 0, start.put(fresh(), config, workdir, dataset)
        resumed_from = processes.decided(results.record_resume, workdir, begin)
        predict = evaluate.predictor(run.student, run.mesh)
        asked = hold(put(asked.variables if asked else (), replicated))
        try:
            state, timings = fit(
                run, hold(state), asked, begin, steps, dataset, checkpoints, predict, workdir
            )
        except TrainingStopped as stop:
            result = {"status": "stopped", **stop.facts, "resumed_from": resumed_from}
            results.write(config, workdir, dataset, teacher, result)  # looking for the leaf takes a while
            checkpoints.wait()
            stop = repeat.traced(stop, run, workdir, dataset, asked)
            results.write(config, workdir, dataset, teacher, {**result, **stop.facts})
            raise stop from None
    evaluated_at = time.monotonic()
    variables = state["student"]
    taught = _on_mesh(teacher, run.mesh) if teacher else None
    records = teacher.record if teacher else None, directory.started_from(workdir)
    measured, correct = evaluate.evaluate(
        (predict, variables), dataset, config, run.mesh, wanted, taught, *records
    )
    timings |= {
        "evaluation_seconds": time.monotonic() - evaluated_at,
        "process_seconds": time.monotonic() - started,
    }
    result = {
        "status": "done",
        **measured,
        "step": steps,
        "nan_count": int(state.get("skipped", 0)),
        "resumed_from": resumed_from,
        "params_sha256": checkpoint.params_sha256(jax.tree.map(np.asarray, variables)),
        "timings": timings,
        "cost": None,
        "notes": ["cost is not measured: the run was stopped before"],
    }
    labels = targets.clean_images(config, dataset, wanted.files, config.eval.split)[1]
    watch.tell_constant(correct["clean"], labels, dataset.class_name)
    correctness.write(workdir / "results.npz", correct)  # first: a finished run has both
    if config.log.tensorboard and processes.is_writer():
        write_outcome(workdir, config, result)  # likewise
    # The accuracies are what the run was for: a measurement that fails, or is killed, finds them on disk.
    results.write(config, workdir, dataset, teacher, result)
    student, shape = jax.device_get(variables), dataset.train_images.shape[1:]

    def with_cost():
        result["notes"] = notes = []
        measured = cost.optional("cost", lambda: cost.measure(run.student, student, shape, notes), notes)
        return results.write(config, workdir, dataset, teacher, {**result, "cost": measured})

    return processes.decided(with_cost)


def _on_mesh(teacher, mesh):
    """What an evaluation asks of the teacher, as every evaluation does."""
    return evaluate.predictor(teacher.model, mesh), put(teacher.variables, replicated_on(mesh))


def _check_stages(config, dataset, known):
    """Refuse networks whose stages the method cannot pair: now, since a teacher may take hours."""
    if not methods.METHODS[config.method].stages(config):
        return
    names = (config.student.name, known.record["name"] if known else config.teacher.name)
    shape = dataset.train_images.shape[1:]
    methods.check_stages(config, {name: len(models.stage_shapes(name, shape)) for name in names})


def _check_sizes(config, dataset):
    sizes = {"batch_size": config.batch_size}
    if methods.trains_teacher(config):
        sizes["teacher.batch_size"] = config.teacher.batch_size
    for key, size in sizes.items():
        if size > len(dataset.train_labels):
            raise DataError(
                f"config.{key}: {size}; allowed: at most the "
                f"{len(dataset.train_labels)} training images of {dataset.name}"
            )
    if min(dataset.train_images.shape[1:3]) < corruptions.LEAST_SIDE:
        raise DataError(
            f"{dataset.name}: images of {dataset.train_images.shape[1:3]} pixels; "
            f"allowed: sides of at least {corruptions.LEAST_SIDE}, which the corruptions need"
        )
    if config.data.crop == "resized" and max(dataset.train_images.shape[1:3]) > views.LARGEST_SIDE:
        raise DataError(
            f"config.data.crop: 'resized' of images of {dataset.train_images.shape[1:3]} pixels; allowed: of "
            f"sides of at most {views.LARGEST_SIDE} (--config.data.size)"
        )


def _check_warmup(config, dataset):
    """Refuse a warm-up that is shorter than the run by less than a step, which the rules cannot know."""
    steps_per_epoch = len(dataset.train_labels) // config.batch_size
    steps = steps_per_epoch * config.epochs
    if optimizer.warmup_steps(config, steps_per_epoch) >= steps:
        raise ConfigError(
            f"config.optimizer.warmup_epochs: {config.optimizer.warmup_epochs!r}, all {steps} steps of the "
            f"run; allowed: at most {(steps - 1) / steps_per_epoch:.6g}, a step less"
        )
