"""The multi-stage embedding against float64 loops and by hand, of dead stages and at any scale."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.cases import CASES, STAGES_S
from tests.losses.checks import check_finite, check_reference, check_value, jitted, normal
from tests.losses.references import ref_embed


@pytest.mark.parametrize("projected", [False, True])
def test_embed_reference(projected):
    stages = normal(40, 2, 3, 2, 3), normal(41, 2, 2, 2, 2)
    w = (normal(42, 3, 4), normal(43, 2, 3)) if projected else None
    exact_w = [np.float64(x) for x in w] if projected else None
    z = jitted.embed(stages, w)
    assert z.shape == (2, 7 if projected else 5)
    check_value(z, ref_embed([np.float64(h) for h in stages], exact_w))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)

    probe = normal(44, *z.shape)  # the gradient of one linear function of z an example
    other = np.float64(stages[1])
    check_reference(
        lambda h: jnp.sum(probe * losses.embed([h, stages[1]], w), axis=1),
        lambda h: np.sum(probe * np.array(ref_embed([h, other], exact_w)), axis=1),
        stages[0],
    )
    if projected:
        exact = [np.float64(h) for h in stages]
        check_reference(
            lambda x: jnp.sum(probe * losses.embed(stages, [x, w[1]]), axis=1),
            lambda x: np.sum(probe * np.array(ref_embed(exact, [x, exact_w[1]])), axis=1),
            w[0],
        )


def test_embed_by_hand():
    # Stage 1 pools to (3, 4) -> (0.6, 0.8); stage 2 pools to 2, projected to (2, 0) -> (1, 0).
    # Concatenated the length is sqrt 2.
    stages = [
        jnp.array([[2.0, 8.0], [4.0, 0.0]]).reshape(1, 1, 2, 2),
        jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1),
    ]
    z = jitted.embed(stages, [jnp.eye(2), jnp.array([[1.0, 0.0]])])
    check_value(z, np.array([[0.6, 0.8, 1.0, 0.0]]) / math.sqrt(2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_embed_zero_stages(dtype):
    """A dead stage leaves its place empty and finite gradients everywhere; so do only dead ones."""
    dead, alive = jnp.zeros((1, 2, 2, 3), dtype), jnp.ones((1, 2, 2, 1), dtype)
    z = check_finite(losses.embed, [dead, alive])
    check_value(z, [[0.0, 0.0, 0.0, 1.0]])
    z = check_finite(losses.embed, [dead, dead], [jnp.zeros((3, 2), dtype)] * 2)
    check_value(z, np.zeros((1, 4)))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_embed_ignores_scale(scale):
    stages = STAGES_S
    scaled = [np.float32(scale) * h for h in stages]
    check_value(jitted.embed(scaled), jitted.embed(stages))
    check_finite(CASES["embed"][0], scaled, CASES["embed"][1][1])
