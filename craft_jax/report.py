"""Results in, tables out: `python -m craft_jax.report DIR [DIR ...]` prints one row a run in each table.

`python -m craft_jax.report gallery` draws every corruption instead (`gallery`; a run's directory of
that name is ./gallery).
"""

import argparse
import sys
from pathlib import Path

from craft_jax import checkpoint, gallery, robustness, tables
from craft_jax.errors import CraftError
from craft_jax.tables import number

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
_PARTS = ("run", *tables.ACCURACIES, "NLL", "ECE", "agreement")
_AGAINST = ("run", "mCE", "relative mCE", "clean difference", "robust difference")


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
    views = config["views"]["ce_views"]
    if config["views"].get("kind") == "augmix":  # absent from results of older versions
        views += ", augmix"
    identity = (
        str(workdir),
        result["method"],
        result["dataset"],
        config["student"]["name"],
        teacher["name"] if teacher else "-",
        views,
        str(result["seed"]),
    )
    if result["status"] != "done":
        return (*identity, result["status"], "-", "-")
    accuracies = (result[k] for k in ("clean_accuracy", "robust_accuracy", "primary_metric"))
    return (*identity, *map(number, accuracies))


def table(header, lines):
    """Rows of text as a Markdown table with aligned columns."""
    lines = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
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


def parts(workdirs):
    """The rows of a second table: accuracy by family, calibration and agreement, of runs that are done."""
    lines = []
    for workdir in workdirs:
        result = checkpoint.read_json(Path(workdir) / "results.json")
        if result["status"] != "done":
            continue
        teacher = result.get("teacher_evaluation")  # absent from results of older versions
        agreement = teacher["agreement"]["corrupted"] if teacher else None
        calibration = [number(result["corrupted"][name], 3) for name in ("nll", "ece")]
        lines.append((str(workdir), *tables.accuracies(result), *calibration, number(agreement)))
    return lines


def against(workdirs, reference):
    """The rows of a third table: errors relative to those of the run in `reference`.

    Raises:
      ConfigError: a run was evaluated on other images, corruptions or severities than the reference.
    """
    lines = []
    for workdir in workdirs:
        result = checkpoint.read_json(Path(workdir) / "results.json")
        if result["status"] != "done":
            continue
        wanted = {key: result[key] for key in ("dataset", "source", "evaluation_split", "examples")}
        wanted["cells"] = robustness.cells_of(result)
        figures = robustness.against(result, robustness.find_reference(Path(reference), wanted))
        differences = [f"{figures[name]:+.2f}" for name in ("clean_difference", "robust_difference")]
        lines.append((str(workdir), number(figures["mce"]), number(figures["relative_mce"]), *differences))
    return lines


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
        printed = [table(_HEADER, rows(options.workdirs)), footer(options.workdirs)]
        if done := parts(options.workdirs):
            printed.append(table(_PARTS, done))
            printed.append("NLL, ECE and agreement with the teacher: means over the corrupted cells")
        if options.reference:
            printed.append(table(_AGAINST, against(options.workdirs, options.reference)))
            printed.append(f"against {options.reference}; differences in points of accuracy")
    except CraftError as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 2
    print("\n".join(printed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
