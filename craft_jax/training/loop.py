"""The loop: batches in, steps done, metrics checked and logged, checkpoints saved."""

import contextlib
import functools
import sys

import jax
import numpy as np
from tqdm import tqdm

from craft_jax import processes
from craft_jax.errors import Interrupted, TrainingStopped
from craft_jax.evaluation import evaluate
from craft_jax.training import interrupt
from craft_jax.training.batches import Batches
from craft_jax.training.clock import Clock
from craft_jax.training.logs import MetricWriter, lacks
from craft_jax.training.step import begin, jit_step, jit_steps
from craft_jax.training.watch import Watch

# Steps a dispatch, by platform: on a GPU the host is asked for less often; on a CPU a loop over steps takes
# 30 times as long (gradients of convolutions collapse in it). 10 divides the periods of the paper's preset.
_TOGETHER = {"cpu": 1}
_TOGETHER_ELSEWHERE = 10
_ASK_STEPS = 10  # after so many at most several processes ask each other whether a signal has come


def steps_together():
    """How many steps a dispatch has on this platform, where nothing is due among them."""
    return _TOGETHER.get(jax.default_backend(), _TOGETHER_ELSEWHERE)


def fit(run, state, teacher, start, steps, dataset, checkpoints, predict, workdir):
    """The loop, from step `start` to `steps`: returns (state, timings).

    Metrics stay on the device until a logging or saving step, so that the host runs ahead; every step's
    are then checked, before anything is saved.

    Raises:
      TrainingStopped: a loss, a gradient or the parameters were not finite.
      DataError: an image that stays in its file cannot be read.
      Interrupted: a signal came; the last step is saved. An evaluation under way was given up: the run that
        goes on from there begins with it.
    """
    config = run.config
    train_step, train_steps = jit_step(run, state), jit_steps(run, state)
    batches = Batches(dataset, config.batch_size, config.seed, run.mesh)
    if start == 0 and run.method.begin:
        state = begin(run, state, teacher, batches(0))
    bar = functools.partial(tqdm, desc=config.method, disable=not config.log.progress, mininterval=1.0)
    every_epochs = config.eval.clean_every_epochs * batches.steps_per_epoch
    periods = (config.log.every_steps, config.checkpoint.every_steps, every_epochs)
    owed = _owed(run, state, start, batches.steps_per_epoch, dataset, predict, workdir)
    pending, clock, done, lengths = [], Clock(start), start, set()
    watch = Watch(config, dataset.num_classes, batches)
    with (
        interrupt.deferring() as defer,
        MetricWriter(workdir, start, config.log.tensorboard, owed) as writer,
        batches.ahead(start, steps, config.data.workers),
        bar(total=steps, initial=start) as progress,
    ):
        for before, done in spans(start, steps, steps_together(), periods):
            begins = before != start and done - before not in lengths  # another program, which compiles
            lengths.add(done - before)
            with clock.pause() if begins else contextlib.nullcontext():
                if done - before == 1:
                    state, metrics = train_step(state, teacher, batches(before))
                else:
                    state, metrics = train_steps(state, teacher, batches.several(before, done))
            pending.append((range(before + 1, done + 1), metrics))
            if before == start:
                jax.block_until_ready(metrics)
                clock.compiled(done)
                defer()  # from here on there is something to save
            clock.announce(done, steps, metrics)
            saves = done % config.checkpoint.every_steps == 0 or done == steps
            logs = done % config.log.every_steps == 0 or done == steps
            evaluates = every_epochs > 0 and done % every_epochs == 0
            leaves = _asked(saves or logs or done // _ASK_STEPS > before // _ASK_STEPS)
            values = {}
            if saves or logs or evaluates or leaves:
                latest = _fetch_finite(pending, writer, watch, config.optimizer.skip_nonfinite)
                progress.set_postfix(loss=f"{latest.get('loss', np.nan):.3f}", refresh=False)
            if logs:
                values = {"nan_count": 0, **latest}
                values |= clock.throughput(done, config.batch_size)
            if evaluates:
                jax.block_until_ready(state)  # what is in flight is training, not evaluation
                with clock.pause():
                    accuracy = _clean_accuracy(run, state, dataset, predict)
                values |= accuracy
                leaves = leaves or not accuracy  # or the step that is saved would not be the one that owes it
            if values:
                writer.write(done, {"epoch": done / batches.steps_per_epoch, **values})
            if saves or leaves:
                checkpoints.save(done, state)
            progress.update(done - before)
            if leaves:
                break
        checkpoints.wait()
        if processes.any_of(interrupt.asked()):
            raise Interrupted(done)
    return state, clock.timings(steps, config.batch_size)


def spans(start, steps, together, periods):
    """The dispatches of the steps `start` to `steps`: pairs (steps done before, steps done after).

    One is of `together` steps, from a multiple of that on, where nothing is due inside it; else of a single
    step. Which ones they are does not depend on where a run was resumed.

    Args:
      start, steps: of the run; `start` is where a dispatch ended.
      together: how many steps a dispatch may have.
      periods: after every so many steps something is due; 0 for never.
    """
    done = start
    while done < steps:
        last = done + together
        due = any(period > 0 and (last - 1) // period * period > done for period in periods)
        whole = done % together == 0 and last <= steps and not due
        yield done, last if whole else done + 1
        done = last if whole else done + 1


def _asked(due):
    """Whether a signal has come. Several processes must leave after the same step: they ask each other, and
    only where it is `due`, since the host waits for the answer."""
    return interrupt.asked() if processes.count() == 1 else due and processes.any_of(interrupt.asked())


def _owed(run, state, start, steps_per_epoch, dataset, predict, workdir):
    """What the step that a run goes on from lacks: its evaluation, if that was given up for a signal."""
    every = run.config.eval.clean_every_epochs * steps_per_epoch
    due = start > 0 and every > 0 and start % every == 0
    if not (due and processes.decided(lacks, workdir, start, "clean_accuracy")):
        return {}
    accuracy = _clean_accuracy(run, state, dataset, predict)
    return {"epoch": start / steps_per_epoch, **accuracy} if accuracy else {}


def _clean_accuracy(run, state, dataset, predict):
    """{"clean_accuracy": percent}; empty if a signal came meanwhile, which several processes do not heed."""
    predict = interrupt.heeding(predict) if processes.count() == 1 else predict
    with contextlib.suppress(Interrupted):
        percent = evaluate.clean_accuracy(predict, state["student"], dataset, run.config, run.mesh)
        return {"clean_accuracy": percent}
    return {}


def _fetch_finite(pending, writer, watch, skips):
    """The newest metrics on the host, those that are finite; empties `pending`, and shows them to `watch`.

    Args:
      pending: [(steps, their metrics)].
      writer, watch: a MetricWriter, a Watch.
      skips: how many updates may be skipped for metrics that are not finite.
    Raises:
      TrainingStopped: there are more of them; it is logged.
    """
    spans = [steps for steps, _ in pending]
    fetched = jax.device_get([metrics for _, metrics in pending])
    pending.clear()
    for step, metrics in _each(spans, fetched):
        names = [name for name, value in metrics.items() if not np.all(np.isfinite(value))]
        if not names:
            watch.see(step, metrics)
            continue
        told, count = [name for name in names if name.startswith("loss/")] or names, 1
        if skips:
            count = int(metrics["nan_count"])
            skipped = f"skipped, {count} of {skips} that optimizer.skip_nonfinite allows"
            tqdm.write(f"note: step {step}: {', '.join(told)} not finite; {skipped}", file=sys.stderr)
        if count > skips:
            writer.write(step, {"nan_count": count})
            raise TrainingStopped(step, told, count)
    return {name: value for name, value in metrics.items() if np.all(np.isfinite(value))}


def _each(spans, fetched):
    """(step, its metrics) of dispatches: those of several steps have an axis of steps in front."""
    for steps, metrics in zip(spans, fetched, strict=True):
        for i, step in enumerate(steps):
            yield step, metrics if len(steps) == 1 else {name: value[i] for name, value in metrics.items()}
