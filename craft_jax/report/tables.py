"""Runs in, tables out: one row a run in each, and one an evaluation."""

from pathlib import Path

from craft_jax import files
from craft_jax.errors import CheckpointError
from craft_jax.evaluation import adaptation, robustness, targets
from craft_jax.report.summary import ACCURACIES, accuracies, number, worst_group

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
EVALUATION_COLUMNS = (
    *("run", "evaluation", "source", "step", "images", "cells"),
    *("clean", "robust", "shifted"),
)
ADAPTED_COLUMNS = (*EVALUATION_COLUMNS, "adapted by")
SHIFTED_COLUMNS = ("run", "source", "images", "clean", "shifted", "shifted NLL", "shifted ECE")
CUE_COLUMNS = ("run", "cue", "as in training", "absent", "reversed", "worst group", "which")
REFERENCE_COLUMNS = ("run", "mCE", "relative mCE", "clean difference", "robust difference")


def read(paths):
    """[(name, contents)] of results.

    Args:
      paths: working directories of runs, or JSON files with what a run's results.json holds.
    Returns:
      A directory's name is its path as given, a file's its stem (its path where two have the same stem).
    Raises:
      CheckpointError: there is no such file, or it is no result of a run.
    """
    stems = [Path(path).stem for path in paths]
    named = []
    for path, stem in zip(paths, stems, strict=True):
        directory = directory_of(path)
        result = files.read_json(Path(directory) / "results.json" if directory else path)
        if not isinstance(result, dict) or not {"status", "config", "method"} <= result.keys():
            raise _no_result(directory, path)
        named.append((directory or (stem if stems.count(stem) == 1 else str(path)), result))
        try:  # what the tables ask of it
            one = named[-1:]
            rows(one), footer(one), parts(one), list(shifted(one)), list(cues(one))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise _no_result(directory, path) from error
    return named


def _no_result(directory, path):
    return CheckpointError(
        f"{f'{directory}/results.json' if directory else path}: not the result of a run; allowed: a "
        "run's directory (which shows its evaluations too) or a file with what its results.json holds"
    )


def directory_of(path):
    """The directory of a run, of its path or of that of its results.json; None for another JSON file."""
    if Path(path).suffix != ".json" or Path(path).is_dir():
        return str(path)
    return str(Path(path).parent) if Path(path).name == "results.json" else None


def rows(results):
    """The rows of the first table, as tuples of text; `results` are those of `read`."""
    return [_row(workdir, result) for workdir, result in results]


def _row(workdir, result):
    config, teacher = result["config"], result["teacher"]
    identity = (
        workdir,
        result["method"],
        " with ".join(filter(None, (result["dataset"], cue_of(result))))
        + (" (validation)" if _held_out(result) else ""),
        config["student"]["name"],
        teacher["name"] if teacher else "-",
        _trained_on(result),
        str(result["seed"]),
    )
    if result["status"] != "done":
        return (*identity, result["status"], "-", "-")
    accuracies = (result[k] for k in ("clean_accuracy", "robust_accuracy", "primary_metric"))
    return (*identity, *map(number, accuracies))


def _held_out(result):
    """Whether a result is of held-out training images, and not of the test set."""
    return result.get("evaluation_split") == "validation"  # absent from a run that stopped


def cue_of(result):
    """The spurious cue that all images of a result carry, as text: "corner cue 0.9"; "" without."""
    cue = result["data"].get("cue")
    return f"{cue['kind']} cue {cue['correlation']:g}" if cue else ""


def _trained_on(result):
    """Which views the student saw beside the clean one, and whether the cross-entropy did (`matched`)."""
    if result["method"] in ("import", "onnx"):  # of other code, or a file: its configuration is not how
        return "not known"
    views, kind = result["config"]["views"], "clean"
    if result.get("trained_corruptions"):  # absent from a run that stopped
        kind = "corruptions"
    elif views.get("kind") == "augmix":  # absent from results of older versions
        everywhere = "all" in (views["ce_views"], views["distill_views"])
        summed = result["config"]["combined"]["methods"] if result["method"] == "combined" else ()
        kind = "augmix" if everywhere or {"augmix", "craft"} & {result["method"], *summed} else "clean"
    return f"{kind}, matched" if views["ce_views"] == "all" else kind


def table(header, lines):
    """Rows of text as a Markdown table with aligned columns."""
    lines = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def footer(results):
    """What the robust column is a mean of, a line a set of corruptions; whose images or draws are others."""
    lines = []
    for names, runs in _grouped(results, lambda result: ", ".join(result.get("corruptions", {}))).items():
        which = f", {runs}" if runs else ""
        lines.append(f"robust{which}: mean over {names or 'nothing'}")
    of_splits = _grouped(results, _held_out)
    if True in of_splits:
        which = f", {of_splits[True]}" if of_splits[True] else ""
        lines.append(f"validation{which}: on held-out training images; not to be compared with test images")
    of_draws = _grouped(results, lambda result: result.get("draws", "an older version's"))
    if len(of_draws) > 1:
        # Other training views and other evaluated images: runs of different studies.
        lines += [f"draws {k}: {runs}; not to be compared with others" for k, runs in of_draws.items()]
    return "\n".join(lines)


def _grouped(results, key):
    """{key of a result: the runs that share it, "" where all do}."""
    groups = {}
    for run, result in results:
        groups.setdefault(key(result), []).append(run)
    return {k: ", ".join(runs) if len(groups) > 1 else "" for k, runs in groups.items()}


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


def shifted(results):
    """The rows of a table of natural shifts, new test images without corruptions, of runs that have one."""
    for workdir, result in results:
        if found := result.get("shifted"):  # absent from a run that stopped
            figures = (result["clean_accuracy"], found["accuracy"])
            calibration = (number(found[name], 3) for name in ("nll", "ece"))
            yield workdir, result["source"], str(result["examples"]), *map(number, figures), *calibration


def cues(results):
    """The rows of a table of accuracies with a spurious cue, without it and against it."""
    for workdir, result in results:
        if found := result.get("cue"):  # absent from results of older versions
            figures = (found[key] for key in ("as_in_training", "absent", "reversed", "worst_group"))
            yield workdir, cue_of(result), *map(number, figures), worst_group(result)


def evaluations(paths):
    """The rows of two tables of the evaluations beside a run's own, DIR/eval/NAME.json: (plain, adapted).

    A student that adapts itself to the test images is another matter than one that does not.

    Args:
      paths: as for `read`; a file has none.
    Raises:
      CheckpointError: a file there is no result of an evaluation.
    """
    plain, adapted = [], []
    for directory in filter(None, map(directory_of, paths)):
        for path in sorted(Path(directory, "eval").glob("*.json")):
            result = files.read_json(path)
            try:
                row = (directory, path.stem, *_evaluation(result))
                by = result.get("adaptation")  # absent from results of older versions
                if by:
                    adapted.append((*row, adaptation.text(by)))
                else:
                    plain.append(row)
            except (KeyError, TypeError, AttributeError) as error:
                raise CheckpointError(f"{path}: not the result of an evaluation") from error
    return plain, adapted


def _evaluation(result):
    shifted = result["shifted"]["accuracy"] if result["shifted"] else None
    images = f"{result['examples']}{' (validation)' if _held_out(result) else ''}"
    counts = (result["step"], images, len(targets.cells_of(result)))
    figures = (result["clean_accuracy"], result["robust_accuracy"], shifted)
    return result["source"], *map(str, counts), *map(number, figures)


def against(results, reference):
    """The rows of a third table: errors relative to those of the run `reference`; and lines below it.

    Raises:
      ConfigError: a run was evaluated on other images, corruptions or severities than the reference.
    """
    lines, notes = [], [f"against {reference}; differences in points of accuracy"]
    for workdir, result in results:
        if result["status"] != "done":
            continue
        other = targets.find_reference(Path(reference), targets.comparable(result))
        figures = robustness.against(result, other, result.get("same_images", True))
        differences = [f"{figures[name]:+.2f}" for name in ("clean_difference", "robust_difference")]
        lines.append((workdir, number(figures["mce"]), number(figures["relative_mce"]), *differences))
        if why := figures["relative_mce_undefined"]:
            note = f"relative mCE: - ({why})"
            notes += [note] if note not in notes else []
    return lines, notes
