"""One long training, and one study of many runs: does anything grow, memory, open files, threads, a step?

    python launch/chaos.py soak --config=configs/craft.py:smoke [--steps=10000] [--out=runs/soak]
    python launch/chaos.py soak --study=configs/studies/soak.py [--out=runs/soak]

Looked at once a second in /proc (Linux), from outside: resident memory, open files and threads of the process
(of a study: the runner, not its runs), and the size of its folder. The training saves every 20 steps, and is
evaluated every epoch. A table has a line for each tenth, of steps or of runs that are done, with the
processor's milliseconds a step, which other work on the machine does not change much. What counts is the
last tenth against the second: "flat" is at most 5% more memory and milliseconds, no more files or threads.

The last line says flat or what grew; the exit status is 0 if flat, 1 if not.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from craft_jax import files
from craft_jax.errors import CheckpointError
from craft_jax.runs.machine import processor

_ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_COLUMNS = ("done", "memory_mib", "open_files", "threads", "cpu_ms", "folder_mib")
_GROWTH = {"memory_mib": 1.05, "open_files": 1.0, "threads": 1.0, "cpu_ms": 1.05}
_TENTHS = 10


def main(argv):
    options = _parse(argv)
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    words, folder, done = _study(options, out) if options.study else _training(options, out)
    samples = _watched([sys.executable, "-m", *words], folder, done, out / "log.txt")
    rows = table(samples)
    if len(rows) < 3:
        sys.exit("chaos.py: too short a run to tell: there is no second tenth beside the last")
    print(f"{processor()}; {' '.join(words)}\n")
    print(" ".join(f"{name:>12}" for name in _COLUMNS))
    for row in rows:
        print(" ".join(f"{value:12.1f}" for value in row))
    grew = growth(rows)
    files.write_json(out / "soak.json", {"command": words, "columns": _COLUMNS, "rows": rows, "grew": grew})
    print(f"grew: {', '.join(grew)}" if grew else "flat")
    return 1 if grew else 0


def _parse(argv):
    parser = argparse.ArgumentParser(
        "chaos.py soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", help="as for craft_jax.main")
    parser.add_argument("--study", metavar="FILE", help="as for craft_jax.study")
    parser.add_argument("--steps", type=int, default=10_000, help="of the training, at least; default 10000")
    parser.add_argument("--out", default="runs/soak", help="where the runs lie; default runs/soak")
    options, options.words = parser.parse_known_args(argv)
    if strange := [word for word in options.words if not word.startswith("--config.")]:
        parser.error(f"{strange[0]}: unknown; allowed: the options above and --config.KEY=VALUE")
    if bool(options.config) == bool(options.study):
        parser.error("one of --config and --study says what runs")
    return options


def _training(options, out):
    """(the module and its arguments, its folder, a function that says how many steps are done)."""
    run = out / "run"
    # The digits have 1,400 training images: 43 steps of 32.
    words = ["craft_jax.main", f"--config={options.config}", f"--workdir={run}", *options.words]
    words += [f"--config.epochs={-(-options.steps // 43)}", "--config.log.progress=False"]
    words += ["--config.checkpoint.every_steps=20", "--config.eval.clean_every_epochs=1"]
    words += [f"--config.teacher.cache={out / 'teachers'}"]

    def done():
        lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
        return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0

    return words, run, done


def _study(options, out):
    runs = out / "study"
    words = ["craft_jax.study", options.study, f"--out={runs}", "--jobs=2", *options.words]
    return words, runs, lambda: sum(1 for path in runs.glob("*/seed*/results.json") if _is_done(path))


def _is_done(path):
    try:
        return files.read_json(path)["status"] == "done"
    except CheckpointError:  # just being replaced
        return False


def _watched(command, folder, done, log):
    """[_COLUMNS, the milliseconds since the beginning] of a process, a second apart until it ends."""
    samples = []
    with open(log, "w") as file, subprocess.Popen(command, cwd=_ROOT, stdout=file, stderr=file) as process:
        while process.poll() is None:
            if found := _looked_at(process.pid):
                memory, open_files, threads, cpu = found
                samples.append((done(), memory, open_files, threads, cpu, _size(folder)))
            time.sleep(1)
    if process.returncode:
        sys.exit(f"chaos.py: ended with {process.returncode}; see {log}")
    return samples


def _looked_at(pid):
    """(MiB resident, open files, threads, milliseconds of the processor) of a process; None if it is gone."""
    place = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        times = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
        open_files = len(list((place / "fd").iterdir()))
        memory = int(status["VmRSS"].split()[0]) / 1024
    except (OSError, KeyError):
        return None
    return memory, open_files, int(status["Threads"]), 1000 * sum(map(int, times)) / _TICKS


def _size(folder):
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(base, name)).st_size
            except OSError:  # just renamed
                continue
    return total / 2**20


def table(samples):
    """A row for each tenth of what was done: medians of its samples; milliseconds of the CPU for each one."""
    samples = np.array([sample for sample in samples if sample[0]], float)
    edges = np.linspace(0, samples[:, 0].max(), _TENTHS + 1)
    rows = []
    for low, high in itertools.pairwise(edges):
        own = samples[(samples[:, 0] > low) & (samples[:, 0] <= high)]
        if len(own) > 1 and own[-1, 0] > own[0, 0]:
            cpu = (own[-1, 4] - own[0, 4]) / (own[-1, 0] - own[0, 0])
            rows.append([high, *np.median(own[:, 1:4], axis=0).tolist(), cpu, own[-1, 5]])
    return rows


def growth(rows):
    """What the last row has more of than the second, in words."""
    second, last = (dict(zip(_COLUMNS, row, strict=True)) for row in (rows[1], rows[-1]))
    return [
        f"{name} from {second[name]:.1f} to {last[name]:.1f}"
        for name, factor in _GROWTH.items()
        if last[name] > factor * second[name]
    ]
