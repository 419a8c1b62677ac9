"""The batches of a run, on its devices: of images that lie there, in memory, or in their files."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import data
from craft_jax.mesh import put, put_rows, replicated_on, split_over
from craft_jax.training.order import Order
from craft_jax.training.streaming import Stream

# A data set up to this size is copied to every device once, and batches are gathered there.
_RESIDENT_BYTES = 2 * 2**30


class Batches:
    """Batches by step number, a pure function of (seed, step) (`order.Order`), wherever the images lie.

    Attributes:
      steps_per_epoch: whole batches in the training set.
      resident: whether the images lie on the device.
      streams: whether they lie in their files; see `ahead`.
    """

    def __init__(self, dataset, batch_size, seed, mesh, resident_bytes=_RESIDENT_BYTES):
        """Args: a data.Dataset; images a step over all devices; config.seed; a mesh with axis "data"."""
        self._order = Order(seed, len(dataset.train_labels), batch_size)
        self.steps_per_epoch = self._order.steps_per_epoch
        self.streams = isinstance(dataset.train_images, data.Encoded)
        self.resident = not self.streams and dataset.train_images.nbytes <= resident_bytes
        self._split, self._split_stack = split_over(mesh), split_over(mesh, axis=1)
        self._images, self._labels = dataset.train_images, dataset.train_labels
        self._labels_here, self._stream = dataset.train_labels, None
        if self.resident:
            whole = replicated_on(mesh)
            self._images, self._labels = put((self._images, self._labels), whole)
            self._gather = jax.jit(_gather, out_shardings=self._split)
            self._gather_stack = jax.jit(_gather, out_shardings=self._split_stack)
        self._stack = jax.jit(_stacked, out_shardings=self._split_stack)

    @contextlib.contextmanager
    def ahead(self, start, steps, workers):
        """Within it, batches asked for in turn, from that of the step `start` on, are read ahead.

        Nothing but that changes, and nothing at all where the images do not stream.

        Args:
          start, steps: of the run.
          workers: `config.data.workers`.
        """
        if not self.streams:
            yield
            return
        with Stream(self._images, self._labels, self._order, self._split, start, steps, workers) as stream:
            self._stream = stream
            try:
                yield
            finally:
                self._stream = None

    def __call__(self, step):
        """The batch of one step (from 0): {"image": uint8, "label": int32, "index": int32}, on the mesh."""
        if self._stream and step == self._stream.step:
            return self._stream.next()
        rows = self._order.rows(step)
        if self.resident:
            return self._gather(self._images, self._labels, rows)
        return self._put(rows, self._split)

    def several(self, start, stop):
        """The batches of the steps start..stop - 1, stacked: leaves (stop - start, B, ...)."""
        if self._stream:
            return self._stack([self(step) for step in range(start, stop)])
        rows = np.stack([self._order.rows(step) for step in range(start, stop)])
        if self.resident:
            return self._gather_stack(self._images, self._labels, rows)
        return self._put(rows, self._split_stack)

    def _put(self, rows, sharding):
        """As `_gather`, from the host: a process reads just what its own devices hold."""
        images, labels = (put_rows(source, rows, sharding) for source in (self._images, self._labels))
        return {"image": images, "label": labels, "index": put(rows, sharding)}

    def labels(self, step):
        """The labels of the batch of one step, (B,) int32, on the host."""
        return self._labels_here[self._order.rows(step)]


def _gather(images, labels, rows):
    return {"image": images[rows], "label": labels[rows], "index": rows}


def _stacked(batches):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
