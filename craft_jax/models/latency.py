"""How long a call takes: the same measurement for every runtime, so that their figures stand side by side."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH_SIZES = (1, 128)
_REPEATS = 10
_SECONDS = 2.0  # a network that is slow on this machine is measured less often


def median_ms(call: Callable[[], Any]) -> float:
    """Milliseconds of a call that returns with its result: the median of up to ten, after a warm-up."""
    call()
    times = []
    while len(times) < _REPEATS and sum(times) < _SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))
