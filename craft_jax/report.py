"""Results in, tables out: `python -m craft_jax.report DIR [DIR ...]` prints one row a run.

`python -m craft_jax.report gallery` draws every corruption instead (`gallery`; a run's directory of
that name is ./gallery).
"""

import argparse
import sys
from pathlib import Path

from craft_jax import checkpoint, gallery
from craft_jax.errors import CraftError

_HEADER = (
    "run",
    "method",
    "data",
    "student",
    "teacher",
    "views",
    "seed",
    "clean",
    "robust",
    "primary",
)


def rows(workdirs):
    """The table's rows, as tuples of text, of finished runs.

    Args:
      workdirs: paths of working directories.
    Raises:
      CheckpointError: one has no results.json.
    """
    return [_row(workdir, checkpoint.read_json(Path(workdir) / "results.json")) for workdir in workdirs]


def _row(workdir, result):
    config, teacher = result["config"], result["teacher"]
    matched = config["views"]["ce_views"] == "all"
    identity = (
        str(workdir),
        result["method"],
        result["dataset"],
        config["student"]["name"],
        teacher["name"] if teacher else "-",
        "all" if matched else "clean",
        str(result["seed"]),
    )
    if result["status"] != "done":
        return (*identity, result["status"], "-", "-")
    accuracies = (result[k] for k in ("clean_accuracy", "robust_accuracy", "primary_metric"))
    return (*identity, *(f"{a:.2f}" for a in accuracies))


def table(lines):
    """Rows of text as a Markdown table with aligned columns."""
    lines = [_HEADER, *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def footer(workdirs):
    """What the robust column is a mean of: one line for each distinct set of corruptions."""
    names = {}
    for workdir in workdirs:
        result = checkpoint.read_json(Path(workdir) / "results.json")
        names.setdefault(", ".join(result.get("corruptions", {})), []).append(str(workdir))
    if len(names) == 1:
        return f"robust: mean over {next(iter(names)) or 'nothing'}"
    return "\n".join(f"robust, {', '.join(dirs)}: mean over {n or 'nothing'}" for n, dirs in names.items())


def main(argv=None):
    """Print the table, or draw the gallery; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["gallery"]:
        return gallery.main(argv[1:])
    parser = argparse.ArgumentParser(prog="python -m craft_jax.report", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="DIR", help="working directories of finished runs")
    options = parser.parse_args(argv)
    try:
        print(table(rows(options.workdirs)))
        print(footer(options.workdirs))
    except CraftError as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
