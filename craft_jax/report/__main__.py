"""Results in, tables out: `python -m craft_jax.report DIR [DIR ...]` prints one row a run in each table.

`python -m craft_jax.report gallery` draws every corruption instead (`gallery`; a run's directory of
that name is ./gallery).
"""

import argparse
import sys

from craft_jax.errors import CraftError
from craft_jax.report import gallery, tables


def main(argv=None):
    """Print the tables, or draw the gallery; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["gallery"]:
        return gallery.main(argv[1:])
    parser = argparse.ArgumentParser(prog="python -m craft_jax.report", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="DIR", help="working directories of finished runs")
    parser.add_argument("--reference", metavar="DIR", help="also mCE and relative mCE against this run")
    options = parser.parse_args(argv)
    try:
        results = tables.read(options.workdirs)
        printed = [tables.table(tables.RUN_COLUMNS, tables.rows(results)), tables.footer(results)]
        if done := tables.parts(results):
            printed.append(tables.table(tables.PART_COLUMNS, done))
            printed.append("NLL, ECE and agreement with the teacher: means over the corrupted cells")
        if options.reference:
            printed.append(tables.table(tables.REFERENCE_COLUMNS, tables.against(results, options.reference)))
            printed.append(f"against {options.reference}; differences in points of accuracy")
    except CraftError as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 2
    print("\n".join(printed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
