"""Decoupled KD (Zhao et al. 2022), with its warm-up."""

import jax.numpy as jnp

from craft_jax import losses
from craft_jax.methods.common import Method, distilled_reads, distilled_terms, distilled_views


def _terms(config, s):
    def loss(student, teacher):
        weights = config.dkd.alpha, config.dkd.beta, config.dkd.temperature
        return _risen(config, s.progress) * losses.decoupled_kd(
            student.logits, teacher.logits, s.labels, *weights
        )

    return distilled_terms(config, s, "dkd", config.dkd.weight, loss)


def _risen(config, progress):
    """The part of the weight that a step has, linear to 1; public code rises by the epoch."""
    return jnp.minimum(progress / config.dkd.warmup, 1) if config.dkd.warmup else 1.0


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.dkd.weight),
    reads=lambda config: distilled_reads(config, "dkd", ("alpha", "beta", "temperature", "warmup")),
)
