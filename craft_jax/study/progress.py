"""What is seen of a study while it runs: a table of arms and seeds, and the time that is left."""

import datetime
import json
import statistics
from collections import Counter
from pathlib import Path

from craft_jax import files

DONE, RUNNING, QUEUED, FAILED, WAITING = "done", "running", "queued", "failed", "-"


def table(states, fractions):
    """Arms down, seeds across.

    Args:
      states: {plan.Run: one of the states above}.
      fractions: {plan.Run: how much of its training a running one has done, in [0, 1]}.
    Returns:
      Lines of text.
    """
    arms = list(dict.fromkeys(run.arm for run in states))
    seeds = list(dict.fromkeys(run.seed for run in states))
    cells = {(run.arm, run.seed): _cell(state, fractions.get(run)) for run, state in states.items()}
    rows = [["", *(f"seed {seed}" for seed in seeds)]]
    rows += [[arm, *(cells.get((arm, seed), "") for seed in seeds)] for arm in arms]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _cell(state, fraction):
    return f"{100 * fraction:.0f}%" if state == RUNNING and fraction else state


def counts(states, seconds, jobs):
    """The line below the table.

    Args:
      states: as for `table`.
      seconds: what the runs that are left take, one after the other; None where nothing tells.
      jobs: how many run at once.
    """
    left = "time left not known yet"
    if seconds is not None:
        left = f"about {datetime.timedelta(seconds=round(seconds / jobs))} left"
    return f"{tally(states)}; {left}"


def tally(states):
    """How many runs are in each state, in words.

    Args:
      states: as for `table`.
    """
    count = Counter(states.values())
    queued = f"{count[QUEUED]} queued, " if count[QUEUED] else ""
    return (
        f"{count[DONE]} of {len(states)} done, {count[RUNNING]} running, {queued}{count[FAILED]} failed, "
        f"{count[WAITING]} to do"
    )


class Pace:
    """How long a run of each arm takes, from those that are done and from steps of those under way."""

    def __init__(self):
        self._training, self._fixed = {}, {}  # {arm: [seconds]}: of its steps, and of all the rest

    def learn(self, run, result):
        """Take note of a finished run's times.

        Args:
          run: the plan.Run.
          result: what its results.json says.
        """
        timings, images = result["timings"], result["data"]["train_examples"]
        if rate := timings.get("images_per_second"):
            steps = run.config.epochs * images / rate
            self._training.setdefault(run.arm, []).append(steps)
            self._fixed.setdefault(run.arm, []).append(max(timings["process_seconds"] - steps, 0.0))

    def learn_steps(self, run):
        """Take note of a running one's steps; returns how much of its training is done, in [0, 1]."""
        latest = _last_line(run.workdir / "metrics.jsonl")
        if not latest or "epoch" not in latest:
            return None
        if rate := latest.get("images_per_second"):
            images = latest["step"] * run.config.batch_size / latest["epoch"]  # of an epoch
            self._training[run.arm] = [run.config.epochs * images / rate]
        return latest["epoch"] / run.config.epochs

    def seconds(self, states, fractions):
        """What is left, one run after the other; None where no run has been measured.

        An arm without a measurement is taken to cost the mean of those that have one.
        """
        if not self._training:
            return None
        total = 0.0
        for run, state in states.items():
            if state in (RUNNING, WAITING):
                rest = 1 - (fractions.get(run) or 0.0)
                total += rest * _of(self._training, run.arm) + _of(self._fixed, run.arm)
        return total


def _of(measured, arm):
    if not measured:
        return 0.0
    if arm in measured:
        return statistics.fmean(measured[arm])
    return statistics.fmean(statistics.fmean(values) for values in measured.values())


def _last_line(path):
    """The last whole line of a JSON lines file, None without one."""
    if not Path(path).exists():
        return None
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 20_000))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def learned(states, results):
    """A Pace that knows the finished runs.

    Args:
      states: {plan.Run: state}.
      results: {plan.Run: path of its result}.
    """
    pace = Pace()
    for run, path in results.items():
        result = files.read_json(path)
        if states[run] == DONE and not result["resumed_from"]:
            pace.learn(run, result)
    return pace
