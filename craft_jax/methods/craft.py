"""CRAFT (the paper): alignment and KD weighted by reliability, de-alignment by its complement."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from craft_jax import losses
from craft_jax.methods.common import (
    Method,
    Signals,
    Terms,
    cross_entropy,
    distilled_views,
    logit_kd,
    view_reads,
)
from craft_jax.models import Outputs


def _terms(config, s):
    return weighted(config, s, _reliability(config, s))


def weighted(config: ConfigDict, s: Signals, r: Float[Array, " B"]) -> Terms:
    """Paper, section 3.5, with r and the fragility direction u constant in the student's gradient.

    Args:
      config: reads what `METHOD.reads` says, but for reliability.*.
      s: the Signals.
      r: the reliability of each image, in [0, 1]; no gradient flows through it.
    """
    terms = {"ce": jnp.mean(cross_entropy(config, s))}
    if config.kd.weight:
        terms["kd"] = config.kd.weight * jnp.mean(r * logit_kd(config, s))
    z_t = embeddings(config, s.teacher) if _embeds(config) else None
    if config.contrastive.weight:
        z_s = embeddings(config, s.student, s.params["projections"])
        terms["contrastive"] = config.contrastive.weight * jnp.mean(r * _contrastive(config, s, z_t, z_s))
    if _dealigns(config):
        # Without the stop_gradient the projections alone could null u and leave the network as it was.
        z_s = embeddings(config, s.student, jax.lax.stop_gradient(s.params["projections"]))
        u = losses.fragility_directions(z_t, config.dealign.kind, config.dealign.eps)
        dealign = losses.dealignment(z_s, u, config.dealign.form)
        terms["dealign"] = config.dealign.weight * jnp.mean((1.0 - r) * dealign)
    elif config.dealign.weight:
        terms["dealign"] = jnp.zeros(())
    return Terms(terms, reliability=r)


def _reliability(config, s):
    """r of each image, (B,): the paper's score, or one that knows less of the image or more."""
    source = config.reliability.source
    if source == "oracle":
        of_label = jnp.take_along_axis(jax.nn.softmax(s.teacher.logits), s.labels[:, None, None], axis=2)
        return jax.lax.stop_gradient(jnp.mean(of_label, axis=(1, 2)))
    r = losses.reliability(
        s.teacher.logits,
        config.reliability.alpha,
        config.reliability.beta,
        config.reliability.gamma,
    )
    if source == "mean":
        return jnp.full_like(r, jnp.mean(r))
    return jax.random.permutation(s.key, r) if source == "shuffled" else r


def _dealigns(config):
    """Whether there is something to de-align: where the clean view is the only one nothing moves."""
    return config.dealign.weight > 0 and config.views.count > 0


def _embeds(config):
    return config.contrastive.weight > 0 or _dealigns(config)


def embeddings(
    config: ConfigDict, outputs: Outputs, projections: Sequence[Array] | None = None
) -> Float[Array, "B V D"]:
    """Outputs with leaves (B, V, ...) as unit vectors of the stages of `contrastive.stages`."""
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
        config.contrastive.block,
    )


def _views(config):
    every = config.views.count + 1
    if _embeds(config):
        return every, every
    return distilled_views(config, config.kd.weight)[0], every  # reliability reads all of the teacher's views


def _init(config, key, student, teacher, labels):
    """A projection a stage, (C_s, C_t): the student's pooled map to the teacher's width (no bias)."""
    if not _embeds(config):
        return {}, ()
    stages = config.contrastive.stages
    pairs = [(student.stages[i - 1].shape[-1], teacher.stages[i - 1].shape[-1]) for i in stages]
    keys = jax.random.split(key, len(pairs))
    normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    return {"projections": [normal(k, pair) for k, pair in zip(keys, pairs, strict=True)]}, ()


def _reads(config):
    score = ["reliability.source"] if config.reliability.source == "oracle" else ["reliability"]
    read = ["kd.weight", "contrastive.weight", *score, *view_reads(config, config.kd.weight)]
    read += ["dealign.weight"] if config.views.count else []
    read += ["kd.temperature", "kd.standardize"] if config.kd.weight else []
    if config.contrastive.weight:
        read += [f"contrastive.{key}" for key in ("temperature", "positives", "mask_same_class", "block")]
        read += ["contrastive.anchor"] if config.views.count else []
    read += ["dealign"] if _dealigns(config) else []
    read += ["contrastive.stages"] if _embeds(config) else []
    return tuple(read)


def _note(config):
    if not config.dealign.weight or _dealigns(config):
        return ""
    return "config.views.count: 0; without a corrupted view de-alignment is zero and dealign.* has no effect"


def _stages(config):
    return config.contrastive.stages if _embeds(config) else ()


METHOD = Method(_terms, _views, _init, reads=_reads, note=_note, stages=_stages)
