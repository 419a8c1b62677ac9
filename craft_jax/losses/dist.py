"""DIST: predictions that correlate, over the classes and over the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, Scalar, centred, check_shapes, float32, frozen, unit


def dist(
    student_logits: Float[AnyArray, "B K"],
    teacher_logits: Float[AnyArray, "B K"],
    beta: Scalar,
    gamma: Scalar,
    temperature: Scalar,
) -> Float[Array, " B"]:
    """One less Pearson's correlation, of rows and of columns (DIST; Huang et al. 2022).

        p = softmax(z / T), (B, K);  r = Pearson's correlation, the cosine of what is less its mean
        L(x_i) = T^2 (beta (1 - r(p_S,i, p_T,i)) + gamma mean_k (1 - r(p_S,:k, p_T,:k)))

    The second part is of the whole batch: the same for each of its images.

    Args:
      student_logits: z_S.
      teacher_logits: z_T; no gradient.
      beta: weight of the correlation over an image's classes.
      gamma: weight of the correlation over the batch, class by class.
      temperature: T > 0; T^2 as in the released code.

    Returns:
      float32, in [0, 2 T^2 (beta + gamma)]; what is constant has correlation 0 with everything, as every
      column of a single image.

    Raises:
      ValueError: the shapes do not fit.

    >>> z = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> [round(x, 4) for x in dist(-z, z, beta=2.0, gamma=3.0, temperature=1.0).tolist()]  # r = -1 throughout
    [10.0, 10.0]
    """
    check_shapes(student_logits=(student_logits, "B K"), teacher_logits=(teacher_logits, "B K"))
    p_s = jax.nn.softmax(float32(student_logits) / temperature)
    p_t = jax.nn.softmax(frozen(teacher_logits) / temperature)
    over_classes = 1 - _correlation(p_s, p_t)
    over_batch = 1 - jnp.mean(_correlation(p_s.T, p_t.T))
    return temperature**2 * (beta * over_classes + gamma * over_batch)


def _correlation(x: Float[Array, "N D"], y: Float[Array, "N D"]) -> Float[Array, " N"]:
    return jnp.sum(unit(centred(x)) * unit(centred(y)), axis=1)
