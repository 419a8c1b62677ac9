"""The loop: batches in, steps done, metrics checked and logged, checkpoints saved."""

import functools

import jax
import numpy as np
from tqdm import tqdm

from craft_jax.errors import TrainingStopped
from craft_jax.evaluation import evaluate
from craft_jax.training.batches import Batches
from craft_jax.training.clock import Clock
from craft_jax.training.logs import MetricWriter
from craft_jax.training.step import jit_step


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
    pending, clock = [], Clock(start)
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
                checkpoints.save(done, state)
            progress.update()
        checkpoints.wait()
    return state, clock.timings(steps, config.batch_size)


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
