"""Batches of images that stay in their files, decoded ahead of the training by processes of Grain's.

What Grain reads is indexed by the step, of which every batch is a pure function: the position of a stream is
the step, which the checkpoint holds, and Grain's own state is not needed.

A worker decodes whole batches: those rows that this process's devices hold. It computes the order of an epoch
on its own CPU and never touches a GPU; it leaves a signal to the process that it works for, and ends with it.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import util

import jax
from absl import flags

from craft_jax.errors import DataError
from craft_jax.mesh import put, put_share, share_of

_ON_DEVICE = 2  # batches that lie there, to be trained on next
_OF_A_WORKER = 1  # batches that a worker holds ready, beside the one it decodes


class Stream:
    """The batches of the steps `start` to `steps` - 1 in turn, on the devices. A context manager.

    Attributes:
      step: whose batch comes next.
    """

    def __init__(self, images, labels, order, sharding, start, steps, workers):
        """Begin to read.

        Args:
          images: a data.Encoded.
          labels: (N,) int32.
          order: the batches' Order.
          sharding: of a batch over the devices.
          start, steps: of the run.
          workers: `config.data.workers`.
        """
        import grain  # for images that stream alone

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain asks for some of absl's, which no command here has
        self.step = start
        places = share_of(order.batch_size, sharding)

        def to_devices(share):
            rows = order.rows(share["step"])
            image = put_share(share["image"], places, order.batch_size, sharding)
            return {"image": image, **put({"label": labels[rows], "index": rows}, sharding)}

        here = grain.MapDataset.source(_Shares(images, order, places, steps))[start:]
        here = here.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        # Through pipes: a container may have next to no shared memory, and what is in it outlives a kill.
        unshared = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        here = grain.experimental.WithOptionsIterDataset(here, unshared)
        options = grain.MultiprocessingOptions(count_of(workers), _OF_A_WORKER)
        decoded = iter(here.mp_prefetch(options, worker_init_fn=_begin_worker).map(to_devices))
        self._others = set(multiprocessing.active_children())
        self._iterator = grain.experimental.ThreadPrefetchDatasetIterator(decoded, _ON_DEVICE)
        if start < steps:
            with _signals_blocked():
                decoded.start_prefetch()  # all workers at once, and while the step compiles
                self._iterator.start_prefetch()

    def next(self):
        """The next batch: {"image": (B, H, W, 3) uint8, "label": (B,) int32, "index": (B,) int32}.

        Raises:
          DataError: an image cannot be read, or a process that decodes died.
        """
        try:
            batch = next(self._iterator)
        except RuntimeError as error:
            if not str(error).startswith("Worker process was terminated"):
                raise
            raise DataError(
                f"a process that decodes images died ({str(error).partition('. ')[0]}): for lack of memory? "
                "--config.data.workers=1 takes least; the same command goes on from the last checkpoint"
            ) from error
        self.step += 1
        return batch

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._iterator.close()
        for worker in set(multiprocessing.active_children()) - self._others:
            worker.kill()  # one that Grain had started and not yet read from
            worker.join()


class _Shares:
    """What Grain reads from, by the step: the images of its batch that lie with this process."""

    def __init__(self, images, order, places, steps):
        self._images, self._order, self._places, self._steps = images, order, places, steps

    def __len__(self):
        return self._steps

    def __getitem__(self, step):
        rows = self._order.rows(step)[self._places]
        return {"step": step, "image": self._images.read(rows)}


def count_of(workers):
    """How many processes decode under `config.data.workers`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(workers, cores)


@contextlib.contextmanager
def _signals_blocked():
    """In threads that are started within it, and in the processes that those start, from their first moment:
    Ctrl-C and SLURM send a signal to all processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(number, count):
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    util.Finalize(None, os._exit, args=(0,), exitpriority=-100)  # the last, in place of taking JAX down


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
