"""A step and a forward pass beside the same networks, batch and losses written plainly in PyTorch.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install -r requirements.txt torch
    /tmp/torch/bin/python launch/bench.py torch [--method=kd] [--preset=cifar10_cpu] [--seconds=60] [--json]

Methods: erm, kd, attkd, crd, on clean images alone. PyTorch's networks are channels-last, start from the same
values, and read images that are cropped already; the step here also crops. Before the clock starts both
compute the loss of one batch: `loss_difference` says how far they are apart, relatively, and more than
1e-4 ends the benchmark. Both then take turns in one process, so that what else the machine does falls on
both; medians count, and a ratio is the median of the ratios of neighbouring turns. On a GPU both use its
TF32.

Printed, and the keys of --json (one object, the last line): method, preset, device, loss_difference, and

    step_ms, torch_step_ms        milliseconds a training step
    forward_ms, torch_forward_ms  of the student's evaluation of a batch
    step_ratio, forward_ratio     ours over PyTorch's: below 1 is ahead
"""

import functools
import json
import os
import statistics
import sys

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # two programs share a GPU

import jax
import jax.numpy as jnp
import numpy as np

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    print("bench.py torch: PyTorch is not installed here; pip install torch", file=sys.stderr)
    sys.exit(2)

from craft_jax import streams
from craft_jax.mesh import hold, replicated_on, split_over
from craft_jax.methods import crd
from craft_jax.training.gradients import forward
from craft_jax.training.step import begin, initial, jit_step
from launch.benchmarks import setting
from launch.benchmarks.machine import machine
from launch.benchmarks.step import measure, repeated, views_alone
from launch.benchmarks.torch_networks import DEVICE, Crd, distillation, on_torch

METHODS = ("erm", "kd", "attkd", "crd")


def main(argv):
    arguments, config = setting.parse("torch", __doc__, argv)
    if arguments.method not in METHODS or config.method != arguments.method:
        sys.exit(f"bench.py torch: --method={arguments.method}; allowed: {', '.join(METHODS)}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    programs, difference = build(config)
    if not difference < 1e-4:
        sys.exit(f"bench.py torch: the losses of one batch differ by {difference:.1e}: not the same program")
    report(arguments, config, measure(programs, arguments.seconds), difference)


# ----------------------------------------------------------------------------------------------------
# PyTorch


def torch_step(config, networks, crd_module, optimizer, images, labels, index, negatives=None):
    """One step of training; returns its loss, on the device."""
    student, teacher = networks
    found = student(images)
    loss = F.cross_entropy(found[0], labels)
    if teacher is not None:
        with torch.no_grad():
            taught = teacher(images)
        loss = loss + distillation(config, found, taught, labels, crd_module, index, negatives)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if crd_module is not None:
        crd_module.remember(index)
    optimizer.step()
    return loss.detach()


# ----------------------------------------------------------------------------------------------------
# Both


class Waited:
    """What `jax.block_until_ready` waits for."""

    def block_until_ready(self):
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return self


def build(config):
    """({name: a call that starts it and returns what to wait for}, the losses' relative difference)."""
    dataset = setting.generated(images=config.batch_size)
    run, teacher_model = setting.run_of(config, dataset), setting.teacher_of(config, dataset)
    batch = {
        "image": dataset.train_images,
        "label": dataset.train_labels[: config.batch_size],
        "index": np.arange(config.batch_size, dtype=np.int32),
    }
    batch = jax.device_put(batch, split_over(run.mesh))
    place = functools.partial(jax.jit, out_shardings=replicated_on(run.mesh))
    teacher = hold(place(functools.partial(setting.teacher_variables, run))())
    state = begin(run, initial(run, dataset)[0](), teacher, batch)
    views = jax.jit(functools.partial(views_alone, run))(batch["image"], 0)
    if views.shape[1] != 1:
        sys.exit(
            "bench.py torch: a preset under which a network sees more than clean images; allowed: others"
        )

    student = on_torch(config.student.name, state["student"], dataset)
    module = Crd(config, state["method"], state["memory"]).to(DEVICE) if config.method == "crd" else None
    frozen = None
    if teacher_model:
        frozen = on_torch(
            config.teacher.name, jax.jit(functools.partial(setting.fresh, teacher_model))(), dataset
        )
        frozen.eval()
    trained = [*student.parameters(), *(module.parameters() if module else ())]
    own = config.optimizer
    optimizer = torch.optim.SGD(trained, own.learning_rate, own.momentum, weight_decay=own.weight_decay)
    images = torch.tensor(np.array(views[:, 0])).permute(0, 3, 1, 2).to(DEVICE)
    labels, index = (torch.tensor(np.array(batch[name])).long().to(DEVICE) for name in ("label", "index"))
    step = functools.partial(torch_step, config, (student, frozen), module, optimizer, images, labels, index)

    ours = jit_step(run, state)
    evaluated = jax.jit(lambda variables: forward(run.student, variables, views, train=False)[0].logits)
    variables = jax.tree.map(jnp.copy, state["student"])  # the step donates its own
    negatives = None
    if module:
        key = streams.stream(config.seed, 0, streams.METHOD)
        rows = crd.draw_negatives(
            key, state["memory"]["labels"], batch["label"], dataset.num_classes, config.crd.negatives
        )
        negatives = torch.tensor(np.array(rows)).long().to(DEVICE)
    theirs = float(step(negatives))
    state, metrics = ours(state, teacher, batch)
    difference = abs(theirs / float(metrics["loss"]) - 1)

    def torch_forward():
        student.eval()
        with torch.no_grad():
            student(images)
        student.train()
        return Waited()

    def torch_train():
        step()
        return Waited()

    programs = {
        "step": repeated(ours, state, teacher, batch),
        "torch_step": torch_train,
        "forward": lambda: evaluated(variables),
        "torch_forward": torch_forward,
    }
    return programs, difference


def report(arguments, config, turns, difference):
    facts = {
        "method": arguments.method,
        "preset": arguments.preset,
        "device": jax.devices()[0].device_kind,
        "loss_difference": difference,
    }
    preset = arguments.preset or "of the paper"
    print(f"{arguments.method}, preset {preset}; {machine()}; PyTorch {torch.__version__}")
    print(f"the losses of the first batch differ by {difference:.1e}; {len(turns['step'])} rounds")
    for name in ("step", "forward"):
        pairs = list(zip(turns[name], turns[f"torch_{name}"], strict=True))
        ours, theirs = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{name:8} {ours:.1f} ms, PyTorch's {theirs:.1f} ms: {ratio:.2f} times as long")
        facts |= {f"{name}_ms": ours, f"torch_{name}_ms": theirs, f"{name}_ratio": ratio}
    if arguments.json:
        print(json.dumps(facts))
