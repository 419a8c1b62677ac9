"""Results in, tables out: `python -m craft_jax.report DIR [DIR ...]` prints one row a run in each table.

A path may also be a JSON file with what a run's results.json holds: `results/digits/*.json`. Evaluations
beside a run's own (DIR/eval/NAME.json, which `--mode=eval` writes) have a table of their own.

`python -m craft_jax.report gallery` draws every corruption instead (`gallery`; a run's directory of
that name is ./gallery).
"""

import argparse
import os
import sys

from craft_jax.errors import CraftError
from craft_jax.report import gallery, tables


def main(argv=None):
    """Print the tables, or draw the gallery; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["gallery"]:
        return gallery.main(argv[1:])
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="DIR", help="working directories of runs, or JSON files")
    parser.add_argument("--reference", metavar="DIR", help="also mCE and relative mCE against this run")
    options = parser.parse_args(argv)
    try:
        text = _text(options.paths, options.reference)
    except CraftError as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 2
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has read enough; Python would flush again as it leaves, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _text(paths, reference):
    results = tables.read(paths)
    printed = [tables.table(tables.RUN_COLUMNS, tables.rows(results)), tables.footer(results)]
    if done := tables.parts(results):
        printed.append(tables.table(tables.PART_COLUMNS, done))
        printed.append("NLL, ECE and agreement with the teacher: means over the corrupted cells")
    if beside := tables.evaluations(paths):
        printed.append(tables.table(tables.EVALUATION_COLUMNS, beside))
        printed.append("evaluations beside the runs' own; robust: mean over the cells (corruption, severity)")
    if reference:
        lines, notes = tables.against(results, reference)
        printed += [tables.table(tables.REFERENCE_COLUMNS, lines), *notes]
    return "\n".join(printed)


if __name__ == "__main__":
    sys.exit(main())
