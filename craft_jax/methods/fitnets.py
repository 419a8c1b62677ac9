"""FitNets (Romero et al. 2015): the teacher's map from the student's, by a learned 1x1 convolution.

One stage of training, as the later literature runs it, where the paper first trains the hint alone. BatchNorm
and ReLU follow the convolution, as in RepDistiller's and mdistiller's code, which the weight of 100 is from:
without them it diverged on the digits at a learning rate of 0.1 (results/digits). The regressor works in
training alone, so that its BatchNorm keeps no running statistics.
"""

import jax
import jax.numpy as jnp

from craft_jax import losses
from craft_jax.losses.common import float32, pool_alike, product
from craft_jax.methods.common import Method, distilled_reads, distilled_terms, distilled_views, uniform
from craft_jax.models.batch_norm import normalise


def _terms(config, s):
    def loss(student, teacher):
        h_s, h_t = pool_alike(float32(_stage(config, student)), float32(_stage(config, teacher)))
        return losses.hint(_regressed(s.params, h_s), h_t)

    return distilled_terms(config, s, "fitnets", config.fitnets.weight, loss)


def _regressed(params, h):
    """(B, H, W, C) -> (B, H, W, C'), by the statistics of these maps."""
    y = product("bhwc,cd->bhwd", h, params["kernel"])
    return jax.nn.relu(normalise(y, params["scale"], params["bias"])[0])


def _stage(config, outputs):
    return outputs.stages[config.fitnets.stage - 1]


def _init(config, key, student, teacher, labels):
    """The convolution from the student's width to the teacher's, and its BatchNorm's scale and bias."""
    if not config.fitnets.weight:
        return {}, ()
    width, wanted = (_stage(config, outputs).shape[-1] for outputs in (student, teacher))
    kernel = uniform(key, width, width, wanted)
    return {"kernel": kernel, "scale": jnp.ones(wanted), "bias": jnp.zeros(wanted)}, ()


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.fitnets.weight),
    init=_init,
    reads=lambda config: distilled_reads(config, "fitnets", ("stage",)),
    stages=lambda config: (config.fitnets.stage,) if config.fitnets.weight else (),
)
