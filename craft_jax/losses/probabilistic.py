"""Probabilistic knowledge transfer: an image's neighbours as a distribution."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, check_shapes, float32, frozen, product, unit

EPS = 1e-7


def probabilistic_transfer(
    student: Float[AnyArray, "B _"], teacher: Float[AnyArray, "B _"]
) -> Float[Array, " B"]:
    """Divergence of the neighbourhoods of an image (PKT; Passalis and Tefas 2018).

        s_ij = (cos(x_i, x_j) + 1) / 2,  p_ij = s_ij / sum_k s_ik
        L(x_i) = mean_j p_T,ij log((p_T,ij + 1e-7) / (p_S,ij + 1e-7))

    An image is among its own neighbours, as in the authors' code, with whose mean over j the weight of 30,000
    goes; the paper sums over the other images.

    Args:
      student: features (B, D), such as the pooled ones.
      teacher: likewise; D may differ. No gradient.

    Returns:
      float32, >= 0 up to the 1e-7, and 0 for a single image. A vector of zeros is at cosine 0 to all.

    Raises:
      ValueError: different numbers of images, or features that are not (B, D).

    >>> loss = probabilistic_transfer(jnp.ones((2, 2)), jnp.eye(2))  # (2, 1)/3 against (1, 1)/2
    >>> [round(x, 4) for x in loss.tolist()]  # (2/3 log(4/3) + 1/3 log(2/3)) / 2
    [0.0283, 0.0283]
    """
    check_shapes(student=(student, "B D"), teacher=(teacher, "B D'"))
    p_s, p_t = _neighbours(float32(student)), _neighbours(frozen(teacher))
    return jnp.mean(p_t * jnp.log((p_t + EPS) / (p_s + EPS)), axis=1)


def _neighbours(x: Float[Array, "B D"]) -> Float[Array, "B B"]:
    z = unit(x)
    s = (product("id,jd->ij", z, z) + 1) / 2
    return s / jnp.sum(s, axis=1, keepdims=True)
