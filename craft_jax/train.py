"""The training loop: state, step, checkpoints, metrics, and the result of a run."""

import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from craft_jax import (
    checkpoint,
    corruptions,
    cost,
    data,
    evaluate,
    methods,
    models,
    results,
    streams,
    teachers,
    views,
)
from craft_jax import config as configuration
from craft_jax import mesh as meshes
from craft_jax.batches import Batches
from craft_jax.errors import DataError, TrainingStopped
from craft_jax.logs import MetricWriter

_HISTOGRAM_BINS = 10


class Run(NamedTuple):
    """What a step needs that never changes: static under jit."""

    config: Any
    mesh: Any
    student: Any
    teacher: Any
    method: Any
    optimizer: Any
    schedule: Any


# ----------------------------------------------------------------------------------------------------
# The step: uint8 batch -> views -> networks -> losses -> gradient -> updated student


def forward(model, variables, images, train):
    """Forward V views in one pass: (V, B, H, W, C) -> (Outputs with leaves (B, V, ...), batch_stats)."""
    count, batch = images.shape[:2]
    # Image by image, not view by view: a device keeps the images it has.
    flat = jnp.swapaxes(images, 0, 1).reshape(batch * count, *images.shape[2:])
    outputs, batch_stats = model.apply(variables, flat, train)
    return jax.tree.map(lambda x: x.reshape(batch, count, *x.shape[1:]), outputs), batch_stats


def train_step(run, state, teacher, batch):
    """One update of the student.

    Args:
      run: a Run; static.
      state: the state pytree of `init_state`; donated.
      teacher: the teacher's variables, () for a method without one.
      batch: {"image": (B, H, W, 3) uint8, "label": (B,) int32, "index": (B,) int32}.
    Returns:
      (state, metrics), metrics a dict of float32 scalars and of histograms.
    """
    config, step = run.config, state["step"]
    key = functools.partial(streams.stream, config.seed, step)
    seen, taught = run.method.views(config)
    images = views.make(
        key(streams.CROPS),
        key(streams.CORRUPTIONS),
        batch["image"],
        max(seen, taught),
        config,
        run.mesh,
    )
    teacher_outputs = None
    if taught:
        teacher_outputs, _ = forward(run.teacher, teacher, images[:taught], train=False)

    def loss(trained):
        variables = {**state["student"], "params": trained["student"]}
        outputs, batch_stats = forward(run.student, variables, images[:seen], train=True)
        terms = run.method.terms(
            config,
            methods.Signals(
                labels=batch["label"],
                student=outputs,
                teacher=jax.lax.stop_gradient(teacher_outputs),
                params=trained["method"],
                memory=state["memory"],
                index=batch["index"],
                key=key(streams.METHOD),
            ),
        )
        return sum(terms.losses.values()), (terms, outputs, batch_stats)

    trained = {"student": state["student"]["params"], "method": state["method"]}
    (total, (terms, outputs, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(trained)
    updates, optimizer_state = run.optimizer.update(gradient, state["optimizer"], trained)
    trained = optax.apply_updates(trained, updates)
    new_state = {
        "step": step + 1,
        "student": {"params": trained["student"], "batch_stats": batch_stats},
        "method": trained["method"],
        "memory": terms.memory,
        "optimizer": optimizer_state,
    }
    hits = jnp.argmax(outputs.logits[:, 0], axis=-1) == batch["label"]
    metrics = {
        "loss": total,
        **{f"loss/{name}": value for name, value in terms.losses.items()},
        "gradient_norm": optax.tree.norm(gradient),
        "learning_rate": run.schedule(step),
        "train_accuracy": 100.0 * jnp.mean(hits),
    }
    if terms.reliability is not None:
        counts, _ = jnp.histogram(terms.reliability, bins=_HISTOGRAM_BINS, range=(0.0, 1.0))
        metrics |= {"reliability": jnp.mean(terms.reliability), "reliability_histogram": counts}
    return new_state, metrics


# ----------------------------------------------------------------------------------------------------
# The state: one pytree with all that a resume needs


def init_state(run, input_shape, labels):
    """A fresh state.

    Args:
      run: a Run.
      input_shape: (H, W, C).
      labels: (N,) of the training set, for a method's memory.
    Returns:
      {"step", "student": {"params", "batch_stats"}, "method", "memory", "optimizer"}.
    """
    seed = run.config.seed
    shape = (1, *input_shape)
    student = run.student.init(streams.stream(seed, 0, streams.INIT), shape)
    outputs = [jax.eval_shape(lambda m=m: _outputs(m, shape)) for m in (run.student, run.teacher) if m]
    key = streams.stream(seed, 0, streams.METHOD_INIT)
    params, memory = run.method.init(run.config, key, outputs[0], outputs[-1], labels)
    trained = {"student": student["params"], "method": params}
    return {
        "step": jnp.zeros((), jnp.int32),
        "student": student,
        "method": params,
        "memory": memory,
        "optimizer": run.optimizer.init(trained),
    }


def _outputs(model, shape):
    variables = model.init(jax.random.key(0), shape)
    return model.apply(variables, jnp.zeros(shape), False)[0]


def make_optimizer(config, steps):
    """SGD with momentum, coupled weight decay, and a cosine to 0: (optax transformation, schedule)."""
    schedule = optax.cosine_decay_schedule(config.optimizer.learning_rate, steps)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.optimizer.weight_decay),
        optax.sgd(schedule, config.optimizer.momentum),
    )
    return optimizer, schedule


# ----------------------------------------------------------------------------------------------------
# A run


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
    checkpoint.check_same_run(workdir, config, card)
    if (workdir / "results.json").exists():
        result = checkpoint.read_json(workdir / "results.json")
        if result["status"] == "done":
            print(f"{workdir}: already done; --mode=eval evaluates it under other eval.* keys", flush=True)
            return result
    teacher = None
    if methods.METHODS[config.method].views(config)[1]:
        teacher = teachers.find_or_train(config, dataset, train_and_evaluate)
    with checkpoint.lock(workdir / ".lock", wait=False):
        checkpoint.claim(workdir, config, card)
        return _train_and_evaluate(config, workdir, dataset, teacher)


def _train_and_evaluate(config, workdir, dataset, teacher):
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
            result = {
                "status": "stopped",
                **stop.facts,
                "nan_count": 1,
                "resumed_from": resumed_from,
            }
            results.write(config, workdir, dataset, teacher, result)
            raise
    evaluated_at = time.time()
    variables = state["student"]
    measured = evaluate.evaluate(predict, variables, dataset, config, run.mesh)
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
    if config.batch_size > len(dataset.train_labels):
        raise DataError(
            f"config.batch_size: {config.batch_size}; allowed: at most the "
            f"{len(dataset.train_labels)} training images of {dataset.name}"
        )
    if min(dataset.train_images.shape[1:3]) < corruptions.LEAST_SIDE:
        raise DataError(
            f"{dataset.name}: images of {dataset.train_images.shape[1:3]} pixels; "
            f"allowed: sides of at least {corruptions.LEAST_SIDE}, which the corruptions need"
        )


def make_run(config, dataset, teacher, steps):
    """Build what a run's step needs, on a mesh of all devices."""
    student = models.build(
        config.student.name,
        dataset.num_classes,
        dtype=config.dtype,
        mean=dataset.mean,
        std=dataset.std,
    )
    optimizer, schedule = make_optimizer(config, steps)
    return Run(
        config=config,
        mesh=meshes.make(),
        student=student,
        teacher=teacher.model if teacher else None,
        method=methods.METHODS[config.method],
        optimizer=optimizer,
        schedule=schedule,
    )


def fit(run, state, teacher, start, steps, dataset, checkpoints, predict, workdir):
    """The loop, from step `start` to `steps`: returns (state, timings).

    Metrics stay on the device until a logging step, so that the host runs ahead; every step's are
    then checked, and none of a state that is not finite is ever saved.

    Raises:
      TrainingStopped: a loss or a gradient was not finite.
    """
    config = run.config
    step_fn = jax.jit(functools.partial(train_step, run), donate_argnums=0)
    batches = Batches(dataset, config.batch_size, config.seed, run.mesh)
    writer = MetricWriter(workdir, start, config.log.tensorboard)
    bar = tqdm(
        total=steps,
        initial=start,
        desc=config.method,
        disable=not config.log.progress,
        mininterval=1.0,
    )
    pending, began, timings = [], time.time(), {"compile_seconds": None, "images_per_second": None}
    steady, steady_from = None, start
    for done in range(start + 1, steps + 1):
        state, metrics = step_fn(state, teacher, batches(done - 1))
        pending.append((done, metrics))
        if done == start + 1:
            jax.block_until_ready(metrics)
            timings["compile_seconds"] = time.time() - began
            steady, steady_from = time.time(), done
        saves = done % config.checkpoint.every_steps == 0 or done == steps
        logs = done % config.log.every_steps == 0 or done == steps
        values = {}
        if saves or logs:
            latest = _fetch_finite(pending)
            bar.set_postfix(loss=f"{latest['loss']:.3f}", refresh=False)
            if done > steady_from:
                timings["images_per_second"] = _rate(done - steady_from, config.batch_size, steady)
            if logs:
                values = {"epoch": done / batches.steps_per_epoch, **latest}
                if timings["images_per_second"]:
                    values["images_per_second"] = timings["images_per_second"]
        if _evaluates(config, done, batches.steps_per_epoch):
            pause = time.time()
            values["clean_accuracy"] = evaluate.clean_accuracy(
                predict, state["student"], dataset, config, run.mesh
            )
            steady = steady + (time.time() - pause)
        if values:
            writer.write(done, values)
        if saves:
            checkpoint.save(checkpoints, done, state)
        bar.update()
    checkpoints.wait_until_finished()
    bar.close()
    writer.close()
    timings["training_seconds"] = time.time() - began
    return state, timings


def _rate(steps, batch_size, since):
    return steps * batch_size / (time.time() - since)


def _evaluates(config, done, steps_per_epoch):
    every = config.eval.clean_every_epochs * steps_per_epoch
    return every > 0 and done % every == 0


def _fetch_finite(pending):
    """The newest metrics on the host; empties `pending` and fails on the first that are not finite."""
    steps = [step for step, _ in pending]
    fetched = jax.device_get([metrics for _, metrics in pending])
    pending.clear()
    for step, metrics in zip(steps, fetched, strict=True):
        bad = [name for name, value in metrics.items() if not np.all(np.isfinite(value))]
        if bad:
            terms = [name for name in bad if name.startswith("loss/")] or bad
            raise TrainingStopped(step, terms)
    return fetched[-1]
