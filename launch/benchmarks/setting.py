"""What the benchmarks of a step have in common: a preset's configuration, made-up data, a run."""

import argparse
import importlib
import time
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from craft_jax import methods, models
from craft_jax.config import tree
from craft_jax.models.folding import fold
from craft_jax.training.step import make_run

SHAPE = (32, 32, 3)  # of CIFAR's images
EXAMPLES = 50_000  # of CIFAR's training set: CRD has a row for each
CLASSES = 10

_IMAGENET = ((224, 224, 3), 1_281_167, 1000)  # likewise of ImageNet's

# Any number will do: it only shapes the learning rate's curve.
_STEPS = 78_000


class Generated(NamedTuple):
    """A data set as far as a step and its loop read one (`data.Dataset`)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    num_classes: int
    mean: tuple
    std: tuple


class Frozen(NamedTuple):
    """A teacher as far as `make_run` reads one."""

    model: models.Model


def parse(name, description, argv, add_options=None, **numbers):
    """(options, configuration) of the benchmarks that run a step; leaves with status 2 if one is wrong.

    `numbers` are further options, integers, by their defaults; `add_options` adds others to the parser.
    """
    parser = argparse.ArgumentParser(
        prog=f"bench.py {name}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--method", choices=methods.METHODS, default="craft")
    parser.add_argument("--preset", default="", help="of configs/METHOD.py; default: the paper's protocol")
    parser.add_argument("--seconds", type=float, default=60, help="to measure for, compiling not counted")
    for option, default in numbers.items():
        parser.add_argument(f"--{option}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    if add_options:
        add_options(parser)
    arguments = parser.parse_args(argv)
    try:
        return arguments, configuration(arguments.method, arguments.preset)
    except ValueError as error:
        parser.error(f"--preset: {error}")


def configuration(method, preset=""):
    """configs/METHOD.py:PRESET with a learning rate at which random labels do no harm.

    Raises:
      ValueError: a preset that does not exist.
    """
    config = importlib.import_module(f"configs.{method}").get_config(preset)
    # Times do not depend on it, and a network that diverges would stop the loop.
    config.optimizer.learning_rate = 1e-3
    return config


def generated(images, data="cifar10"):
    """As many labels as a data set has, uniform, and the first `images` of their images, uniform uint8.

    `data` is "imagenet2012", or any of CIFAR-10's size.
    """
    shape, examples, classes = _IMAGENET if data == "imagenet2012" else (SHAPE, EXAMPLES, CLASSES)
    random = np.random.default_rng(0)
    return Generated(
        random.integers(0, 256, (images, *shape), dtype=np.uint8),
        random.integers(0, classes, examples, dtype=np.int32),
        classes,
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
    )


def run_of(config, dataset):
    """The Run of a configuration, its teacher untrained where the method has one."""
    teacher, shape = teacher_of(config, dataset), dataset.train_images.shape[1:]
    return make_run(config, dataset, Frozen(fold(teacher, shape)[0]) if teacher else None, _STEPS)


def teacher_of(config, dataset):
    """The teacher's Model as it is trained; None for a method without one."""
    _, taught = methods.METHODS[config.method].views(config)
    return make_run(tree.teacher_config(config), dataset, None, _STEPS).student if taught else None


def teacher_variables(run):
    """Fresh ones, () for a method without a teacher."""
    return fresh(run.teacher) if run.teacher else ()


def fresh(teacher):
    return teacher.init(jax.random.key(1), (1, *SHAPE))


def compiled(lowered):
    """(the compiled program, seconds), by compiling in earnest and not from JAX's cache on the disk."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the setting once
    try:
        began = time.perf_counter()
        return lowered.compile(), time.perf_counter() - began
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
