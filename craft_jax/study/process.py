"""One run as a process of its own: its share of the machine, its log, how it ended."""

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

# Linux tells the process when the study dies (PR_SET_PDEATHSIG is 1). Asked for by a program that becomes the
# run: a function between fork and exec can deadlock in a process with JAX's threads. SIGUSR2 is for a study
# that is a job of SLURM: sent to all processes of the job, it would end the run.
_TOLD = (
    "import ctypes, os, signal, sys; signal.signal(signal.SIGUSR2, signal.SIG_IGN); "
    "ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
)


class Process:
    """A run's command, begun; its output goes to DIR/log.txt.

    It has a session of its own, so that Ctrl-C reaches the study alone, which passes one signal on; where the
    system can, it is told when the study dies.
    """

    def __init__(self, words, workdir, environment, cores):
        """Begin.

        Args:
          words: the command.
          workdir: the run's directory; made if it is not there.
          environment: {variable: value} beside the present ones.
          cores: the processors it may use; None for all.
        """
        Path(workdir).mkdir(parents=True, exist_ok=True)
        self._log = Path(workdir) / "log.txt"
        told = [sys.executable, "-c", _TOLD] if sys.platform == "linux" else []
        with open(self._log, "ab") as log:
            self._begin = log.tell()
            self._process = subprocess.Popen(
                [*told, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, cores)

    def poll(self):
        """The exit status, None while it runs."""
        return self._process.poll()

    def ask_to_stop(self):
        """The first time it saves and leaves; the second time it leaves."""
        if self.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self):
        """End it at once; what it saved stays."""
        self._process.kill()
        self._process.wait()

    def error(self):
        """What went wrong, in a line or a few: the command's own message, or the last line it printed."""
        with open(self._log, "rb") as log:
            log.seek(self._begin)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        started = [i for i, line in enumerate(lines) if line.startswith("craft_jax: ")]
        said = "\n".join(lines[started[-1] :]) if started else (lines[-1] if lines else "no output")
        code = self.poll()
        ended = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return f"{re.sub(r'^craft_jax: ', '', said)} ({ended}; {self._log})"


def shares(jobs):
    """[(environment, cores)] of `jobs` runs at once: a part of the processors, and of a GPU's memory, each.

    With more jobs than processors they share all of them.
    """
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [({}, None)] * jobs
    cores = sorted(os.sched_getaffinity(0))
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / jobs:.3f}"}
    if len(cores) < jobs:
        return [(memory, None)] * jobs
    cut = [len(cores) * k // jobs for k in range(jobs + 1)]
    return [(memory, cores[a:b]) for a, b in itertools.pairwise(cut)]
