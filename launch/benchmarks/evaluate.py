"""An evaluation in a fresh process: how long all its compiling takes, and how long without.

    python launch/bench.py evaluate [--images=10] [--json]

The command is `python -m craft_jax.main --mode=eval` of CIFAR-10-C's 15 corruptions at five severities, on
so many generated test images of 32x32 and a resnet20 that trained for one step. It is run twice: with an
empty compilation cache, then with what the first one left in it. The seconds are the whole command's, from
start to exit. The figures of both must be the same to the bit, or the status is 1.

Printed, and the keys of --json (one object, the last line): device, images, cells, and

    cold_s, warm_s                seconds of the first and the second process; the goals are 45 and 12
    cold_per_s, warm_per_s        images a second, one counted as often as it is corrupted
    same                          whether both measured the same
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from craft_jax import corruptions
from launch.benchmarks.machine import machine

ROOT = Path(__file__).resolve().parents[2]
CELLS = len(corruptions.TEST) * len(corruptions.SEVERITIES)
TRAINED = 10  # images, one step's; one a class


def main(argv):
    parser = argparse.ArgumentParser(
        prog="bench.py evaluate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10, help="test images (10)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    arguments = parser.parse_args(argv)
    if arguments.images < 1:
        parser.error("--images must be at least 1")
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
