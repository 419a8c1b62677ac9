"""One step: uint8 batch -> views -> networks -> losses -> gradient -> updated student, and its state."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from craft_jax import methods, models, streams
from craft_jax.mesh import held, make_mesh, replicated_on, split_over, spreads
from craft_jax.training.gradients import begun, gradients, trained_of
from craft_jax.training.optimizer import make_optimizer

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
    steps: Any


def make_run(config, dataset, teacher, steps):
    """Build what a run's step needs, on a mesh of all devices."""
    student = models.build(
        config.student.name,
        dataset.num_classes,
        dtype=config.dtype,
        mean=dataset.mean,
        std=dataset.std,
        precision=config.precision,
        remat=config.student.remat,
    )
    optimizer, schedule = make_optimizer(config, steps)
    return Run(
        config=config,
        mesh=make_mesh(),
        student=student,
        teacher=teacher.model if teacher else None,
        method=methods.METHODS[config.method],
        optimizer=optimizer,
        schedule=schedule,
        steps=steps,
    )


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
    step, trained = state["step"], trained_of(state)
    (total, (terms, logits, batch_stats)), gradient = gradients(run, state, teacher, batch)
    # No update before the last gradient is there: it overwrites what others may still read, and XLA
    # would make copies for them. As one vector, because XLA updates leaves of one shape that read the same
    # array in one kernel.
    vector, optimizer_state, step = jax.lax.optimization_barrier((flat(gradient), state["optimizer"], step))
    gradient = unflat(vector, gradient)
    updates, optimizer_state = run.optimizer.update(gradient, optimizer_state, trained)
    trained = optax.apply_updates(trained, updates)
    new_state = {
        "step": step + 1,
        "student": {"params": trained["student"], "batch_stats": batch_stats},
        "method": trained["method"],
        "memory": terms.memory,
        "optimizer": optimizer_state,
    }
    hits = jnp.argmax(logits, axis=-1) == batch["label"]
    metrics = {
        "loss": total,
        **{f"loss/{name}": value for name, value in terms.losses.items()},
        "gradient_norm": _norm(vector),
        "parameter_norm": _norm(flat(jax.lax.optimization_barrier(trained))),
        "learning_rate": run.schedule(step),
        "train_accuracy": 100.0 * jnp.mean(hits),
    }
    if terms.reliability is not None:
        counts = histogram(terms.reliability, _HISTOGRAM_BINS)
        metrics |= {"reliability": jnp.mean(terms.reliability), "reliability_histogram": counts}
    if run.config.optimizer.skip_nonfinite:
        return _skip_nonfinite(state, new_state, metrics)
    return new_state, metrics


def flat(tree) -> Float[Array, " D"]:
    """All leaves in one vector. Of four axes the last goes first, as `mesh.hold` has them on a GPU."""
    leaves = [jnp.moveaxis(x, -1, 0) if x.ndim == 4 else x for x in jax.tree.leaves(tree)]
    return jnp.concatenate([x.ravel() for x in leaves])


def unflat(vector: Float[Array, " D"], like):
    """The tree whose `flat` is `vector`, shaped as `like`."""
    leaves, treedef = jax.tree.flatten(like)
    parts = jnp.split(vector, np.cumsum([x.size for x in leaves])[:-1])

    def shaped(part, x):
        if x.ndim == 4:
            part = jnp.moveaxis(part.reshape(x.shape[-1], *x.shape[:-1]), 0, -1)
        return part.reshape(x.shape).astype(x.dtype)

    return jax.tree.unflatten(treedef, map(shaped, parts, leaves))


def _norm(vector):
    return jnp.sqrt(jnp.sum(jnp.square(vector)))


def _skip_nonfinite(state, new_state, metrics):
    """(state, metrics) of a step that changes nothing but counters where one of its metrics is not finite."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in metrics.values()]))
    kept = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        new_state,
        {name: leaves for name, leaves in state.items() if name != "skipped"},
    )
    # The schedule goes by steps, whatever became of them.
    count = optax.tree.get(new_state["optimizer"], "count")
    kept["optimizer"] = optax.tree.set(kept["optimizer"], count=count)
    skipped = state["skipped"] + jnp.where(finite, 0, 1)
    return {**kept, "step": new_state["step"], "skipped": skipped}, {**metrics, "nan_count": skipped}


def histogram(values: Float[Array, " N"], bins: int) -> Float[Array, " {bins}"]:
    """How many values in [0, 1] lie in each of `bins` equal parts, as np.histogram.

    An edge belongs to the part above it, 1 to the last. `jnp.histogram` searches each part in a loop.
    """
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)[:-1]
    from_edge = jnp.sum(values[:, None] >= edges, axis=0, dtype=jnp.float32)
    return from_edge - jnp.append(from_edge[1:], 0)


def begin(run, state, teacher, batch):
    """The state before the first step, with the memory that the method makes of the first batch.

    Args:
      run, state, teacher, batch: as for `train_step`; nothing is donated.
    """
    if run.method.begin is None:
        return state
    memory = jax.jit(functools.partial(begun, run), out_shardings=held(state["memory"]))
    return {**state, "memory": memory(state, teacher, batch)}


def jit_step(run, state=None):
    """`train_step` compiled for the run's mesh: the state donated, and left where it lies.

    Args:
      run: a Run.
      state: the first to be stepped, or its ShapeDtypeStructs; None for one that every device holds.
    """
    return jax.jit(functools.partial(train_step, run), donate_argnums=0, out_shardings=_stepped(run, state))


def jit_steps(run, state=None):
    """Several steps in one dispatch: as `jit_step`, of batches (K, B, ...), with metrics (K, ...).

    For a GPU: the host is asked for once in K steps. On a CPU gradients of convolutions collapse in a loop.
    """

    def steps(state, teacher, batches):
        return jax.lax.scan(lambda state, batch: train_step(run, state, teacher, batch), state, batches)

    return jax.jit(steps, donate_argnums=0, out_shardings=_stepped(run, state))


def _stepped(run, state):
    """How what a step returns is held."""
    replicated = replicated_on(run.mesh)
    return replicated if state is None else (held(state), replicated)


# ----------------------------------------------------------------------------------------------------
# The state: one pytree with all that a resume needs


def init_state(run, input_shape, labels):
    """A fresh state.

    Args:
      run: a Run.
      input_shape: (H, W, C).
      labels: (N,) of the training set, for a method's memory.
    Returns:
      {"step", "student": {"params", "batch_stats"}, "method", "memory", "optimizer"}, and "skipped", how many
      updates were, under optimizer.skip_nonfinite.
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
        **({"skipped": jnp.zeros((), jnp.int32)} if run.config.optimizer.skip_nonfinite else {}),
    }


def initial(run, dataset):
    """(a function that makes a fresh state on the run's mesh, the state's ShapeDtypeStructs).

    Every device holds the whole, but of the banks of a method's memory its share of the rows.
    """
    init = functools.partial(init_state, run, dataset.train_images.shape[1:], dataset.train_labels)
    banks = run.method.banks(run.config) if spreads(run.mesh, len(dataset.train_labels)) else ()

    def placed(path, x):
        is_bank = path[0].key == "memory" and jax.tree_util.keystr(path[-1:], simple=True) in banks
        sharding = split_over(run.mesh) if is_bank else replicated_on(run.mesh)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    abstract = jax.tree_util.tree_map_with_path(placed, jax.eval_shape(init))
    return jax.jit(init, out_shardings=held(abstract)), abstract


def _outputs(model, shape):
    variables = model.init(jax.random.key(0), shape)
    return model.apply(variables, jnp.zeros(shape), False)[0]
