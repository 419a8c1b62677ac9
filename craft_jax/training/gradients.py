"""The loss of a step and its gradient: of the whole batch at once, or added up over parts of it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax import methods, streams, views
from craft_jax.mesh import split_over


def forward(model, variables, images: Float[Array, "B V H W C"], train: bool):
    """Forward V views in one pass; returns (Outputs with leaves (B, V, ...), batch_stats)."""
    batch, count = images.shape[:2]
    flat = images.reshape(batch * count, *images.shape[2:])
    outputs, batch_stats = model.apply(variables, flat, train)
    return jax.tree.map(lambda x: x.reshape(batch, count, *x.shape[1:]), outputs), batch_stats


def trained_of(state):
    """What the optimizer changes: {"student": the network's parameters, "method": the method's own}."""
    return {"student": state["student"]["params"], "method": state["method"]}


def gradients(run, state, teacher, batch, term=None):
    """((loss, (Terms, clean view's logits (B, K), new batch_stats)), gradient by `trained_of`) of a step.

    With optimizer.accumulate_steps = k above 1 the batch is met in k parts, one after the other: loss and
    gradient are the mean over the parts', each part's statistics, negatives and the like are its own, and
    memory and running statistics go from part to part. Draws are those of the whole batch: crops, flips and
    corruptions do not depend on k.

    Args:
      run, state, teacher, batch: as for `train_step`.
      term: the name of the term whose gradient is asked for; None for that of their sum.
    """
    images, key = _views(run, state, batch)
    if run.config.optimizer.accumulate_steps == 1:
        return _of_part(run, state, teacher, images, batch, key, term)
    return _accumulated(run, state, teacher, images, batch, key, term)


def begun(run, state, teacher, batch):
    """The memory that the method makes of the first batch, or of its first part."""
    images, key = _views(run, state, batch)
    if run.config.optimizer.accumulate_steps > 1:
        images, batch, key = _part(run, 0, images, batch, key)
    taught = _taught(run, teacher, images)
    return run.method.begin(
        run.config, _signals(run, state, trained_of(state), images, taught, batch, key)[0]
    )


def _views(run, state, batch):
    """(the views of a step, (B, V, H, W, 3), the key of the method's draws)."""
    config, step = run.config, state["step"]
    crop_key, corruption_key, method_key = (
        streams.stream(config.seed, step, name)
        for name in (streams.CROPS, streams.CORRUPTIONS, streams.METHOD)
    )
    count = max(run.method.views(config))
    return views.make(crop_key, corruption_key, batch["image"], count, config, run.mesh), method_key


def _of_part(run, state, teacher, images, batch, key, term):
    """As `gradients`, of images that are met at once."""
    config, teacher_outputs = run.config, _taught(run, teacher, images)

    def loss(trained):
        signals, batch_stats = _signals(run, state, trained, images, teacher_outputs, batch, key)
        terms = run.method.terms(config, signals)
        methods.check_terms(config.method, terms, state["memory"])
        value = terms.losses[term] if term else sum(terms.losses.values())
        return value, (terms, signals.student.logits[:, 0], batch_stats)

    return jax.value_and_grad(loss, has_aux=True)(trained_of(state))


def _taught(run, teacher, images):
    """The teacher's Outputs on its share of the views; None for a method without one."""
    taught = run.method.views(run.config)[1]
    return forward(run.teacher, teacher, images[:, :taught], train=False)[0] if taught else None


def _signals(run, state, trained, images, teacher_outputs, batch, key):
    """(Signals, new batch_stats): the student of `trained` on its share of the views."""
    seen, _ = run.method.views(run.config)
    variables = {**state["student"], "params": trained["student"]}
    outputs, batch_stats = forward(run.student, variables, images[:, :seen], train=True)
    signals = methods.Signals(
        labels=batch["label"],
        student=outputs,
        teacher=jax.lax.stop_gradient(teacher_outputs),
        params=trained["method"],
        memory=state["memory"],
        index=batch["index"],
        key=key,
        progress=(state["step"] + 1) / run.steps,
        mesh=run.mesh,
    )
    return signals, batch_stats


# ----------------------------------------------------------------------------------------------------
# In parts


def _accumulated(run, state, teacher, images, batch, key, term):
    count = run.config.optimizer.accumulate_steps

    def part(carried, number):
        gradient, batch_stats, memory = carried
        own = {**state, "student": {**state["student"], "batch_stats": batch_stats}, "memory": memory}
        found = _of_part(run, own, teacher, *_part(run, number, images, batch, key), term)
        (_, (terms, logits, batch_stats)), new = found
        gradient = jax.tree.map(lambda total, x: total + x / count, gradient, new)
        return (gradient, batch_stats, terms.memory), (terms.losses, terms.reliability, logits)

    nothing = jax.tree.map(jnp.zeros_like, trained_of(state))
    # On a CPU gradients of convolutions collapse in a loop.
    unroll = count if run.mesh.devices.flat[0].platform == "cpu" else 1
    carried = nothing, state["student"]["batch_stats"], state["memory"]
    carried, (losses, reliability, logits) = jax.lax.scan(part, carried, jnp.arange(count), unroll=unroll)
    gradient, batch_stats, memory = carried
    losses = {name: jnp.mean(values) for name, values in losses.items()}

    def whole(x):  # in the order of the batch: see `_part`
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    reliability, logits = jax.tree.map(whole, (reliability, logits))
    terms = methods.Terms(losses, reliability, memory)
    return (sum(losses.values()), (terms, logits, batch_stats)), gradient


def _part(run, number, images, batch, key):
    """(images, batch, key) of one part of k: every k-th image, so that every device has its share of each."""
    count = run.config.optimizer.accumulate_steps

    def of(x):
        x = jax.lax.dynamic_index_in_dim(x.reshape(-1, count, *x.shape[1:]), number, axis=1, keepdims=False)
        return jax.lax.with_sharding_constraint(x, split_over(run.mesh))

    return *jax.tree.map(of, (images, batch)), jax.random.fold_in(key, number)
