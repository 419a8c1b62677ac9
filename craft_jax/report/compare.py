"""Two runs side by side: `python -m craft_jax.report compare A B --out=OUT`.

A and B are runs' directories, or JSON files with what their results.json hold. Printed, and with --out
written: in what their configurations differ, their accuracies, and corruption by corruption the difference
with its 95% interval by bootstrap over test images, and the images gained (right by A, wrong by B) and lost;
with what requirements-report.txt names also as a page, OUT/index.html.
"""

import argparse
from pathlib import Path

import numpy as np

from craft_jax.config import tree
from craft_jax.errors import CheckpointError, printable
from craft_jax.evaluation import robustness
from craft_jax.report import arms, comparisons, formats, measures, provenance, statistics, tables
from craft_jax.report.formats import Table
from craft_jax.report.page import build, render
from craft_jax.report.studies import Run, Study
from craft_jax.report.summary import number


def main(argv):
    """Compare two runs; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.report compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs=2, metavar="RUN", help="a run's directory, or a JSON file of its result"
    )
    parser.add_argument("--out", metavar="OUT", help="write tables and the page below this folder")
    options = parser.parse_args(argv)
    study = read(options.runs)
    found = tables_of(study)
    print(printable("\n".join(formats.to_markdown(table) for table in found)), flush=True)
    if options.out:
        origin = provenance.lines(study)
        for table in (*found, provenance.table(study)):
            formats.write(Path(options.out, "tables"), table._replace(notes=[*table.notes, *origin]))
        print(f"tables: {Path(options.out, 'tables')}")
        page = build.write_comparison(options.out, study, found) if render.is_there() else None
        print(f"page: {page}" if page else f"no page: it needs `{render.INSTALL}`", flush=True)
    return 0


def read(paths):
    """Two runs as a Study of two arms, the second the baseline.

    Raises:
      CheckpointError: one is not the result of a run that is done, or both are the same.
    """
    runs, results = [], tables.read(paths)
    for given, (name, result) in zip(paths, results, strict=True):
        directory = tables.directory_of(given)
        path = Path(directory, "results.json") if directory else Path(given)
        if result["status"] != "done":
            raise CheckpointError(f"{path}: {measures.why_not_done(result)}; allowed: runs that are done")
        measures.check(path, result)
        runs.append(Run(name, result["seed"], path, result, ""))
    if runs[0].path.resolve() == runs[1].path.resolve():
        raise CheckpointError(f"{runs[0].path}: the same run twice; allowed: two runs")
    first, second = (
        run._replace(arm=name) for run, name in zip(runs, _short([run.arm for run in runs]), strict=True)
    )
    return Study(
        f"{first.arm} against {second.arm}", "", (first.arm, second.arm), second.arm, (), (first, second)
    )


def _short(names):
    """Two paths without what both begin with."""
    parts = [list(Path(name).parts) for name in names]
    while min(map(len, parts)) > 1 and parts[0][0] == parts[1][0]:
        parts = [own[1:] for own in parts]
    return [str(Path(*own)) for own in parts]


def tables_of(study):
    """The Tables of two runs: "configuration", "accuracies", "corruptions" (the last empty without cells)."""
    return [_configuration(study), _accuracies(study), _corruptions(study)]


def _configuration(study):
    flat = [tree.flatten(tree.from_json(run.result["config"])) for run in study.runs]
    absent = "(absent)"
    keys = sorted({key for own in flat for key in own})
    rows = [(key, *(str(own.get(key, absent)) for own in flat)) for key in keys]
    rows += [("teacher's parameters", *(str(measures.teacher(run.result)) for run in study.runs))]
    conditions = [measures.conditions(run.result) for run in study.runs]
    rows += [(f"measured on: {what}", *(str(own[what]) for own in conditions)) for what in conditions[0]]
    rows = [row for row in rows if row[1] != row[2]]
    header = ("key", *study.arms)
    notes = ["keys of the same value are left out"] if rows else ["the configurations are the same"]
    return Table("configuration", header, rows, header, rows, notes)


def _accuracies(study):
    rows, lines = [], []
    for metric in robustness.METRICS:
        ours, theirs = (measures.value(run.result, metric) for run in study.runs)
        difference = None if ours is None or theirs is None else ours - theirs
        if ours is None and theirs is None:
            continue
        places = arms.digits(metric)
        rows.append((metric, ours, theirs, difference))
        shown = "" if difference is None else f"{difference:+.{places}f}"
        lines.append((metric, number(ours, places), number(theirs, places), shown))
    header = ("metric", *study.arms, "difference")
    notes = ["one run each: a difference says nothing of other seeds"]
    if different := measures.differing(*(run.result for run in study.runs)):
        notes.append(
            f"measured otherwise, by {', '.join(different)}: differences are not of the networks alone"
        )
    return Table("accuracies", header, rows, header, lines, notes)


def _corruptions(study):
    ours, theirs = study.runs
    columns = ("corruption", *study.arms, "difference", "low", "high", "gained", "lost")
    header = ("corruption", *study.arms, "difference", "95% over images", "gained, %", "lost, %")
    right, why = _correct(ours, theirs)
    rows = [_change(name, *cells) for name, cells in right.items()]
    lines = [
        (row[0], *(number(x) for x in row[1:3]), f"{row[3]:+.2f}", arms.interval(row[4], row[5], "", "+"),
         *(number(x) for x in row[6:]))
        for row in rows
    ]  # fmt: skip
    notes = [why] if why else ["gained: right by the first and wrong by the second; mean over severities"]
    return Table("corruptions", columns, rows, header, lines, notes)


def _correct(ours, theirs):
    """({corruption or "clean": the two runs' (cells, images) bool}, why there is nothing)."""
    if different := measures.differing(ours.result, theirs.result):
        return {}, f"not compared image by image: other {', '.join(different)}"
    found = {}
    for metric in ("clean", "robust"):
        if measures.value(ours.result, metric) is None:
            continue
        right, why_not = comparisons.image_by_image((ours, theirs), metric)
        if why_not:
            return {}, f"not compared image by image: {why_not}"
        for name in dict.fromkeys(cell.split("/")[0] for cell in right[0]):
            cells = [cell for cell in right[0] if cell.split("/")[0] == name]
            found[name] = [np.stack([own[cell] for cell in cells]) for own in right]
    return found, ""


def _change(name, first, second):
    difference, low, high = statistics.over_images(first, second)
    accuracies = (100 * float(np.mean(right)) for right in (first, second))
    gained, lost = (100 * float(np.mean(more & ~less)) for more, less in ((first, second), (second, first)))
    return name, *accuracies, difference, low, high, gained, lost
