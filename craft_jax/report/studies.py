"""A study as it stands: its manifest and the results that are in.

A manifest is DIR/study.json in a study's directory, or FOLDER/NAME.study.json beside the results kept in a
folder; `python -m craft_jax.study` writes both. Its runs name their result files, relative to its folder.
"""

from pathlib import Path
from typing import NamedTuple

from craft_jax import files
from craft_jax.errors import CheckpointError
from craft_jax.evaluation import robustness
from craft_jax.report import measures


class Run(NamedTuple):
    """A planned run.

    Attributes:
      arm, seed: which.
      path: its result file, which need not be there yet.
      result: what that holds; {} where it is not there.
      fault: why it does not count, "" where it does.
    """

    arm: str
    seed: int
    path: Path
    result: dict
    fault: str


class Comparison(NamedTuple):
    """A difference arm - baseline in a metric of `robustness.METRICS`."""

    arm: str
    baseline: str
    metric: str


class Study(NamedTuple):
    """Arms that are compared.

    Attributes:
      name: what its tables' folder may be called.
      question: in words; may be "".
      arms: names, in order.
      baseline: the arm that differences which are not planned are taken from; "" for none.
      planned: the Comparisons that are tested.
      runs: of all arms, those that do not count among them.
    """

    name: str
    question: str
    arms: tuple[str, ...]
    baseline: str
    planned: tuple[Comparison, ...]
    runs: tuple[Run, ...]

    def counted(self, arm):
        """The runs of an arm that count, in the order of their seeds."""
        return sorted((run for run in self.runs if run.arm == arm and not run.fault), key=lambda r: r.seed)


def manifests(path):
    """The manifests that a path names: of a study, of a folder of results, or itself; maybe none."""
    path = Path(path)
    if path.is_dir():
        return [*path.glob("study.json"), *sorted(path.glob("*.study.json"))]
    return [path] if path.name == "study.json" or path.name.endswith(".study.json") else []


def read(path):
    """The Study of a manifest.

    Args:
      path: a JSON file: "name", "arms" ({name: ...}, in order), "runs" ([{"arm", "seed", "result"}], the
        last null where there is none yet),
        "comparisons" ([{"arm", "baseline", "metric"}]), "baseline", "question".
    Raises:
      CheckpointError: it, or a result that it names, is not what it should be.
    """
    path, manifest = Path(path), files.read_json(path)
    try:
        arms = tuple(manifest["arms"])
        planned = tuple(Comparison(c["arm"], c["baseline"], c["metric"]) for c in manifest["comparisons"])
        planned_runs = [(r["arm"], r["seed"], _place(path, r["result"])) for r in manifest["runs"]]
        name, question, baseline = manifest["name"], manifest.get("question", ""), manifest.get("baseline")
        faults = _faults(name, arms, baseline, planned, planned_runs)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not the manifest of a study ({type(error).__name__}: {error}); allowed: what "
            "craft_jax.study writes"
        ) from error
    if faults:
        raise CheckpointError(f"{path}: " + "; ".join(faults))
    runs = without_odd([_run(*run) for run in planned_runs])
    return Study(name, question, arms, baseline or "", planned, tuple(runs))


def _place(manifest, result):
    """Where a run's result lies: beside the manifest; None, of a run that is not done, is no file."""
    return manifest.parent / ("-" if result is None else result)


def _faults(name, arms, baseline, planned, runs):
    faults = []
    if not name or "/" in name or name.startswith("."):
        faults.append(f"name: {name!r}; allowed: what a folder can be called")
    named = [*([baseline] if baseline else []), *(arm for arm, _, _ in runs)]
    named += [arm for comparison in planned for arm in (comparison.arm, comparison.baseline)]
    if unknown := sorted({arm for arm in named if arm not in arms}):
        faults.append(f"no arm is called {', '.join(map(repr, unknown))}; allowed: {', '.join(arms)}")
    if unknown := sorted({c.metric for c in planned if c.metric not in robustness.METRICS}):
        faults.append(f"metric: {', '.join(map(repr, unknown))}; allowed: {', '.join(robustness.METRICS)}")
    faults += [f"{c.arm} is compared with itself" for c in planned if c.arm == c.baseline]
    for what, entries in (("comparison", planned), ("run", [run[:2] for run in runs])):
        if len(set(entries)) < len(entries):
            twice = next(entry for entry in entries if entries.count(entry) > 1)
            faults.append(f"the {what} {', '.join(map(str, twice))} is there twice")
    return faults


def _run(arm, seed, path):
    if not path.exists():
        return Run(arm, seed, path, {}, NOT_DONE)
    result = files.read_json(path)
    if not isinstance(result, dict) or "status" not in result:
        raise CheckpointError(f"{path}: not the result of a run; allowed: what a results.json holds")
    if result["status"] != "done":
        return Run(arm, seed, path, result, measures.why_not_done(result))
    measures.check(path, result)
    other = result["seed"] != seed
    return Run(arm, seed, path, result, f"its result is of seed {result['seed']}" if other else "")


NOT_DONE = "not done yet"


def without_odd(runs):
    """Marks the Runs that were measured otherwise than most of their arm: a mean over both is of nothing."""
    marked = []
    for run in runs:
        peers = [measures.conditions(r.result) for r in runs if r.arm == run.arm and not r.fault]
        if not run.fault:
            usual, own = max(peers, key=peers.count), measures.conditions(run.result)
            odd = [what for what in usual if usual[what] != own[what]]
            run = run._replace(fault=f"other {', '.join(odd)} than most of its arm") if odd else run
        marked.append(run)
    return marked
