"""Attention KD (Zagoruyko and Komodakis 2017)."""

import jax.numpy as jnp

from craft_jax import losses
from craft_jax.methods.common import (
    Method,
    Terms,
    cross_entropy,
    distill,
    distilled_reads,
    distilled_views,
    view,
)


def _terms(config, s):
    def loss(v, t):
        student, teacher = view(s.student, v).stages, view(s.teacher, t).stages
        return losses.attention_transfer(student, teacher, config.attention.reduction)

    terms = {"ce": jnp.mean(cross_entropy(config, s))}
    if config.attention.weight:
        terms["attention"] = config.attention.weight * jnp.mean(distill(config, s, loss))
    return Terms(terms)


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.attention.weight),
    reads=lambda config: distilled_reads(config, "attention", ("reduction",)),
    stages=lambda config: "all" if config.attention.weight else (),
)
