"""Evaluations beside the runs' own, DIR/eval/NAME.json: those of one name are a study of their own."""

from craft_jax import files
from craft_jax.report import arms, comparisons, measures, studies, summary


def sections_of(study):
    """[(Study, its Tables)], one for each name of evaluations beside a study's runs, or kept with them.

    None of them was planned: their tables are of arms and of differences, without a test. None is compared
    with a run's own evaluation. One of other parameters, of an earlier step, counts for nothing.

    Args:
      study: a studies.Study.
    Raises:
      CheckpointError: a file there is not the result of an evaluation.
    """
    named = {}
    for run in study.runs:
        for name, path in _beside(run):
            result = files.read_json(path)
            measures.check(path, result)
            result["teacher"] = run.result.get("teacher")  # as in the run's own: pairs must share it
            other = result.get("params_sha256") != run.result.get("params_sha256")
            fault = "of other parameters than the run's own result" if other else ""
            named.setdefault(name, []).append(run._replace(path=path, result=result, fault=fault))
    pairs = [(comparison.arm, comparison.baseline) for comparison in study.planned]
    found = []
    for name, runs in sorted(named.items()):
        adapted = any(run.result.get("adaptation") for run in runs)
        question = "The same students, evaluated once more."
        if adapted:
            question = f"Adapted to the test images: {summary.NOT_COMPARED}."
        runs = tuple(studies.without_odd(runs))
        own = studies.Study(f"{study.name}-{name}", question, study.arms, study.baseline, (), runs)
        found.append((own, [arms.table(own), comparisons.others(own, pairs)]))
    return found


def _beside(run):
    """(name, path) of the evaluations beside a run's own, in its directory or where its result is kept."""
    if run.fault:
        return
    if run.path.name == "results.json":
        for path in sorted(run.path.parent.glob("eval/*.json")):
            yield path.stem, path
        return
    start = f"{run.path.stem}.eval."
    for path in sorted(run.path.parent.glob(f"{start}*.json")):
        yield path.stem.removeprefix(start), path
