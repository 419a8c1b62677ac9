"""Images that stream beside the same images on the device: how fast they come, and how long a step waits.

    python launch/bench.py data [--method=craft] [--preset=cifar10_cpu] [--pictures=2048] [--side=64]
                                [--workers=16] [--seconds=60] [--json]

A folder of generated JPEGs (smooth, with noise, ten classes) is trained on at 32 pixels, as data.name=folder
has it: once decoded and on the device (resident), once left in its files and decoded ahead by processes
(`data.streaming`, `data.workers`). First batches alone are asked for, as fast as they come. Then the steps
of the preset of configs/METHOD.py are trained. Both sides take turns, and before a turn of the stream what
its processes made in the other's is taken away.

A step waits from the end of the step before it to its batch's being on the device. The loop of a run asks for
a batch while the device still computes: it waits no longer than this. On a CPU the processes that decode
take from the networks' time; compare both sides' images a second under training for that.

Printed, and the keys of --json (one object, the last line): method, preset, device, workers, pictures, side,

    batches_per_second   {"resident", "streamed"}: images a second, of batches alone
    trained_per_second   the same under training
    waits                the share of a step that waits for its batch; the goal of "streamed" is below 0.05
    steps                a turn
"""

import functools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from craft_jax import data
from craft_jax.mesh import hold, replicated_on
from craft_jax.training.batches import Batches
from craft_jax.training.step import begin, initial, jit_step
from craft_jax.training.streaming import count_of
from launch.benchmarks import setting
from launch.benchmarks.machine import machine

ROUNDS = 5  # so long are turns that about so many of each side fit into --seconds
SIDES = ("resident", "streamed")


def main(argv):
    arguments, config = setting.parse("data", __doc__, argv, pictures=2048, side=64, workers=16)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        draw(Path(folder), arguments.pictures, arguments.side)
        config.data.name, config.data.dir, config.data.size = "folder", folder, setting.SHAPE[0]
        config.data.workers = arguments.workers
        facts = measure(config, arguments.seconds)
    report(arguments, facts)


def draw(folder, pictures, side):
    """As many training pictures in ten classes, and a test picture of each."""
    random = np.random.default_rng(0)
    for i in range(pictures + setting.CLASSES):
        part = "train" if i < pictures else "test"
        place = folder / part / f"{i % setting.CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        smooth = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((side, side))
        noisy = np.asarray(smooth) + random.normal(0, 8, (side, side, 3))
        Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(place / f"{i}.jpg", quality=90)


def measure(config, seconds):
    """The facts of both sides."""
    sources, dataset = {}, None
    for side, streaming in zip(SIDES, ("never", "always"), strict=True):
        config.data.streaming = streaming
        dataset = data.load(config)
        run = setting.run_of(config, dataset)
        sources[side] = Batches(dataset, config.batch_size, config.seed, run.mesh)
    place = functools.partial(jax.jit, out_shardings=replicated_on(run.mesh))
    teacher = hold(place(functools.partial(setting.teacher_variables, run))())
    state = initial(run, dataset)[0]()
    state = begin(run, state, teacher, sources["resident"](0))
    step = jit_step(run, state)

    def train(batch):
        nonlocal state
        state, metrics = step(state, teacher, batch)
        return metrics

    with sources["streamed"].ahead(0, 10**9, config.data.workers):
        turns = {side: Turn(source, config) for side, source in sources.items()}
        for side in SIDES:
            turns[side].take(1, train)  # compiles; the processes that decode are there
        once = turns["resident"].take(3, train)[0]
        steps = max(5, round(seconds / (2 * ROUNDS * once)))
        alone, trained = (_in_turn(turns, steps, task) for task in (None, train))
    each = config.batch_size
    return {
        "batches_per_second": {k: each / statistics.median(t for t, _ in v) for k, v in alone.items()},
        "trained_per_second": {k: each / statistics.median(t for t, _ in v) for k, v in trained.items()},
        "waits": {k: statistics.median(share for _, share in v) for k, v in trained.items()},
        "steps": steps,
    }


def _in_turn(turns, steps, task):
    found = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side in SIDES:
            found[side].append(turns[side].take(steps, task))
    return found


class Turn:
    """The batches of one side, from where its last turn ended."""

    def __init__(self, source, config):
        self._source, self._step = source, 0
        # What may lie there from before: on the device, and decoded by each process.
        self._ready = 2 + 4 * count_of(config.data.workers) if source.streams else 0

    def take(self, steps, task):
        """(seconds a step, the share of them that waited for its batch) of so many steps."""
        for _ in range(self._ready):
            self._next()
        waited, began = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = self._next()
            waited += time.perf_counter() - asked
            if task:
                jax.block_until_ready(task(batch))
        took = time.perf_counter() - began
        return took / steps, waited / took

    def _next(self):
        batch = jax.block_until_ready(self._source(self._step))
        self._step += 1
        return batch


def report(arguments, facts):
    print(f"{arguments.method}, preset {arguments.preset or 'of the paper'}; {machine()}")
    print(f"{arguments.pictures} JPEGs of {arguments.side} pixels; {ROUNDS} rounds of {facts['steps']} steps")
    for side in SIDES:
        alone, trained = facts["batches_per_second"][side], facts["trained_per_second"][side]
        print(
            f"{side:9} {alone:10,.0f} images/s in batches alone, {trained:8,.0f} trained on, "
            f"{100 * facts['waits'][side]:.2f}% of a step waits"
        )
    if arguments.json:
        given = {key: getattr(arguments, key) for key in ("method", "preset", "workers", "pictures", "side")}
        print(json.dumps(given | {"device": jax.devices()[0].device_kind} | facts))
