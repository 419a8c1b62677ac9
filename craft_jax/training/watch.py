"""Signs that a run learns nothing, told once each, from the metrics that the loop fetches anyway.

All of it is on the host, of numbers that are there already: a step costs the device nothing more.
"""

import math
import sys

import numpy as np
from tqdm import tqdm

_LEAST_STEPS = 8  # of fewer, chance might say the same
_EDGE = 1e-3  # a mean reliability so near to 0 or 1 is stuck there
_EQUAL = 1e-4  # relative: the contrastive loss of embeddings that are all one vector, up to rounding
_STILL = 1e-6  # relative: a term that does not move
_CONTRASTIVE = ("loss/contrastive", "loss/crd")


class Watch:
    """Sees every step's metrics, and tells at the end of an epoch (of eight steps at least) what was odd."""

    def __init__(self, config, num_classes, batches):
        """Args: the run's configuration; K; its Batches, for the labels of a step and the epoch's length."""
        self._batch_size, self._labels = config.batch_size, batches.labels
        epoch = batches.steps_per_epoch
        self._period = epoch * math.ceil(_LEAST_STEPS / epoch)
        self._chance, self._source = _loss_of_equal_embeddings(config), config.reliability.source
        self._num_classes, self._told = num_classes, set()
        self._begin()

    def _begin(self):
        self._steps, self._last = 0, None
        self._classes = np.ones(self._num_classes, bool)  # what a constant prediction might be
        self._reliability, self._equal, self._terms = [], [], {}

    def see(self, step, metrics):
        """Take in one step's metrics, {name: finite value}; prints what is to be told."""
        if self._last is not None and step != self._last + 1:
            self._begin()  # what lies between was skipped
        self._last, self._steps = step, self._steps + 1
        if self._classes.any():
            hits = round(float(metrics["train_accuracy"]) / 100 * self._batch_size)
            counts = np.bincount(self._labels(step - 1), minlength=self._num_classes)
            self._classes &= counts[: self._num_classes] == hits
        for name in _CONTRASTIVE:
            if name in metrics:
                self._terms.setdefault(name, []).append(float(metrics[name]))
        if "reliability" in metrics:
            self._reliability.append(float(metrics["reliability"]))
            if self._chance and "loss/contrastive" in metrics:
                chance = self._chance * self._reliability[-1]
                self._equal.append(abs(float(metrics["loss/contrastive"]) - chance) <= _EQUAL * chance)
        if step % self._period == 0:
            if self._steps == self._period:
                for kind, text in self._odd():
                    self._tell(kind, f"step {step}: in the last {self._period} steps {text}")
            self._begin()

    def _odd(self):
        """(kind, text) of what was odd all the time."""
        if len(constant := np.flatnonzero(self._classes)) == 1:
            yield (
                "constant",
                f"as many training images were right as there are of class {constant[0]}, in every step: "
                "constant predictions; a smaller learning rate may help",
            )
        r = np.array(self._reliability)
        for value in (0, 1):
            if len(r) and np.all(np.abs(r - value) <= _EDGE):
                why = "config.reliability.alpha, beta and gamma do not suit this teacher"
                if self._source == "oracle":  # which reads none of them
                    why = "so likely this teacher takes the labels to be (config.reliability.source=oracle)"
                yield "reliability", f"the mean reliability was {value}: {why}"
        stuck = bool(len(r) and np.all(r <= _EDGE))
        if self._equal and all(self._equal) and not stuck:
            yield (
                "rank",
                "the contrastive loss was that of embeddings which are all the same vector: the student's "
                "embeddings have rank one",
            )
        for name, values in self._terms.items():
            if np.ptp(values) <= _STILL * np.max(np.abs(values)):
                yield name, f"{name} did not move from {values[0]:.6g}: it teaches nothing"

    def _tell(self, kind, text):
        if kind not in self._told:
            self._told.add(kind)
            tqdm.write(f"note: {text}", file=sys.stderr)


def tell_constant(correct, labels, class_name=str):
    """Say so where just the images of one class are right: a network that predicts that class for all.

    Args:
      correct: (N,) bool, which images are right.
      labels: (N,) their classes.
      class_name: label -> what it is called.
    """
    right = np.unique(labels[correct])
    if len(right) == 1 and len(np.unique(labels)) > 1 and np.all(correct == (labels == right[0])):
        only = class_name(right[0])
        text = f"constant predictions: of {len(labels)} clean images just those of class {only} are right"
        tqdm.write(f"note: {text}", file=sys.stderr)


def _loss_of_equal_embeddings(config):
    """CRAFT's weighted contrastive loss, over the reliability, of student embeddings that are all equal.

    Every score is then the same and the loss counts views: of the B images' V each. None where that depends
    on the labels of the batch, or there is no such term.
    """
    if config.method != "craft" or not config.contrastive.weight or config.contrastive.mask_same_class:
        return None
    images = config.batch_size // config.optimizer.accumulate_steps
    views = config.views.count + 1
    counted = {
        "cross_view": images,
        "same_view": images * views,
        "each": 1 + (images - 1) * views,
    }
    return config.contrastive.weight * math.log(counted[config.contrastive.positives])
