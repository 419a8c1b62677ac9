"""Metrics as JSON lines, for grep and plots, beside TensorBoard events."""

import json
import os
from pathlib import Path

import numpy as np

from craft_jax.config import tree


class MetricWriter:
    """Appends to DIR/metrics.jsonl, one line a logged step, and to TensorBoard events in DIR/tensorboard.

    A resumed run drops what an earlier process logged after the step it resumes from, so that every step
    stands in the file once.
    """

    def __init__(self, workdir, resumed_step, tensorboard):
        """Open the logs of a run that has done `resumed_step` steps."""
        self._path = Path(workdir) / "metrics.jsonl"
        _keep_until(self._path, resumed_step)
        self._file = open(self._path, "a")  # noqa: SIM115, closed by close()
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # slow to import, and not for every run

            directory = str(Path(workdir) / "tensorboard")
            self._events = SummaryWriter(directory, purge_step=resumed_step + 1)

    def write(self, step, values):
        """Log one step: {name: number or (edges counted in equal bins of [0, 1]) array}."""
        plain = {k: np.asarray(v).tolist() for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **plain}) + "\n")
        self._file.flush()
        if self._events is None:
            return
        for name, value in plain.items():
            if isinstance(value, list):
                self._histogram(name, value, step)
            else:
                self._events.add_scalar(name, value, step)

    def _histogram(self, name, counts, step):
        edges = np.linspace(0, 1, len(counts) + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        self._events.add_histogram_raw(
            name,
            min=0.0,
            max=1.0,
            num=sum(counts),
            sum=float(np.dot(counts, centres)),
            sum_squares=float(np.dot(counts, centres**2)),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts,
            global_step=step,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close both logs; what was logged is kept."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def write_outcome(workdir, config, result):
    """Add a finished run's figures and hyperparameters to its TensorBoard events.

    Scalars "robust/all", "robust/FAMILY" and "clean/final" (percent), and a session of the HParams tab with
    them; `tensorboard --logdir=DIR` of a folder of runs then compares the runs.

    Args:
      workdir: the run's.
      config: its ConfigDict; strings, numbers and bools are shown as they are, tuples as text.
      result: what its results.json will say of accuracies, and the step.
    """
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    found = {"clean/final": result["clean_accuracy"], "robust/all": result["robust_accuracy"]}
    found |= {f"robust/{family}": percent for family, percent in result["families"].items()}
    found = {name: float(percent) for name, percent in found.items() if percent is not None}
    chosen = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in tree.flatten(config).items()
        if not key.startswith(tree.FREE_KEYS)
    }
    with SummaryWriter(str(Path(workdir) / "tensorboard"), filename_suffix=".outcome") as events:
        for name, percent in found.items():
            events.add_scalar(name, percent, result["step"])
        for summary in hparams(chosen, found):
            events.file_writer.add_summary(summary)


def _keep_until(path, step):
    """Drop the lines after `step`, and a last line that a crash cut short; atomically."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, path)
