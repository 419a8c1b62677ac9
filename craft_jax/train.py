"""A run: its teacher, its state, the loop, checkpoints, metrics, and the result."""

import contextlib
import datetime
import functools
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from craft_jax import (
    checkpoint,
    corruptions,
    cost,
    data,
    evaluate,
    methods,
    results,
    teachers,
)
from craft_jax import config as configuration
from craft_jax import mesh as meshes
from craft_jax.batches import Batches
from craft_jax.errors import DataError, TrainingStopped
from craft_jax.logs import MetricWriter
from craft_jax.step import init_state, jit_step, make_run


def train_and_evaluate(config, workdir, dataset=None):
    """Train a student, or go on where an earlier process was stopped, then evaluate it.

    Args:
      config: a ConfigDict, as of configs/default.py.
      workdir: where the run lives; see craft_jax.checkpoint.
      dataset: the data.Dataset that `config` names, if it is loaded already.
    Returns:
      The contents of DIR/results.json.
    Raises:
      ConfigError, DataError, CheckpointError: what the user can put right; nothing is lost or half-written.
      TrainingStopped: a loss or a gradient was not finite.
    """
    workdir = Path(workdir)
    configuration.validate(config)
    dataset = dataset or data.load(config)
    _check_sizes(config, dataset)
    methods.METHODS[config.method].check(config, dataset.train_labels)
    card = data.card(dataset)
    if result := _finished(workdir, config, card):
        return result
    targets = evaluate.prepare(config, dataset)  # now: a file that is missing shall not cost a training
    teacher = None
    if _needs_teacher(config):
        teacher = teachers.find_or_train(config, dataset, train_and_evaluate)
    with checkpoint.lock(workdir / ".lock", wait=False):
        # Again: training the teacher took a while, in which another process may have used the directory.
        if result := _finished(workdir, config, card):
            return result
        checkpoint.claim(workdir, config, card, teacher.record if teacher else None)
        return _train_and_evaluate(config, workdir, dataset, teacher, targets)


def _needs_teacher(config):
    return methods.METHODS[config.method].views(config)[1] > 0


def _finished(workdir, config, card):
    """The result of this very run if it is done, else None; raises where the directory is another's."""
    checkpoint.check_same_run(workdir, config, card)
    if not (workdir / "results.json").exists():
        return None
    result = checkpoint.read_json(workdir / "results.json")
    if result["status"] != "done":
        return None
    print(f"{workdir}: already done; --mode=eval evaluates it under other eval.* keys", flush=True)
    return result


def _train_and_evaluate(config, workdir, dataset, teacher, targets):
    started = time.time()
    steps_per_epoch = len(dataset.train_labels) // config.batch_size
    steps = steps_per_epoch * config.epochs
    run = make_run(config, dataset, teacher, steps)
    replicated = meshes.replicated(run.mesh)
    results.describe(run, workdir, dataset, teacher, steps)

    init = functools.partial(init_state, run, dataset.train_images.shape[1:], dataset.train_labels)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), jax.eval_shape(init)
    )
    with checkpoint.manager(workdir, config) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            state = checkpoint.restore(checkpoints, abstract)
            print(f"resuming from step {start}", flush=True)
        else:
            state = jax.jit(init, out_shardings=replicated)()
        resumed_from = results.record_resume(workdir, start)
        predict = evaluate.predictor(run.student, run.mesh)
        teacher_variables = jax.device_put(teacher.variables if teacher else (), replicated)
        try:
            state, timings = fit(
                run, state, teacher_variables, start, steps, dataset, checkpoints, predict, workdir
            )
        except TrainingStopped as stop:
            result = {"status": "stopped", **stop.facts, "resumed_from": resumed_from}
            results.write(config, workdir, dataset, teacher, result)
            raise
    evaluated_at = time.time()
    variables = state["student"]
    taught = (evaluate.predictor(run.teacher, run.mesh), teacher_variables) if teacher else None
    measured = evaluate.evaluate((predict, variables), dataset, config, run.mesh, targets, taught)
    timings |= {
        "evaluation_seconds": time.time() - evaluated_at,
        "process_seconds": time.time() - started,
    }
    result = {
        "status": "done",
        **measured,
        "step": steps,
        "nan_count": 0,
        "resumed_from": resumed_from,
        "cost": cost.measure(run.student, jax.device_get(variables), dataset.train_images.shape[1:]),
        "params_sha256": checkpoint.params_sha256(jax.tree.map(np.asarray, variables)),
        "timings": timings,
    }
    return results.write(config, workdir, dataset, teacher, result)


def _check_sizes(config, dataset):
    sizes = {"batch_size": config.batch_size}
    if _needs_teacher(config) and not config.teacher.checkpoint:
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


def fit(run, state, teacher, start, steps, dataset, checkpoints, predict, workdir):
    """The loop, from step `start` to `steps`: returns (state, timings).

    Metrics stay on the device until a logging or saving step, so that the host runs ahead; every step's
    are then checked, before anything is saved.

    Raises:
      TrainingStopped: a loss, a gradient or the parameters were not finite.
    """
    config = run.config
    train_step = jit_step(run)
    batches = Batches(dataset, config.batch_size, config.seed, run.mesh)
    bar = functools.partial(tqdm, desc=config.method, disable=not config.log.progress, mininterval=1.0)
    pending, clock = [], _Clock(start)
    with (
        MetricWriter(workdir, start, config.log.tensorboard) as writer,
        bar(total=steps, initial=start) as progress,
    ):
        for done in range(start + 1, steps + 1):
            state, metrics = train_step(state, teacher, batches(done - 1))
            pending.append((done, metrics))
            if done == start + 1:
                jax.block_until_ready(metrics)
                clock.compiled(done)
            saves = done % config.checkpoint.every_steps == 0 or done == steps
            logs = done % config.log.every_steps == 0 or done == steps
            values = {}
            if saves or logs:
                latest = _fetch_finite(pending, writer)
                progress.set_postfix(loss=f"{latest['loss']:.3f}", refresh=False)
            if logs:
                values = {"epoch": done / batches.steps_per_epoch, "nan_count": 0, **latest}
                values |= clock.throughput(done, config.batch_size)
                clock.announce(done, steps)
            if _evaluates(config, done, batches.steps_per_epoch):
                jax.block_until_ready(state)  # what is in flight is training, not evaluation
                with clock.pause():
                    values["clean_accuracy"] = evaluate.clean_accuracy(
                        predict, state["student"], dataset, config, run.mesh
                    )
            if values:
                writer.write(done, values)
            if saves:
                checkpoint.save(checkpoints, done, state)
            progress.update()
        checkpoints.wait_until_finished()
    return state, clock.timings(steps, config.batch_size)


class _Clock:
    """Compile time and steady throughput, told apart; evaluation is neither."""

    def __init__(self, start):
        self._began = time.time()
        self._steady, self._step, self._compile = None, start, None
        self._announced = False

    def compiled(self, step):
        """The first step, which compiles, has been computed."""
        self._steady, self._step = time.time(), step
        self._compile = self._steady - self._began

    @contextlib.contextmanager
    def pause(self):
        """Leave what happens inside out of the throughput."""
        began = time.time()
        yield
        self._steady += time.time() - began

    def announce(self, step, steps):
        """Say once how long training will take: at the first logged step that knows."""
        if self._announced or self._steady is None or step == self._step or step == steps:
            return
        self._announced = True
        each = (time.time() - self._steady) / (step - self._step)
        left = datetime.timedelta(seconds=round(each * (steps - step)))
        tqdm.write(f"time:    about {left} of training left, {1000 * each:.0f} ms a step")

    def throughput(self, step, batch_size):
        """{"images_per_second": ...} since the first step; empty where there was no other."""
        if self._steady is None or step == self._step:
            return {}
        return {"images_per_second": (step - self._step) * batch_size / (time.time() - self._steady)}

    def timings(self, step, batch_size):
        """What results.json says of this process: seconds, and images a second."""
        return {
            "compile_seconds": self._compile,
            "training_seconds": time.time() - self._began,
            **self.throughput(step, batch_size),
        }


def _evaluates(config, done, steps_per_epoch):
    every = config.eval.clean_every_epochs * steps_per_epoch
    return every > 0 and done % every == 0


def _fetch_finite(pending, writer):
    """The newest metrics on the host; empties `pending`, and fails, logging so, if any are not finite."""
    steps = [step for step, _ in pending]
    fetched = jax.device_get([metrics for _, metrics in pending])
    pending.clear()
    bad = {}
    for step, metrics in zip(steps, fetched, strict=True):
        names = [name for name, value in metrics.items() if not np.all(np.isfinite(value))]
        if names:
            bad[step] = [name for name in names if name.startswith("loss/")] or names
    if bad:
        first = min(bad)
        writer.write(first, {"nan_count": len(bad)})
        raise TrainingStopped(first, bad[first], count=len(bad))
    return fetched[-1]
