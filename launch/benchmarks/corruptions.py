"""Each corruption on this machine, beside how the same is done without this codebase.

    python launch/bench.py corruptions [--severity=3] [--batch=500] [--names=fog,snow] [--out=FILE.json]

Compared are the images a second of `corrupt` (jitted, batches of 32x32, compiled before the clock
starts) with those of the CPU programs that the tests check it against: one process, one image after
the other, the way CIFAR-10-C is made. Both take turns in one run, and the medians count. Where OpenCV
or scikit-image is installed (`pip install opencv-python-headless scikit-image`), the original's own
calls are timed too, and the faster program is the one to beat.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

from craft_jax import corruptions
from launch.benchmarks.machine import machine
from tests.corruptions.given import REFERENCES
from tests.corruptions.originals import REFERENCES as ORIGINALS
from tests.corruptions.test_helpers import photographs

ROUNDS = 7  # turns of each side
SECONDS = 0.05  # a turn lasts at least


def main(argv):
    command = argparse.ArgumentParser(
        prog="bench.py corruptions", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    command.add_argument(
        "--severity", choices=[*"12345", "all"], default="3", help="all: mean times of the five"
    )
    command.add_argument("--batch", type=int, default=500, help="images a call of the JAX side")
    command.add_argument(
        "--names", default=",".join(corruptions.CIFAR10_C), help="which, with commas between"
    )
    command.add_argument("--out", help="a JSON file for the figures")
    arguments = command.parse_args(argv)
    names = arguments.names.split(",")
    if unknown := set(names) - set(corruptions.NAMES):
        command.error(f"unknown corruption {', '.join(sorted(unknown))}; of: {', '.join(corruptions.NAMES)}")
    if arguments.out and not Path(arguments.out).absolute().parent.is_dir():
        command.error(f"--out {arguments.out}: no such directory")
    if arguments.batch < 1:
        command.error("--batch must be at least 1")
    bench_corruptions(names, arguments.severity, arguments.batch, arguments.out)


def bench_corruptions(names, severity, batch, out):
    severities = corruptions.SEVERITIES if severity == "all" else (int(severity),)
    images = np.resize(photographs(), (batch, 32, 32, 3))
    print(f"{machine()}; severity {severity}, batches of {batch} images of 32x32\n")
    print("| corruption | reference | images/s | JAX, images/s | times as fast |")
    print("|---|---|---:|---:|---:|")
    rows = []
    for name in names:
        times = [compare(name, images, s) for s in severities]
        library = min(times[0][0], key=lambda key: sum(t[0][key] for t in times))
        slow, fast = (statistics.mean(t) for t in zip(*((t[0][library], t[1]) for t in times), strict=True))
        rows.append({"name": name, "library": library, "reference": 1 / slow, "jax": 1 / fast})
        print(f"| {name} | {library} | {1 / slow:,.0f} | {1 / fast:,.0f} | {slow / fast:.1f} |", flush=True)
    missing = [module for module in ("cv2", "skimage") if module not in sys.modules]
    ratios = [row["jax"] / row["reference"] for row in rows if fair(row["name"], missing)]
    mean = statistics.geometric_mean(ratios) if ratios else math.nan
    ahead, least = sum(ratio > 1 for ratio in ratios), min(ratios, default=math.nan)
    print(f"\nGeometric mean {mean:.1f}; faster on {ahead} of {len(ratios)}; least {least:.1f}.")
    if missing:
        print(f"Not installed, so not compared with: {', '.join(missing)}.", end=" ")
        print("Spatter's loops are in OpenCV's place: not counted." * ("cv2" in missing))
    if out:
        facts = {"machine": machine(), "severity": severity, "batch": batch, "geometric_mean": mean}
        Path(out).write_text(json.dumps(facts | {"corruptions": rows}, indent=2) + "\n")


def fair(name, missing):
    """Whether the reference is how files are made, and not loops in the place of OpenCV."""
    return name != "spatter" or "cv2" not in missing


def compare(name, images, severity):
    """Median seconds an image: ({library: of each reference}, of `corrupt`)."""
    programs = {table[name].library: table[name] for table in (REFERENCES, ORIGINALS) if name in table}
    random, order = np.random.default_rng(0), iter(range(1 << 60))

    def one_by_one(reference):
        image = images[next(order) % len(images)]
        reference.apply(image, severity, *reference.draw(random, severity, image.shape))

    keys = jax.random.split(jax.random.key(0), len(images))
    pixels = jax.device_put(np.float32(images) / np.float32(255))

    def in_batches():
        corruptions.corrupt(keys, pixels, name, severity).block_until_ready()

    turns = {library: [] for library in (*programs, "jax")}
    for _ in range(ROUNDS + 1):  # the first one warms up
        for library, reference in programs.items():
            turns[library].append(seconds_a_call(lambda r=reference: one_by_one(r)))
        turns["jax"].append(seconds_a_call(in_batches) / len(images))
    medians = {library: statistics.median(times[1:]) for library, times in turns.items()}
    return medians, medians.pop("jax")


def seconds_a_call(call):
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SECONDS:
        call()
        count += 1
    return passed / count
