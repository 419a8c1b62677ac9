"""Results in, tables out.

`python -m craft_jax.report DIR [DIR ...] [--out=OUT]`. A path may be

  a study's directory, with its study.json; a folder of kept results, with one or more NAME.study.json; or
      such a manifest: the statistics of the study as far as its runs are done
  a run's working directory, or a JSON file with what its results.json holds (results/digits/*.json): a row
      a run in each table; evaluations beside a run's own (DIR/eval/NAME.json, which `--mode=eval` writes) in
      a table of their own, and in another those of a student that adapts itself to the test images. Runs
      that differ in the seed alone are an arm, named by their directory without its seed; where an arm has
      two seeds, or with --out, the statistics of the arms, the first the baseline

Statistics are three tables, printed, and with --out also OUT/tables/NAME.csv, .md and .tex (of several
studies OUT/STUDY/tables/...):

  arms         a row an arm: mean, sample standard deviation and 95% t-interval over seeds of every metric
  comparisons  a row a planned comparison: paired differences, t-test, Holm's correction, d_z, Wilcoxon, and
               the least difference that so many pairs could have found
  differences  all other arms and metrics against the baseline: intervals and no p

Evaluations of one name beside the runs' own (DIR/eval/NAME.json) are a section of their own, apart: the arms
and their differences among each other; with --out in OUT/evaluations.

A single pair has an interval by bootstrap over test images, from the per-image correctness beside a result.

With --out, and what requirements-report.txt names, also OUT/index.html, a page of the same with figures that
opens without network, and OUT/figures/NAME.svg and .png.

`python -m craft_jax.report features DIR ...` computes how students' features follow their teachers' under
corruptions, which the page then shows (`features`). `python -m craft_jax.report compare A B --out=OUT` sets
two runs side by side (`compare`). `python -m craft_jax.report gallery` draws every corruption (`gallery`). A
run's directory of such a name is ./gallery.
"""

import argparse
import os
import sys
from pathlib import Path

from craft_jax import errors
from craft_jax.errors import ConfigError
from craft_jax.report import (
    beside,
    compare,
    features,
    gallery,
    groups,
    sections,
    studies,
    summary,
    tables,
)
from craft_jax.report.page import build, render


@errors.command
def main(argv):
    """Print the tables, or draw the gallery; returns the exit status."""
    if argv[:1] == ["gallery"]:
        return gallery.main(argv[1:])
    if argv[:1] == ["features"]:
        return features.main(argv[1:])
    if argv[:1] == ["compare"]:
        return compare.main(argv[1:])
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="DIR", help="studies, runs' directories, or JSON files")
    parser.add_argument("--out", metavar="OUT", help="write the statistics' tables below this folder")
    parser.add_argument("--reference", metavar="DIR", help="also mCE and relative mCE of runs against this")
    options = parser.parse_args(argv)
    text = errors.printable("\n\n".join(_parts(options)))
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has read enough; Python would flush again as it leaves, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parts(options):
    manifests = [manifest for path in options.paths for manifest in studies.manifests(path)]
    runs = [path for path in options.paths if not studies.manifests(path)]
    if options.reference and not runs:
        raise ConfigError("--reference: of runs, and there are only studies; allowed: runs' directories")
    found = [studies.read(manifest) for manifest in dict.fromkeys(manifests)]
    printed = []
    if runs:
        results = tables.read(runs)
        printed = ["\n".join(_of_runs(runs, results, options.reference))]
        grouped = groups.study(runs, results)
        if options.out or any(len(grouped.counted(arm)) > 1 for arm in grouped.arms):
            found.append(grouped)
    told = [(study, sections.tables_of(study)) for study in found]
    apart = [section for study in found for section in beside.sections_of(study)]
    printed += [sections.text(study, its) for study, its in [*told, *apart]]
    if options.out:
        folders = sections.write(options.out, told)
        folders += sections.write(Path(options.out, "evaluations"), apart)
        printed.append("\n".join(f"tables: {folder}" for folder in folders))
        if render.is_there():
            printed.append(f"page: {build.write(options.out, told)}")
        else:
            printed.append(f"no page: it needs `{render.INSTALL}`")
    return printed


def _of_runs(paths, results, reference):
    printed = [tables.table(tables.RUN_COLUMNS, tables.rows(results)), tables.footer(results)]
    if done := tables.parts(results):
        printed.append(tables.table(tables.PART_COLUMNS, done))
        printed.append("NLL, ECE and agreement with the teacher: means over the corrupted cells")
    if shifted := list(tables.shifted(results)):
        printed.append(tables.table(tables.SHIFTED_COLUMNS, shifted))
    if cues := list(tables.cues(results)):
        printed.append(tables.table(tables.CUE_COLUMNS, cues))
        printed.append("groups: of each class, images with its own cue, and all of them with another class's")
    plain, of_adapted = tables.evaluations(paths)
    if plain:
        printed.append(tables.table(tables.EVALUATION_COLUMNS, plain))
        printed.append("evaluations beside the runs' own; robust: mean over the cells (corruption, severity)")
    if of_adapted:
        printed.append(tables.table(tables.ADAPTED_COLUMNS, of_adapted))
        printed.append(f"adapted to the test images, batch by batch: {summary.NOT_COMPARED}")
    if reference:
        lines, notes = tables.against(results, reference)
        printed += [tables.table(tables.REFERENCE_COLUMNS, lines), *notes]
    return printed


if __name__ == "__main__":
    sys.exit(main())
