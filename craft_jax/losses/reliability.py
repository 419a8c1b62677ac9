"""Reliability: how far the teacher can be trusted on an image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, Scalar, check_shapes, frozen


def reliability(
    teacher_logits: Float[AnyArray, "B V K"], alpha: Scalar, beta: Scalar, gamma: Scalar
) -> Float[Array, " B"]:
    """High where the teacher is confident and consistent over views (section 3.4, r(x)).

        H_m = -sum_k p_mk log p_mk  in nats, p_m = softmax(logits of view m)
        agree = mean_m [argmax p_m = argmax p_0]
        r = sigmoid(alpha (agree - gamma) - beta mean_m H_m)

    `agree` counts view 0 with itself, so it is at least 1/V. Ties in argmax go to the lower class.

    Args:
      teacher_logits: view 0 the clean one; no gradient flows through r.
      alpha: weight of the agreement, >= 0.
      beta: weight of the entropy, >= 0.
      gamma: the agreement at which a teacher without entropy has r = 1/2, in [0, 1].

    Returns:
      r, float32 in [0, 1].

    Raises:
      ValueError: the logits are not (B, V, K).

    >>> logits = jnp.array([[[99.0, 0.0], [0.0, 99.0]]])  # certain, and of two minds: agree = 1/2
    >>> reliability(logits, alpha=10.0, beta=1.0, gamma=0.5).tolist()
    [0.5]
    """
    check_shapes(teacher_logits=(teacher_logits, "B V K"))
    logits = frozen(teacher_logits)
    p = jax.nn.softmax(logits)
    h = jnp.sum(jax.scipy.special.entr(p), axis=2)
    top = jnp.argmax(logits, axis=2)
    agree = jnp.mean(top == top[:, :1], axis=1, dtype=jnp.float32)
    return jax.nn.sigmoid(alpha * (agree - gamma) - beta * jnp.mean(h, axis=1))
