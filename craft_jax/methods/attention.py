"""Attention KD (Zagoruyko and Komodakis 2017)."""

from craft_jax import losses
from craft_jax.methods.common import Method, distilled_reads, distilled_terms, distilled_views


def _terms(config, s):
    def loss(student, teacher):
        return losses.attention_transfer(student.stages, teacher.stages, config.attention.reduction)

    return distilled_terms(config, s, "attention", config.attention.weight, loss)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.attention.weight),
    reads=lambda config: distilled_reads(config, "attention", ("reduction",)),
    stages=lambda config: "all" if config.attention.weight else (),
)
