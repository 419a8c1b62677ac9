"""Probabilistic knowledge transfer (Passalis and Tefas 2018), on the pooled features."""

from craft_jax import losses
from craft_jax.methods.common import (
    Method,
    compares_images,
    distilled_reads,
    distilled_terms,
    distilled_views,
)


def _terms(config, s):
    def loss(student, teacher):
        return losses.probabilistic_transfer(student.pooled, teacher.pooled)

    return distilled_terms(config, s, "pkt", config.pkt.weight, loss)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.pkt.weight),
    check=lambda config, labels: compares_images(config, "pkt", config.pkt.weight),
    reads=lambda config: distilled_reads(config, "pkt", ()),
)
