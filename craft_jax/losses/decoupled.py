"""Decoupled KD: the true class against the others, and the others among themselves."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from craft_jax.losses.common import AnyArray, Scalar, check_shapes, float32, frozen

NOTHING = -1e30  # the logit of a class that is left out; -inf would make the gradient 0/0


def decoupled_kd(
    student_logits: Float[AnyArray, "B K"],
    teacher_logits: Float[AnyArray, "B K"],
    labels: Int[AnyArray, " B"],
    alpha: Scalar,
    beta: Scalar,
    temperature: Scalar,
) -> Float[Array, " B"]:
    """KD's two parts with a weight each (DKD; Zhao et al. 2022).

        p = softmax(z / T),  b = (p_y, 1 - p_y),  q = softmax of z / T over the classes but y
        L(x) = T^2 (alpha KL(b_T || b_S) + beta KL(q_T || q_S))

    alpha = 1 and, image by image, beta = 1 - p_T,y give logit KD.

    Args:
      student_logits: z_S, at least two classes.
      teacher_logits: z_T; no gradient.
      labels: y, in 0..K-1.
      alpha: weight of the true class.
      beta: weight of the others.
      temperature: T > 0.

    Returns:
      float32, >= 0 up to rounding.

    Raises:
      ValueError: the shapes do not fit.

    >>> flat, sure = jnp.zeros((1, 3)), jnp.log(jnp.array([[2.0, 1.0, 1.0]]))  # b_T (1, 1)/2, b_S (1, 2)/3
    >>> loss = decoupled_kd(flat, sure, jnp.array([0]), alpha=1.0, beta=8.0, temperature=1.0)
    >>> [round(x, 4) for x in loss.tolist()]  # (log 3/2 + log 3/4) / 2, and the others agree
    [0.0589]
    """
    check_shapes(
        student_logits=(student_logits, "B K"), teacher_logits=(teacher_logits, "B K"), labels=(labels, "B")
    )
    is_own = jnp.asarray(labels)[:, None] == jnp.arange(student_logits.shape[1])
    b_s, q_s = _parts(float32(student_logits) / temperature, is_own)
    b_t, q_t = _parts(frozen(teacher_logits) / temperature, is_own)
    kl = optax.losses.kl_divergence_with_log_targets
    return temperature**2 * (alpha * kl(b_s, b_t) + beta * kl(q_s, q_t))


def _parts(z, is_own):
    """(log b, log q): of the true class and of all others, (B, 2); of each other class among them, (B, K)."""
    others = jnp.where(is_own, NOTHING, z)
    own = jnp.sum(jnp.where(is_own, z, 0), axis=1)
    log_b = jax.nn.log_softmax(jnp.stack([own, jax.nn.logsumexp(others, axis=1)], axis=1))
    return log_b, jax.nn.log_softmax(others)
