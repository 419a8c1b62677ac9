"""Metrics as JSON lines, for grep and plots, beside TensorBoard events."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np

from craft_jax import files, processes
from craft_jax.config import tree


class MetricWriter:
    """Appends to DIR/metrics.jsonl, one line a logged step, and to TensorBoard events in DIR/tensorboard.

    A resumed run drops what an earlier process logged after the step it resumes from, so that every step
    stands in the file once. A context manager. What cannot be written raises a CheckpointError. Of several
    processes of a run the writer alone logs.
    """

    def __init__(self, workdir, resumed_step, tensorboard, owed=None):
        """Open the logs of a run that has done `resumed_step` steps.

        Args:
          workdir, resumed_step: of the run.
          tensorboard: whether to write events too.
          owed: {name: number}, what was not logged of that step and is now.
        """
        self._path = Path(workdir) / "metrics.jsonl"
        self._closing = contextlib.ExitStack()
        self._events, self._writes = None, processes.is_writer()
        if not self._writes:
            return
        with files.writing(self._path):
            _keep_until(self._path, resumed_step, owed)
            self._file = self._closing.enter_context(open(self._path, "a"))  # noqa: SIM115
        if tensorboard:
            from craft_jax.training.events import Events  # slow to import, and not for every run

            directory = Path(workdir) / "tensorboard"
            with files.writing(directory):
                self._events = self._closing.enter_context(Events(directory, purge_step=resumed_step + 1))
            self._show(resumed_step, owed or {})

    def write(self, step, values):
        """Log one step: {name: number or (edges counted in equal bins of [0, 1]) array}."""
        if not self._writes:
            return
        plain = {k: np.asarray(v).tolist() for k, v in values.items()}
        with files.writing(self._path):
            self._file.write(json.dumps({"step": step, **plain}) + "\n")
            self._file.flush()
        if self._events is not None:
            self._show(step, plain)

    def _show(self, step, plain):
        with files.writing(self._path.with_name("tensorboard")):
            for name, value in plain.items():
                log = self._events.histogram if isinstance(value, list) else self._events.scalar
                log(name, value, step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close both logs; what was logged is kept."""
        with files.writing(self._path.parent):
            self._closing.close()


def write_outcome(workdir, config, result):
    """Add a finished run's figures and hyperparameters to its TensorBoard events.

    Scalars "robust/all", "robust/FAMILY" and "clean/final" (percent), and a session of the HParams tab with
    them; `tensorboard --logdir=DIR` of a folder of runs then compares the runs.

    Args:
      workdir: the run's.
      config: its ConfigDict; strings, numbers and bools are shown as they are, tuples as text.
      result: what its results.json will say of accuracies, and the step.
    """
    from tensorboardX.summary import hparams

    from craft_jax.training.events import Events

    found = {"clean/final": result["clean_accuracy"], "robust/all": result["robust_accuracy"]}
    found |= {f"robust/{family}": percent for family, percent in result["families"].items()}
    found = {name: float(percent) for name, percent in found.items() if percent is not None}
    chosen = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in tree.flatten(config).items()
        if not key.startswith(tree.FREE_KEYS)
    }
    directory = Path(workdir) / "tensorboard"
    with files.writing(directory), Events(directory, suffix=".outcome") as events:
        for name, percent in found.items():
            events.scalar(name, percent, result["step"])
        for content in hparams(chosen, found):
            events.add(content)


def lacks(workdir, step, name):
    """Whether metrics.jsonl has no `name` of a step."""
    return not any(values["step"] == step and name in values for _, values in _lines(workdir))


def _lines(workdir):
    """(line, its values) of DIR/metrics.jsonl, but for what a crash cut short or a disk made no line of."""
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            yield line, values


def _keep_until(path, step, owed):
    """Drop the lines after `step`, and those that are none; add `owed` to that of `step`. Atomically."""
    kept = [(line, values) for line, values in _lines(path.parent) if values["step"] <= step]
    if owed:
        last = kept.pop()[1] if kept and kept[-1][1]["step"] == step else {"step": step}
        kept.append((json.dumps(last | owed), last))
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line, _ in kept), encoding="utf-8")
    os.replace(temporary, path)
