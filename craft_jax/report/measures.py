"""What is compared of a result, and what two results must share for that."""

import math

from craft_jax import corruptions, streams
from craft_jax.errors import CheckpointError
from craft_jax.evaluation import targets
from craft_jax.evaluation.robustness import METRICS


def value(result, metric):
    """One of robustness.METRICS of a result; None where it was not evaluated or is not finite."""
    families, corrupted = result.get("families") or {}, result.get("corrupted") or {}
    cue = result.get("cue") or {}  # absent from results of older versions
    found = {
        "clean": result.get("clean_accuracy"),
        "robust": result.get("robust_accuracy"),
        "robust_without_jpeg": result.get("robust_accuracy_without_jpeg"),
        "weather_digital": families.get("weather_and_digital"),
        "nll": corrupted.get("nll"),
        "ece": corrupted.get("ece"),
        "shifted": (result.get("shifted") or {}).get("accuracy"),
        "cue_absent": cue.get("absent"),
        "cue_reversed": cue.get("reversed"),
        "worst_group": cue.get("worst_group"),
    }
    number = found[metric] if metric in found else families.get(metric)
    return float(number) if number is not None and math.isfinite(number) else None


def conditions(result):
    """{what: value} of what runs must share for their figures to be of the same images and draws."""
    return targets.comparable(result) | {"draws": result.get("draws", "an older version's")}


def differing(ours, theirs):
    """In which of the conditions two results differ: [what]."""
    own, other = conditions(ours), conditions(theirs)
    return [what for what in own if own[what] != other[what]]


def changed_since(result, dataset):
    """In what corrupted images made now would differ from those that a result was measured on: [what].

    Args:
      result: of an evaluation on corruptions made here.
      dataset: the data.Dataset of its configuration, loaded now.
    """
    then = conditions(result)
    made_frost = any(name == "frost" for name, _ in then["cells"])
    now = {
        "data": dataset.fingerprint,
        "draws": streams.DRAWS,
        "frost pictures": corruptions.frost_source() if made_frost else None,
    }
    return [what for what in now if now[what] != then[what]]


def teacher(result):
    """The parameters' hash of a run's teacher; None without one, or where an older version noted none."""
    return (result.get("teacher") or {}).get("params_sha256")


def check(path, result):
    """Refuse what is not the result of a run that is done.

    Raises:
      CheckpointError: it lacks what is compared; the message names the file.
    """
    try:
        conditions(result), teacher(result)
        complete = {"seed", "config", "clean_accuracy"} <= result.keys()
        for metric in METRICS:
            value(result, metric)
    except (KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise CheckpointError(f"{path}: not the result of a run; allowed: what a results.json holds")


def why_not_done(result):
    """Why a result whose status is not "done" counts for nothing."""
    if result["status"] == "stopped" and "stopped_terms" in result:
        return f"stopped at step {result['stopped_at_step']}: {', '.join(result['stopped_terms'])} not finite"
    return f"status {result['status']}"
