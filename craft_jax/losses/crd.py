"""Contrastive representation distillation: one side of its noise-contrastive estimate."""

import jax.numpy as jnp
from jax.nn import softplus
from jaxtyping import Array, Float, Int

from craft_jax.losses.common import AnyArray, Scalar, check_shapes, float32, product

EPS = 1e-7


def crd_nce(
    anchors: Float[AnyArray, "B D"],
    bank: Float[AnyArray, "N D"],
    positives: Int[AnyArray, " B"],
    negatives: Int[AnyArray, "B K"],
    temperature: Scalar,
    z: Scalar,
) -> Float[Array, " B"]:
    """NCE of one network's anchors against the other's bank (Tian et al. 2020, with noise 1/N).

        P = exp(<anchor, row> / tau) / Z,  c = K / N,  eps = 1e-7
        L(x) = -log(P+ / (P+ + c + eps)) - sum over negatives of log(c / (P- + c + eps))

    CRD adds the two sides, each with its own bank and Z. Everything stays in logs: the first term
    is softplus(log(c + eps) - log P+), a negative's softplus(log P- - log(c + eps)) +
    log(1 + eps / c). One product anchors @ bank.T, whose columns are then picked, is far cheaper
    than gathering K rows an example.

    Args:
      anchors: unit vectors.
      bank: rows of the other network, unit vectors. It has a gradient here, for the in-batch
        variant, where it is the other network's embeddings and its head trains. A memory bank is
        state: there the caller stops the gradient, or does not ask for it.
      positives: row numbers.
      negatives: row numbers; -1 means none, for a batch in which images have different
        numbers of negatives: K in c is then each example's own count.
      temperature: tau > 0.
      z: Z > 0, a constant fixed at the first batch as N times the mean of exp(<anchor, row> / tau).

    Returns:
      float32, >= 0. A row number of N or more gives NaN.

    Raises:
      ValueError: shapes that do not fit.

    >>> e = jnp.eye(2)  # P+ = 1, P- = e^-1 and c = 1/2: log(3/2) + log(1 + 2/e)
    >>> rows = jnp.array([0]), jnp.array([[1]])
    >>> round(float(crd_nce(e[:1], e, *rows, temperature=1.0, z=jnp.e)[0]), 4)
    0.9569
    """
    check_shapes(
        anchors=(anchors, "B D"),
        bank=(bank, "N D"),
        positives=(positives, "B"),
        negatives=(negatives, "B K"),
    )
    log_p = product("bd,nd->bn", float32(anchors), float32(bank)) / temperature - jnp.log(float32(z))
    log_p_positive = jnp.take_along_axis(log_p, positives[:, None], axis=1)
    log_p_negative = jnp.take_along_axis(log_p, negatives, axis=1)

    is_there = negatives >= 0
    c = jnp.sum(is_there, axis=1, keepdims=True, dtype=jnp.float32) / bank.shape[0]
    log_c = jnp.log(c + EPS)
    attract = softplus(log_c - log_p_positive)[:, 0]
    repel = softplus(log_p_negative - log_c) + jnp.log1p(EPS / c)  # c is 0 only if none is there
    return attract + jnp.sum(jnp.where(is_there, repel, 0), axis=1)
