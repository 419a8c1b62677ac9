"""Five steps of a method on one device and on all: METHOD[:PARTS] OUT.npz [COORDINATOR PROCESSES PROCESS].

Of a process that has several devices, or of several processes. A program, since a process has its devices
from its start. Run by test_devices.py.
"""

import functools
import re
import sys

import jax
import numpy as np

from craft_jax import methods, models, processes
from craft_jax.mesh import fetch, make_mesh, put, replicated_on
from craft_jax.training import step
from craft_jax.training.batches import Batches
from tests import conftest

STEPS = 5

# Compiling is what takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def one_device():
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((1,), ("data",), axis_types=auto, devices=jax.local_devices()[:1])


def trained(config, dataset, mesh):
    """{name: the metrics and the state's leaves after each step} on the devices of a mesh."""
    step.make_mesh = lambda: mesh
    run = step.make_run(config, dataset, None, STEPS)
    whole, teacher = replicated_on(mesh), ()
    if methods.needs_teacher(config):
        run = run._replace(teacher=run.student)  # untrained, of its own seed
        init = jit(functools.partial(run.student.init, shape=(1, 16, 16, 3)))
        teacher = put(jax.device_get(init(jax.random.key(7))), whole)
    fresh, abstract = step.initial(run, dataset)
    held = jax.tree.map(lambda x: x.sharding, abstract)
    update = jit(functools.partial(step.train_step, run), out_shardings=(held, whole))
    batches, found = Batches(dataset, config.batch_size, config.seed, mesh), {}
    state = step.begin(run, fresh(), teacher, batches(0))
    streamed = Batches(dataset, config.batch_size, config.seed, mesh, resident_bytes=0)
    for made in (lambda source: source(3), lambda source: source.several(2, 4)):
        jax.tree.map(np.testing.assert_array_equal, fetch(made(streamed)), fetch(made(batches)))
    update = update.lower(state, teacher, batches(0)).compile()
    banks = re.findall(rf"= f32\[{len(dataset.train_labels)},128\]\S* all-gather\(", update.as_text())
    found["rows gathered"] = np.array(len(banks))
    for number in range(STEPS):
        state, metrics = update(state, teacher, batches(number))
        for path, leaf in jax.tree.leaves_with_path(fetch((metrics, state))):
            found[f"{number} {jax.tree_util.keystr(path, simple=True, separator='/')}"] = np.asarray(leaf)
    for path, leaf in jax.tree.leaves_with_path(state["memory"]):
        rows = leaf.addressable_shards[0].data.shape[:1]
        found[f"rows {jax.tree_util.keystr(path, simple=True, separator='/')}"] = np.array(rows)
    return found


def main(method, out, coordinator="", count="0", process="0"):
    models.REGISTRY["tiny"] = conftest.TINY
    method, _, parts = method.partition(":")
    config = conftest.small_config(
        method,
        **{
            "distributed.coordinator": coordinator,
            "distributed.processes": int(count),
            "distributed.process": int(process),
            "optimizer.accumulate_steps": int(parts or 1),
            # At larger ones five steps make percents of what rounding does; a sum has the largest gradients.
            "optimizer.learning_rate": 1e-4 if method == "combined" else 1e-3,
        },
    )
    processes.start(config)
    dataset = conftest.small_digits()
    arrays = {f"all {name}": value for name, value in trained(config, dataset, make_mesh()).items()}
    if processes.is_writer():
        arrays |= {f"one {name}": value for name, value in trained(config, dataset, one_device()).items()}
        np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
