"""A step over its floor: what distillation costs beyond running the two networks.

    python launch/bench.py step [--method=craft] [--preset=cifar10_cpu] [--seconds=60]
                                [--without CHANGE ...] [--json]

The step is the jitted one that training calls, on the preset of configs/METHOD.py (none: the paper's; a CPU
wants cifar10_cpu or smoke). Its floor forwards the teacher, where the method has one, and the student, and
updates the student by plain cross-entropy, on the same views, made before the clock starts. Both donate
their state and take turns in one process, so that what else the machine does falls on both; medians count,
and the ratio is the median of the ratios of neighbouring turns. The parts are timed in the same turns, each
a program of its own; the losses, with all that only the whole step does, are the rest. With --without the
step that lacks these changes takes turns too.

Images and labels are uniform random, 50,000 of them behind the step, 32x32. Networks are untrained.

Printed, and the keys of --json (one object, the last line): method, preset, device, and

    step_ms, floor_ms  milliseconds
    ratio              of the two; the goal is 1.10, for CRD on a CPU 1.25
    images_per_s       of the step, each image counted once, however many views it has
    compile_s          seconds of compiling the step
    without_ratio      with --without: of that step to this one, so above 1 where the changes pay
    peak_bytes         memory of the step on a device by XLA's plan: state, teacher, batch and temporaries
"""

import functools
import itertools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from craft_jax import losses, streams, views
from craft_jax.mesh import hold, replicated_on, split_over
from craft_jax.training.gradients import forward
from craft_jax.training.step import begin, initial, jit_step
from launch.benchmarks import setting
from launch.benchmarks import without as changes
from launch.benchmarks.machine import machine

TURN = 0.2  # seconds that a turn lasts at least: a device that runs ahead is waited for once a turn
LEAST_ROUNDS = 5  # however short --seconds is


def main(argv):
    arguments, config = setting.parse("step", __doc__, argv, changes.add_option)
    programs, compiled = build(config)
    if arguments.without:
        with changes.taken_back(arguments.without):
            programs["without"] = build(config)[0]["step"]
    report(arguments, config, measure(programs, arguments.seconds), compiled)


# ----------------------------------------------------------------------------------------------------
# The programs: the step, its floor, the parts


def floor_step(run, state, teacher, images, labels):
    """What no distillation with these networks and views can do without: (state, outputs).

    Args:
      run: a Run; static.
      state: {"student", "optimizer"}; donated.
      teacher: the teacher's variables, () for none.
      images: (B, V, H, W, 3) float32 in [0, 1], V the most views that a network forwards.
      labels: (B,) int32.
    """
    seen, taught = run.method.views(run.config)
    # An output, or the compiler would leave the teacher out.
    outputs = {"teacher": teacher_alone(run, teacher, images)} if taught and run.teacher else {}

    def loss(params):
        variables = {**state["student"], "params": params}
        student, batch_stats = forward(run.student, variables, images[:, :seen], train=True)
        each = jax.vmap(losses.cross_entropy, in_axes=(1, None))(student.logits, labels)
        return jnp.mean(each), batch_stats

    params = state["student"]["params"]
    (outputs["loss"], batch_stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, optimizer = run.optimizer.update(gradient, state["optimizer"], params)
    student = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    return {"student": student, "optimizer": optimizer}, outputs


def teacher_alone(run, teacher, images):
    taught = run.method.views(run.config)[1]
    return forward(run.teacher, teacher, images[:, :taught], train=False)[0].logits


def views_alone(run, images, step):
    config = run.config
    key = functools.partial(streams.stream, config.seed, step)
    count = max(run.method.views(config))
    return views.make(key(streams.CROPS), key(streams.CORRUPTIONS), images, count, config, run.mesh)


def build(config):
    """({name: a call that starts it and returns what to wait for}, what is known of the compiled step)."""
    dataset = setting.generated(images=config.batch_size)
    run = setting.run_of(config, dataset)
    replicated, split = replicated_on(run.mesh), split_over(run.mesh)
    place = functools.partial(jax.jit, out_shardings=replicated)
    teacher = hold(place(functools.partial(setting.teacher_variables, run))())
    fresh = initial(run, dataset)[0]
    batch = {
        "image": dataset.train_images,
        "label": dataset.train_labels[: config.batch_size],
        "index": np.arange(config.batch_size, dtype=np.int32),
    }
    batch = jax.device_put(batch, split)
    make_views = jax.jit(functools.partial(views_alone, run))
    images = jax.device_put(make_views(batch["image"], 0), split)

    state = begin(run, fresh(), teacher, batch)
    step, seconds = setting.compiled(jit_step(run, state).lower(state, teacher, batch))
    compiled = {"compile_s": seconds, "peak_bytes": planned_bytes(step)}

    def floor(run, teacher):
        jitted = jax.jit(functools.partial(floor_step, run), donate_argnums=0, out_shardings=replicated)
        return repeated(jitted, floor_state(run, fresh()), teacher, images, batch["label"])

    numbers = itertools.count()
    programs = {
        "step": repeated(step, state, teacher, batch),
        "floor": floor(run, teacher),
        "views": lambda: make_views(batch["image"], next(numbers)),
        "student": floor(run._replace(teacher=None), ()),
    }
    if run.teacher:
        network = jax.jit(functools.partial(teacher_alone, run))
        programs["teacher"] = lambda: network(teacher, images)
    return programs, compiled


def planned_bytes(compiled):
    """What a program occupies on a device by XLA's plan; a donated argument and its output are one."""
    plan = compiled.memory_analysis()
    arguments, outputs = plan.argument_size_in_bytes, plan.output_size_in_bytes
    return arguments + outputs - plan.alias_size_in_bytes + plan.temp_size_in_bytes


def floor_state(run, state):
    """The part of a fresh state that the floor has: no method's parameters, no memory."""
    student = state["student"]
    optimizer = jax.jit(run.optimizer.init, out_shardings=replicated_on(run.mesh))(student["params"])
    return {"student": student, "optimizer": optimizer}


def repeated(program, state, *arguments):
    """A call that runs (state, ...) -> (state, outputs) from where the last one left."""

    def call():
        nonlocal state
        state, outputs = program(state, *arguments)
        return state, outputs

    return call


# ----------------------------------------------------------------------------------------------------
# The clock


def measure(programs, seconds):
    """Seconds a call: {name: one figure a round}. Every program has a turn a round."""
    counts = {}
    for name, call in programs.items():
        jax.block_until_ready(call())  # compiles
        counts[name] = max(1, round(TURN / turn(call, 1)))
    turns = {name: [] for name in programs}
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or min(map(len, turns.values())) < LEAST_ROUNDS:
        for name, call in programs.items():
            turns[name].append(turn(call, counts[name]))
    return turns


def turn(call, count):
    began = time.perf_counter()
    for _ in range(count):
        waited_for = call()
    jax.block_until_ready(waited_for)
    return (time.perf_counter() - began) / count


def report(arguments, config, turns, compiled):
    medians = {name: statistics.median(times) for name, times in turns.items()}
    ratio = ratio_of(turns, "step", "floor")
    step, floor, without = (medians.pop(name, None) for name in ("step", "floor", "without"))
    parts = {**medians, "losses": step - sum(medians.values())}
    rate = config.batch_size / step
    preset = arguments.preset or "of the paper"
    print(f"{arguments.method}, preset {preset}; {machine()}; {len(turns['step'])} rounds")
    print(f"step     {1000 * step:.1f} ms, {rate:,.0f} images/s, floor {1000 * floor:.1f} ms")
    print(f"ratio    {ratio:.3f}")
    print("shares   " + ", ".join(f"{name} {100 * part / step:.0f}%" for name, part in parts.items()))
    print(f"compile  {compiled['compile_s']:.1f} s")
    print(f"memory   {compiled['peak_bytes'] / 2**20:.0f} MiB a device")
    facts = {
        "method": arguments.method,
        "preset": arguments.preset,
        "device": jax.devices()[0].device_kind,
        "step_ms": 1000 * step,
        "floor_ms": 1000 * floor,
        "ratio": ratio,
        "images_per_s": rate,
    }
    if without:
        facts |= {"without": arguments.without, "without_ratio": ratio_of(turns, "without", "step")}
        names = ", ".join(arguments.without)
        print(f"without  {names}: {1000 * without:.1f} ms, {facts['without_ratio']:.3f} times as long")
    if arguments.json:
        print(json.dumps(facts | compiled))


def ratio_of(turns, one, other):
    """The median of the ratios of neighbouring turns."""
    return statistics.median(a / b for a, b in zip(turns[one], turns[other], strict=True))
