"""What methods share: what a step tells them (Signals), what they give back (Terms), what one is (Method).

A method is a few pure functions of the configuration. Every loss gives one value an example; a method
multiplies by the reliability r or its complement where it has one, takes the mean, and does nothing else.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from craft_jax import losses
from craft_jax.errors import DataError, MethodError
from craft_jax.models import Outputs


class Signals(NamedTuple):
    """What a step knows when it computes its losses; V views as `Method.views` asks, view 0 the clean one.

    Attributes:
      labels: classes from 0.
      student: with leaves (B, V_s, ...), V_s the views the student forwarded.
      teacher: with leaves (B, V_t, ...), or None for a method without a teacher. Frozen.
      params: the method's own trained parameters.
      memory: the method's memory, not trained by gradients.
      index: the images' rows in the training set.
      key: a key of this step's, for the method's own draws.
      progress: the share of the run's steps that are done with this one, in (0, 1].
      mesh: of all devices, with the one axis "data", for a method that says itself what lies where; or None.
    """

    labels: Int[Array, " B"]
    student: Outputs
    teacher: Outputs | None
    params: Any
    memory: Any
    index: Int[Array, " B"]
    key: Key[Array, ""]
    progress: Float[Array, ""] | float = 1.0
    mesh: Mesh | None = None


class Terms(NamedTuple):
    """What a method gives back.

    Attributes:
      losses: by name, weights included; the step minimises their sum.
      reliability: in [0, 1], or None.
      memory: the memory after this step.
    """

    losses: dict[str, Float[Array, ""]]
    reliability: Float[Array, " B"] | None = None
    memory: Any = ()


class Method(NamedTuple):
    """A distillation method.

    Attributes:
      terms: (config, Signals) -> Terms.
      views: config -> (V_s, V_t), how many views the student and the teacher forward; V_t = 0: no teacher.
      init: (config, key, student, teacher, labels) -> (params, memory); student and teacher are Outputs of
        shapes, labels those of the training set, in NumPy.
      begin: (config, Signals) -> memory, once, on the first batch before its step; None for no such thing.
      check: (config, labels), raises DataError before any work where the data cannot serve the method.
      reads: config -> the keys, or sections, that its terms read under that configuration, so that an
        override of any other can be pointed out (`methods.unread`); None if that is not known.
      note: config -> what a user should know of that configuration before it trains, "" for nothing.
      stages: config -> the numbers, from 1, of the stages that its terms pair, student's with teacher's, -1
        the last; "all" for every one, which needs as many on both sides; () for none. Of
        `methods.check_stages`.
      banks: config -> the names of those arrays of its memory that have a row for every training image and
        are large, keys of dicts: each of several devices holds its share of their rows.
    """

    terms: Callable[[ConfigDict, Signals], Terms]
    views: Callable[[ConfigDict], tuple[int, int]]
    init: Callable[..., tuple[Any, Any]] = lambda config, key, student, teacher, labels: ({}, ())
    begin: Callable[[ConfigDict, Signals], Any] | None = None
    check: Callable[[ConfigDict, np.ndarray], None] = lambda config, labels: None
    reads: Callable[[ConfigDict], Iterable[str]] | None = None
    note: Callable[[ConfigDict], str] = lambda config: ""
    stages: Callable[[ConfigDict], Iterable[int] | str] = lambda config: ()
    banks: Callable[[ConfigDict], Iterable[str]] = lambda config: ()


def view_count(config: ConfigDict, which: str) -> int:
    """How many views "clean" or "all" are."""
    return 1 if which == "clean" else config.views.count + 1


def distilled_views(config: ConfigDict, weight: float | int) -> tuple[int, int]:
    """`Method.views` of a method that distils by one term: no network forwards a view that no term reads."""
    student = view_count(config, config.views.ce_views)
    if not weight:
        return student, 1
    distilled = view_count(config, config.views.distill_views)
    return max(student, distilled), distilled if config.views.distill_target == "own" else 1


def distilled_reads(config: ConfigDict, section: str, keys: Iterable[str]) -> tuple[str, ...]:
    """`Method.reads` of such a method: the term's weight always, the other keys where it has one."""
    read = (f"{section}.weight", *view_reads(config, config[section].weight))
    return (*read, *(f"{section}.{key}" for key in keys)) if config[section].weight else read


def view_reads(config: ConfigDict, distils: Any) -> tuple[str, ...]:
    """Which of the keys that choose views are read: none where the clean view is the only one.

    Args:
      config: reads views.*.
      distils: whether a term learns from the teacher, or that term's weight.
    """
    if not config.views.count:
        return ()
    if not distils:
        return ("views.ce_views",)
    read = ("views.ce_views", "views.distill_views")
    return (*read, "views.distill_target") if config.views.distill_views == "all" else read


def over_views(loss: Callable[[int], Float[Array, " B"]], which: str, views: int) -> Float[Array, " B"]:
    """The loss of each example in view 0 ("clean"), or its mean over all views ("all")."""
    if which == "clean" or views == 1:
        return loss(0)
    return jnp.mean(jnp.stack([loss(v) for v in range(views)]), axis=0)


def cross_entropy(config: ConfigDict, s: Signals) -> Float[Array, " B"]:
    """The cross-entropy over the views of `views.ce_views`, in nats, under `label_smoothing`."""

    def loss(v):
        return losses.cross_entropy(s.student.logits[:, v], s.labels, config.label_smoothing)

    return over_views(loss, config.views.ce_views, s.student.logits.shape[1])


def distilled_terms(
    config: ConfigDict,
    s: Signals,
    name: str,
    weight: Any,
    loss: Callable[[Outputs, Outputs], Float[Array, " B"]],
) -> Terms:
    """The Terms of a method that distils by one term.

    Args:
      config: reads views.*.
      s: the Signals.
      name: the term's.
      weight: the term's; at 0 it is left out.
      loss: of the student's and the teacher's Outputs of one view, with leaves (B, ...).
    """
    terms = {"ce": jnp.mean(cross_entropy(config, s))}
    if weight:
        distilled = distill(config, s, lambda v, t: loss(view(s.student, v), view(s.teacher, t)))
        terms[name] = weight * jnp.mean(distilled)
    return Terms(terms)


def distill(
    config: ConfigDict, s: Signals, loss: Callable[[int, int], Float[Array, " B"]]
) -> Float[Array, " B"]:
    """A loss(v, t) of student view v learning from teacher view t, over the views that distil."""
    own = config.views.distill_target == "own"
    views = s.student.logits.shape[1]
    return over_views(lambda v: loss(v, v if own else 0), config.views.distill_views, views)


def logit_kd(config: ConfigDict, s: Signals) -> Float[Array, " B"]:
    """Logit KD over the views that distil."""

    def loss(v, t):
        student, teacher = s.student.logits[:, v], s.teacher.logits[:, t]
        if config.kd.standardize:
            student, teacher = losses.standardize(student), losses.standardize(teacher)
        return losses.logit_kd(student, teacher, config.kd.temperature)

    return distill(config, s, loss)


def view(outputs: Outputs, v: int) -> Outputs:
    """Outputs with leaves (B, V, ...) -> Outputs of one view, (B, ...)."""
    return jax.tree.map(lambda x: x[:, v], outputs)


def compares_images(config: ConfigDict, section: str, weight: float | int) -> None:
    """`Method.check` of a term that compares the images of a batch with each other.

    Raises:
      DataError: there is one image a batch, so that the term would teach nothing.
    """
    parts = config.optimizer.accumulate_steps
    if weight and config.batch_size < 2 * parts:
        raise DataError(
            f"config.batch_size: {config.batch_size}; allowed with {section}.weight={weight}: at least "
            f"{2 * parts}, since the term compares images of a batch"
            + (" (each of optimizer.accumulate_steps by itself)" if parts > 1 else "")
        )


def uniform(key: Key[Array, ""], width: int, *shape: int) -> Float[Array, "..."]:
    """A linear layer's start on `width` inputs, U(+-1/sqrt(width)): that of the methods' public code."""
    bound = 1 / np.sqrt(width)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def check_terms(name: str, terms: Any, memory: Any) -> None:
    """Refuse what a step cannot minimise, log or keep; costs nothing once compiled.

    Args:
      name: the method's.
      terms: what its `terms` returned.
      memory: the memory before the step.
    Raises:
      MethodError: the first fault, with the term's name.
    """

    def fault(what, found, allowed):
        return MethodError(f"method {name}: {what}: {found}; allowed: {allowed}")

    if not isinstance(terms, Terms):
        raise fault("what `terms` returns", type(terms).__name__, "a methods.Terms")
    if not isinstance(terms.losses, dict) or not terms.losses:
        raise fault("its losses", repr(terms.losses), "a dict of one term at least, name -> scalar")
    for term, value in terms.losses.items():
        if not isinstance(value, jax.Array | float) or not jnp.issubdtype(
            jnp.result_type(value), jnp.floating
        ):
            raise fault(f"term {term}", getattr(value, "dtype", type(value).__name__), "a float")
        if jnp.shape(value):
            raise fault(f"term {term}", f"shape {jnp.shape(value)}", "a scalar, as jnp.mean of it is")
    if jax.tree.structure(terms.memory) != jax.tree.structure(memory):
        raise fault(
            "its memory", jax.tree.structure(terms.memory), f"as before, {jax.tree.structure(memory)}"
        )
