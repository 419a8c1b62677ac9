"""A step of a run once more, from the newest checkpoint before it, and all that can be seen of it.

Batches, views and draws are functions of seed and step, so the steps in between come out as they did: bit for
bit on a CPU; on a GPU as far as its kernels do.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from craft_jax.errors import CheckpointError, TrainingStopped
from craft_jax.mesh import fetch, hold, replicated_on
from craft_jax.runs import checkpoint, start
from craft_jax.training.batches import Batches
from craft_jax.training.gradients import gradients, trained_of
from craft_jax.training.step import begin, initial, jit_step


class Repeated(NamedTuple):
    """A step, repeated.

    Attributes:
      step: which, from 1, as metrics.jsonl counts.
      start: the step of the checkpoint it was repeated from; 0 for a fresh state.
      metrics: the step's, {name: NumPy value}.
      before, gradient, after: {path: array} of the parameters, the network's and the method's own.
      terms: {name of a term: {path: array}}, the gradient of each alone; {} where it was not asked for.
    """

    step: int
    start: int
    metrics: dict[str, Any]
    before: dict[str, np.ndarray]
    gradient: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    terms: dict[str, dict[str, np.ndarray]]

    def first_bad(self):
        """In words, the first leaf that is not finite, or whose norm is not in float32; "" if none."""
        stages = ("the parameter", self.before), ("the gradient of", self.gradient), ("the new", self.after)
        for what, leaves in stages:
            if bad := [path for path, leaf in leaves.items() if is_bad(leaf)]:
                return f"{what} {bad[0]}" + (f" ({len(bad)} of {len(leaves)} leaves)" if bad[1:] else "")
        return ""


def is_bad(leaf):
    """Whether the square of an array's norm is not a finite float32: it is NaN, infinite or overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return not np.isfinite(np.float32(np.sum(np.square(leaf, dtype=np.float64))))


def repeat(run, workdir, dataset, teacher, step, by_term=False):
    """Repeat one step; writes nothing.

    Args:
      run: a Run.
      workdir: its working directory.
      dataset: its data.Dataset.
      teacher: the teacher's variables on the mesh, () without one.
      step: which, from 1.
      by_term: also the gradient of each term, each a program to compile.
    Returns:
      A Repeated.
    Raises:
      CheckpointError: what is saved does not fit the run, or cannot be read.
    """
    batches = Batches(dataset, run.config.batch_size, run.config.seed, run.mesh)
    fresh, abstract = initial(run, dataset)
    done, state = checkpoint.restore_before(workdir, step, abstract) or (0, None)
    if state is None:
        state = begin(run, start.put(fresh(), run.config, workdir, dataset), teacher, batches(0))
    state = hold(state)
    print(f"repeating steps {done + 1} to {step}", flush=True)
    train_step = jit_step(run, state)
    for before in range(done, step - 1):
        state, _ = train_step(state, teacher, batches(before))
    batch = batches(step - 1)

    def gradient(term=None):
        of = jax.jit(lambda *given: gradients(run, *given, term)[1], out_shardings=replicated_on(run.mesh))
        return _leaves(of(state, teacher, batch))

    old, whole = _leaves(trained_of(state)), gradient()
    names = _terms(run, state, teacher, batch) if by_term else ()
    terms = {name: gradient(name) for name in names}
    state, metrics = train_step(state, teacher, batch)
    return Repeated(step, done, jax.device_get(metrics), old, whole, _leaves(trained_of(state)), terms)


def _terms(run, state, teacher, batch):
    """The names of the terms that a step's loss is the sum of."""
    (_, (terms, _, _)), _ = jax.eval_shape(lambda *given: gradients(run, *given), state, teacher, batch)
    return tuple(terms.losses)


def _leaves(tree):
    flat = jax.tree_util.tree_leaves_with_path(fetch(tree))
    return {checkpoint.path_of(path): np.array(leaf) for path, leaf in flat}


def traced(stop, run, workdir, dataset, teacher):
    """A TrainingStopped that names the first bad leaf too, found by repeating its step.

    Args:
      stop: the TrainingStopped.
      run, workdir, dataset, teacher: as of `repeat`.
    """
    facts = stop.facts
    try:
        leaf = repeat(run, workdir, dataset, teacher, facts["stopped_at_step"]).first_bad()
    except CheckpointError as error:
        leaf = f"not found ({error})"
    return TrainingStopped(
        facts["stopped_at_step"], facts["stopped_terms"], facts["nan_count"], leaf, Path(workdir)
    )
