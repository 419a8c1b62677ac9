"""Relational KD (Park et al. 2019), on the pooled features."""

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
        weights = config.rkd.distance_weight, config.rkd.angle_weight
        return losses.relational(student.pooled, teacher.pooled, *weights)

    return distilled_terms(config, s, "rkd", config.rkd.weight, loss)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.rkd.weight),
    check=lambda config, labels: compares_images(config, "rkd", config.rkd.weight),
    reads=lambda config: distilled_reads(config, "rkd", ("distance_weight", "angle_weight")),
)
