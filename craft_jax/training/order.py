"""Which images a step sees: an epoch is one permutation of the training set, less a last partial batch."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from craft_jax import streams


class Order(NamedTuple):
    """The rows of every batch, a pure function of (seed, step), so that a resume sees the same ones.

    Attributes:
      seed: config.seed.
      size: images in the training set.
      batch_size: images a step, over all devices.
    """

    seed: int
    size: int
    batch_size: int

    @property
    def steps_per_epoch(self):
        """Whole batches in the training set."""
        return self.size // self.batch_size

    def rows(self, step: int) -> Int[np.ndarray, " B"]:
        """The rows of the training set that a step (from 0) sees, int32."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _permuted(self.seed, epoch, self.size)
        return order[position * self.batch_size : (position + 1) * self.batch_size]


@functools.partial(jax.jit, static_argnames="size")
def _permutation(key, size):
    return jax.random.permutation(key, size)


@functools.lru_cache(maxsize=4)  # the epochs that are trained on, read ahead, and whose metrics come later
def _permuted(seed, epoch, size):
    key = streams.stream(seed, epoch, streams.DATA_ORDER)
    return np.asarray(_permutation(key, size=size)).astype(np.int32)
