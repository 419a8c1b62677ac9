"""Trainings killed with SIGKILL at random moments, resumed, and compared with one that was not.

    python launch/chaos.py --config=configs/craft.py:smoke --n=50 --seed=0 [--out=DIR] [--config.KEY=VALUE]

A run is killed one to six times. Half of the kills come at any moment from its first step to its end; the
others inside a save, an evaluation, or the writing of the results, before or after a file gets its name. It
is then left to end, and compared with the undisturbed run, bit for bit: every leaf of the last checkpoint,
every line of metrics.jsonl and the result but for times, and which images were right. Both have one teacher.
Killed itself, the same command goes on. A run that ends otherwise is kept, for looking at.

The last line says N/N bit-identical, in kills; the exit status is 0 if so, 1 if not.
"""

import argparse
import collections
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from orbax.checkpoint import v1 as ocp

from craft_jax import files
from craft_jax.evaluation import correctness
from craft_jax.runs import checkpoint

_VICTIM = Path(__file__).with_name("victim.py")
_ROOT = _VICTIM.parents[2]
_MOST = 6  # kills of one run
_SAVING = 0.4  # seconds within which a save of a small state ends, begun where its step ended
_OF_THE_CLOCK = ("timings", "date", "cost", "notes", "resumed_from", "images_per_second")


def main(argv):
    options, words = _parse(argv)
    out = Path(options.out)
    common = [f"--config={options.config}", f"--config.teacher.cache={out / 'teachers'}", *words]
    common += ["--config.log.progress=False"]
    with files.lock(out / ".lock", wait=False):
        state = _state(out / "kills.json", {"arguments": common, "seed": options.seed})
        if (out / "undisturbed").exists() and not _is_undisturbed(out / "undisturbed"):
            shutil.rmtree(out / "undisturbed")
        trained(out / "undisturbed", common)
        seconds = _seconds(out / "undisturbed")
        while (left := options.n - sum(len(run["kills"]) for run in state["runs"])) > 0:
            run = _one(out, common, seconds, state, left, options.seed)
            state |= {"runs": [*state["runs"], run], "under_way": []}
            files.write_json(out / "kills.json", state)
    return _told(state["runs"])


def _parse(argv):
    parser = argparse.ArgumentParser(
        "chaos.py kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", required=True, help="as for craft_jax.main")
    parser.add_argument("--n", type=int, default=50, help="kills; default 50")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default 0")
    parser.add_argument("--out", default="runs/chaos", help="directory of the runs; default runs/chaos")
    options, words = parser.parse_known_args(argv)
    if strange := [word for word in words if not word.startswith("--config.")]:
        parser.error(f"{strange[0]}: unknown; allowed: the options above and --config.KEY=VALUE")
    if options.n < 1:
        parser.error(f"--n={options.n}; allowed: at least 1")
    return options, words


def _state(path, asked):
    """What an earlier process of the same command did, or a new beginning."""
    if not path.exists():
        return asked | {"runs": [], "under_way": []}
    state = files.read_json(path)
    if any(state.get(key) != value for key, value in asked.items()):
        sys.exit(f"chaos.py: {path} is of other arguments; name another --out")
    return state


def _is_undisturbed(workdir):
    return (workdir / "results.json").exists() and not (workdir / "resumes.json").exists()


def _one(out, common, seconds, state, most, seed):
    """One run, killed up to `most` times and left to end: {"kills": [where, ...], "differs": [what, ...]}."""
    number, kills = len(state["runs"]), state["under_way"]
    workdir = out / f"run{number}"
    most = min(most, int(np.random.default_rng([seed, number]).integers(1, _MOST + 1)))
    while len(kills) < most:
        moment = _moment(np.random.default_rng([seed, number, len(kills)]), seconds)
        if trained(workdir, common, moment) == 0:
            break  # it ended before its moment came
        kills.append(moment["where"])
        files.write_json(out / "kills.json", state)
    trained(workdir, common)
    differs = differences(workdir, out / "undisturbed")
    resumed = files.read_json(workdir / "results.json")["resumed_from"]
    print(f"run {number}: killed in {', '.join(kills) or 'nothing'}; went on from {resumed}; "
          f"{differs or 'bit-identical'}", flush=True)  # fmt: skip
    if not differs:
        shutil.rmtree(workdir)
    return {"kills": kills, "differs": differs}


def _moment(random, seconds):
    where = random.choice(["step"] * 3 + ["save", "evaluation", "results"])
    if where == "step":
        return {"where": "step", "seconds": random.uniform(0, seconds["training"] + seconds["evaluation"])}
    if where == "save":
        return {"where": "save", "call": int(random.integers(1, 4)), "seconds": random.uniform(0, _SAVING)}
    if where == "evaluation":
        return {"where": "evaluation", "call": 1, "seconds": random.uniform(0, seconds["evaluation"])}
    return {"where": "results", "call": int(random.integers(1, 4)), "before": bool(random.integers(2))}


def started(workdir, common, moment=None):
    """A training as a process that has ended, by itself or by a kill."""
    command = [sys.executable, str(_VICTIM), json.dumps(moment or {"where": "never"})]
    command += [*common, f"--workdir={workdir}"]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)


def trained(workdir, common, moment=None):
    """Train until the end or a kill; its exit status, 0 or -SIGKILL."""
    done = started(workdir, common, moment)
    if done.returncode not in ((0, -signal.SIGKILL) if moment else (0,)):
        sys.exit(f"chaos.py: {workdir}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.returncode


def _seconds(workdir):
    timings = files.read_json(workdir / "results.json")["timings"]
    training = timings["training_seconds"] - timings["compile_seconds"]
    return {"training": training, "evaluation": timings["evaluation_seconds"]}


def differences(one, other):
    """What differs between two finished runs that must not, as lines; empty if nothing does."""
    differs = []
    for name, read in _PARTS.items():
        a, b = read(one), read(other)
        differs += [f"{name}: {key}" for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return differs


def _state_of(workdir):
    place = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return {"": place.name} | checkpoint.sums(ocp.load(place, checkpointable_name="default"))


def _metrics_of(workdir):
    lines = enumerate((workdir / "metrics.jsonl").read_text().splitlines())
    rows = {f"line {i}": json.loads(line) for i, line in lines}
    return {i: {k: v for k, v in row.items() if k not in _OF_THE_CLOCK} for i, row in rows.items()}


def _result_of(workdir):
    result = files.read_json(workdir / "results.json")
    return {key: value for key, value in result.items() if key not in _OF_THE_CLOCK}


def _images_of(workdir):
    return {cell: bits.tolist() for cell, bits in correctness.read(workdir / "results.npz").items()}


_PARTS = {"checkpoint": _state_of, "metrics": _metrics_of, "results": _result_of, "images": _images_of}


def _told(runs):
    """Print the count; the exit status."""
    kinds = collections.Counter(kind for run in runs for kind in run["kills"])
    print("kills: " + ", ".join(f"{count} in {kind}" for kind, count in kinds.most_common()))
    print(f"{len(runs)} runs")
    survived = sum(len(run["kills"]) for run in runs if not run["differs"])
    print(f"{survived}/{sum(kinds.values())} bit-identical")
    return 0 if survived == sum(kinds.values()) and not any(run["differs"] for run in runs) else 1
