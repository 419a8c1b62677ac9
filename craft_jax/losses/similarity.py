"""Similarity-preserving distillation: which images of a batch a network finds alike."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, check_shapes, flat, float32, frozen, product, unit


def similarity_preserving(
    student_stage: Float[AnyArray, "B _ _ _"], teacher_stage: Float[AnyArray, "B _ _ _"]
) -> Float[Array, " B"]:
    """Distance of two networks' row-normalised Gram matrices (SP; Tung and Mori 2019).

        q_i = the map of image i, flattened,  g_ij = <q_i, q_j>,  G_i = g_i / |g_i|
        L(x_i) = 1/B sum_j (G_T,ij - G_S,ij)^2

    The mean over i is the paper's |G_T - G_S|^2 / B^2.

    Args:
      student_stage: feature maps (B, H, W, C).
      teacher_stage: likewise; H, W and C may differ from the student's. No gradient.

    Returns:
      float32, in [0, 4 / B]; a row of zeros counts as G_i = 0. A single image is alike to itself alone: 0.

    Raises:
      ValueError: different numbers of images, or maps that are not (B, H, W, C).

    >>> apart, same = jnp.eye(2).reshape(2, 1, 1, 2), jnp.ones((2, 1, 1, 3))
    >>> loss = similarity_preserving(same, apart)  # rows (1, 1)/root 2 and (1, 0): (2 - root 2) / 2
    >>> [round(x, 4) for x in loss.tolist()]
    [0.2929, 0.2929]
    """
    check_shapes(student_stage=(student_stage, "B H W C"), teacher_stage=(teacher_stage, "B H' W' C'"))
    g_s, g_t = _similarities(float32(student_stage)), _similarities(frozen(teacher_stage))
    return jnp.mean((g_t - g_s) ** 2, axis=1)


def _similarities(h: Float[Array, "B H W C"]) -> Float[Array, "B B"]:
    q = flat(h)
    return unit(product("id,jd->ij", q, q))
