"""Variants of CRAFT+ and of KD with clean targets, tried to gain more (variants.py).

A method of one's own, outside the package: what does not hold goes with this file. All keys `variant.*` off,
it is CRAFT+ (`variant.base="craft"`) or matched KD with clean targets (`"kd"`).

    python -m craft_jax.main --config=configs/studies/_craft_variants.py[:preset] --config.variant.rank=8
"""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp, softplus

from configs import craft_plus
from craft_jax import losses
from craft_jax.losses.common import product
from craft_jax.methods import METHODS, Method, Terms, craft, kd

_MOMENTUM = 0.99  # of the running scatter
_BASES = {"craft": craft.METHOD, "kd": kd.METHOD}


def get_config(preset=""):
    config = craft_plus.get_config(preset)
    config.method = "craft_variants"
    with config.unlocked():
        config.variant = {
            "base": "craft",
            "consistency": 0.0,  # weight of the Jensen-Shannon divergence of the student's views (AugMix's)
            "confidence": False,  # r is the teacher's largest probability on the clean view, its targets'
            "rank": 0,  # de-align from so many first directions of the teacher's shifts so far; 0: as CRAFT
            "class_positives": False,  # all images of the anchor's class are positives, each by itself
        }
    return config


def terms(config, s):
    variant, base = config.variant, _base(config)
    if variant.base == "kd":
        found = Terms(kd.METHOD.terms(base, s).losses)
    else:
        found = craft.METHOD.terms(base, s)
        if variant.confidence:
            r = jnp.max(jax.nn.softmax(jax.lax.stop_gradient(s.teacher.logits[:, 0])), axis=1)
            found = craft.weighted(base, s, r)
        found = _replaced(config, s, found)
    if variant.consistency:
        consistency = variant.consistency * jnp.mean(losses.jensen_shannon(s.student.logits))
        found = found._replace(losses={**found.losses, "consistency": consistency})
    return found


def _base(config):
    """The configuration of the base: without the terms that a variant replaces."""
    config = config.copy_and_resolve_references()  # ConfigDict(config) would share its sections
    if config.variant.rank:
        config.dealign.weight = 0.0
    if config.variant.class_positives:
        config.contrastive.weight = 0.0
    return config


def _replaced(config, s, found):
    """CRAFT's Terms with the terms of a variant in the places of its own."""
    r, own, memory = found.reliability, {}, s.memory
    z_t = craft.embeddings(config, s.teacher)
    if config.variant.class_positives:
        z_s = craft.embeddings(config, s.student, s.params["projections"])
        loss = class_positives(z_t[:, 0], z_s, s.labels, config.contrastive.temperature)
        own["contrastive"] = config.contrastive.weight * jnp.mean(r * loss)
    if config.variant.rank:
        memory, directions = _directions(s.memory, z_t, config.variant.rank)
        z_s = craft.embeddings(config, s.student, jax.lax.stop_gradient(s.params["projections"]))
        moved = product("bvd,dk->bvk", z_s[:, 1:] - z_s[:, :1], directions)
        own["dealign"] = config.dealign.weight * jnp.mean((1 - r) * jnp.mean(jnp.sum(moved**2, 2), 1))
    return Terms({**found.losses, **own}, r, memory)


def class_positives(anchors, z_s, labels, temperature):
    """(B,): "each" of `losses.contrastive`, the student's views of all images of the class being positives.

    Args:
      anchors: the teacher's, of the clean view, (B, D) unit vectors.
      z_s: the student's, (B, V, D).
    """
    s = product("id,jnd->ijn", jax.lax.stop_gradient(anchors), z_s) / temperature
    same = jnp.broadcast_to((labels[:, None] == labels)[:, :, None], s.shape)
    others = logsumexp(jnp.where(same, -1e30, s), axis=(1, 2), keepdims=True)
    return jnp.sum(jnp.where(same, softplus(others - s), 0.0), axis=(1, 2)) / jnp.sum(same, axis=(1, 2))


def _directions(scatter, z_t, rank):
    """(running second moments (D, D) of the teacher's shifts, their first `rank` eigenvectors (D, rank))."""
    shifts = jax.lax.stop_gradient(z_t[:, 1:] - z_t[:, :1]).reshape(-1, z_t.shape[-1])
    new = product("nd,ne->de", shifts, shifts) / len(shifts)
    scatter = _MOMENTUM * scatter + (1 - _MOMENTUM) * new
    return scatter, jnp.linalg.eigh(scatter)[1][:, -rank:]


def _init(config, key, student, teacher, labels):
    if config.variant.base == "kd":
        return {}, ()
    params, _ = craft.METHOD.init(config, key, student, teacher, labels)
    width = sum(teacher.stages[i - 1].shape[-1] for i in config.contrastive.stages)
    return params, jnp.zeros((width, width)) if config.variant.rank else ()


def _views(config):
    student, teacher = _BASES[config.variant.base].views(config)
    return (config.views.count + 1 if config.variant.consistency else student), teacher


METHODS["craft_variants"] = Method(
    terms,
    views=_views,
    init=_init,
    stages=lambda config: _BASES[config.variant.base].stages(config),
)
