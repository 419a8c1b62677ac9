"""Accuracy, calibration and agreement from logits, in NumPy float64."""

import numpy as np


def log_softmax(logits):
    """(N, K) -> (N, K) float64 log-probabilities."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def accuracy(logits, labels):
    """Top-1 accuracy in percent: (N, K), (N,) -> float; an example without finite logits is wrong."""
    hits = (np.argmax(logits, axis=-1) == labels) & np.isfinite(logits).all(axis=-1)
    return 100.0 * int(np.sum(hits)) / len(hits)  # in this order 1394 of 2000 is 69.7


def nll(logits, labels):
    """Mean negative log-likelihood in nats: (N, K), (N,) -> float."""
    return float(-np.mean(log_softmax(logits)[np.arange(len(labels)), labels]))


def ece(logits, labels, bins=15):
    """Expected calibration error in [0, 1] over equal-width bins of confidence (Guo et al. 2017).

    Args:
      logits: (N, K).
      labels: (N,) integers.
      bins: bin b holds the confidences in (b / bins, (b + 1) / bins].
    Returns:
      The sum over bins of |B|/N * |accuracy(B) - confidence(B)|.
    """
    probabilities = np.exp(log_softmax(logits))
    confidence = probabilities.max(axis=-1)
    correct = np.argmax(logits, axis=-1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.zeros(bins)
    np.add.at(gap, bin_of, correct - confidence)
    return float(np.abs(gap).sum() / len(labels))


def confidence_on_errors(logits, labels):
    """Mean probability of the predicted class where it is wrong: (N, K), (N,) -> [0, 1], or None."""
    wrong = np.argmax(logits, axis=-1) != labels
    return float(np.exp(log_softmax(logits[wrong])).max(axis=-1).mean()) if wrong.any() else None


def agreement(logits, others):
    """Percent of examples on which two networks predict the same class: (N, K) twice -> float."""
    return 100.0 * int(np.sum(np.argmax(logits, axis=-1) == np.argmax(others, axis=-1))) / len(logits)
