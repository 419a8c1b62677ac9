"""Three steps of a method on one device and on two, of a process that has two: METHOD OUT.npz.

A program, since a process has its devices from its start. Run by test_devices.py.
"""

import functools
import sys

import jax
import numpy as np

from craft_jax import methods, models
from craft_jax.mesh import replicated_on
from craft_jax.training import step
from craft_jax.training.batches import Batches
from tests import conftest

STEPS = 3

# Compiling is what takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def mesh_of(devices):
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((devices,), ("data",), axis_types=auto, devices=jax.devices()[:devices])


def trained(config, dataset, devices):
    """{name: the metrics and the state's leaves after each step} on so many devices."""
    mesh = mesh_of(devices)
    step.make_mesh = lambda: mesh
    run = step.make_run(config, dataset, None, STEPS)
    teacher = ()
    if methods.needs_teacher(config):
        run = run._replace(teacher=run.student)  # untrained, of its own seed
        teacher = jit(functools.partial(run.student.init, shape=(1, 16, 16, 3)))(jax.random.key(7))
    state = jit(lambda: step.init_state(run, (16, 16, 3), dataset.train_labels))()
    state, teacher = jax.device_put((state, teacher), replicated_on(mesh))
    update = jit(functools.partial(step.train_step, run))
    batches, found = Batches(dataset, config.batch_size, config.seed, mesh), {}
    state = step.begin(run, state, teacher, batches(0))
    for number in range(STEPS):
        state, metrics = update(state, teacher, batches(number))
        for path, leaf in jax.tree.leaves_with_path((metrics, state)):
            found[f"{number} {jax.tree_util.keystr(path, simple=True, separator='/')}"] = np.asarray(leaf)
    return found


def main(method, out):
    models.REGISTRY["tiny"] = conftest.TINY
    config = conftest.small_config(method)
    dataset = conftest.small_digits()
    arrays = {}
    for devices in (1, 2):
        for name, value in trained(config, dataset, devices).items():
            arrays[f"{devices} {name}"] = value
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
