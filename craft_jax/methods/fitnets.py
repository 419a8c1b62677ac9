"""FitNets (Romero et al. 2015): the teacher's map from the student's, by a learned 1x1 convolution.

One stage of training, as the later literature runs it, where the paper first trains the hint alone; and the
convolution alone, where RepDistiller's and mdistiller's code follows it by BatchNorm and ReLU.
"""

import jax

from craft_jax import losses
from craft_jax.losses.common import float32, pool_alike, product
from craft_jax.methods.common import Method, distilled_reads, distilled_terms, distilled_views, uniform


def _terms(config, s):
    def loss(student, teacher):
        h_s, h_t = pool_alike(float32(_stage(config, student)), float32(_stage(config, teacher)))
        return losses.hint(product("bhwc,cd->bhwd", h_s, s.params["kernel"]) + s.params["bias"], h_t)

    return distilled_terms(config, s, "fitnets", config.fitnets.weight, loss)


def _stage(config, outputs):
    return outputs.stages[config.fitnets.stage - 1]


def _init(config, key, student, teacher, labels):
    """The convolution from the student's width to the teacher's."""
    if not config.fitnets.weight:
        return {}, ()
    width, wanted = (_stage(config, outputs).shape[-1] for outputs in (student, teacher))
    kernel_key, bias_key = jax.random.split(key)
    return {"kernel": uniform(kernel_key, width, width, wanted), "bias": uniform(bias_key, width, wanted)}, ()


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.fitnets.weight),
    init=_init,
    reads=lambda config: distilled_reads(config, "fitnets", ("stage",)),
    stages=lambda config: (config.fitnets.stage,) if config.fitnets.weight else (),
)
