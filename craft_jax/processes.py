"""The processes of one run: one of them writes, all decide alike, and none outlives the others.

A run of several processes is the same command in each (`distributed.*`): every process loads the data, trains
its devices' share of each batch, and meets the others in every step. Process 0 is the writer: it alone locks,
writes and prints; the others are silent but for a fault of their own. What is read from disk and decides how
a run goes on is read by the writer and told to the others, so that all decide alike.

All of them must see the same files under the same paths: a shared file system is assumed, and not checked.
Each holds the whole data set in memory, but of images that stream it reads its share. The number of processes
is no part of a run: the same command resumes on another number, with the same batches, views and draws; sums
over the batch are then taken in another order, so not to the bit.

A process that dies ends the run; it cannot come back into it, but the same command, given again, goes on
from the last checkpoint. The others end with a message and status 76 once they miss it in a sum over all
devices, which is at once where its connections are closed. Where they wait for it elsewhere (for a
checkpoint to be written, for the writer to decide), or its whole machine is gone, JAX ends them within
HEARTBEAT_SECONDS of the last that was heard of it, with its own message ("another task died") and status
134; so it does where not all come within five minutes of the start.
"""

import functools
import json
import os
import re
import sys
import time
import traceback

import jax
import numpy as np
from jax.experimental import multihost_utils

from craft_jax import errors
from craft_jax.errors import ConfigError, CraftError

# After which a process that is not heard of is given up, by JAX's own service in process 0.
HEARTBEAT_SECONDS = 60
_BEGIN_SECONDS = 300  # until all have come
_TURN_SECONDS = 7 * 24 * 3600  # the writer may download, or wait for another run that trains the teacher
_LEAVE_SECONDS = 10

# What the libraries below say where a process is gone: gloo on CPUs, NCCL on GPUs, JAX's service, Orbax.
_GONE = re.compile(r"\b(gloo|nccl|connection (closed|reset)|coordination|heartbeat|barrier)", re.IGNORECASE)

_count, _turns = 1, 0


class ProcessGone(CraftError):
    """Another process of this run died, or cannot be reached."""

    status = 76  # EX_PROTOCOL of sysexits.h: of the other end

    def __init__(self, said):
        super().__init__(
            f"another process of this run is gone; the same command goes on from the last checkpoint ({said})"
        )


def start(config):
    """Join the other processes of the run; nothing for one by itself. Before any device is touched.

    A program that has called `jax.distributed.initialize` itself calls this after it.

    Args:
      config: reads distributed.*, checked (`config.rules.validate_distributed`).
    Raises:
      ConfigError: no cluster is detected, or the other processes cannot be reached.
    """
    global _count
    if not jax.distributed.is_initialized():
        if not (config.distributed.detect or config.distributed.processes):
            return
        _join(config)
    _count = jax.process_count()
    if not is_writer():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for as long as the process lives


def _join(config):
    detect, processes = config.distributed.detect, config.distributed.processes
    # It would take SIGTERM over, which is heard here (`training.interrupt`).
    jax.config.update("jax_enable_preemption_service", False)
    where = () if detect else (config.distributed.coordinator, processes, config.distributed.process)
    try:
        jax.distributed.initialize(
            *where, initialization_timeout=_BEGIN_SECONDS, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (ValueError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        if detect:
            raise ConfigError(
                f"config.distributed.detect: True, and no cluster is detected that can be joined ({said}); "
                "allowed under SLURM, Open MPI or Kubernetes; elsewhere distributed.processes, .process and "
                ".coordinator"
            ) from error
        raise ConfigError(
            f"config.distributed.coordinator: {where[0]!r} is not reached by all {processes} processes "
            f"({said}); allowed: HOST:PORT of process 0, the same in all"
        ) from error


def count():
    """How many processes the run has; 1 for a process by itself."""
    return _count


def is_writer():
    """Whether this process is the one that writes: process 0, or one by itself."""
    return _count == 1 or jax.process_index() == 0


def decided(function, *args):
    """function(*args) of the writer, in every process; where it raises a CraftError, all raise one.

    All must call it, in the same order; within it none of these functions is called.

    Args:
      function, *args: what JSON can hold is returned; an integer, a list, a dict.
    Raises:
      CraftError: in the others, with the status of the writer's, which alone is printed.
    """
    global _turns
    if count() == 1:
        return function(*args)
    _turns += 1
    client, key = _service(), f"craft_jax/turns/{_turns}"
    if is_writer():
        try:
            value = function(*args)
        except CraftError as error:
            client.key_value_set(key, json.dumps({"fault": str(error), "status": error.status}))
            raise
        client.key_value_set(key, json.dumps({"value": value}))
        return value
    told = json.loads(client.blocking_key_value_get(key, 1000 * _TURN_SECONDS))
    if "fault" in told:
        error = CraftError(told["fault"])
        error.status, error.told = told["status"], True
        raise error
    return told["value"]


def writer_first(function, *args):
    """function(*args) of each process, in the others once the writer is done: what it makes, they find."""
    if count() == 1:
        return function(*args)
    found = []
    decided(lambda: found.append(function(*args)))
    return found[0] if found else function(*args)


def any_of(flag):
    """Whether a flag is set in any process; all must ask, at the same step."""
    return bool(np.any(multihost_utils.process_allgather(np.array(flag)))) if count() > 1 else flag


def command(main):
    """`errors.command` for a program that may be one of several processes: they end together.

    A fault that all have in common is told once, by the writer; one that a process has by itself, by that
    one. The others do not wait for a process that leaves with a fault.
    """

    @functools.wraps(main)
    def ending(argv):
        try:
            return main(argv)
        except Exception as error:
            if count() == 1:
                raise
            gone = _is_of_another(error)
            common = isinstance(error, CraftError) and not gone
            if not is_writer() and not (common and (error.told or _all_leave())):
                sys.stderr = sys.__stderr__
            if gone and "--debug" in sys.argv:
                traceback.print_exc()
            if gone:
                raise ProcessGone(gone) from error
            raise

    run = errors.command(ending)

    @functools.wraps(main)
    def together(argv=None):
        status = 1
        try:
            status = run(argv)
        except Exception:
            if count() == 1:
                raise
            traceback.print_exc()
        if status and count() > 1:
            if status != ProcessGone.status:
                _all_leave()
            _exit(status)
        return status

    return together


def _service():
    """The client of JAX's coordination service; Orbax takes it from the same place."""
    from jax._src import distributed

    return distributed.global_state.client


def _is_of_another(error):
    """What an exception, or one that it came from, says of another process that is gone; "" for none."""
    while error is not None:
        # An OSError is of a file or a download: its text is a path or an address.
        own = isinstance(error, CraftError) or (
            isinstance(error, OSError) and not isinstance(error, TimeoutError)
        )
        if not own and _GONE.search(str(error)):
            return str(error).partition("\n")[0][:200]
        error = error.__cause__
    return ""


@functools.cache
def _all_leave():
    """Wait until every process leaves, for ten seconds at most; returns whether all do."""
    try:
        _service().wait_at_barrier("craft_jax/leave", 1000 * _LEAVE_SECONDS)
    except (RuntimeError, ValueError):
        return False
    return True


def _exit(status):
    """Leave at once: JAX would wait for minutes until the others leave too."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if is_writer():
        time.sleep(1)  # JAX's service is in this process: without it the others would be aborted
    os._exit(status)
