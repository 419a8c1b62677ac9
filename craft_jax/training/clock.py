"""How long training takes: compile time and steady throughput, told apart."""

import contextlib
import datetime
import time

import jax
from tqdm import tqdm

# Steps, or seconds, after which the time that is left can be told.
_STEPS, _SECONDS = 3, 10.0


class Clock:
    """Compile time and steady throughput, told apart; evaluation is neither."""

    def __init__(self, start):
        self._began = time.monotonic()
        self._steady, self._step, self._compile = None, start, None
        self._announced = False

    def compiled(self, step):
        """The first step, which compiles, has been computed."""
        self._steady, self._step = time.monotonic(), step
        self._compile = self._steady - self._began

    @contextlib.contextmanager
    def pause(self):
        """Leave what happens inside out of the throughput."""
        began = time.monotonic()
        yield
        self._steady += time.monotonic() - began

    def announce(self, step, steps, metrics):
        """Say once how long training will take, after three steady steps or ten seconds of them.

        Until then it waits for each step's metrics: a step that is merely under way has no length yet.
        """
        if self._announced or self._steady is None or step == self._step or step == steps:
            return
        jax.block_until_ready(metrics)
        done, seconds = step - self._step, time.monotonic() - self._steady
        if done < _STEPS and seconds < _SECONDS:
            return
        self._announced = True
        each = seconds / done
        left = datetime.timedelta(seconds=round(each * (steps - step)))
        tqdm.write(f"time:    about {left} of training left, {1000 * each:.0f} ms a step")

    def throughput(self, step, batch_size):
        """{"images_per_second": ...} since the first step; empty where there was no other."""
        if self._steady is None or step == self._step:
            return {}
        return {"images_per_second": (step - self._step) * batch_size / (time.monotonic() - self._steady)}

    def timings(self, step, batch_size):
        """What results.json says of this process: seconds, and images a second."""
        return {
            "compile_seconds": self._compile,
            "training_seconds": time.monotonic() - self._began,
            **self.throughput(step, batch_size),
        }
