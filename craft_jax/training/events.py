"""TensorBoard's event files, written where they are asked for: a full disk is then an error there.

tensorboardX's SummaryWriter writes in a thread, which dies of a full disk; the program then waits for it.
"""

import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

_FLUSH_SECONDS = 30  # a flush waits for the disk


class Events:
    """A new event file in a directory. A context manager."""

    def __init__(self, directory, purge_step=None, suffix=""):
        """Begin a file.

        Args:
          directory: made if there is none.
          purge_step: TensorBoard hides what earlier files of the directory say of this step and later ones.
          suffix: of the file's name.
        Raises:
          OSError: it cannot be made. So do the others where it cannot be written to.
        """
        Path(directory).mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(Path(directory) / "events"), suffix)
        self._flushed = -np.inf
        if purge_step is not None:
            begun = SessionLog(status=SessionLog.START)
            self._file.write_event(Event(wall_time=time.time(), step=purge_step, session_log=begun))

    def scalar(self, name, value, step):
        """A number of one step."""
        self.add(summary.scalar(name, value), step)

    def histogram(self, name, counts, step):
        """Counts in equal bins of [0, 1] of one step."""
        edges = np.linspace(0, 1, len(counts) + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        squares = float(np.dot(counts, centres**2))
        moments = 0.0, 1.0, sum(counts), float(np.dot(counts, centres)), squares
        self.add(summary.histogram_raw(name, *moments, edges[1:].tolist(), counts), step)

    def add(self, content, step=None):
        """A Summary of tensorboardX."""
        self._file.write_event(Event(wall_time=time.time(), step=step, summary=content))
        if time.monotonic() > self._flushed + _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
