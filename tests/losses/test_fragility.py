"""Fragility directions and de-alignment against float64 loops and by hand; the printed formula is void."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.cases import EPS
from tests.losses.checks import check_finite, check_reference, check_value, jitted, unit_rows
from tests.losses.references import ref_dealignment, ref_directions

USEFUL = ["principal", "clean_shift", "per_view"]


@pytest.mark.parametrize("eps", [1e-6, 0.5])  # the large one shows |v|, and that v = sigma_1 v_1
@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("kind", USEFUL)
def test_directions_reference(kind, views, eps):
    teacher = unit_rows(70, 5, views, 6)
    u = jitted.fragility_directions(teacher, kind, eps)
    assert u.shape == teacher.shape
    expected = ref_directions(teacher, kind, eps)
    if kind == "principal":  # the sign is free
        expected *= np.sign(np.sum(expected * np.asarray(u), axis=2, keepdims=True))
    check_value(u, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    # Views (0, 0), (3, 0), (0, 4), times 1/10; mean (1, 4/3), so the deviations are (-1, -4/3),
    # (2, -4/3), (-1, 8/3).
    [
        ("clean_shift", [[0.6, 0.8]] * 3),  # (3 + 0, 0 + 4)/2 -> (3, 4)/5
        # (-1, -4/3) = (-3, -4)/3 -> (-0.6, -0.8); (2, -4/3) = (3, -2) 2/3; (-1, 8/3) = (-3, 8)/3.
        (
            "per_view",
            [
                [-0.6, -0.8],
                [3 / math.sqrt(13), -2 / math.sqrt(13)],
                [-3 / math.sqrt(73), 8 / math.sqrt(73)],
            ],
        ),
        # X^T X = [[6, -4], [-4, 32/3]]: eigenvalues (50 +- sqrt(772))/6, the larger 12.964;
        # (6 - 12.964) a = 4 b, so b = -1.7410 a, normalised (0.4981, -0.8671).
        ("principal", [[0.4981, -0.8671]] * 3),
    ],
)
def test_directions_by_hand(kind, expected):
    z = jnp.array([[[0.0, 0.0], [0.3, 0.0], [0.0, 0.4]]])
    u = np.asarray(jitted.fragility_directions(z, kind, EPS))[0]
    if kind == "principal":
        u = u * np.sign(u[:1, :1])
    np.testing.assert_allclose(u, expected, atol=1e-4)


def test_printed_formula_vanishes():
    """Delta_T = mean_m (z_T(v_m) - mean z_T) is zero by definition; what the text means is not."""
    teacher = unit_rows(71, 64, 3, 32)
    eps = 1e6 * EPS  # 1: then |u| = |v| / (|v| + 1), from which |v|
    size = {}
    for kind in ["literal", *USEFUL]:
        length = np.linalg.norm(jitted.fragility_directions(teacher, kind, eps), axis=2)
        size[kind] = length / (1 - length)
    deviation = np.linalg.norm(teacher - teacher.mean(axis=1, keepdims=True), axis=2)
    assert deviation.min() > 0.3
    assert size["literal"].max() < 1e-7 * np.sqrt(32)  # rounding of float32 coordinates below 1
    assert (size["literal"] / deviation).max() < 1e-6
    for kind in USEFUL:
        assert (size[kind] / deviation).min() > 0.3
    # In float64 it shrinks with the rounding unit, as a zero does.
    z = np.float64(teacher)
    delta = (z - z.mean(axis=1, keepdims=True)).mean(axis=1)
    assert np.abs(delta).max() < 1e-15

    # So with the paper's u the term is void, and with the others it is of the order of 1 / D.
    student = unit_rows(72, 64, 3, 32)
    term = {
        kind: float(jitted.dealignment(student, jitted.fragility_directions(teacher, kind, EPS)).mean())
        for kind in size
    }
    assert term["literal"] < 0.01 * min(term[k] for k in USEFUL)
    assert all(0.01 < term[k] < 0.1 for k in USEFUL)


@pytest.mark.parametrize("form", ["position", "shift"])
def test_kinds_agree_with_one_corrupted_view(form):
    teacher, student = unit_rows(73, 6, 2, 8), unit_rows(74, 6, 2, 8)
    values = [jitted.dealignment(student, jitted.fragility_directions(teacher, k, EPS), form) for k in USEFUL]
    assert np.min(values) > 1e-5
    check_value(values[0], values[1], rtol=1e-4)
    check_value(values[0], values[2], rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("views", [1, 3])
def test_identical_views_have_no_direction(views, dtype):
    """Exact zeros, also as a user's jit compiles them, and no NaN behind the stopped gradient."""
    z = jnp.broadcast_to(jnp.asarray(unit_rows(75, 4, 1, 7), dtype), (4, views, 7))

    def loss(z):
        u = {kind: losses.fragility_directions(z, kind, EPS) for kind in USEFUL}
        return sum(losses.dealignment(z, v, f) for v in u.values() for f in losses.FORMS), u

    values, u = jax.jit(loss)(z)
    assert not any(np.any(v) for v in [values, *u.values()])
    np.testing.assert_array_equal(check_finite(lambda z: loss(z)[0], z), np.zeros(4))


def test_literal_is_zero_for_one_view():
    u = jitted.fragility_directions(unit_rows(76, 4, 1, 7), "literal", EPS)
    np.testing.assert_array_equal(u, np.zeros((4, 1, 7)))


def test_degenerate_directions_are_finite():
    """sigma_1 = sigma_2: eigh's gradient would be NaN, but none flows; u is still a direction."""
    z = jnp.array([[[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]]])  # an equilateral triangle
    check_finite(lambda x: jnp.sum(losses.fragility_directions(x, "principal", EPS), (1, 2)), z)
    u = jitted.fragility_directions(z, "principal", EPS)
    np.testing.assert_allclose(np.linalg.norm(u, axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize("form", ["position", "shift"])
def test_dealignment_reference(form):
    student, u = unit_rows(77, 4, 3, 5), unit_rows(78, 4, 3, 5)
    exact = np.float64(u)
    check_reference(
        lambda z: losses.dealignment(z, u, form),
        lambda z: ref_dealignment(z, exact, form),
        student,
    )


def test_dealignment_by_hand():
    # u = e1. Position: (0.36 + 0.64 + 0)/3 = 1/3. Shift: (0.2^2 + 0.6^2)/2 = 0.2.
    z = jnp.array([[[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]]])
    u = jnp.broadcast_to(jnp.array([1.0, 0.0]), z.shape)
    check_value(jitted.dealignment(z, u), [1 / 3])
    check_value(jitted.dealignment(z, u, "shift"), [0.2])
    # Standing on u without moving costs 1 under "position" and nothing under "shift".
    check_value(jitted.dealignment(u, u, "position"), [1.0])
    check_value(jitted.dealignment(u, u, "shift"), [0.0])
