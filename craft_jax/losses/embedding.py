"""Embeddings: the pooled stages of a network as one unit vector."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from craft_jax.losses.common import AnyArray, check_shapes, check_stages, float32, product, unit


def embed(
    stages: Sequence[Float[AnyArray, "B _ _ _"]],
    projections: Sequence[Float[AnyArray, "_ _"]] | None = None,
) -> Float[Array, "B D"]:
    """Pooled, projected, normalised and concatenated stages (section 3.3).

        z^l = rho(h^l) W^l / |rho(h^l) W^l|,  rho the mean over positions
        z = concat_l z^l / |concat_l z^l|

    The paper has no W: it takes both networks to be equally wide. Here the student is projected to
    the teacher's widths and the teacher stays raw (W the identity).

    Args:
      stages: feature maps h^l, (B, H, W, C) a stage.
      projections: W^l, one (C_s, C_t) matrix a stage, or None. No bias.

    Returns:
      z, float32, D the sum of the stages' widths after projection; unit vectors, or zero
      where every stage is zero. A single zero stage stays zero and the others share the length.
      Gradients flow into both arguments: this serves student and teacher alike, so it is the method
      that stops the teacher's.

    Raises:
      ValueError: no stages, a number of projections other than that of stages, or shapes that do
        not fit.

    >>> stages = [jnp.full((1, 4, 4, 1), 3.0), jnp.full((1, 2, 2, 1), 0.5)]
    >>> [round(x, 4) for x in embed(stages)[0].tolist()]  # each stage counts alike
    [0.7071, 0.7071]
    """
    check_stages(stages=stages)
    if projections is not None:
        check_stages(stages=stages, projections=projections)
    z = []
    for level, h in enumerate(stages):
        check_shapes(first_stage=(stages[0], "B H_0 W_0 C_0"), stage=(h, "B H W C_s"))
        pooled = jnp.mean(float32(h), axis=(1, 2))
        if projections is not None:
            w = projections[level]
            check_shapes(stage=(h, "B H W C_s"), projection=(w, "C_s C_t"))
            pooled = product("bs,st->bt", pooled, float32(w))
        z.append(unit(pooled))
    return unit(jnp.concatenate(z, axis=1))
