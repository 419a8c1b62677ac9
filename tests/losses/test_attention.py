"""Attention transfer against float64 loops and by hand, on maps of other sizes, scales and of zeros."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.cases import STAGES_S, STAGES_T
from tests.losses.checks import check_finite, check_reference, check_value, jitted, normal
from tests.losses.references import ref_attention_transfer

SIZES = {
    "equal": ((4, 4), (4, 4)),
    "student larger": ((4, 4), (2, 2)),
    "teacher larger": ((2, 3), (4, 6)),
    "not divisible": ((3, 4), (5, 6)),
    "each larger on one axis": ((2, 5), (4, 3)),
}


@pytest.mark.parametrize(("sizes", "reduction"), [*((s, "sum") for s in SIZES), ("not divisible", "mean")])
def test_attention_transfer_reference(sizes, reduction):
    (h_s, w_s), (h_t, w_t) = SIZES[sizes]
    student = normal(30, 2, h_s, w_s, 3), normal(31, 2, 2, 2, 4)
    teacher = normal(32, 2, h_t, w_t, 5), normal(33, 2, 2, 2, 1)
    exact = [np.float64(h) for h in teacher]
    check_reference(
        lambda h: losses.attention_transfer([h, student[1]], teacher, reduction),
        lambda h: ref_attention_transfer([h, np.float64(student[1])], exact, reduction),
        student[0],
    )


def test_attention_transfer_by_hand():
    # Student energies, mean over 2 channels: (9 + 0)/2, (16 + 0)/2 -> (9, 16)/sqrt(337).
    # The teacher's 2x2 maps are pooled in pairs of rows: (1, 1)/2 and (0, 0)/2 -> (1, 0).
    # Squared distance: 2 - 2 * 9/sqrt(337) = 1.0195; over 2 positions the half of it.
    student = jnp.array([[3.0, 0.0], [4.0, 0.0]]).reshape(1, 1, 2, 2)
    teacher = jnp.array([[[1.0, 0.0], [-1.0, 0.0]]]).reshape(1, 2, 2, 1)
    expected = 2 - 2 * 9 / math.sqrt(337)
    check_value(jitted.attention_transfer([student], [teacher]), [expected])
    check_value(jitted.attention_transfer([student], [teacher], "mean"), [expected / 2])
    # Two stages are averaged, and the second, compared with itself, is 0.
    check_value(jitted.attention_transfer([student, teacher], [teacher] * 2), [expected / 2])


def test_attention_transfer_ignores_scale():
    values = jitted.attention_transfer(STAGES_S, STAGES_T)
    for scale in (1e-8, 1e8):  # the fourth powers leave float32's range
        scaled = [scale * h for h in STAGES_S]
        check_value(check_finite(losses.attention_transfer, scaled, STAGES_T), values)


def test_attention_transfer_dead_maps():
    # A map of zeros stays zero: the distance to a unit map is 1, to another dead one 0.
    dead, alive = [jnp.zeros((1, 2, 2, 3))], [jnp.ones((1, 4, 4, 3))]
    check_value(check_finite(losses.attention_transfer, dead, alive), [1.0])
    check_value(check_finite(losses.attention_transfer, alive, dead), [1.0])
    check_value(check_finite(losses.attention_transfer, dead, dead), [0.0])
