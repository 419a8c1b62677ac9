"""CRAFT (the paper): alignment and KD weighted by reliability, de-alignment by its complement."""

import jax
import jax.numpy as jnp

from craft_jax import losses
from craft_jax.methods.common import Method, Terms, cross_entropy, distilled_views, logit_kd


def _terms(config, s):
    """Paper, section 3.5, with r and the fragility direction u constant in the student's gradient."""
    r = losses.reliability(
        s.teacher.logits,
        config.reliability.alpha,
        config.reliability.beta,
        config.reliability.gamma,
    )
    terms = {"ce": jnp.mean(cross_entropy(config, s))}
    if config.kd.weight:
        terms["kd"] = config.kd.weight * jnp.mean(r * logit_kd(config, s))
    z_t = _embeddings(config, s.teacher)
    if config.contrastive.weight:
        z_s = _embeddings(config, s.student, s.params["projections"])
        terms["contrastive"] = config.contrastive.weight * jnp.mean(r * _contrastive(config, s, z_t, z_s))
    if config.dealign.weight:
        # Without the stop_gradient the projections alone could null u and leave the network as it was.
        z_s = _embeddings(config, s.student, jax.lax.stop_gradient(s.params["projections"]))
        u = losses.fragility_directions(z_t, config.dealign.kind, config.dealign.eps)
        dealign = losses.dealignment(z_s, u, config.dealign.form)
        terms["dealign"] = config.dealign.weight * jnp.mean((1.0 - r) * dealign)
    return Terms(terms, reliability=r)


def _embeddings(config, outputs, projections=None):
    """Outputs with leaves (B, V, ...) -> (B, V, D) unit vectors of the configured stages."""
    stages = [outputs.stages[i - 1] for i in config.contrastive.stages]
    batch, views = stages[0].shape[:2]
    flat = [stage.reshape(batch * views, *stage.shape[2:]) for stage in stages]
    return losses.embed(flat, projections).reshape(batch, views, -1)


def _contrastive(config, s, z_t, z_s):
    if config.contrastive.anchor == "clean":
        z_t = jnp.broadcast_to(z_t[:, :1], z_t.shape)
    return losses.contrastive(
        z_t,
        z_s,
        config.contrastive.temperature,
        config.contrastive.positives,
        s.labels if config.contrastive.mask_same_class else None,
    )


def _views(config):
    every = config.views.count + 1
    if config.contrastive.weight or config.dealign.weight:
        return every, every
    return distilled_views(config, config.kd.weight)[0], every  # reliability reads all of the teacher's views


def _init(config, key, student, teacher, labels):
    """A projection a stage, (C_s, C_t): the student's pooled map to the teacher's width (no bias)."""
    stages = config.contrastive.stages
    pairs = [(student.stages[i - 1].shape[-1], teacher.stages[i - 1].shape[-1]) for i in stages]
    keys = jax.random.split(key, len(pairs))
    normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    return {"projections": [normal(k, pair) for k, pair in zip(keys, pairs, strict=True)]}, ()


def _reads(config):
    read = ["views.ce_views", "kd.weight", "contrastive.weight", "dealign.weight"]
    if config.kd.weight:
        read += ["kd.temperature", "views.distill_views"]
        read += ["views.distill_target"] if config.views.distill_views == "all" else []
    if config.contrastive.weight:
        read += ["contrastive"]
    if config.dealign.weight:
        read += ["dealign"]
    if config.contrastive.weight or config.dealign.weight:
        read += ["contrastive.stages"]
    if config.kd.weight or config.contrastive.weight or config.dealign.weight:
        read += ["reliability"]
    return tuple(read)


METHOD = Method(_terms, _views, _init, reads=_reads)
