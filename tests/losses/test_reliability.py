"""The reliability against float64 loops, by hand and by the design's figures."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.checks import check_finite, check_value, jitted, normal
from tests.losses.references import ref_reliability, ref_softmax


@pytest.mark.parametrize("weights", [(10.0, 1.0, 0.5), (2.0, 0.3, 0.8), (0.0, 1.0, 0.5)])
def test_reliability_reference(weights):
    logits = normal(60, 8, 3, 4, scale=2)
    values = jitted.reliability(logits, *weights)
    check_value(values, ref_reliability(np.float64(logits), *weights))
    assert np.all((values >= 0) & (values <= 1)) and np.ptp(values) > 0.01


@pytest.mark.parametrize(
    ("second_view", "expected"),
    [
        # alpha 10, beta 1, gamma 1/2, M = 1. Certain and agreeing: sigmoid(10/2).
        ([50.0, 0.0, 0.0], 1 / (1 + math.exp(-5))),
        # Certain of another class: agree 1/2, exponent 0.
        ([0.0, 50.0, 0.0], 0.5),
        # Undecided between the first two, the tie going to class 0: H = (0 + log 2)/2.
        ([50.0, 50.0, 0.0], 1 / (1 + math.exp(-(5 - math.log(2) / 2)))),
    ],
)
def test_reliability_by_hand(second_view, expected):
    logits = jnp.array([[[50.0, 0.0, 0.0], second_view]])
    check_value(jitted.reliability(logits, 10.0, 1.0, 0.5), [expected])


@pytest.mark.parametrize(
    ("views", "certain", "doubtful"), [(2, 0.50, 0.27), (3, 0.16, 0.06)], ids=["M=1", "M=2"]
)
def test_reliability_of_a_teacher_that_disagrees_everywhere(views, certain, doubtful):
    """The design's figures at alpha 10, beta 1, gamma 1/2, for an entropy of 0 and of 1 nat.

    sigmoid(10/V - 5 - H): 0 and -1 at V = 2, -1.67 and -2.67 at V = 3.
    """
    low, high = 0.0, 10.0
    for _ in range(60):  # bisection: the entropy of (t, 0, 0, ...) falls from log 8 to 0
        t = (low + high) / 2
        p = ref_softmax([t] + [0.0] * 7)
        low, high = (t, high) if -sum(q * math.log(q) for q in p) > 1 else (low, t)
    top = np.eye(8)[[[0] + [1] * (views - 1)]]
    for size, expected in [(60.0, certain), (t, doubtful)]:
        values = jitted.reliability(size * top, 10.0, 1.0, 0.5)
        np.testing.assert_allclose(values, [expected], atol=0.006)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e4, jnp.inf])
def test_reliability_of_a_certain_teacher(dtype, size):
    """p = 0 has no entropy: a logit of -1e4 or -inf gives sigmoid(alpha (1 - gamma)), not NaN."""
    logits = jnp.array([[[0.0, -size], [0.0, -size]]], dtype)
    values = check_finite(lambda x: losses.reliability(x, 10.0, 1.0, 0.5), logits)
    check_value(values, [1 / (1 + math.exp(-5))])


def test_reliability_counts_the_clean_view():
    # V = 1: agree = 1 and H = log 4 for a flat prediction.
    values = jitted.reliability(jnp.zeros((2, 1, 4)), 3.0, 1.0, 0.25)
    check_value(values, [1 / (1 + math.exp(-(3 * 0.75 - math.log(4))))] * 2)
