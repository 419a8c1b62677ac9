"""The training loop over the bare step: what batches, checks and logs cost.

    python launch/bench.py loop [--method=craft] [--preset=cifar10_cpu] [--seconds=60] [--json]

The loop is `craft_jax.training.loop.fit` on 50,000 generated images, with batches, checks of finiteness,
progress bar, metrics.jsonl and TensorBoard as in a run, on the preset of configs/METHOD.py (none: the
paper's; a CPU wants cifar10_cpu or smoke). The bare step is the same compiled function, called as often on
one batch that lies on the device. Both take turns in one process, and the median of the ratios of
neighbouring turns counts. A turn of the loop is timed by its own clock, from the end of its first
dispatch (one step on a CPU, ten on a GPU); so left out are compiling, opening the logs and copying the
data to the device, once a run. Checkpoints (one in 1,000 steps, written while training goes on) and
evaluations are left out too. What the loop does once a run to tell how long it takes, waiting for its
first steps one by one, is in every turn: let turns be long.

Printed, and the keys of --json (one object, the last line): method, preset, device, and

    loop_ms, bare_ms   milliseconds a step
    ratio              of the two; the goal is 1.02
"""

import contextlib
import functools
import io
import json
import statistics
import tempfile
import time
from types import SimpleNamespace
from unittest import mock

import jax

from craft_jax.mesh import hold, replicated_on
from craft_jax.training import loop
from craft_jax.training.batches import Batches
from craft_jax.training.step import begin, initial, jit_step, jit_steps
from launch.benchmarks import setting
from launch.benchmarks.machine import machine

ROUNDS = 10  # so long are turns that about so many of each side fit into --seconds
LEAST_ROUNDS = 3


def main(argv):
    arguments, config = setting.parse("loop", __doc__, argv)
    turns, steps = measure(config, arguments.seconds)
    report(arguments.method, arguments.preset, turns, steps, arguments.json)


def measure(config, seconds):
    """({"loop", "bare"}: seconds a step, one figure a round; steps a turn)."""
    config.eval.clean_every_epochs = 0
    dataset = setting.generated(images=setting.EXAMPLES)
    run = setting.run_of(config, dataset)
    place = functools.partial(jax.jit, out_shardings=replicated_on(run.mesh))
    teacher = hold(place(functools.partial(setting.teacher_variables, run))())
    state = initial(run, dataset)[0]()
    batch = Batches(dataset, config.batch_size, config.seed, run.mesh)(0)
    state = begin(run, state, teacher, batch)
    step, several = jit_step(run, state), jit_steps(run, state)

    state, _ = bare(step, state, teacher, batch, 1)  # compiles
    state, once = bare(step, state, teacher, batch, 2)
    # Whole periods of logging, or a turn would log more often than a run does.
    period = config.log.every_steps
    steps = period * max(1, round(seconds / (2 * ROUNDS * once * period)))
    turns = {"loop": [], "bare": []}
    state, _ = looped(
        run, (step, several), state, teacher, dataset, period
    )  # compiles what the loop has of its own
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(turns["loop"]) < LEAST_ROUNDS:
        state, took = looped(run, (step, several), state, teacher, dataset, steps)
        turns["loop"].append(took)
        state, took = bare(step, state, teacher, batch, steps)
        turns["bare"].append(took)
    return turns, steps


def bare(step, state, teacher, batch, steps):
    """(state, seconds a step) of a step called on one batch."""
    jax.block_until_ready(state)
    began = time.perf_counter()
    for _ in range(steps):
        state, metrics = step(state, teacher, batch)
    jax.block_until_ready((state, metrics))
    return state, (time.perf_counter() - began) / steps


def looped(run, compiled, state, teacher, dataset, steps):
    """(state, seconds a step) of `fit`, without its first dispatch."""
    step, several = compiled
    whole = steps + loop.steps_together()
    checkpoints = SimpleNamespace(save=lambda *_, **__: None, wait=lambda: None)
    quiet = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as workdir,
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
        # Or every turn would compile them again.
        mock.patch.object(loop, "jit_step", lambda *_: step),
        mock.patch.object(loop, "jit_steps", lambda *_: several),
    ):
        state, timings = loop.fit(
            run, state, teacher, 0, whole, dataset, checkpoints, predict=None, workdir=workdir
        )
    return state, run.config.batch_size / timings["images_per_second"]


def report(method, preset, turns, steps, as_json):
    whole, least = (statistics.median(turns[name]) for name in ("loop", "bare"))
    ratio = statistics.median(w / b for w, b in zip(turns["loop"], turns["bare"], strict=True))
    print(f"{method}, preset {preset or 'of the paper'}; {machine()}")
    print(f"{len(turns['loop'])} rounds of {steps} steps")
    print(f"loop   {1000 * whole:.2f} ms a step, bare step {1000 * least:.2f} ms")
    print(f"ratio  {ratio:.3f}")
    if as_json:
        facts = {
            "method": method,
            "preset": preset,
            "device": jax.devices()[0].device_kind,
            "loop_ms": 1000 * whole,
            "bare_ms": 1000 * least,
            "ratio": ratio,
        }
        print(json.dumps(facts))
