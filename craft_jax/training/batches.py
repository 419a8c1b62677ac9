"""Which images a step sees: an epoch is one permutation of the training set, less a last partial batch."""

import functools

import jax
import numpy as np

from craft_jax import streams
from craft_jax.mesh import put, put_rows, replicated_on, split_over

# A data set up to this size is copied to every device once, and batches are gathered there.
_RESIDENT_BYTES = 2 * 2**30


class Batches:
    """Batches by step number, a pure function of (seed, step), so that a resume sees the same ones.

    Attributes:
      steps_per_epoch: whole batches in the training set.
      resident: whether the images lie on the device.
    """

    def __init__(self, dataset, batch_size, seed, mesh, resident_bytes=_RESIDENT_BYTES):
        """Args: a data.Dataset; images a step over all devices; config.seed; a mesh with axis "data"."""
        self.steps_per_epoch = len(dataset.train_labels) // batch_size
        self.resident = dataset.train_images.nbytes <= resident_bytes
        self._batch_size, self._seed = batch_size, seed
        self._split, self._split_stack = split_over(mesh), split_over(mesh, axis=1)
        self._images, self._labels = dataset.train_images, dataset.train_labels
        self._labels_here = dataset.train_labels
        if self.resident:
            whole = replicated_on(mesh)
            self._images, self._labels = put((self._images, self._labels), whole)
            self._gather = jax.jit(_gather, out_shardings=self._split)
            self._gather_stack = jax.jit(_gather, out_shardings=self._split_stack)

    def __call__(self, step):
        """The batch of one step (from 0): {"image": uint8, "label": int32, "index": int32}, on the mesh."""
        rows = self._rows(step)
        if self.resident:
            return self._gather(self._images, self._labels, rows)
        return self._put(rows, self._split)

    def several(self, start, stop):
        """The batches of the steps start..stop - 1, stacked: leaves (stop - start, B, ...)."""
        rows = np.stack([self._rows(step) for step in range(start, stop)])
        if self.resident:
            return self._gather_stack(self._images, self._labels, rows)
        return self._put(rows, self._split_stack)

    def _put(self, rows, sharding):
        """As `_gather`, from the host: a process reads just what its own devices hold."""
        images, labels = (put_rows(source, rows, sharding) for source in (self._images, self._labels))
        return {"image": images, "label": labels, "index": put(rows, sharding)}

    def labels(self, step):
        """The labels of the batch of one step, (B,) int32, on the host."""
        return self._labels_here[self._rows(step)]

    def _rows(self, step):
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _order(self._seed, epoch, len(self._labels))
        return order[position * self._batch_size : (position + 1) * self._batch_size]


def _gather(images, labels, rows):
    return {"image": images[rows], "label": labels[rows], "index": rows}


@functools.partial(jax.jit, static_argnames="size")
def _permutation(key, size):
    return jax.random.permutation(key, size)


@functools.lru_cache(maxsize=2)  # this epoch's, and the last one's, whose metrics come later
def _order(seed, epoch, size):
    key = streams.stream(seed, epoch, streams.DATA_ORDER)
    return np.asarray(_permutation(key, size=size)).astype(np.int32)
