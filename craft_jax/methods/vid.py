"""Variational information distillation (Ahn et al. 2019), summed over the stages.

The mean of a teacher's map is the student's through three learned 1x1 convolutions with ReLU between, of the
teacher's width and without bias; the variances are learned too.
"""

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import losses
from craft_jax.losses.common import check_stages, float32, pool_alike, product
from craft_jax.losses.variational import EPS
from craft_jax.methods.common import Method, distilled_reads, distilled_terms, distilled_views, uniform

_VARIANCE = 5.0  # of every channel, at the start


def _terms(config, s):
    def loss(student, teacher):
        check_stages(student_stages=student.stages, teacher_stages=teacher.stages)
        return sum(map(_of_stage, s.params["stages"], student.stages, teacher.stages))

    return distilled_terms(config, s, "vid", config.vid.weight, loss)


def _of_stage(params, student, teacher):
    """The loss of one stage, (B,)."""
    h, teacher = pool_alike(float32(student), float32(teacher))
    first, *others = params["kernels"]
    h = product("bhwc,cd->bhwd", h, first)
    for kernel in others:
        h = product("bhwc,cd->bhwd", jax.nn.relu(h), kernel)
    return losses.variational_information(h, params["log_scale"], teacher)


def _init(config, key, student, teacher, labels):
    if not config.vid.weight:
        return {}, ()
    check_stages(student_stages=student.stages, teacher_stages=teacher.stages)
    pairs = [(a.shape[-1], b.shape[-1]) for a, b in zip(student.stages, teacher.stages, strict=True)]
    keys = jax.random.split(key, len(pairs))
    return {"stages": [_stage_init(k, *pair) for k, pair in zip(keys, pairs, strict=True)]}, ()


def _stage_init(key, width, wanted):
    keys, widths = jax.random.split(key, 3), (width, wanted, wanted)
    return {
        "kernels": [uniform(k, n, n, wanted) for k, n in zip(keys, widths, strict=True)],
        "log_scale": jnp.full((wanted,), np.log(np.expm1(_VARIANCE - EPS)), jnp.float32),
    }


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.vid.weight),
    init=_init,
    reads=lambda config: distilled_reads(config, "vid", ()),
    stages=lambda config: "all" if config.vid.weight else (),
)
