"""The loop: batches in, steps done, metrics checked and logged, checkpoints saved."""

import contextlib
import functools

import jax
import numpy as np
from tqdm import tqdm

from craft_jax.errors import Interrupted, TrainingStopped
from craft_jax.evaluation import evaluate
from craft_jax.training import interrupt
from craft_jax.training.batches import Batches
from craft_jax.training.clock import Clock
from craft_jax.training.logs import MetricWriter
from craft_jax.training.step import begin, jit_step


def fit(run, state, teacher, start, steps, dataset, checkpoints, predict, workdir):
    """The loop, from step `start` to `steps`: returns (state, timings).

    Metrics stay on the device until a logging or saving step, so that the host runs ahead; every step's
    are then checked, before anything is saved.

    Raises:
      TrainingStopped: a loss, a gradient or the parameters were not finite.
      Interrupted: a signal came; the last step is saved. An evaluation under way was given up, and is not
        in the metrics.
    """
    config = run.config
    train_step = jit_step(run)
    batches = Batches(dataset, config.batch_size, config.seed, run.mesh)
    if start == 0 and run.method.begin:
        state = begin(run, state, teacher, batches(0))
    bar = functools.partial(tqdm, desc=config.method, disable=not config.log.progress, mininterval=1.0)
    pending, clock, done = [], Clock(start), start
    with (
        interrupt.deferring() as defer,
        MetricWriter(workdir, start, config.log.tensorboard) as writer,
        bar(total=steps, initial=start) as progress,
    ):
        for done in range(start + 1, steps + 1):
            state, metrics = train_step(state, teacher, batches(done - 1))
            pending.append((done, metrics))
            if done == start + 1:
                jax.block_until_ready(metrics)
                clock.compiled(done)
                defer()  # from here on there is something to save
            clock.announce(done, steps, metrics)
            leaves = interrupt.asked()
            saves = done % config.checkpoint.every_steps == 0 or done == steps or leaves
            logs = done % config.log.every_steps == 0 or done == steps
            values = {}
            if saves or logs:
                latest = _fetch_finite(pending, writer)
                progress.set_postfix(loss=f"{latest['loss']:.3f}", refresh=False)
            if logs:
                values = {"epoch": done / batches.steps_per_epoch, "nan_count": 0, **latest}
                values |= clock.throughput(done, config.batch_size)
            if _evaluates(config, done, batches.steps_per_epoch):
                jax.block_until_ready(state)  # what is in flight is training, not evaluation
                with clock.pause():
                    values |= _clean_accuracy(run, state, dataset, predict)
            if values:
                writer.write(done, values)
            if saves:
                checkpoints.save(done, state)
            progress.update()
            if leaves:
                break
        checkpoints.wait()
        if interrupt.asked():
            raise Interrupted(done)
    return state, clock.timings(steps, config.batch_size)


def _evaluates(config, done, steps_per_epoch):
    every = config.eval.clean_every_epochs * steps_per_epoch
    return every > 0 and done % every == 0


def _clean_accuracy(run, state, dataset, predict):
    """{"clean_accuracy": percent}; empty if a signal came meanwhile."""
    predict = interrupt.heeding(predict)
    with contextlib.suppress(Interrupted):
        percent = evaluate.clean_accuracy(predict, state["student"], dataset, run.config, run.mesh)
        return {"clean_accuracy": percent}
    return {}


def _fetch_finite(pending, writer):
    """The newest metrics on the host; empties `pending`, and fails, logging so, where any are not finite."""
    steps = [step for step, _ in pending]
    fetched = jax.device_get([metrics for _, metrics in pending])
    pending.clear()
    for step, metrics in zip(steps, fetched, strict=True):
        names = [name for name, value in metrics.items() if not np.all(np.isfinite(value))]
        if names:
            stop = TrainingStopped(step, [name for name in names if name.startswith("loss/")] or names)
            writer.write(step, {"nan_count": stop.facts["nan_count"]})
            raise stop
    return fetched[-1]
