"""Which runs of two arms belong together, and why others do not: pairs share all but what is compared."""

from typing import NamedTuple

from craft_jax.report import measures


class Pairs(NamedTuple):
    """The pairs of a comparison.

    Attributes:
      runs: [(Run of the arm, Run of the baseline)], one a seed.
      first, second: their values of the metric.
      refused: lines of text: seeds that are no pair, and why.
    """

    runs: list
    first: list
    second: list
    refused: list


def match(study, comparison):
    """The Pairs of a studies.Comparison: runs of the same seed, images, draws and teacher."""
    ordered = sorted(study.runs, key=lambda run: not run.fault)  # of two of one seed the one that counts
    ours, theirs = ({run.seed: run for run in ordered if run.arm == arm} for arm in comparison[:2])
    runs, refused = [], {}
    for seed in sorted(ours.keys() & theirs.keys()):
        pair = ours[seed], theirs[seed]
        if why := _why_not(*pair, comparison.metric):
            refused.setdefault(why, []).append(seed)
        else:
            runs.append(pair)
    values = ([measures.value(pair[i].result, comparison.metric) for pair in runs] for i in (0, 1))
    lines = [f"{seeds(refused[why])}: {why}" for why in refused]
    return Pairs(runs, *values, lines if runs or refused else ["no seed in both arms"])


def _why_not(ours, theirs, metric):
    if faults := [f"{run.arm} {run.fault}" for run in (ours, theirs) if run.fault]:
        return ", ".join(faults)
    different = measures.differing(ours.result, theirs.result)
    taught = {measures.teacher(ours.result), measures.teacher(theirs.result)} - {None}
    if different := different + (["teacher"] if len(taught) > 1 else []):
        return f"not a pair, other {', '.join(different)}"
    missing = [run.arm for run in (ours, theirs) if measures.value(run.result, metric) is None]
    return f"no {metric} of {' and '.join(missing)}" if missing else ""


def seeds(numbers):
    """Seeds in words: "seed 1", "seeds 1, 2"."""
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
