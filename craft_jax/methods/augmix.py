"""AugMix (Hendrycks et al. 2020): cross-entropy and the consistency of predictions on AugMix's views."""

import jax.numpy as jnp

from craft_jax import losses
from craft_jax.methods.common import Method, Terms, cross_entropy, view_count, view_reads


def _terms(config, s):
    terms = {"ce": jnp.mean(cross_entropy(config, s))}
    if config.augmix.weight:
        terms["jsd"] = config.augmix.weight * jnp.mean(losses.jensen_shannon(s.student.logits))
    return Terms(terms)


def _views(config):
    return view_count(config, "all" if config.augmix.weight else config.views.ce_views), 0


def _reads(config):
    return ("augmix.weight", *view_reads(config, False))


METHOD = Method(_terms, _views, reads=_reads)
