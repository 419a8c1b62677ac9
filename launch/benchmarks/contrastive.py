"""The contrastive loss in blocks of images (`contrastive.block`) beside all at once: memory and time.

    python launch/bench.py contrastive [--block=64] [--budget=3] [--seconds=20] [--json]
    /tmp/cuda/bin/python launch/bench.py contrastive --h100 [--block=64] [--json]    # as `bench.py gpu`

A program is the value of the mean loss and its gradient in the student's embeddings: configs/craft.py's
views, temperature and positives; embeddings at random, as wide as the three stages of a CIFAR ResNet
together. Memory is what the compiler plans beside the program's inputs and outputs, which are the same for
both. The two take turns in one process, so that what else the machine does falls on both; medians count,
and the ratio of the times is the median of the ratios of neighbouring turns. Compiling is not counted.
Sizes grow until the loss all at once would take more than the budget: there nothing runs, and they end.

With --h100 both are compiled for a GPU that is not there, so that nothing runs: in place of the times stand
the kernels that a program launches (launch/benchmarks/hlo.py says what counts as one).

Printed is a table; --json adds one object in the last line: device, block (images) and rows, of which each
has images, anchors (all images' views) and, for whole_ and blocked_ each

    temp_bytes    temporary memory by the compiler's plan; memory_ratio is whole over blocked, the goal at
                  16,386 anchors at least 20
    ms            milliseconds a call; time_ratio is blocked over whole, the goal there at most 1.3
    launches      in place of ms and time_ratio, with --h100
"""

import argparse
import functools
import importlib
import json
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import losses
from craft_jax.mesh import make_mesh, replicated_on
from launch.benchmarks import hlo, setting, step
from launch.benchmarks.machine import machine

IMAGES = (128, 512, 2048, 5462, 8192)  # 384 to 24,576 anchors of three views
WIDTH = 16 + 32 + 64  # channels of a CIFAR ResNet's three stages

# The table's columns: {title: (key of --json, format, divisor)}.
_MEMORY = {
    "images": ("images", ",.0f", 1),
    "anchors": ("anchors", ",.0f", 1),
    "whole, MiB": ("whole_temp_bytes", ",.1f", 2**20),
    "in blocks, MiB": ("blocked_temp_bytes", ",.1f", 2**20),
    "whole / blocks": ("memory_ratio", ".1f", 1),
}
_TIMES = {
    "whole, ms": ("whole_ms", ",.1f", 1),
    "in blocks, ms": ("blocked_ms", ",.1f", 1),
    "blocks / whole": ("time_ratio", ".2f", 1),
}
_LAUNCHES = {
    "whole, launches": ("whole_launches", ",.0f", 1),
    "in blocks, launches": ("blocked_launches", ",.0f", 1),
}


def main(argv):
    parser = argparse.ArgumentParser(
        prog="bench.py contrastive", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--block", type=int, default=64, help="images a block (64)")
    parser.add_argument("--budget", type=float, default=3, help="GiB that all at once may take (3)")
    parser.add_argument("--seconds", type=float, default=20, help="to measure for, a size (20)")
    parser.add_argument("--h100", action="store_true", help="compile for an H100 that is not there")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.block < IMAGES[0]:
        parser.error(f"--block={arguments.block}; allowed: 1 to {IMAGES[0] - 1}, fewer than the least size")
    if arguments.h100:
        jax.config.update("jax_platforms", "cpu")  # the environment that `gpu` sets has been read
        gpu = importlib.import_module("launch.benchmarks.gpu")  # not above: it keeps JAX from a real GPU
        mesh, of = gpu.mesh_or_leave("contrastive", devices=1), f"an NVIDIA H100, JAX {jax.__version__}"
    else:
        mesh, of = make_mesh(), machine()
    columns = _MEMORY | (_LAUNCHES if arguments.h100 else _TIMES)
    print(f"{of}; blocks of {arguments.block} images\n")
    print(f"| {' | '.join(columns)} |\n|{'---:|' * len(columns)}", flush=True)
    rows = []
    for images in IMAGES:
        rows.append(row(images, arguments, replicated_on(mesh)))
        report(rows[-1], columns)
        if rows[-1]["whole_temp_bytes"] > arguments.budget * 2**30:
            break
    if arguments.json:
        device = mesh.devices.flat[0].device_kind
        print(json.dumps({"device": device, "block": arguments.block, "rows": rows}))


def row(images, arguments, sharding):
    """The figures of one size: {key of --json: number}."""
    config = setting.configuration("craft")
    shape = images, config.views.count + 1, WIDTH
    programs = {
        "whole": program(config, 0, shape, sharding),
        "blocked": program(config, arguments.block, shape, sharding),
    }
    facts = {"images": images, "anchors": images * shape[1]}
    memory = {name: each.memory_analysis().temp_size_in_bytes for name, each in programs.items()}
    facts |= {f"{name}_temp_bytes": size for name, size in memory.items()}
    facts["memory_ratio"] = memory["whole"] / memory["blocked"]
    if arguments.h100:
        launches = {name: hlo.count(each.as_text()).launches for name, each in programs.items()}
        return facts | {f"{name}_launches": number for name, number in launches.items()}
    if memory["whole"] > arguments.budget * 2**30:
        return facts
    return facts | times(programs, embeddings(shape), arguments.seconds)


def program(config, block, shape, sharding):
    """The compiled (teacher's, student's embeddings) -> (mean loss, gradient of the second)."""
    temperature, positives = config.contrastive.temperature, config.contrastive.positives

    def loss(teacher, student):
        return jnp.mean(losses.contrastive(teacher, student, temperature, positives, block=block))

    z = jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding)
    return jax.jit(jax.value_and_grad(loss, argnums=1)).lower(z, z).compile()


def embeddings(shape):
    """The teacher's and the student's: unit vectors, uniform over directions."""
    z = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    return jax.device_put(tuple(z / np.linalg.norm(z, axis=-1, keepdims=True)))


def times(programs, inputs, seconds):
    calls = {name: functools.partial(each, *inputs) for name, each in programs.items()}
    turns = step.measure(calls, seconds)
    ratio = statistics.median(b / w for w, b in zip(turns["whole"], turns["blocked"], strict=True))
    medians = {f"{name}_ms": 1000 * statistics.median(each) for name, each in turns.items()}
    return medians | {"time_ratio": ratio}


def report(facts, columns):
    """A row of the table; a dash where nothing ran."""
    cells = [
        format(facts[key] / scale, form) if key in facts else "-" for key, form, scale in columns.values()
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
