"""Attention transfer: where a network looks, from the energy of its feature maps."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import (
    AnyArray,
    check_choice,
    check_shapes,
    check_stages,
    flat,
    float32,
    frozen,
    pool,
    unit,
)

REDUCTIONS = {"sum": jnp.sum, "mean": jnp.mean}


def attention_transfer(
    student_stages: Sequence[Float[AnyArray, "B _ _ _"]],
    teacher_stages: Sequence[Float[AnyArray, "B _ _ _"]],
    reduction: str = "sum",
) -> Float[Array, " B"]:
    """Squared distance of normalised attention maps (section 3.2, L_feat before its mean).

        a = mean_c h_c^2, the larger map average-pooled to the smaller one's size, flattened
        A = a / |a|
        L(x) = 1/|stages| sum_l  |A_T - A_S|^2             "sum", the paper's
        L(x) = 1/|stages| sum_l  mean_p (A_T,p - A_S,p)^2  "mean" over positions p, public code's

    Public code (Zagoruyko and Komodakis 2017) sums the stages, with weight 1000: three stages
    there are weight 3000 here. No single weight turns "sum" into "mean", since maps differ in size.

    Args:
      student_stages: feature maps h_S, (B, H, W, C) a stage.
      teacher_stages: h_T, as many; H, W and C may differ from the student's. No gradient.
        Where sizes do not divide, pooling windows overlap by a pixel (adaptive average pooling).
      reduction: a key of `REDUCTIONS`.

    Returns:
      float32, in [0, 2] for "sum" (maps are not negative); a map of zeros counts as A = 0.

    Raises:
      ValueError: unknown reduction, unequal numbers of stages, or maps that are not (B, H, W, C).

    >>> left, right = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    >>> attention_transfer([left.reshape(1, 1, 2, 1)], [right.reshape(1, 1, 2, 1)]).tolist()
    [2.0]
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_stages(student_stages=student_stages, teacher_stages=teacher_stages)
    losses = []
    for h_s, h_t in zip(student_stages, teacher_stages, strict=True):
        check_shapes(student_stage=(h_s, "B H W C"), teacher_stage=(h_t, "B H' W' C'"))
        size = min(h_s.shape[1], h_t.shape[1]), min(h_s.shape[2], h_t.shape[2])
        a_s = _attention_map(float32(h_s), size)
        a_t = _attention_map(frozen(h_t), size)
        losses.append(REDUCTIONS[reduction]((a_t - a_s) ** 2, axis=1))
    return jnp.mean(jnp.stack(losses), axis=0)


def _attention_map(h: Float[Array, "B H W C"], size: tuple[int, int]) -> Float[Array, "B P"]:
    """A = a / |a| of maps h, pooled to `size`, P positions."""
    return unit(flat(pool(jnp.mean(h**2, axis=3, keepdims=True), size)))
