"""SIGTERM (a cluster's preemption) and SIGINT (Ctrl-C): save, and leave within seconds.

While the loop trains, a signal waits until the step under way is done; the loop saves it and raises
`Interrupted`. At any other time (loading, compiling, the evaluation at the end) nothing is newer than the
last checkpoint, and the process leaves at once. A second signal leaves at once at any time; one within a
second of the first is the same one: SLURM and systemd may send theirs to every process of a job, and a study
among them passes it on to its runs.

Python calls a signal's handler between two bytecodes of the main thread, and XLA may compile for minutes
without one. So the handler does nothing; a thread reads the pipe that the interpreter writes the number to.
"""

import contextlib
import os
import signal
import sys
import threading
import time

from craft_jax.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME = 1.0  # seconds
_asked = threading.Event()
_waiting = threading.Event()  # set while a signal has to wait for the loop


def listen():
    """Take the signals over, in a command's main thread; a library leaves them to its caller."""
    heard, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_listen, args=(heard,), name="signals", daemon=True).start()


def _listen(heard):
    first = 0.0
    while True:
        (number,) = os.read(heard, 1)
        if number not in _SIGNALS:
            continue
        if _asked.is_set():
            if time.monotonic() < first + _SAME:
                continue
            os._exit(128 + number)  # as a shell names a process that a signal ended
        first = time.monotonic()
        _asked.set()
        if not _waiting.is_set():
            # Not sys.exit: the main thread may be in XLA for minutes.
            print(f"\ncraft_jax: {Interrupted()}", file=sys.stderr, flush=True)
            os._exit(Interrupted.status)


@contextlib.contextmanager
def deferring():
    """Within it, once what it yields has been called, a signal only sets what `asked` says."""
    try:
        yield _waiting.set
    finally:
        _waiting.clear()


def asked():
    """Whether a signal has come."""
    return _asked.is_set()


def heeding(function):
    """`function`, that raises Interrupted instead of starting once a signal has come."""

    def call(*args):
        if asked():
            raise Interrupted
        return function(*args)

    return call
