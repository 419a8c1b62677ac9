"""Students that adapted to the test images: their evaluations of one name as a study of its own."""

from craft_jax import files
from craft_jax.report import arms, comparisons, measures, studies, summary


def sections_of(study):
    """[(Study, its Tables)], one for each name of adapted evaluations, DIR/eval/NAME.json, beside its runs.

    None of them was planned: their tables are of arms and of differences, without a test. None is compared
    with a run's own evaluation.

    Args:
      study: a studies.Study.
    Raises:
      CheckpointError: a file there is not the result of an evaluation.
    """
    named = {}
    for run in study.runs:
        if run.fault or run.path.name != "results.json":
            continue
        for path in sorted(run.path.parent.glob("eval/*.json")):
            result = files.read_json(path)
            if isinstance(result, dict) and result.get("adaptation"):
                measures.check(path, result)
                result["teacher"] = run.result.get("teacher")  # as in the run's own: pairs must share it
                named.setdefault(path.stem, []).append(run._replace(path=path, result=result))
    pairs = [(comparison.arm, comparison.baseline) for comparison in study.planned]
    found = []
    for name, runs in sorted(named.items()):
        question = f"Adapted to the test images: {summary.NOT_COMPARED}."
        runs = tuple(studies.without_odd(runs))
        own = studies.Study(f"{study.name}-{name}", question, study.arms, study.baseline, (), runs)
        found.append((own, [arms.table(own), comparisons.others(own, pairs)]))
    return found
