"""ERM: cross-entropy alone, no teacher."""

import jax.numpy as jnp

from craft_jax.methods.common import Method, Terms, cross_entropy, view_count, view_reads


def _terms(config, s):
    return Terms({"ce": jnp.mean(cross_entropy(config, s))})


def _views(config):
    return view_count(config, config.views.ce_views), 0


METHOD = Method(_terms, _views, reads=lambda config: view_reads(config, False))
