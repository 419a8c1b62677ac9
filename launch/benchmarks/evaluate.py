"""An evaluation: how long all its compiling takes and how long without; and where its time goes (--parts).

    python launch/bench.py evaluate [--images=10] [--json]
    python launch/bench.py evaluate --parts [--images=500] [--json]

The command is `python -m craft_jax.main --mode=eval` of CIFAR-10-C's 15 corruptions at five severities, on
so many generated test images of 32x32 and a resnet20 that trained for one step. It is run twice: with an
empty compilation cache, then with what the first one left in it. The seconds are the whole command's, from
start to exit. The figures of both must be the same to the bit, or the status is 1.

Printed, and the keys of --json (one object, the last line): device, images, cells, and

    cold_s, warm_s                seconds of the first and the second process; the goals are 45 and 12
    cold_per_s, warm_per_s        images a second, one counted as often as it is corrupted
    same                          whether both measured the same

With --parts one batch of so many images is brought to the device, corrupted, and classified by a student
(resnet20) and a teacher (resnet56), as an evaluation does under each corruption at severity 3, all compiled
before. The three parts take turns, waiting for each other, which an evaluation on a GPU does not: so their
sum is at most what it needs. Printed, and "parts" in --json, one a corruption, medians of seven turns:

    images_per_s                  of the three in sequence
    transfer, corruption, networks    their shares, in percent; logits come back to the host within the last
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from craft_jax import corruptions, models
from craft_jax.evaluation import evaluate as evaluation
from craft_jax.evaluation.images import shown
from craft_jax.mesh import make_mesh, replicated_on, split_over
from launch.benchmarks.machine import machine

ROOT = Path(__file__).resolve().parents[2]
CELLS = len(corruptions.TEST) * len(corruptions.SEVERITIES)
TRAINED = 10  # images, one step's; one a class
TURNS = 7
NETWORKS = ("resnet20", "resnet56")  # the paper's student and teacher
PARTS = ("transfer", "corruption", "networks")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="bench.py evaluate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", action="store_true", help="where the time goes, a corruption at a time")
    parser.add_argument("--images", type=int, help="test images (10; 500 with --parts)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    arguments = parser.parse_args(argv)
    if arguments.images is None:
        arguments.images = 500 if arguments.parts else 10
    if arguments.images < 1:
        parser.error("--images must be at least 1")
    if arguments.parts:
        report_parts(arguments.images, arguments.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        facts = measure(Path(folder), arguments.images)
    report(facts, arguments.json)
    if not facts["same"]:
        sys.exit(1)


def measure(folder, images):
    """The figures, of a student made in an empty folder."""
    train(folder, images)
    seconds = {name: evaluate(folder, name) for name in ("cold", "warm")}
    cold, warm = (json.loads((folder / "run" / "eval" / f"{name}.json").read_text()) for name in seconds)
    facts = {"images": images, "cells": CELLS}
    facts |= {f"{name}_s": took for name, took in seconds.items()}
    facts |= {f"{name}_per_s": CELLS * images / took for name, took in seconds.items()}
    return facts | {"same": cold == warm}


def train(folder, images):
    """One step on generated images, so that there is a student; nothing of it is left in the cache."""
    random = np.random.default_rng(0)
    parts = {}
    for part, count in (("train", TRAINED), ("test", images)):
        parts[f"{part}_images"] = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        parts[f"{part}_labels"] = np.arange(count) % 10
    np.savez(folder / "generated.npz", **parts)
    settings = ("data.name=npz", f"data.dir={folder / 'generated.npz'}", "compilation_cache=False")
    settings += (f"batch_size={TRAINED}", "epochs=1", "log.tensorboard=False", "log.progress=False")
    settings += ("eval.clean_every_epochs=0", "eval.corruptions=contrast", "eval.severities=1")
    run(folder, "--config=configs/erm.py", *(f"--config.{setting}" for setting in settings))


def evaluate(folder, name):
    """Seconds of the evaluation that becomes eval/NAME.json."""
    names, severities = ",".join(corruptions.TEST), ",".join(map(str, corruptions.SEVERITIES))
    settings = (f"eval.corruptions={names}", f"eval.severities={severities}", "compilation_cache=True")
    began = time.perf_counter()
    run(folder, "--mode=eval", f"--eval_name={name}", *(f"--config.{setting}" for setting in settings))
    return time.perf_counter() - began


def run(folder, *words):
    """One command of craft_jax.main on DIR/run, its cache in the folder; or leaves with what it said."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_PERSISTENT_")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    environment |= {"XDG_CACHE_HOME": str(folder / "cache")}
    ended = subprocess.run(
        [sys.executable, "-m", "craft_jax.main", f"--workdir={folder / 'run'}", *words],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True},
    )
    if ended.returncode:
        sys.exit(f"bench.py evaluate: craft_jax.main ended with {ended.returncode}:\n{ended.stderr}")


def report(facts, as_json):
    print(f"{machine()}; {facts['cells']} cells of {facts['images']} images")
    for name, title in (("cold", "empty cache"), ("warm", "second process")):
        print(f"{title:15} {facts[f'{name}_s']:6.1f} s {facts[f'{name}_per_s']:8,.0f} images/s")
    print(f"the same figures to the bit: {'yes' if facts['same'] else 'NO'}")
    if as_json:
        print(json.dumps({"device": machine(), **facts}))


def report_parts(images, as_json, names=corruptions.TEST, networks=NETWORKS):
    print(f"{machine()}; {images} images of 32x32 a batch, {' and '.join(networks)}\n")
    print(f"| corruption | images/s | {' | '.join(f'{part}, %' for part in PARTS)} |\n|---|{'---:|' * 4}")
    timed, found = seconds_of_parts(images, networks), {}
    for name in names:
        seconds = dict(zip(PARTS, timed(name), strict=True))
        whole = sum(seconds.values())
        shares = {part: 100 * took / whole for part, took in seconds.items()}
        found[name] = {"images_per_s": images / whole, **shares}
        cells = " | ".join(f"{share:.1f}" for share in shares.values())
        print(f"| {name} | {images / whole:,.0f} | {cells} |", flush=True)
    if as_json:
        print(json.dumps({"device": machine(), "images": images, "parts": found}))


def seconds_of_parts(images, networks):
    """A function: a corruption's name -> seconds of each of PARTS for one batch, medians."""
    mesh = make_mesh()
    levels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    index = np.arange(images)
    half = (0.5, 0.5, 0.5)
    built = [models.build(name, 10, dtype="float32", mean=half, std=half) for name in networks]
    variables = [model.init(jax.random.key(0), levels.shape[1:]) for model in built]
    variables = jax.device_put(variables, replicated_on(mesh))
    predicts = [evaluation.predictor(model, mesh) for model in built]
    sharding = replicated_on(mesh) if images % mesh.size else split_over(mesh)

    def transferred():
        return jax.block_until_ready(jax.device_put((levels, index.astype(np.int32)), sharding))

    def timed(name):
        def corrupted():  # with its transfer, as an evaluation does it
            return jax.block_until_ready(next(shown(levels, [index], mesh, name, 3)))

        seen = corrupted()

        def classified():
            return [np.asarray(predict(own, seen)) for predict, own in zip(predicts, variables, strict=True)]

        turns = [[_seconds(part) for part in (transferred, corrupted, classified)] for _ in range(1 + TURNS)]
        transfer, both, networks = map(statistics.median, zip(*turns[1:], strict=True))
        return transfer, max(both - transfer, 0.0), networks

    return timed


def _seconds(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
