"""Similarity-preserving distillation (Tung and Mori 2019), on the last stage."""

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
        return losses.similarity_preserving(student.stages[-1], teacher.stages[-1])

    return distilled_terms(config, s, "sp", config.sp.weight, loss)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.sp.weight),
    check=lambda config, labels: compares_images(config, "sp", config.sp.weight),
    reads=lambda config: distilled_reads(config, "sp", ()),
    stages=lambda config: (-1,) if config.sp.weight else (),
)
