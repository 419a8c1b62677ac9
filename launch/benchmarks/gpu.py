"""The step as XLA compiles it for an NVIDIA H100, on a machine that has none.

    python3 -m venv /tmp/cuda && /tmp/cuda/bin/pip install -r requirements.txt "jax[cuda12]"    # 5.6 GB
    /tmp/cuda/bin/python launch/bench.py gpu [--method=craft] [--preset=imagenet] [--devices=1] [--batch=N]
                                             [--accumulate=1] [--remat] [--student=NAME] [--dtype=bfloat16]
                                             [--steps=1] [--without CHANGE ...] [--json]

The CUDA wheels bring XLA's compiler for GPUs, which needs neither a GPU nor a driver. The step is that of the
paper's preset (configs/METHOD.py: batch 128, ResNet-56 to ResNet-20, M = 2), at 32x32, with 50,000 training
images behind it, or of another; with --preset=imagenet 1,281,167 images of 224x224. More than 8 devices are
machines of 8. Nothing runs, so there are no times but the compiler's, and kernels are not tuned: what a
real H100 runs may differ in kind, not in how often the GPU waits for the host. Lines of log about a plugin
that is registered already, or about CUB's scratch sizes, mean nothing. With --steps=10 it is the dispatch
of ten steps that training makes on a GPU, and all figures are of the ten.

Printed, and the keys of --json (one object, the last line):

    compile_s      seconds
    launches       kernels a step; launch/benchmarks/hlo.py says what counts as one
    conditionals   in the program; beside it how many are run a step, for the host waits in each
    unknown_loops  loops in the program whose length the compiler does not know: the host waits in each turn
    collectives    a step, over all devices at once; not among the launches
    collective_bytes    of what they give on each device, together
    temp_bytes     temporary memory, a device
    argument_bytes state, teacher and batch, a device
"""

import argparse
import functools
import json
import os
import sys

# JAX and XLA read these once: nothing may have imported them before.
os.environ["JAX_PLATFORMS"] = "cpu"
# Tuning would run kernels on a GPU; flags of the user's own stay.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"

import jax
import numpy as np
from jax.experimental import topologies

from craft_jax.mesh import held, replicated_on, split_over
from craft_jax.methods import METHODS
from craft_jax.training.step import initial, jit_step, jit_steps
from launch.benchmarks import hlo, setting, without

_INSTALL = 'python3 -m venv /tmp/cuda && /tmp/cuda/bin/pip install -r requirements.txt "jax[cuda12]"'

# What the compiler would ask the device.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def main(argv):
    parser = argparse.ArgumentParser(
        prog="bench.py gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--method", choices=METHODS, default="craft")
    parser.add_argument("--preset", default="", help="of configs/METHOD.py; default: the paper's protocol")
    parser.add_argument("--devices", type=int, default=1, help="H100s, eight a machine; default 1")
    parser.add_argument("--batch", type=int, help="images a step over all devices; default: the preset's")
    parser.add_argument("--student", default="", help="student.name; default: the preset's")
    parser.add_argument("--accumulate", type=int, default=1, help="optimizer.accumulate_steps; default 1")
    parser.add_argument("--remat", action="store_true", help="student.remat")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: the preset's")
    parser.add_argument("--steps", type=int, default=1, help="in one dispatch; default 1")
    without.add_option(parser)
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    arguments = parser.parse_args(argv)
    config = configuration_or_leave(parser, arguments)
    if arguments.steps < 1:
        parser.error(f"--steps={arguments.steps}; allowed: at least 1")
    mesh = mesh_or_leave("gpu", arguments.devices)
    with without.taken_back(arguments.without):
        report(arguments, config, *compile_step(config, mesh, arguments.steps))


def configuration_or_leave(parser, arguments):
    """The configuration that the options name; leaves with status 2 if one is wrong."""
    try:
        config = setting.configuration(arguments.method, arguments.preset)
    except ValueError as error:
        parser.error(f"--preset: {error}")
    config.batch_size = arguments.batch or config.batch_size
    config.student.name = arguments.student or config.student.name
    config.dtype = arguments.dtype or config.dtype
    config.optimizer.accumulate_steps, config.student.remat = arguments.accumulate, arguments.remat
    config.views.lanes = max(config.views.lanes, arguments.devices)
    devices, parts = arguments.devices, arguments.accumulate
    if devices < 1 or (devices > 8 and devices % 8):
        parser.error(f"--devices={devices}; allowed: 1 to 8, or a multiple of 8")
    if parts < 1 or config.batch_size % (devices * parts) or config.batch_size % config.views.lanes:
        allowed = f"what, times --accumulate={parts}, divides the batch of {config.batch_size}"
        parser.error(f"--devices={devices}; allowed: {allowed}")
    return config


def mesh_or_leave(name, devices):
    """`h100_mesh`; without the CUDA wheels benchmark `name` leaves with status 2."""
    try:
        return h100_mesh(devices)
    except NotImplementedError:
        print(f"bench.py {name}: JAX's CUDA wheels are not installed here; {_INSTALL}", file=sys.stderr)
        sys.exit(2)


def h100_mesh(devices):
    """A mesh of H100s that are not there. Raises NotImplementedError without the CUDA wheels."""
    shape = f"1x{-(-devices // 8)}x{min(devices, 8)}"  # slices, machines, devices of each
    topology = topologies.get_topology_desc(shape, "cuda", topology=shape, target_config=_H100)
    return jax.sharding.Mesh(np.array(topology.devices), ("data",))


def compile_step(config, mesh, steps):
    """(the compiled steps of a configuration on a mesh, seconds of compiling); from shapes alone."""
    dataset = setting.generated(images=0, data=config.data.name)
    run = setting.run_of(config, dataset)._replace(mesh=mesh)
    stack = (steps,) if steps > 1 else ()
    whole, split = replicated_on(mesh), split_over(mesh, axis=len(stack))
    state = as_held(initial(run, dataset)[1])
    teacher = shapes_of(functools.partial(setting.teacher_variables, run), whole)
    size = (*stack, config.batch_size)
    batch = {
        "image": jax.ShapeDtypeStruct((*size, *dataset.train_images.shape[1:]), np.uint8, sharding=split),
        "label": jax.ShapeDtypeStruct(size, np.int32, sharding=split),
        "index": jax.ShapeDtypeStruct(size, np.int32, sharding=split),
    }
    jitted = (jit_steps if stack else jit_step)(run, state)
    return setting.compiled(jitted.lower(state, teacher, batch))


def shapes_of(function, sharding):
    """What `function()` would return, as shapes on a sharding, as a step holds them."""
    shapes = jax.eval_shape(function)
    return as_held(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes))


def as_held(shapes):
    """ShapeDtypeStructs with shardings, as a step holds such arrays."""
    on = held(shapes)
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, on)


def report(arguments, config, compiled, seconds):
    method, devices = arguments.method, arguments.devices
    each = "a step" if arguments.steps == 1 else f"in {arguments.steps} steps"
    counts = hlo.count(compiled.as_text())
    plan = compiled.memory_analysis()
    temporary, given = plan.temp_size_in_bytes, plan.argument_size_in_bytes
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.kinds.most_common(8))
    least = "at least " * (counts.unknown_loops > 0)
    settings = f"{config.dtype}, {arguments.accumulate} parts" + ", remat" * arguments.remat
    batch = f"{config.batch_size} images a step in {settings}"
    print(f"{method}, preset {arguments.preset or 'of the paper'}, {config.student.name}, {batch}")
    lacking = f", without {', '.join(arguments.without)}" if arguments.without else ""
    print(f"{devices} x NVIDIA H100, JAX {jax.__version__}{lacking}")
    print(f"compile           {seconds:.0f} s")
    print(f"launches          {least}{counts.launches} {each}: {kinds} ...")
    print(f"conditionals      {counts.conditionals}: {least}{counts.waits} waits for the host {each}")
    print(f"loops             {counts.loops}, {counts.unknown_loops} of unknown length")
    among = ", ".join(f"{number} {kind}" for kind, number in counts.collective_kinds.most_common())
    print(f"collectives       {counts.collectives} {each}: {among or 'none'}")
    print(f"their bytes       {counts.collective_bytes / 2**20:.2f} MiB on each device")
    print(
        f"temporary memory  {temporary / 2**20:.0f} MiB a device, beside {given / 2**20:.0f} MiB of arguments"
    )
    if arguments.json:
        facts = {
            "method": method,
            "preset": arguments.preset,
            "devices": devices,
            "student": config.student.name,
            "batch": config.batch_size,
            "accumulate": arguments.accumulate,
            "remat": arguments.remat,
            "dtype": config.dtype,
            "without": arguments.without,
            "compile_s": round(seconds, 1),
            "launches": counts.launches,
            "conditionals": counts.conditionals,
            "unknown_loops": counts.unknown_loops,
            "collectives": counts.collectives,
            "collective_bytes": counts.collective_bytes,
            "temp_bytes": temporary,
            "argument_bytes": given,
        }
        print(json.dumps(facts))
