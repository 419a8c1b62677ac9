"""Contrastive representation distillation (Tian et al. 2020): heads, memory banks, negatives, Z.

An anchor of one network is scored against the bank of the other, its own row the positive. The rows are
updated after scoring, and each side's constant Z is fixed at the first batch. Heads train; banks and Z are
state, so that a resume restores them. Of several devices each holds its share of the banks' rows, where it
divides them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from craft_jax import losses
from craft_jax.errors import DataError
from craft_jax.losses.common import AnyArray, product, unit
from craft_jax.mesh import replicated_on, spreads
from craft_jax.methods.common import (
    Method,
    Signals,
    Terms,
    cross_entropy,
    distill,
    distilled_reads,
    distilled_views,
    uniform,
)
from craft_jax.models import Outputs

_WIDTH = 128  # of the embeddings, as published
_SIDES = ("student", "teacher")

Memory = dict[str, Array] | tuple[()]  # empty without a weight
Embedded = dict[str, Float[Array, "B 128"]]  # of "student" and "teacher"
Banks = dict[str, Float[Array, "N 128"]]  # of both too


def check(config: ConfigDict, labels: Int[np.ndarray, " N"]) -> None:
    """Raise DataError if a class has fewer than crd.negatives images outside it."""
    fewest = len(labels) - np.bincount(labels).max()
    if config.crd.weight and config.crd.bank == "memory" and config.crd.negatives > fewest:
        raise DataError(
            f"config.crd.negatives: {config.crd.negatives}; allowed: at most {fewest}, "
            "the training images outside the largest class"
        )


def init(
    config: ConfigDict,
    key: Key[Array, ""],
    student: Outputs,
    teacher: Outputs,
    labels: Int[AnyArray, " N"],
) -> tuple[dict[str, dict[str, Array]], Memory]:
    """Fresh heads and banks.

    Args:
      config: reads crd.weight and crd.bank.
      key: of heads and banks.
      student, teacher: of shapes, whose `pooled` is read.
      labels: of the training set.
    Returns:
      (params, memory): a linear head a side; Z a side (0 until the first batch) and, for
      crd.bank="memory", a bank (N, 128) a side with rows U(+-1/sqrt(128/3)), and the labels. Nothing
      for a term without a weight.
    """
    if not config.crd.weight:
        return {}, ()
    keys = jax.random.split(key, 4)
    params = {
        side: _linear(keys[i], outputs.pooled.shape[-1])
        for i, (side, outputs) in enumerate(zip(_SIDES, (student, teacher), strict=True))
    }
    memory = {f"z_{side}": jnp.zeros(()) for side in _SIDES}
    if config.crd.bank == "memory":
        bound = 1 / np.sqrt(_WIDTH / 3)
        for i, side in enumerate(_SIDES):
            shape = (len(labels), _WIDTH)
            memory[f"bank_{side}"] = jax.random.uniform(keys[2 + i], shape, minval=-bound, maxval=bound)
        memory["labels"] = jnp.asarray(labels, jnp.int32)
    return params, memory


def _linear(key, width):
    """A linear layer's start, U(+-1/sqrt(D)) as in the published code."""
    kernel_key, bias_key = jax.random.split(key)
    return {"kernel": uniform(kernel_key, width, width, _WIDTH), "bias": uniform(bias_key, width, _WIDTH)}


def embeddings(head: dict[str, Array], pooled: Float[AnyArray, "B D"]) -> Float[Array, "B 128"]:
    """Pooled features to unit vectors."""
    return unit(product("bd,de->be", pooled, head["kernel"]) + head["bias"])


def draw_negatives(
    key: Key[Array, ""],
    labels: Int[Array, " N"],
    classes: Int[Array, " B"],
    num_classes: int,
    count: int,
) -> Int[Array, "B {count}"]:
    """Row numbers of other classes, without replacement, at no sort an example.

    For each class of the batch the rows outside it, in one random order; an example takes `count`
    consecutive ones, circular, from an offset of its own. Classes that the batch lacks take no memory: at
    most B x N numbers, as many as the scores against a bank.

    Args:
      key: one for the whole batch.
      labels: of the rows.
      classes: of the examples.
      num_classes: static.
      count: at most the number of rows outside any class; static.
    Returns:
      Row numbers, int32.
    """
    order_key, offset_key = jax.random.split(key)
    size = labels.shape[0]
    order = jax.random.permutation(order_key, size)
    drawn = labels[order]

    def outside(c):
        is_out = drawn != c
        # A scatter to the running count compacts; what is inside the class goes past the end, dropped.
        place = jnp.where(is_out, jnp.cumsum(is_out) - 1, size)
        return jnp.zeros_like(order).at[place].set(order, mode="drop"), jnp.sum(is_out)

    most = min(num_classes, classes.shape[0])  # classes in one batch
    present, own = jnp.unique(classes, size=most, fill_value=-1, return_inverse=True)
    rows, sizes = jax.vmap(outside)(present)
    available = sizes[own]
    offsets = jax.random.randint(offset_key, classes.shape, 0, available)
    picks = (offsets[:, None] + jnp.arange(count)) % available[:, None]
    return rows[own[:, None], picks].astype(jnp.int32)


def begin(config: ConfigDict, s: Signals) -> Memory:
    """The memory, each side's Z fixed by the first batch: N times the mean of exp(<anchor, row> / tau)."""
    if not config.crd.weight:
        return s.memory
    anchors = _everywhere(config, s, _embedded(s, 0, 0))
    rows = _banks(config, s.memory, anchors)
    memory = dict(s.memory)
    for side, other in (_SIDES, _SIDES[::-1]):
        scores = product("bd,nd->bn", anchors[side], rows[other])
        memory[f"z_{side}"] = len(rows[other]) * jnp.mean(jnp.exp(scores / config.crd.temperature))
    return memory


def _embedded(s, v, t):
    """{side: (B, 128)}: the student's view v and the teacher's view t through their heads."""
    return {
        "student": embeddings(s.params["student"], s.student.pooled[:, v]),
        "teacher": embeddings(s.params["teacher"], s.teacher.pooled[:, t]),
    }


def _everywhere(config, s, tree):
    """`tree` on every device, where the banks are spread: each scores the whole batch against its own rows.

    Left to itself the compiler splits the batch too, and gathers both banks on every device in every step.
    """
    if config.crd.bank == "batch" or s.mesh is None or not spreads(s.mesh, len(s.memory["labels"])):
        return tree
    return jax.lax.with_sharding_constraint(tree, replicated_on(s.mesh))


def _banks(config, memory, anchors):
    """{side: (N, 128)}: the memory's, or this batch's own."""
    return {side: memory[f"bank_{side}"] for side in _SIDES} if config.crd.bank == "memory" else anchors


def start(
    config: ConfigDict,
    memory: Memory,
    anchors: Embedded,
    index: Int[Array, " B"],
    labels: Int[Array, " B"],
    key: Key[Array, ""],
    num_classes: int,
) -> tuple[Banks, Int[Array, " B"], Int[Array, "B K"]]:
    """What a step scores against: (banks, positives, negatives).

    Args:
      config: reads crd.*.
      memory: from `begin` or `update`.
      anchors: embeddings of view 0.
      index: rows of the images in the training set.
      labels: their classes.
      key: of the negatives.
      num_classes: static.
    Returns:
      The banks; of positives and negatives the row numbers there, -1 for none.
    """
    banks = _banks(config, memory, anchors)
    if config.crd.bank == "memory":
        negatives = draw_negatives(key, memory["labels"], labels, num_classes, config.crd.negatives)
        return banks, index, negatives
    positives = jnp.arange(labels.shape[0])
    return banks, positives, jnp.where(labels[:, None] != labels, positives, -1)


def loss(
    config: ConfigDict,
    embedded: Embedded,
    banks: Banks,
    positives: Int[Array, " B"],
    negatives: Int[Array, "B K"],
    memory: Memory,
) -> Float[Array, " B"]:
    """The two sides added; banks, positives and negatives are what `start` returns."""
    return sum(
        losses.crd_nce(
            embedded[side],
            banks[other],
            positives,
            negatives,
            config.crd.temperature,
            memory[f"z_{side}"],
        )
        for side, other in (_SIDES, _SIDES[::-1])
    )


def update(config: ConfigDict, memory: Memory, anchors: Embedded, index: Int[Array, " B"]) -> Memory:
    """The banks after scoring: row <- normalise(momentum * row + (1 - momentum) * embedding)."""
    if config.crd.bank == "batch":
        return memory
    memory = dict(memory)
    for side in _SIDES:
        bank = memory[f"bank_{side}"]
        new = config.crd.momentum * bank[index] + (1 - config.crd.momentum) * anchors[side]
        memory[f"bank_{side}"] = bank.at[index].set(unit(jax.lax.stop_gradient(new)))
    return memory


def _terms(config, s):
    ce = {"ce": jnp.mean(cross_entropy(config, s))}
    if not config.crd.weight:
        return Terms(ce, memory=s.memory)

    anchors = _everywhere(config, s, _embedded(s, 0, 0))
    banks, *rows = start(config, s.memory, anchors, s.index, s.labels, s.key, s.student.logits.shape[-1])
    rows = _everywhere(config, s, rows)

    def one_view(v, t):
        return loss(config, _everywhere(config, s, _embedded(s, v, t)), banks, *rows, s.memory)

    terms = {**ce, "crd": config.crd.weight * jnp.mean(distill(config, s, one_view))}
    return Terms(terms, memory=update(config, s.memory, anchors, s.index))


def _reads(config):
    own = ("temperature", "bank") + (("negatives", "momentum") if config.crd.bank == "memory" else ())
    return distilled_reads(config, "crd", own)


def _bank_names(config):
    banked = config.crd.weight and config.crd.bank == "memory"
    return tuple(f"bank_{side}" for side in _SIDES) if banked else ()


METHOD = Method(
    _terms,
    views=lambda config: distilled_views(config, config.crd.weight),
    init=init,
    begin=begin,
    check=check,
    reads=_reads,
    banks=_bank_names,
)
