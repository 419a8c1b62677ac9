"""Logit KD (Hinton et al. 2015)."""

import jax.numpy as jnp

from craft_jax.methods.common import (
    Method,
    Terms,
    cross_entropy,
    distilled_reads,
    distilled_views,
    logit_kd,
)


def _terms(config, s):
    terms = {"ce": jnp.mean(cross_entropy(config, s))}
    if config.kd.weight:
        terms["kd"] = config.kd.weight * jnp.mean(logit_kd(config, s))
    return Terms(terms)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.kd.weight),
    reads=lambda config: distilled_reads(config, "kd", ("temperature", "standardize")),
)
