"""A step of a run once more, looked into: `python -m craft_jax.replay DIR --step=N`.

It trains from the newest checkpoint before step N (from the start if there is none) to step N, and prints
every metric of that step, each loss term among them; term by term the norm of its gradient in the student and
that gradient's cosine with the whole one; and leaf by leaf the norms of parameters and gradient. Leaves that
are not finite are marked. Steps count from 1, as in metrics.jsonl and in what a run says when it stops. DIR
is left as it is. Bit for bit as in the run on a CPU with as many devices.

overrides
  --config.data.dir=DIR, --config.teacher.checkpoint=DIR and the like, where things lie elsewhere now.

exit status
  0   done
  2   something to put right: the message says what
"""

import sys
from pathlib import Path

import numpy as np

from craft_jax import data, errors, methods
from craft_jax.config import command, rules
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.mesh import hold, put, replicated_on
from craft_jax.runs import compilation_cache, directory, teachers
from craft_jax.training.repeat import is_bad, repeat
from craft_jax.training.step import make_run


@errors.command
def main(argv):
    """Repeat one step; returns the exit status."""
    workdir, step, config = _parse(argv)
    if config.compilation_cache:
        compilation_cache.use()
    print(errors.printable(table(repeated(workdir, step, config))))
    return 0


def repeated(workdir, step, config):
    """The Repeated of a run's step.

    Args:
      workdir: the run's.
      step: which, from 1.
      config: the run's configuration; where data and teacher lie may differ.
    Raises:
      ConfigError: it has no such step.
      CheckpointError, DataError: the directory is another run's, or lacks something.
    """
    dataset = data.load(config)
    directory.check_same_run(workdir, config, data.record(dataset))
    steps = len(dataset.train_labels) // config.batch_size * config.epochs
    if not 1 <= step <= steps:
        raise ConfigError(f"--step: {step}; allowed: 1 to {steps}, the run's steps")
    teacher = teachers.known(config, workdir, dataset)
    if teacher is None and methods.needs_teacher(config):
        raise CheckpointError(f"{workdir}: no teacher.json, and the run has a teacher; it was not begun yet")
    teacher = teachers.folded(teacher, dataset) if teacher else None
    run = make_run(config, dataset, teacher, steps)
    variables = hold(put(teacher.variables if teacher else (), replicated_on(run.mesh)))
    return repeat(run, workdir, dataset, variables, step, by_term=True)


def table(found):
    """A Repeated as text: its metrics, then a line a term, then a line a leaf."""
    scalars = {name: float(value) for name, value in found.metrics.items() if not np.ndim(value)}
    lines = [f"step {found.step}, repeated from step {found.start}"]
    lines += [f"  {name:20} {value:.9g}" for name, value in scalars.items()]
    lines.append(f"{'gradient':>12} {'cosine':>12}  of each term in the student, and with the whole gradient")
    whole = _of_student(found.gradient)
    for name, gradient in found.terms.items():
        own = _of_student(gradient)
        norm, product = np.linalg.norm(own), np.linalg.norm(own) * np.linalg.norm(whole)
        lines.append(f"{norm:12.5g} {own @ whole / product if product else 0.0:12.4f}  {name}")
    lines.append(f"{'parameter':>12} {'gradient':>12} {'new':>12}  norms of each leaf")
    for path in found.gradient:
        leaves = (found.before[path], found.gradient[path], found.after[path])
        norms = (np.sqrt(np.sum(np.square(leaf, dtype=np.float64))) for leaf in leaves)
        mark = "  <- not finite" if any(map(is_bad, leaves)) else ""
        lines.append(" ".join(f"{norm:12.5g}" for norm in norms) + f"  {path}{mark}")
    first = found.first_bad()
    return "\n".join([*lines, f"first not finite: {first}" if first else "all of it is finite"])


def _of_student(gradient):
    """The network's part of a {path: array}, (D,), float64; a method's own parameters are none of it."""
    parts = [np.ravel(leaf) for path, leaf in gradient.items() if path.startswith("student/")]
    return np.concatenate(parts).astype(np.float64)


def _parse(argv):
    parser = errors.Parser(
        prog="python -m craft_jax.replay",
        description=__doc__,
    )
    parser.add_argument("workdir", metavar="DIR", help="working directory of a run")
    parser.add_argument("--step", type=int, required=True, metavar="N", help="which step, from 1")
    parser.add_argument("--config", metavar="FILE", help="the run's file, where it registers things of yours")
    options, rest = parser.parse_known_args(argv)
    if not Path(options.workdir, "config.json").is_file():
        raise CheckpointError(f"{options.workdir}: no config.json; allowed: a run's working directory")
    words = [f"--workdir={options.workdir}", "--mode=eval", *rest]
    config = command.parse(words + ([f"--config={options.config}"] if options.config else [])).config
    rules.validate_training(config)
    return options.workdir, options.step, config


if __name__ == "__main__":
    sys.exit(main())
