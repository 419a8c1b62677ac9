"""Accuracy, calibration and agreement from logits, in NumPy float64."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


def log_softmax(logits: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """Log-probabilities, float64."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def correct(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Which examples are classified right; one without finite logits is wrong."""
    return (np.argmax(logits, axis=-1) == labels) & np.isfinite(logits).all(axis=-1)


def accuracy(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> float:
    """Top-1 accuracy in percent, of `correct`."""
    hits = correct(logits, labels)
    return 100.0 * int(np.sum(hits)) / len(hits)  # in this order 1394 of 2000 is 69.7


def nll(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> float:
    """Mean negative log-likelihood in nats."""
    return float(-np.mean(log_softmax(logits)[np.arange(len(labels)), labels]))


def ece(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], bins: int = 15) -> float:
    """Expected calibration error in [0, 1] over equal-width bins of confidence (Guo et al. 2017).

    Args:
      logits, labels: of the examples.
      bins: bin b holds the confidences in (b / bins, (b + 1) / bins].
    Returns:
      The sum over bins of |B|/N * |accuracy(B) - confidence(B)|.
    """
    confidence, correct, bin_of = _binned(logits, labels, bins)
    gap = np.zeros(bins)
    np.add.at(gap, bin_of, correct - confidence)
    return float(np.abs(gap).sum() / len(labels))


def confidence_bins(
    logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], bins: int = 15
) -> Float[np.ndarray, "3 bins"] | None:
    """What a calibration curve is drawn from, over the bins of `ece`.

    Returns:
      Of each bin: how many examples, the sum of their confidences, how many of them are right. Those of
      several sets of examples may be added up. None where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        return None
    confidence, correct, bin_of = _binned(logits, labels, bins)
    found = np.zeros((3, bins))
    for row, values in zip(found, (np.ones(len(labels)), confidence, correct), strict=True):
        np.add.at(row, bin_of, values)
    return found


def calibration(
    clean: Float[np.ndarray, "3 bins"] | None, corrupted: Sequence[Float[np.ndarray, "3 bins"] | None]
) -> dict[str, dict[str, list[float | int]] | None]:
    """`confidence_bins` of the clean images, and the sum of those of the corrupted ones, as JSON has them.

    Returns:
      {"clean", "corrupted"}: {"count", "confidence", "correct"}, each over the bins; None where there are no
      such images, or a logit was not finite.
    """
    whole = None if not corrupted or any(bins is None for bins in corrupted) else np.sum(corrupted, axis=0)
    return {"clean": _plain(clean), "corrupted": _plain(whole)}


def _plain(bins):
    if bins is None:
        return None
    count, confidence, right = bins
    return {
        "count": count.astype(int).tolist(),
        "confidence": np.round(confidence, 4).tolist(),
        "correct": right.astype(int).tolist(),
    }


def _binned(logits, labels, bins):
    """Of each example: its confidence, whether it is right, its bin."""
    confidence = np.exp(log_softmax(logits)).max(axis=-1)
    correct = np.argmax(logits, axis=-1) == labels
    return confidence, correct, np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def confidence_on_errors(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> float | None:
    """Mean probability, in [0, 1], of the predicted class where it is wrong; None where it never is."""
    wrong = np.argmax(logits, axis=-1) != labels
    return float(np.exp(log_softmax(logits[wrong])).max(axis=-1).mean()) if wrong.any() else None


def agreement(logits: Float[np.ndarray, "N K"], others: Float[np.ndarray, "N K"]) -> float:
    """Percent of examples on which two networks predict the same class."""
    return 100.0 * int(np.sum(np.argmax(logits, axis=-1) == np.argmax(others, axis=-1))) / len(logits)
