"""Relational distillation: how far apart images lie, and at which angles."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, Scalar, check_shapes, float32, frozen, product, unit


def relational(
    student: Float[AnyArray, "B _"],
    teacher: Float[AnyArray, "B _"],
    distance_weight: Scalar = 25.0,
    angle_weight: Scalar = 50.0,
) -> Float[Array, " B"]:
    """Distances and angles between images (RKD-D and RKD-A; Park et al. 2019).

        d_ij = |x_j - x_i| / mu,  mu the mean of the distances above 1e-6
        a_ijk = <e_ij, e_ik>,  e_ij = (x_j - x_i) / |x_j - x_i|, the cosine at the vertex i
        L(x_i) = w_d mean_j huber(d_S,ij - d_T,ij) + w_a mean_jk huber(a_S,ijk - a_T,ijk)

    The Huber loss turns linear at 1. Means are over all of a row's entries, zeros of i itself included, as
    public code has them.

    Args:
      student: features (B, D), such as the pooled ones.
      teacher: likewise; D may differ. No gradient.
      distance_weight: w_d.
      angle_weight: w_a.

    Returns:
      float32, >= 0, and 0 for a single image. Of two images in one place, no further apart than 1e-6, the
      distance is 0, the direction too, and both without gradient: it would grow as one over the distance.

    Raises:
      ValueError: different numbers of images, or features that are not (B, D).

    >>> line = jnp.array([[0.0], [1.0], [2.0]])  # distances 1, 1, 2, mean 4/3
    >>> relational(3 * line, line).tolist()  # the scale is free, down to that distance
    [0.0, 0.0, 0.0]
    """
    check_shapes(student=(student, "B D"), teacher=(teacher, "B D'"))
    (d_s, a_s), (d_t, a_t) = _relations(float32(student)), _relations(frozen(teacher))
    by_distance = jnp.mean(optax.losses.huber_loss(d_s, d_t), axis=1)
    by_angle = jnp.mean(optax.losses.huber_loss(a_s, a_t), axis=(1, 2))
    return distance_weight * by_distance + angle_weight * by_angle


def _relations(x: Float[Array, "B D"]) -> tuple[Float[Array, "B B"], Float[Array, "B B B"]]:
    """The distances d_ij and the cosines a_ijk."""
    from_i = x[None] - x[:, None]
    # No relation depends on the scale; one whose squares would overflow becomes 1.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(from_i)))
    from_i = from_i / jnp.where(largest > 1e15, largest, 1)
    square = jnp.sum(from_i**2, axis=2)
    apart = ~(square <= 1e-12)  # NaN is no place
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)  # a root has no gradient at 0
    e = unit(jnp.where(apart[:, :, None], from_i, 0))
    mu = jnp.sum(distance) / jnp.maximum(jnp.sum(apart), 1)
    return distance / jnp.where(mu > 0, mu, 1), product("ijd,ikd->ijk", e, e)
