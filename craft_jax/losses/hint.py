"""FitNets' hint: the values of a feature map."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, check_shapes, float32, frozen


def hint(
    student_stage: Float[AnyArray, "B H W C"], teacher_stage: Float[AnyArray, "B H W C"]
) -> Float[Array, " B"]:
    """Mean squared error over a map's values (FitNets; Romero et al. 2015).

        L(x) = mean_{p,c} (h_T,pc - h_S,pc)^2

    The paper has half the sum of squares; public code and its weight of 100 go with the mean.

    Args:
      student_stage: h_S, after the method's learned regression to the teacher's width.
      teacher_stage: h_T, of the same shape; no gradient.

    Returns:
      float32, >= 0.

    Raises:
      ValueError: the shapes differ, or are not (B, H, W, C).

    >>> hint(jnp.zeros((1, 1, 2, 1)), jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)).tolist()
    [5.0]
    """
    check_shapes(student_stage=(student_stage, "B H W C"), teacher_stage=(teacher_stage, "B H W C"))
    return jnp.mean((frozen(teacher_stage) - float32(student_stage)) ** 2, axis=(1, 2, 3))
