"""From cells to figures: what is reported of a network over corruptions and severities.

A cell is one corruption at one severity. Accuracies are in percent, as are errors (100 minus accuracy).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from craft_jax import corruptions
from craft_jax.evaluation import metrics

LEAST_RISE = 1.0  # points of accuracy; see `against`
# What studies compare and reports show. Accuracies in percent, "shifted" that under a natural shift, the last
# three under a spurious cue; of nll (nats) and ece ([0, 1]) the means over the corrupted cells.
METRICS = (
    *("clean", "robust", "robust_without_jpeg"),
    *("noise", "blur", "weather", "digital", "weather_digital"),
    *("nll", "ece"),
    *("shifted", "cue_absent", "cue_reversed", "worst_group"),
)
CALIBRATION = ("nll", "ece", "confidence_on_errors")

# AlexNet's error under each corruption of ImageNet-C, in percent, mean over severities (Hendrycks and
# Dietterich 2019), as google-research/augmix has it in imagenet.py.
ALEXNET = {
    **{"gaussian_noise": 88.6428, "shot_noise": 89.4468, "impulse_noise": 92.2640},
    **{"defocus_blur": 81.9880, "glass_blur": 82.6268, "motion_blur": 78.5948, "zoom_blur": 79.8360},
    **{"snow": 86.6816, "frost": 82.6572, "fog": 81.9324, "brightness": 56.4592},
    **{"contrast": 85.3204, "elastic_transform": 64.6056, "pixelate": 71.7840, "jpeg_compression": 60.6500},
}

Figures = dict[str, float | None]  # what `cell` returns
Table = dict[str, list[float | None]]  # five accuracies, one a severity, of each corruption


def cell(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> Figures:
    """The figures of one set of images.

    Returns:
      {"accuracy" (percent), "nll" (nats), "ece" ([0, 1]), "confidence_on_errors" ([0, 1], None without any)}.
      Where logits are not finite, their images count as wrong and calibration is None.
    """
    finite = np.isfinite(logits).all()
    calibration = {name: getattr(metrics, name)(logits, labels) if finite else None for name in CALIBRATION}
    return {"accuracy": metrics.accuracy(logits, labels), **calibration}


def summary(
    clean: Figures, cells: dict[tuple[str, int], Figures], weights: Sequence[float | int]
) -> dict[str, Any]:
    """The figures of one network.

    Args:
      clean: the clean images' figures, from `cell`.
      cells: {(name, severity): figures}; may be empty.
      weights: two, of clean and robust accuracy in the primary metric.
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
        "corrupted": {name: _calibration(name, cells.values()) for name in CALIBRATION},
    }


def _calibration(name, cells):
    values = [figures[name] for figures in cells]
    # Cells without errors have no confidence on them; any other None is a network that is not finite.
    return _mean(values) if name == "confidence_on_errors" or None not in values else None


def by_family(table: Table) -> dict[str, float | None]:
    """Mean accuracy of each family of test corruptions, and of weather and digital together.

    The training corruptions speckle noise and Gaussian blur resemble the noise and blur families; weather
    and digital are nearer to unseen.

    Returns:
      {family: mean over its evaluated cells, None without any}, and "weather_and_digital".
    """
    families = {name: mean_over(table, members) for name, members in corruptions.FAMILIES.items()}
    both = corruptions.FAMILIES["weather"] + corruptions.FAMILIES["digital"]
    return families | {"weather_and_digital": mean_over(table, both)}


def mean_over(table: Table, names: Iterable[str]) -> float | None:
    """Mean accuracy over the evaluated cells of some corruptions, None without any."""
    return _mean([accuracy for name in names for accuracy in table.get(name, ())])


def _mean(values):
    values = [v for v in values if v is not None]
    return float(np.mean(values)) if values else None


def against(result: dict[str, Any], reference: dict[str, Any], same_images: bool = True) -> dict[str, Any]:
    """Errors relative to a reference's (Hendrycks and Dietterich 2019, section 4), and the plain differences.

    A corruption's CE is 100 * sum over severities of the error / the same sum of the reference; its relative
    CE takes clean error off every error first. Where a corruption then costs the reference less than
    `LEAST_RISE` points of accuracy (mean over severities), relative CE divides by noise and is undefined.

    Args:
      result: a summary.
      reference: another of the same cells.
      same_images: whether clean and corrupted figures are of the same images; else relative CE is None.
    Returns:
      {"ce" and "relative_ce": {name: percent, None where undefined}, "mce" and "relative_mce": their means,
      None where one is undefined, "relative_mce_undefined": why, else None, "clean_difference" and
      "robust_difference": points of accuracy more than the reference's}.
    """
    ce, relative, small = {}, {}, {}
    for name, accuracies in result["corruptions"].items():
        own, other = _errors(accuracies), _errors(reference["corruptions"][name])
        ce[name] = _percent(own.sum(), other.sum())
        own_rise = own - (100 - result["clean_accuracy"])
        other_rise = other - (100 - reference["clean_accuracy"])
        relative[name] = _percent(own_rise.sum(), other_rise.sum()) if same_images else None
        if other_rise.mean() < LEAST_RISE:
            relative[name], small[name] = None, other_rise.mean()
    return {
        "mce": _mean_of_all(ce),
        "relative_mce": _mean_of_all(relative),
        "relative_mce_undefined": _why_undefined(small, same_images),
        "clean_difference": result["clean_accuracy"] - reference["clean_accuracy"],
        "robust_difference": result["robust_accuracy"] - reference["robust_accuracy"],
        "ce": ce,
        "relative_ce": relative,
    }


def against_alexnet(table: Table) -> dict[str, Any]:
    """Errors relative to AlexNet's on ImageNet-C: {"mce": percent, "ce": {name: percent}}.

    A CE is None where a severity was not evaluated or there is no error of AlexNet; the mean is over all
    fifteen, else None. Of regenerated corruptions, or other classes than ImageNet's, it means nothing.
    """
    ce = {
        name: _percent(_errors(accuracies).mean(), ALEXNET[name])
        if name in ALEXNET and None not in accuracies
        else None
        for name, accuracies in table.items()
    }
    return {"mce": _mean_of_all(ce) if set(ce) == set(ALEXNET) else None, "ce": ce}


def _why_undefined(small, same_images):
    if not same_images:
        return "clean and corrupted images are not the same"
    if not small:
        return None
    losses = ", ".join(f"{rise:.1f} under {name}" for name, rise in small.items())
    return f"the reference loses, in points: {losses}; defined from {LEAST_RISE:g}"


def _errors(accuracies):
    return np.array([100.0 - a for a in accuracies if a is not None])


def _percent(value, base):
    return None if abs(base) < 1e-9 else float(100 * value / base)  # 1e-9: rounding about a true zero


def _mean_of_all(values):
    values = list(values.values())
    return None if None in values or not values else _mean(values)
