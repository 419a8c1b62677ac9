"""The table of arms: of each metric the mean over seeds, its standard deviation and interval."""

import itertools

from craft_jax.evaluation import robustness
from craft_jax.report import groups, measures, statistics
from craft_jax.report.formats import Table
from craft_jax.report.pairs import seeds
from craft_jax.report.summary import number

_PARTS = ("mean", "sd", "low", "high")
COLUMNS = ("arm", "n", *(f"{metric}_{part}" for metric in robustness.METRICS for part in _PARTS), "differs")


def table(study):
    """The Table "arms" of a Study, a row an arm.

    An arm's metric is left empty where a run of the arm lacks it: a mean of the others would leave out the
    worst, such as a network without finite logits.
    """
    differs = groups.differing(study)
    rows, lines = [], []
    spreads = {arm: {m: _spread(study.counted(arm), m) for m in robustness.METRICS} for arm in study.arms}
    shown = [m for m in robustness.METRICS if any(spreads[arm][m].n for arm in study.arms)]
    for arm in study.arms:
        count = len(study.counted(arm))
        figures = [getattr(spreads[arm][m], part) for m in robustness.METRICS for part in _PARTS]
        rows.append((arm, count, *figures, differs[arm]))
        lines.append((arm, str(count), *(_shown(m, spreads[arm][m]) for m in shown), differs[arm]))
    says = f"mean over n seeds (sample standard deviation) [{statistics.LEVEL:.0%} t-interval]"
    return Table("arms", COLUMNS, rows, ("arm", "n", *shown, "differs in"), lines, [says, *_undefined(study)])


def _spread(runs, metric):
    values = [measures.value(run.result, metric) for run in runs]
    return statistics.spread([] if None in values else values)


def _undefined(study):
    for arm, metric in itertools.product(study.arms, robustness.METRICS):
        runs = study.counted(arm)
        missing = [run.seed for run in runs if measures.value(run.result, metric) is None]
        if missing and len(missing) < len(runs):
            yield f"{arm}: {metric} is undefined in {seeds(missing)}, so its mean is left out"


def digits(metric):
    """How many decimals a reader sees: points of accuracy differ by hundredths, nll and ece by less."""
    return 4 if metric in ("nll", "ece") else 2


def interval(low, high, metric, sign=""):
    """[low, high] as text; "" where it is undefined."""
    if low is None:
        return ""
    return f"[{low:{sign}.{digits(metric)}f}, {high:{sign}.{digits(metric)}f}]"


def _shown(metric, found):
    if not found.n:
        return ""
    text = number(found.mean, digits(metric))
    if found.n == 1:
        return text
    return f"{text} ({number(found.sd, digits(metric))}) {interval(found.low, found.high, metric)}"
