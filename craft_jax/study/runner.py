"""The loop of a study: processes begun, watched, stopped; a table of where it stands."""

import contextlib
import math
import signal
import sys
import time

from craft_jax import files
from craft_jax.errors import CraftError, Interrupted
from craft_jax.study import progress
from craft_jax.study.process import Process, shares

FAILED = 1  # the exit status where some runs failed
_POLL, _SHOW = 0.2, 60.0  # seconds between looks at the processes, and between lines where nothing changed
_GRACE = 60.0  # seconds that a run has to save and leave, but for the end of --minutes
_MARGIN = 15.0  # of which so much is kept for that
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last is submitit's (`study.job`)


class Runner:
    """Runs what is left of a study."""

    def __init__(self, store, jobs, minutes):
        """Prepare.

        Args:
          store: a store.Store.
          jobs: how many runs at once.
          minutes: after which to stop; None for never.
        """
        self._store, self._jobs = store, jobs
        minutes = math.inf if minutes is None else minutes
        self._end_at = time.monotonic() + 60 * minutes
        self._deadline = self._end_at - min(_MARGIN, 6 * minutes)
        self._free = shares(jobs)
        self._running, self._errors = {}, {}  # {run: (Process, its share)}, {run: text}
        self._pace = progress.learned(store.states, store.results)
        self._asked, self._kill_at, self._shown = 0, None, ("", 0.0)

    def run(self):
        """Run until nothing is left, or time is up, or a signal comes; returns the exit status."""
        before = {n: signal.signal(n, self._on_signal) for n in _SIGNALS}
        try:
            while self._step():
                time.sleep(_POLL)
        finally:
            for process, _ in self._running.values():
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        try:
            self._store.keep_teachers()
        except (OSError, CraftError) as error:
            print(f"note: a teacher could not be kept: {error}", file=sys.stderr, flush=True)
        return self._end()

    def _on_signal(self, *_):
        self._asked += 1

    def _step(self):
        """Look after the processes once; returns whether there is more to do."""
        self._reap()
        if not self._is_stopping() and (self._asked or time.monotonic() > self._deadline):
            self._stop()
        if not self._is_stopping():
            self._start()
        elif self._asked > 1 or time.monotonic() > self._kill_at:
            for process, _ in self._running.values():
                process.kill()
        self._show()
        return bool(self._running) or (not self._is_stopping() and self._has_more())

    def _is_stopping(self):
        return self._kill_at is not None

    def _stop(self):
        self._kill_at = min(time.monotonic() + _GRACE, self._end_at)
        for process, _ in self._running.values():
            process.ask_to_stop()

    def _reap(self):
        for run, (process, share) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            del self._running[run]
            self._free.insert(0, share)
            with self._failing(run):
                self._go_on(run, process, status)

    def _go_on(self, run, process, status):
        """After a process of a run has ended."""
        left = self._store.evaluation_left(run) if status == 0 else None
        if left and not self._is_stopping():
            self._begin(run, left)
        elif status == 0 and not left:
            self._finish(run)
        elif status == Interrupted.status or self._is_stopping():
            self._store.states[run] = progress.WAITING
        else:
            self._fail(run, process.error())

    def _begin(self, run, words):
        self._running[run] = (Process(words, run.workdir, *self._free[0]), self._free[0])
        del self._free[0]

    @contextlib.contextmanager
    def _failing(self, run):
        """What goes wrong with one run, with its directory or its teacher, say, stops no other."""
        try:
            yield
        except (OSError, CraftError) as error:
            self._fail(run, str(error))

    def _finish(self, run):
        try:
            result = self._store.finish(run)
        except (OSError, CraftError) as error:  # a full disk, say; the others go on
            self._fail(run, f"done, but its result could not be kept: {error}")
        else:
            if not result["resumed_from"]:
                self._pace.learn(run, result)

    def _fail(self, run, text):
        self._store.states[run], self._errors[run] = progress.FAILED, text

    def _start(self):
        while self._free and (run := self._next()):
            with self._failing(run):
                self._begin(run, run.command(self._store.more(run)))
                self._store.states[run] = progress.RUNNING

    def _next(self):
        """The next run that can begin; None if there is none now.

        One whose teacher is being trained by another waits for it, and one in whose directory a process is
        at work, of a study that was killed, say, waits for that.
        """
        training = {self._store.teacher_to_train(run) for run in self._running if not _has_teacher(run)}
        for run, state in self._store.states.items():
            if state != progress.WAITING:
                continue
            with self._failing(run):
                teacher = self._store.teacher_to_train(run)
                if not files.is_locked(run.workdir / ".lock") and (
                    teacher is None or teacher not in training
                ):
                    return run
        return None

    def _has_more(self):
        return progress.WAITING in self._store.states.values()

    def _show(self):
        states = self._store.states
        fractions = {run: self._pace.learn_steps(run) for run in self._running}
        table = progress.table(states, {})
        text, at = self._shown
        if table == text and time.monotonic() < at + _SHOW:
            return
        self._shown = (table, time.monotonic())
        left = progress.counts(states, self._pace.seconds(states, fractions), self._jobs)
        shown = progress.table(states, fractions) if table != text else _running(fractions)
        print(f"\n{time.strftime('%H:%M:%S')} {left}\n{shown}", flush=True)

    def _end(self):
        left = [run for run, state in self._store.states.items() if state == progress.WAITING]
        for run, error in self._errors.items():
            print(f"failed: {run.name}: {error}", file=sys.stderr, flush=True)
        if left:
            print(
                f"stopped with {len(left)} runs to do; the same command goes on", file=sys.stderr, flush=True
            )
            return Interrupted.status
        print(f"tables: python -m craft_jax.report {self._store.out} --out=OUT", flush=True)
        return FAILED if self._errors else 0


def _has_teacher(run):
    """Whether a running run is past its teacher's training."""
    return (run.workdir / "teacher.json").exists()


def _running(fractions):
    return "\n".join(f"{run.name}: {100 * (done or 0):.0f}%" for run, done in fractions.items())
