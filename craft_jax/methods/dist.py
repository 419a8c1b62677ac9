"""DIST (Huang et al. 2022)."""

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
        weights = config.dist.beta, config.dist.gamma, config.dist.temperature
        return losses.dist(student.logits, teacher.logits, *weights)

    return distilled_terms(config, s, "dist", config.dist.weight, loss)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.dist.weight),
    check=lambda config, labels: compares_images(config, "dist", config.dist.weight),
    reads=lambda config: distilled_reads(config, "dist", ("beta", "gamma", "temperature")),
)
