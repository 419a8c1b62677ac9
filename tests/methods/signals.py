"""Random small network outputs as a step gives them to a method, and what the method makes of them.

`outputs` makes what networks would return, so no network is needed.
"""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import methods
from craft_jax.config import reader
from craft_jax.models import Outputs

ROOT = Path(__file__).resolve().parents[2]
B, K, M = 5, 3, 2
STUDENT_WIDTHS, TEACHER_WIDTHS = (2, 3, 4), (3, 2, 5)
LABELS = np.array([0, 1, 1, 2, 0], np.int32)

VIEWS = [
    {"views__ce_views": ce, "views__distill_views": distill, "views__distill_target": target}
    for ce, distill, target in itertools.product(("clean", "all"), ("clean", "all"), ("own", "clean"))
]

# Compiling is what takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(method, **settings):
    """A method's configuration with `__` for the dot, and numbers that let every part of it count."""
    config = reader.load(str(ROOT / "configs" / f"{method}.py"))
    defaults = {
        "views__count": M,
        "kd__weight": 0.7,
        "kd__temperature": 3.0,
        "contrastive__weight": 0.6,
        "contrastive__temperature": 0.4,
        "dealign__weight": 1.3,
        "reliability__alpha": 2.0,  # moderate: r is not at 0 or 1
    }
    for key, value in (defaults | settings).items():
        *sections, leaf = key.split("__")
        node = config
        for section in sections:
            node = node[section]
        node[leaf] = value
    return config


def outputs(seed, views, widths):
    """Random Outputs with leaves (B, views, ...), views alike enough for teachers to agree at times."""
    random = np.random.default_rng(seed)

    def leaf(*shape):
        own = random.normal(size=(B, 1, *shape))
        return (own + 0.6 * random.normal(size=(B, views, *shape))).astype(np.float32)

    stages = tuple(leaf(2, 2, width) for width in widths)
    return Outputs(logits=2 * leaf(K), stages=stages, pooled=leaf(widths[-1]))


def make_signals(config, seed=0):
    """Signals as a step gives them: as many views as the method asks for."""
    method = methods.METHODS[config.method]
    seen, taught = method.views(config)
    student = outputs(seed, seen, STUDENT_WIDTHS)
    teacher = outputs(seed + 100, taught, TEACHER_WIDTHS) if taught else None
    params, memory = method.init(config, jax.random.key(seed), student, teacher, np.resize(LABELS, 50))
    index, key = jnp.arange(B, dtype=jnp.int32), jax.random.key(9)
    signals = methods.Signals(jnp.asarray(LABELS), student, teacher, params, memory, index, key)
    return signals._replace(memory=method.begin(config, signals)) if method.begin else signals


def terms_of(config, signals):
    """The method's Terms as NumPy: not jitted, so that configurations of M views share what XLA compiles."""
    terms = functools.partial(methods.METHODS[config.method].terms, config)
    signals = jax.tree.map(jnp.asarray, signals)
    return jax.tree.map(np.asarray, terms(signals) if config.views.count == M else jit(terms)(signals))


def losses_and_gradient(config, signals):
    """The losses and the gradients of their sum, jitted, as NumPy."""
    method = methods.METHODS[config.method]

    def total(inputs):
        losses = method.terms(config, signals._replace(**inputs)).losses
        return sum(losses.values()), losses

    inputs = {"student": signals.student, "teacher": signals.teacher, "params": signals.params}
    (_, losses), gradient = jit(jax.value_and_grad(total, has_aux=True))(inputs)
    return jax.tree.map(np.asarray, (losses, gradient))
