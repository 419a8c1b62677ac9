"""What more GPUs would bring, and what tables would cost: an estimate on paper, from compiled programs.

    python launch/bench.py scale [results/speed/programs.jsonl]

The file has lines of `bench.py gpu --json`: launches, collectives and their bytes of a step. To them come
the FLOPs of the networks, as JAX traces them (`craft_jax.models.flops`): a step forwards the teacher on its
views of each image, and the student on its own three times over, since a gradient costs two forward passes
more; a fourth under student.remat. No GPU was measured. A step takes between

    best    max(FLOPs / 30% of the peak, launches x 1 us) + collectives x their least latency
    worst   FLOPs / 5% of the peak (in float32 2%) + launches x 5 us + collectives x their most

and the time that their bytes take, an all-reduce's twice, at 80% or at 30% of the link's published rate. What
is published is an H100 SXM's: 989 TFLOP/s in bfloat16 and 495 in TF32, without sparsity, NVLink 450 GB/s each
way; between machines 50 GB/s a GPU (400 Gb/s). Shares and latencies are assumptions: `_BEST`, `_WORST`.

Printed: each program with its range, and the GPU-hours of the paper's table (configs/studies/table2.py: five
methods, three seeds, and their teacher) and of the same table on ImageNet (--preset=imagenet), each run with
the evaluation of student and teacher on 76 sets of test images.
"""

import argparse
import functools
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from configs.studies import table2
from craft_jax import methods, models
from craft_jax.models.flops import flops
from launch.benchmarks import setting

_PEAK = {"float32": 495e12, "bfloat16": 989e12}  # FLOP/s
_NVLINK, _BETWEEN = 450e9, 50e9  # bytes/s of a GPU each way


class Assumed(NamedTuple):
    """What is not known: shares of the peak and of a link's rate, seconds a launch and a collective."""

    compute: dict
    link: float
    launch: float
    within: float  # a machine of eight
    between: float


_BEST = Assumed({"float32": 0.30, "bfloat16": 0.30}, 0.8, 1e-6, 10e-6, 20e-6)
_WORST = Assumed({"float32": 0.02, "bfloat16": 0.05}, 0.3, 5e-6, 40e-6, 100e-6)
_SETS = 1 + 15 * 5  # of test images
_TESTS = {"": 10_000, "imagenet": 50_000}


def main(argv):
    parser = argparse.ArgumentParser(
        prog="bench.py scale", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = Path(__file__).parents[2] / "results" / "speed" / "programs.jsonl"
    parser.add_argument(
        "programs", nargs="?", type=Path, default=default, help="lines of bench.py gpu --json"
    )
    path = parser.parse_args(argv).programs
    programs = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    print("| program | GPUs | batch | GFLOP a GPU | launches | collectives, MiB | ms a step | images/s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for program in programs:
        print(row(program))
    for preset in _TESTS:
        print(cost(programs, preset))


def row(program):
    """A line of the table of programs."""
    best, worst = seconds(program)
    name = f"{program['method']}{':' * bool(program['preset'])}{program['preset']}"
    name += f", {program['student']}"
    name += f", {program['accumulate']} parts" * (program["accumulate"] > 1) + ", remat" * program["remat"]
    moved = f"{program['collectives']}, {program['collective_bytes'] / 2**20:.1f}"
    rates = f"{program['batch'] / worst:,.0f} to {program['batch'] / best:,.0f}"
    each = f"{of_step(program) / program['devices'] / 1e9:,.0f}"
    took = f"{1000 * best:,.1f} to {1000 * worst:,.1f}"
    cells = (name, program["devices"], program["batch"], each, program["launches"], moved, took, rates)
    return f"| {' | '.join(map(str, cells))} |"


def seconds(program):
    """(best, worst) of a step."""
    return tuple(_seconds(program, assumed) for assumed in (_BEST, _WORST))


def _seconds(program, assumed):
    config = _config(program["method"], program["preset"])
    compute = of_step(program) / program["devices"] / _rate(assumed, config)
    launches = program["launches"] * assumed.launch
    together = max(compute, launches) if assumed is _BEST else compute + launches
    if program["devices"] == 1:
        return together
    far = program["devices"] > 8
    latency = assumed.between if far else assumed.within
    rate = assumed.link * (_BETWEEN if far else _NVLINK)
    return together + program["collectives"] * latency + 2 * program["collective_bytes"] / rate


def _rate(assumed, config):
    """FLOP/s of a GPU."""
    return assumed.compute[config.dtype] * _PEAK[config.dtype]


def of_step(program):
    """The networks' FLOPs in a step, over all GPUs."""
    config = _config(program["method"], program["preset"])
    seen, taught = methods.METHODS[config.method].views(config)
    names = program["student"], config.teacher.name
    student, teacher = (forward_flops(name, program["preset"]) for name in names)
    passes = 4 if program["remat"] else 3
    return program["batch"] * (passes * seen * student + taught * teacher)


def cost(programs, preset):
    """GPU-hours of a table of `table2.METHODS`, three seeds each on one GPU.

    Of a method without a program for one GPU the launches are left out, which is told.
    """
    known = {program["method"]: program for program in programs if _plain(program, preset)}
    config, seeds = _config("craft", preset), 3
    blank = {
        "preset": preset,
        "student": config.student.name,
        "devices": 1,
        "batch": config.batch_size,
        "remat": False,
        "launches": 0,
    }
    runs = [known.get(name) or blank | {"method": name} for name in table2.METHODS]
    examples = len(setting.generated(0, config.data.name).train_labels)
    student, teacher = (forward_flops(name, preset) for name in (config.student.name, config.teacher.name))
    hours = []
    for assumed in (_BEST, _WORST):
        rate = _rate(assumed, config)
        images = config.epochs * (examples // config.batch_size * config.batch_size)
        training = sum(seeds * images / program["batch"] * _seconds(program, assumed) for program in runs)
        of_teacher = config.teacher.epochs * examples * 3 * teacher / rate
        evaluation = len(runs) * seeds * _SETS * _TESTS[preset] * (student + teacher) / rate
        hours.append((training + of_teacher + evaluation) / 3600)
    blanks = ", ".join(name for name in table2.METHODS if name not in known)
    told = f"; without the launches of {blanks}" if blanks else ""
    names = ", ".join(table2.METHODS)
    return (
        f"{preset or 'the paper'}: {names}, {seeds} seeds: {hours[0]:,.1f} to {hours[1]:,.1f} GPU-hours{told}"
    )


def _plain(program, preset):
    own = program["student"] == _config(program["method"], program["preset"]).student.name
    alone = program["devices"] == 1 and program["accumulate"] == 1 and not program["remat"]
    alone = alone and not program.get("without")  # lines of older versions do not say
    return alone and own and program["preset"] == preset


@functools.cache
def _config(method, preset):
    return setting.configuration(method, preset)


@functools.cache
def forward_flops(name, preset):
    """Of one image."""
    data = setting.generated(0, _config("craft", preset).data.name)
    shape = (1, *data.train_images.shape[1:])
    model = models.build(name, data.num_classes, dtype="float32", mean=data.mean, std=data.std)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    return flops(lambda v, x: model.apply(v, x, False)[0].logits, variables, image)
