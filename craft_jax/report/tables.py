"""Runs in, tables out: one row a run in each."""

from pathlib import Path

from craft_jax import files
from craft_jax.errors import CheckpointError
from craft_jax.evaluation import robustness, targets
from craft_jax.report.summary import ACCURACIES, accuracies, number

RUN_COLUMNS = (
    "run",
    "method",
    "data",
    "student",
    "teacher",
    "trained on",
    "seed",
    "clean",
    "robust",
    "primary",
)
PART_COLUMNS = ("run", *ACCURACIES, "NLL", "ECE", "agreement")
REFERENCE_COLUMNS = ("run", "mCE", "relative mCE", "clean difference", "robust difference")


def read(workdirs):
    """[(workdir, contents of its results.json)].

    Raises:
      CheckpointError: a directory has none, or one that no run has written.
    """
    results = [(str(path), files.read_json(Path(path) / "results.json")) for path in workdirs]
    for path, result in results:
        if not isinstance(result, dict) or not {"status", "config", "method"} <= result.keys():
            raise CheckpointError(f"{path}/results.json: not the result of a run")
    return results


def rows(results):
    """The rows of the first table, as tuples of text; `results` are those of `read`."""
    return [_row(workdir, result) for workdir, result in results]


def _row(workdir, result):
    config, teacher = result["config"], result["teacher"]
    identity = (
        workdir,
        result["method"],
        result["dataset"],
        config["student"]["name"],
        teacher["name"] if teacher else "-",
        _trained_on(result),
        str(result["seed"]),
    )
    if result["status"] != "done":
        return (*identity, result["status"], "-", "-")
    accuracies = (result[k] for k in ("clean_accuracy", "robust_accuracy", "primary_metric"))
    return (*identity, *map(number, accuracies))


def _trained_on(result):
    """Which views the student saw beside the clean one, and whether the cross-entropy did (`matched`)."""
    views, kind = result["config"]["views"], "clean"
    if result.get("trained_corruptions"):  # absent from a run that stopped
        kind = "corruptions"
    elif views.get("kind") == "augmix":  # absent from results of older versions
        everywhere = "all" in (views["ce_views"], views["distill_views"])
        kind = "augmix" if everywhere or result["method"] in ("augmix", "craft") else "clean"
    return f"{kind}, matched" if views["ce_views"] == "all" else kind


def table(header, lines):
    """Rows of text as a Markdown table with aligned columns."""
    lines = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def footer(results):
    """What the robust column is a mean of: one line for each distinct set of corruptions."""
    names = {}
    for workdir, result in results:
        names.setdefault(", ".join(result.get("corruptions", {})), []).append(workdir)
    if len(names) == 1:
        return f"robust: mean over {next(iter(names)) or 'nothing'}"
    return "\n".join(f"robust, {', '.join(dirs)}: mean over {n or 'nothing'}" for n, dirs in names.items())


def parts(results):
    """The rows of a second table: accuracy by family, calibration and agreement, of runs that are done."""
    lines = []
    for workdir, result in results:
        if result["status"] != "done":
            continue
        teacher = result.get("teacher_evaluation")  # absent from results of older versions
        agreement = teacher["agreement"]["corrupted"] if teacher else None
        calibration = [number(result["corrupted"][name], 3) for name in ("nll", "ece")]
        lines.append((workdir, *accuracies(result), *calibration, number(agreement)))
    return lines


def against(results, reference):
    """The rows of a third table: errors relative to those of the run in `reference`.

    Raises:
      ConfigError: a run was evaluated on other images, corruptions or severities than the reference.
    """
    lines = []
    for workdir, result in results:
        if result["status"] != "done":
            continue
        other = targets.find_reference(Path(reference), targets.identity(result))
        figures = robustness.against(result, other, result.get("same_images", True))
        differences = [f"{figures[name]:+.2f}" for name in ("clean_difference", "robust_difference")]
        lines.append((workdir, number(figures["mce"]), number(figures["relative_mce"]), *differences))
    return lines
