"""Neuron selectivity transfer: where in an image each channel responds."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, check_shapes, float32, frozen, pool_alike, product, unit


def neuron_selectivity(
    student_stage: Float[AnyArray, "B _ _ _"], teacher_stage: Float[AnyArray, "B _ _ _"]
) -> Float[Array, " B"]:
    """Squared maximum mean discrepancy of two sets of channels (NST; Huang and Wang 2017).

        f_c = channel c over the positions, divided by its length;  k(f, g) = <f, g>^2
        L(x) = mean_cc' k(t_c, t_c') + mean_cc' k(s_c, s_c') - 2 mean_cc' k(s_c, t_c')

    k is the paper's polynomial kernel, d = 2 and c = 0. The larger map is average-pooled first.

    Args:
      student_stage: feature maps (B, H, W, C).
      teacher_stage: likewise; H, W and C may differ. No gradient.

    Returns:
      float32, in [0, 2] up to rounding; a channel of zeros counts as f = 0.

    Raises:
      ValueError: different numbers of images, or maps that are not (B, H, W, C).

    >>> left, both = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1), jnp.eye(2).reshape(1, 1, 2, 2)
    >>> neuron_selectivity(left, both).tolist()  # 1/2 + 1 - 2 (1 + 0)/2
    [0.5]
    """
    check_shapes(student_stage=(student_stage, "B H W C"), teacher_stage=(teacher_stage, "B H' W' C'"))
    s, t = (_channels(h) for h in pool_alike(float32(student_stage), frozen(teacher_stage)))
    return _kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)


def _channels(h: Float[Array, "B H W C"]) -> Float[Array, "B C P"]:
    return unit(jnp.moveaxis(h, 3, 1).reshape(h.shape[0], h.shape[3], -1))


def _kernel(a: Float[Array, "B C1 P"], b: Float[Array, "B C2 P"]) -> Float[Array, " B"]:
    return jnp.mean(product("bcp,bdp->bcd", a, b) ** 2, axis=(1, 2))
