"""From cells to figures: what is reported of a network over corruptions and severities.

A cell is one corruption at one severity. Accuracies are in percent, as are errors (100 minus accuracy).
"""

import numpy as np

from craft_jax import checkpoint, corruptions, metrics
from craft_jax.errors import ConfigError

CALIBRATION = ("nll", "ece", "confidence_on_errors")


def cell(logits, labels):
    """The figures of one set of images.

    Args:
      logits: (N, K).
      labels: (N,) integers.
    Returns:
      {"accuracy" (percent), "nll" (nats), "ece" ([0, 1]), "confidence_on_errors" ([0, 1], None without any)}.
    """
    return {
        "accuracy": metrics.accuracy(logits, labels),
        **{name: getattr(metrics, name)(logits, labels) for name in CALIBRATION},
    }


def summary(clean, cells, weights):
    """The figures of one network.

    Args:
      clean: the clean images' figures, from `cell`.
      cells: {(name, severity): figures}; may be empty.
      weights: of clean and robust accuracy in the primary metric.
    Returns:
      A JSON-able dict. "clean_accuracy"; "corruptions", {name: five accuracies, None where not evaluated};
      "robust_accuracy", their mean (over CIFAR-10-C's fifteen: mean corruption accuracy) and
      "mean_corruption_error", 100 minus that (what "mCE" often means on CIFAR); the means over parts of them
      ("robust_accuracy_without_jpeg", "families", see `by_family`); "primary_metric"; "clean" and
      "corrupted", calibration, the latter means over the cells. A mean over nothing is None.
    """
    names = list(dict.fromkeys(name for name, _ in cells))
    table = {
        name: [cells[name, s]["accuracy"] if (name, s) in cells else None for s in corruptions.SEVERITIES]
        for name in names
    }
    robust = mean_over(table, names)
    clean_accuracy = clean["accuracy"]
    return {
        "clean_accuracy": clean_accuracy,
        "robust_accuracy": robust,
        "robust_accuracy_without_jpeg": mean_over(table, [n for n in names if n != "jpeg_compression"]),
        "mean_corruption_error": None if robust is None else 100.0 - robust,
        "primary_metric": None if robust is None else weights[0] * clean_accuracy + weights[1] * robust,
        "families": by_family(table),
        "corruptions": table,
        "clean": {name: clean[name] for name in CALIBRATION},
        "corrupted": {name: _mean([figures[name] for figures in cells.values()]) for name in CALIBRATION},
    }


def by_family(table):
    """Mean accuracy of each family of test corruptions, and of weather and digital together.

    The training corruptions speckle noise and Gaussian blur resemble the noise and blur families; weather
    and digital are nearer to unseen.

    Args:
      table: {name: five accuracies or None}.
    Returns:
      {family: mean over its evaluated cells, None without any}, and "weather_and_digital".
    """
    families = {name: mean_over(table, members) for name, members in corruptions.FAMILIES.items()}
    both = corruptions.FAMILIES["weather"] + corruptions.FAMILIES["digital"]
    return families | {"weather_and_digital": mean_over(table, both)}


def mean_over(table, names):
    """Mean accuracy over the evaluated cells of some corruptions, None without any."""
    return _mean([accuracy for name in names for accuracy in table.get(name, ())])


def _mean(values):
    values = [v for v in values if v is not None]
    return float(np.mean(values)) if values else None


def against(result, reference):
    """Errors relative to a reference's (Hendrycks and Dietterich 2019, section 4), and the plain differences.

    A corruption's CE is 100 * sum over severities of the error / the same sum of the reference; its relative
    CE takes clean error off every error first, so that its denominator can be near zero or negative: read it
    beside the differences.

    Args:
      result: a summary.
      reference: another of the same cells.
    Returns:
      {"ce" and "relative_ce": {name: percent, None over zero}, "mce" and "relative_mce": their means, None
      where one is undefined, "clean_difference" and "robust_difference": points of accuracy more than the
      reference's}.
    """
    ce, relative = {}, {}
    for name, accuracies in result["corruptions"].items():
        own, other = _errors(accuracies), _errors(reference["corruptions"][name])
        ce[name] = _percent(own.sum(), other.sum())
        own_rise = own - (100 - result["clean_accuracy"])
        relative[name] = _percent(own_rise.sum(), (other - (100 - reference["clean_accuracy"])).sum())
    return {
        "mce": _mean_of_all(ce),
        "relative_mce": _mean_of_all(relative),
        "clean_difference": result["clean_accuracy"] - reference["clean_accuracy"],
        "robust_difference": result["robust_accuracy"] - reference["robust_accuracy"],
        "ce": ce,
        "relative_ce": relative,
    }


def _errors(accuracies):
    return np.array([100.0 - a for a in accuracies if a is not None])


def _percent(value, base):
    return None if abs(base) < 1e-9 else float(100 * value / base)  # 1e-9: rounding about a true zero


def _mean_of_all(values):
    values = list(values.values())
    return None if None in values or not values else _mean(values)


def find_reference(workdir, wanted):
    """The result of a reference run that was measured as another is going to be.

    Args:
      workdir: the reference's working directory; its results.json and eval/*.json are searched.
      wanted: {key: value} that the result must have, e.g. "source" and "examples", with "cells": a set of
        (name, severity).
    Returns:
      The result, as its file has it.
    Raises:
      CheckpointError: no results there, or not readable.
      ConfigError: none measured so.
    """
    paths = [workdir / "results.json", *sorted((workdir / "eval").glob("*.json"))]
    results = [checkpoint.read_json(path) for path in paths]
    faults = []
    for path, result in zip(paths, results, strict=True):
        found = {key: result.get(key) for key in wanted} | {"cells": cells_of(result)}
        different = [key for key in wanted if found[key] != wanted[key]]
        if not different:
            return result
        faults.append(f"{path} differs in {', '.join(different)}")
    raise ConfigError(
        f"reference {workdir} (config.eval.reference): allowed: a run that was evaluated on the same images, "
        f"corruptions and severities; {'; '.join(faults)}"
    )


def cells_of(result):
    """The set of (name, severity) that a result has."""
    table = result.get("corruptions", {})  # absent from a run that stopped
    evaluated = ((name, s) for name in table for s in corruptions.SEVERITIES)
    return {(name, s) for name, s in evaluated if table[name][s - 1] is not None}
