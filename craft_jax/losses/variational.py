"""Variational information distillation: a Gaussian of the teacher's map, given the student's."""

import jax.numpy as jnp
from jax.nn import softplus
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, check_shapes, float32, frozen

EPS = 1e-5  # of a variance, which so stays above 0


def variational_information(
    mean: Float[AnyArray, "B H W C"],
    log_scale: Float[AnyArray, " C"],
    teacher_stage: Float[AnyArray, "B H W C"],
) -> Float[Array, " B"]:
    """Negative log likelihood of the teacher's map, less a constant (VID; Ahn et al. 2019).

        v_c = softplus(log_scale_c) + 1e-5, the variance of channel c
        L(x) = mean_{p,c} ((t_pc - m_pc)^2 / v_c + log v_c) / 2

    Minimised, it bounds the mutual information of the two maps from below. The paper sums over positions
    and channels; public code and its weight of 1 go with the mean.

    Args:
      mean: m, what the method's regression makes of the student's map.
      log_scale: trained with it.
      teacher_stage: t, of the shape of m; no gradient.

    Returns:
      float32; negative where the variances are below 1 and the mean fits.

    Raises:
      ValueError: the shapes do not fit.

    >>> zero, two = jnp.zeros((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), 2.0)
    >>> loss = variational_information(zero, jnp.zeros(1), two)  # v = log 2: (4 / v + log v) / 2
    >>> [round(x, 4) for x in loss.tolist()]
    [2.7021]
    """
    check_shapes(mean=(mean, "B H W C"), log_scale=(log_scale, "C"), teacher_stage=(teacher_stage, "B H W C"))
    v = softplus(float32(log_scale)) + EPS
    square = (frozen(teacher_stage) - float32(mean)) ** 2
    return 0.5 * jnp.mean(square / v + jnp.log(v), axis=(1, 2, 3))
