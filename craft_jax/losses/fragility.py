"""Fragility: the directions in which corruption moves the teacher's features, and their penalty."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, Scalar, check_choice, check_shapes, float32, frozen, product


def _deviations(z: Float[Array, "B V D"]) -> Float[Array, "B V D"]:
    """z(v_m) - mean z; first less z(v_0), or float32 means of equal rows would leave 4e-8."""
    moved = z - z[:, :1]
    return moved - jnp.mean(moved, axis=1, keepdims=True)


def _principal(z: Float[Array, "B V D"]) -> Float[Array, "B 1 D"]:
    """v = X^T w = sigma_1 v_1: X (V, D) the deviations, w the top eigenvector of X X^T (V, V)."""
    x = _deviations(z)
    _, eigenvectors = jnp.linalg.eigh(product("bmd,bnd->bmn", x, x))
    return product("bmd,bm->bd", x, eigenvectors[:, :, -1])[:, None]


def _clean_shift(z: Float[Array, "B V D"]) -> Float[Array, "B 1 D"]:
    """v = mean over m >= 1 of z(v_m) - z(v_0); view 0 adds nothing to the sum."""
    return jnp.sum(z - z[:, :1], axis=1, keepdims=True) / max(z.shape[1] - 1, 1)


def _literal(z: Float[Array, "B V D"]) -> Float[Array, "B 1 D"]:
    """Delta_T = mean_m (z(v_m) - mean z), as printed: zero but for rounding."""
    return jnp.mean(z - jnp.mean(z, axis=1, keepdims=True), axis=1, keepdims=True)


# Each maps embeddings (B, V, D) to v, (B, V, D) or (B, 1, D) where all views share it.
KINDS = {
    "principal": _principal,
    "clean_shift": _clean_shift,
    "per_view": _deviations,
    "literal": _literal,
}


def fragility_directions(
    teacher_embeddings: Float[AnyArray, "B V D"], kind: str, eps: Scalar
) -> Float[Array, "B V D"]:
    """Directions in which the teacher's embedding moves over views (section 3.4, u(x)).

        u = v / (|v| + eps)

        "principal"    v = sigma_1 v_1 of the deviations z_T(v_m) - mean z_T, one for all views
        "clean_shift"  v = mean over m >= 1 of z_T(v_m) - z_T(v_0), one for all views
        "per_view"     v_m = z_T(v_m) - mean z_T, each view its own
        "literal"      v = mean_m (z_T(v_m) - mean z_T), the paper's, which is identically zero:
                       u is then rounding noise over eps

    With M = 1 the first three differ by sign alone. The sign of "principal" is arbitrary, and so is
    the direction where sigma_1 = sigma_2; `dealignment` squares it.

    Args:
      teacher_embeddings: z_T, view 0 the clean one; no gradient flows through u.
      kind: a key of `KINDS`.
      eps: > 0, small beside the movement that matters; 1e-6 by design.

    Returns:
      u, float32, |u| < 1. Exactly zero for V = 1 and, but for "literal", for identical
      views.

    Raises:
      ValueError: unknown kind, or embeddings that are not (B, V, D).

    >>> z = jnp.array([[[1.0, 0.0], [1.0, 0.5]]])  # corruption moves the second coordinate
    >>> [[round(x, 3) for x in u] for u in fragility_directions(z, "clean_shift", 1e-6)[0].tolist()]
    [[0.0, 1.0], [0.0, 1.0]]
    """
    check_choice("kind", kind, KINDS)
    check_shapes(teacher_embeddings=(teacher_embeddings, "B V D"))
    z = frozen(teacher_embeddings)
    v = KINDS[kind](z)
    u = v / (jnp.linalg.norm(v, axis=2, keepdims=True) + eps)
    return jnp.broadcast_to(u, z.shape)


def _position(z: Float[Array, "B V D"], u: Float[Array, "B V D"]) -> Float[Array, " B"]:
    return jnp.mean(jnp.sum(u * z, axis=2) ** 2, axis=1)


def _shift(z: Float[Array, "B V D"], u: Float[Array, "B V D"]) -> Float[Array, " B"]:
    moved = z - z[:, :1]  # view 0 adds nothing to the sum
    return jnp.sum(jnp.sum(u * moved, axis=2) ** 2, axis=1) / max(z.shape[1] - 1, 1)


FORMS = {"position": _position, "shift": _shift}


def dealignment(
    student_embeddings: Float[AnyArray, "B V D"], directions: Float[AnyArray, "B V D"], form: str = "position"
) -> Float[Array, " B"]:
    """Penalty on the student along the teacher's fragile directions (section 3.4, L_de).

        L(x) = mean_m (u_m . z_S(v_m))^2                          "position", the paper's
        L(x) = mean over m >= 1 of (u_m . (z_S(v_m) - z_S(v_0)))^2  "shift"

    "position" keeps the student from standing anywhere along u, "shift" from moving along it.

    Args:
      student_embeddings: z_S, unit vectors, view 0 the clean one. Under "shift" view 0
        has a gradient too.
      directions: u from `fragility_directions`; no gradient.
      form: a key of `FORMS`.

    Returns:
      float32, in [0, 1] for "position", [0, 4] for "shift", which is 0 at V = 1.

    Raises:
      ValueError: unknown form, or shapes that do not fit.

    >>> z = jnp.array([[[0.6, 0.8], [0.8, 0.6]]])
    >>> u = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])
    >>> round(float(dealignment(z, u)[0]), 4), round(float(dealignment(z, u, "shift")[0]), 4)
    (0.5, 0.04)
    """
    check_choice("form", form, FORMS)
    check_shapes(student_embeddings=(student_embeddings, "B V D"), directions=(directions, "B V D"))
    return FORMS[form](float32(student_embeddings), frozen(directions))
