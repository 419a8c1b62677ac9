"""The tables of differences: those planned, with tests, and all others, with intervals alone."""

import numpy as np

from craft_jax.evaluation import correctness, robustness
from craft_jax.report import measures, pairs, statistics
from craft_jax.report.arms import digits, interval
from craft_jax.report.formats import Table
from craft_jax.report.studies import NOT_DONE, Comparison

COLUMNS = (
    *("arm", "baseline", "metric", "n", "difference", "low", "high"),
    *("t", "p", "p_holm", "d_z", "wilcoxon_p", "sd"),
    *("least_difference", "least_difference_holm", "image_low", "image_high", "note"),
)
OTHER_COLUMNS = (
    *("arm", "baseline", "metric", "n", "difference", "low", "high"),
    *("sd", "image_low", "image_high", "note"),
)
_SHOWN = (
    *("arm", "baseline", "metric", "n", "difference", "95% interval"),
    *("t", "p", "p Holm", "d_z", "p Wilcoxon", "could find", "Holm's", "note"),
)
_OTHERS_SHOWN = ("arm", "baseline", "metric", "n", "difference", "95% interval", "note")


def planned(study):
    """The Table "comparisons" of a Study, a row a planned comparison.

    None is tested while a planned pair is still to come: whoever tests as runs come in can stop at a good
    moment. Pairs that can no longer come, of a run that stopped, are named in the note.
    """
    found = [_compare(study, comparison, test=True) for comparison in study.planned]
    family = len(found)
    for row, corrected in zip(found, statistics.holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = corrected
        row["least_difference_holm"] = statistics.least_difference(
            row["sd"], row["n"], statistics.ALPHA / family
        )
    lines = [_line(row) for row in found]
    return Table(
        "comparisons", COLUMNS, _rows(COLUMNS, found), _SHOWN, lines, _notes(family) if found else []
    )


def _notes(family):
    return [
        "difference: of paired runs (the same seed), arm minus baseline, in points (nll: nats, ece: of "
        "1); its interval: t over seeds, or of a single pair bootstrap over test images",
        f"Holm's correction counts all {family} planned comparisons, those without data or test among them",
        f"Wilcoxon's p from {statistics.LEAST_PAIRS_WILCOXON} pairs on: the least that 5 can give is 0.0625",
        f"could find: the true difference that so many pairs find with {statistics.POWER:.0%} power at the "
        f"measured deviation, at alpha {statistics.ALPHA:g}; Holm's: at alpha/{family}, the strictest",
    ]


def others(study, pairs=()):
    """The Table "differences": arms against the study's baseline, and planned pairs in other metrics.

    Args:
      study: a studies.Study.
      pairs: (arm, baseline) of further differences.
    """
    wanted = [(arm, study.baseline) for arm in study.arms if study.baseline and arm != study.baseline]
    wanted += [(comparison.arm, comparison.baseline) for comparison in study.planned]
    wanted += pairs
    rest = [
        comparison
        for pair in dict.fromkeys(wanted)
        for metric in robustness.METRICS
        if (comparison := Comparison(*pair, metric)) not in study.planned
    ]
    found = [_compare(study, comparison, test=False) for comparison in rest]
    lines = [_other_line(row) for row in found if row["n"]]
    notes = [
        "not planned: intervals, each for itself, and no p; what shows here is for another study to test"
    ]
    return Table("differences", OTHER_COLUMNS, _rows(OTHER_COLUMNS, found), _OTHERS_SHOWN, lines, notes)


def _rows(columns, found):
    return [tuple(row[column] for column in columns) for row in found]


def _compare(study, comparison, test):
    """A row as {column: cell}; the columns of the test are None unless `test`."""
    matched = pairs.match(study, comparison)
    spread = statistics.spread(np.subtract(matched.first, matched.second))
    tested = statistics.paired_test(matched.first, matched.second)
    notes = list(matched.refused)
    if test and _is_open(study, comparison):
        notes.append("not tested while pairs are to come")
        test = False
    elif tested.why_not and (test or spread.sd == 0):
        notes.append(tested.why_not)
    low, high, why_not = _over_images(matched, comparison.metric)
    return {
        **comparison._asdict(),
        **{"n": spread.n, "difference": spread.mean, "low": spread.low, "high": spread.high},
        **{key: getattr(tested, key) if test else None for key in ("t", "p", "d_z", "wilcoxon_p")},
        **{"sd": spread.sd, "least_difference": statistics.least_difference(spread.sd, spread.n)},
        **{"image_low": low, "image_high": high, "note": "; ".join([*notes, *why_not])},
    }


def _is_open(study, comparison):
    """Whether a seed that both arms plan is not done yet in one of them."""
    seeds = [{run.seed for run in study.runs if run.arm == arm} for arm in comparison[:2]]
    open_ = {run.seed for run in study.runs if run.arm in comparison[:2] and run.fault == NOT_DONE}
    return bool(set.intersection(*seeds) & open_)


def _over_images(matched, metric):
    """(low, high, [why not]) of a single pair's difference over test images, from per-image correctness."""
    if len(matched.runs) != 1 or metric not in ("clean", "robust"):
        return None, None, []
    right, why_not = image_by_image(matched.runs[0], metric)
    if why_not:
        return None, None, [f"no interval over images: {why_not}"]
    _, low, high = statistics.over_images(*(list(own.values()) for own in right))
    return low, high, []


def image_by_image(runs, metric):
    """What two runs that were measured alike classified right, in the cells of a metric.

    Args:
      runs: two studies.Runs.
      metric: "clean" or "robust".
    Returns:
      ([{"clean", or "fog/3" and the like: (N,) bool} of each, in the same order], ""), or ([], why not).
    Raises:
      CheckpointError: a file beside a result is not what it should be.
    """
    paths = [run.path.with_suffix(".npz") for run in runs]
    if absent := [run.arm for run, path in zip(runs, paths, strict=True) if not path.exists()]:
        return [], f"no per-image correctness of {' and '.join(absent)}"
    right = [_cells(correctness.read(path), metric) for path in paths]
    if right[0].keys() != right[1].keys() or len({cell.shape for own in right for cell in own.values()}) != 1:
        return [], "the files beside the results are of other cells"
    for run, own in zip(runs, right, strict=True):
        accuracy = 100 * float(np.mean(list(own.values())))
        if abs(accuracy - (measures.value(run.result, metric) or 0.0)) > 1e-6:
            return [], "the files beside the results have other accuracies"
    return [right[0], {cell: right[1][cell] for cell in right[0]}], ""


def _cells(right, metric):
    return {
        cell: bits for cell, bits in right.items() if (cell == "clean" if metric == "clean" else "/" in cell)
    }


def _line(row):
    tests = (
        _fixed(row["t"], 2),
        _p(row["p"]),
        _p(row["p_holm"]),
        _fixed(row["d_z"], 2),
        _p(row["wilcoxon_p"]),
    )
    found = (_fixed(row[key], digits(row["metric"])) for key in ("least_difference", "least_difference_holm"))
    *head, note = _other_line(row)
    return (*head, *tests, *found, note)


def _other_line(row):
    metric = row["metric"]
    between = interval(row["low"], row["high"], metric, "+")
    if row["image_low"] is not None:
        between = interval(row["image_low"], row["image_high"], metric, "+") + " over images"
    difference = _fixed(row["difference"], digits(metric), "+")
    return row["arm"], row["baseline"], metric, str(row["n"]), difference, between, row["note"]


def _fixed(value, decimals, sign=""):
    return "" if value is None else f"{value:{sign}.{decimals}f}"


def _p(value):
    """A p for a reader: two decimals would call small ones 0."""
    return "" if value is None else "<0.0001" if value < 1e-4 else f"{value:.4f}"
