"""Which losses a method adds up, with which weights. `METHODS` is the registry: name -> Method.

A method is three pure functions of the configuration. Every loss gives one value an example; a method
multiplies by the reliability r or its complement where it has one, takes the mean, and does nothing else.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from craft_jax import crd, losses


class Signals(NamedTuple):
    """What a step knows when it computes its losses; V views as `Method.views` asks, view 0 the clean one.

    Attributes:
      labels: (B,) int32.
      student: Outputs with leaves (B, V_s, ...), V_s the views the student forwarded.
      teacher: Outputs with leaves (B, V_t, ...), or None for a method without a teacher. Frozen.
      params: the method's own trained parameters.
      memory: the method's memory, not trained by gradients.
      index: (B,) int32, the images' rows in the training set.
      key: a key of this step's, for the method's own draws.
    """

    labels: jax.Array
    student: Any
    teacher: Any
    params: Any
    memory: Any
    index: jax.Array
    key: jax.Array


class Terms(NamedTuple):
    """What a method gives back.

    Attributes:
      losses: {name: scalar}, weights included; the step minimises their sum.
      reliability: (B,) in [0, 1], or None.
      memory: the memory after this step.
    """

    losses: dict
    reliability: Any = None
    memory: Any = ()


class Method(NamedTuple):
    """A distillation method.

    Attributes:
      terms: (config, Signals) -> Terms.
      views: config -> (V_s, V_t), how many views the student and the teacher forward; V_t = 0: no teacher.
      init: (config, key, student, teacher, labels) -> (params, memory); student and teacher are Outputs of
        shapes, labels those of the training set, (N,) NumPy.
      check: (config, labels), raises DataError before any work where the data cannot serve the method.
      reads: the sections of the configuration that it reads among those that not every method does, so
        that an override of another's can be pointed out; None if that is not known.
    """

    terms: Any
    views: Any
    init: Any = lambda config, key, student, teacher, labels: ({}, ())
    check: Any = lambda config, labels: None
    reads: Any = None


def _over_views(loss, which, views):
    """The per-example loss of view 0, or its mean over all views: loss(v) -> (B,)."""
    if which == "clean":
        return loss(0)
    return jnp.mean(jnp.stack([loss(v) for v in range(views)]), axis=0)


def _view_count(config, which):
    return 1 if which == "clean" else config.views.count + 1


def _cross_entropy(config, s):
    def loss(v):
        return losses.cross_entropy(s.student.logits[:, v], s.labels)

    return _over_views(loss, config.views.ce_views, s.student.logits.shape[1])


def _distill(config, s, loss):
    """loss(v, t) -> (B,): student view v learning from teacher view t, over the views that distil."""
    own = config.views.distill_target == "own"
    views = s.student.logits.shape[1]
    return _over_views(lambda v: loss(v, v if own else 0), config.views.distill_views, views)


def _logit_kd(config, s):
    def loss(v, t):
        student, teacher = s.student.logits[:, v], s.teacher.logits[:, t]
        return losses.logit_kd(student, teacher, config.kd.temperature)

    return _distill(config, s, loss)


def _erm_terms(config, s):
    return Terms({"ce": jnp.mean(_cross_entropy(config, s))})


def _erm_views(config):
    return _view_count(config, config.views.ce_views), 0


def _augmix_terms(config, s):
    terms = {"ce": jnp.mean(_cross_entropy(config, s))}
    if config.augmix.weight:
        terms["jsd"] = config.augmix.weight * jnp.mean(losses.jensen_shannon(s.student.logits))
    return Terms(terms)


def _augmix_views(config):
    return (config.views.count + 1 if config.augmix.weight else _erm_views(config)[0]), 0


def _kd_terms(config, s):
    terms = {"ce": jnp.mean(_cross_entropy(config, s))}
    if config.kd.weight:
        terms["kd"] = config.kd.weight * jnp.mean(_logit_kd(config, s))
    return Terms(terms)


def _distill_views(config, weight):
    """The views of a method that distils by one term: no network forwards a view that no term reads."""
    student = _view_count(config, config.views.ce_views)
    if not weight:
        return student, 1
    distilled = _view_count(config, config.views.distill_views)
    return max(student, distilled), distilled if config.views.distill_target == "own" else 1


def _kd_views(config):
    return _distill_views(config, config.kd.weight)


def _attention_terms(config, s):
    def loss(v, t):
        student, teacher = _view(s.student, v).stages, _view(s.teacher, t).stages
        return losses.attention_transfer(student, teacher, config.attention.reduction)

    terms = {"ce": jnp.mean(_cross_entropy(config, s))}
    if config.attention.weight:
        terms["attention"] = config.attention.weight * jnp.mean(_distill(config, s, loss))
    return Terms(terms)


def _attention_views(config):
    return _distill_views(config, config.attention.weight)


def _view(outputs, v):
    """Outputs with leaves (B, V, ...) -> Outputs of one view, (B, ...)."""
    return jax.tree.map(lambda x: x[:, v], outputs)


def _crd_terms(config, s):
    ce = {"ce": jnp.mean(_cross_entropy(config, s))}
    if not config.crd.weight:
        return Terms(ce, memory=s.memory)

    def embedded(v, t):
        return {
            "student": crd.embeddings(s.params["student"], s.student.pooled[:, v]),
            "teacher": crd.embeddings(s.params["teacher"], s.teacher.pooled[:, t]),
        }

    anchors = embedded(0, 0)
    banks, positives, negatives, memory = crd.start(
        config, s.memory, anchors, s.index, s.labels, s.key, s.student.logits.shape[-1]
    )

    def loss(v, t):
        return crd.loss(config, embedded(v, t), banks, positives, negatives, memory)

    terms = {**ce, "crd": config.crd.weight * jnp.mean(_distill(config, s, loss))}
    return Terms(terms, memory=crd.update(config, memory, anchors, s.index))


def _crd_views(config):
    return _distill_views(config, config.crd.weight)


def _craft_terms(config, s):
    """Paper, section 3.5, with r and the fragility direction u constant in the student's gradient."""
    r = losses.reliability(
        s.teacher.logits,
        config.reliability.alpha,
        config.reliability.beta,
        config.reliability.gamma,
    )
    terms = {"ce": jnp.mean(_cross_entropy(config, s))}
    if config.kd.weight:
        terms["kd"] = config.kd.weight * jnp.mean(r * _logit_kd(config, s))
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


def _craft_views(config):
    every = config.views.count + 1
    if config.contrastive.weight or config.dealign.weight:
        return every, every
    return _kd_views(config)[0], every  # reliability reads all of the teacher's views


def _craft_init(config, key, student, teacher, labels):
    """A projection a stage, (C_s, C_t): the student's pooled map to the teacher's width (no bias)."""
    stages = config.contrastive.stages
    pairs = [(student.stages[i - 1].shape[-1], teacher.stages[i - 1].shape[-1]) for i in stages]
    keys = jax.random.split(key, len(pairs))
    normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    return {"projections": [normal(k, pair) for k, pair in zip(keys, pairs, strict=True)]}, ()


METHODS = {
    "erm": Method(_erm_terms, _erm_views, reads=()),
    "augmix": Method(_augmix_terms, _augmix_views, reads=("augmix",)),
    "kd": Method(_kd_terms, _kd_views, reads=("teacher", "kd")),
    "attkd": Method(_attention_terms, _attention_views, reads=("teacher", "attention")),
    "crd": Method(_crd_terms, _crd_views, crd.init, crd.check, reads=("teacher", "crd")),
    "craft": Method(
        _craft_terms,
        _craft_views,
        _craft_init,
        reads=("teacher", "kd", "contrastive", "dealign", "reliability"),
    ),
}


def trained_corruptions(config):
    """The names of the corruptions that a run's networks see in training; AugMix's operations are none."""
    makes_views = max(METHODS[config.method].views(config)) > 1
    return list(config.views.corruptions) if makes_views and config.views.kind == "corruptions" else []


def unread(config, keys):
    """Which of some dotted keys the run does not read: another method's, or the other kind of views'."""
    own = METHODS[config.method].reads
    if own is None:
        return []
    others = {section for m in METHODS.values() for section in m.reads or ()} - set(own)
    if "augmix" in (config.views.kind, config.teacher.method):
        others -= {"augmix"}
    drawn = ("views.corruptions", "views.severities", "views.group_size")
    return [k for k in keys if k.split(".")[0] in others or (config.views.kind == "augmix" and k in drawn)]
