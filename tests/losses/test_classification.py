"""Cross-entropy, logit distillation and the Jensen-Shannon divergence against float64 loops and by hand.

Hand-worked cases have their arithmetic in comments.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from craft_jax import losses
from tests.losses.checks import check_finite, check_reference, check_value, jitted, normal
from tests.losses.references import ref_cross_entropy, ref_jensen_shannon, ref_logit_kd


def test_cross_entropy_reference():
    logits, labels = normal(20, 5, 7, scale=3), np.array([0, 6, 3, 3, 1])
    one_hot = np.eye(7)[labels]
    expected = optax.losses.softmax_cross_entropy(logits, one_hot)
    check_value(jitted.cross_entropy(logits, labels), expected)
    check_reference(lambda x: losses.cross_entropy(x, labels), lambda x: ref_cross_entropy(x, labels), logits)


def test_cross_entropy_by_hand():
    # softmax(log 1, log 2, log 5) = (1, 2, 5)/8, and the classes are 2 and 0.
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]))
    check_value(jitted.cross_entropy(logits, jnp.array([2, 0])), [math.log(8 / 5), math.log(8)])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_cross_entropy_extreme_logits(dtype):
    # Certain and right: 0. Certain and wrong: the difference of the logits, 2e4.
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    values = check_finite(lambda x: losses.cross_entropy(x, jnp.array([0, 1])), logits)
    check_value(values, [0.0, 2e4], rtol=1e-2)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logit_kd_reference(temperature):
    student, teacher = normal(21, 4, 6, scale=3), normal(22, 4, 6, scale=3)
    kl = optax.losses.kl_divergence(
        jax.nn.log_softmax(student / temperature), jax.nn.softmax(teacher / temperature)
    )
    check_value(jitted.logit_kd(student, teacher, temperature), temperature**2 * kl)
    check_reference(
        lambda x: losses.logit_kd(x, teacher, temperature),
        lambda x: ref_logit_kd(x, np.float64(teacher), temperature),
        student,
    )


def test_logit_kd_by_hand():
    # T = 2. Teacher logits (2 log 3, 0) -> p_T = (3, 1)/4; student (0, 0) -> p_S = (1, 1)/2.
    # 4 [3/4 log(3/2) + 1/4 log(1/2)] = 3 log 1.5 - log 2 = 0.5232; reversed it would be 0.5754.
    teacher, student = jnp.array([[2 * math.log(3), 0.0]]), jnp.zeros((1, 2))
    check_value(jitted.logit_kd(student, teacher, 2.0), [3 * math.log(1.5) - math.log(2)])


def test_logit_kd_is_zero_at_equality():
    logits = normal(23, 4, 6, scale=10)
    np.testing.assert_allclose(jitted.logit_kd(logits, logits + 5, 4.0), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_logit_kd_extreme_logits(dtype):
    # A one-hot teacher against a student as certain of the other class: KL = 2e4 / T, times T^2 is
    # 8e4 at T = 4; against the same student: 0.
    teacher = jnp.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    student = jnp.array([[-1e4, 1e4], [1e4, -1e4]], dtype)
    values = check_finite(lambda s: losses.logit_kd(s, teacher, 4.0), student)
    check_value(values, [8e4, 0.0], rtol=1e-2)


@pytest.mark.parametrize("views", [1, 2, 3])
def test_jensen_shannon_reference(views):
    x = normal(26, 4, views, 5, scale=2)
    if views == 1:  # a prediction is its own mixture
        check_value(jitted.jensen_shannon(x), np.zeros(4))
    else:
        check_reference(losses.jensen_shannon, ref_jensen_shannon, x)


def test_jensen_shannon_by_hand():
    same = np.repeat(normal(27, 3, 1, 6, scale=3), 4, 1)
    check_value(jitted.jensen_shannon(same), np.zeros(3))
    # Each view certain of a class of its own: KL(p_v || mixture) = log V.
    disjoint = 200 * np.eye(3, 5, dtype=np.float32)[None]
    check_value(jitted.jensen_shannon(disjoint), [math.log(3)])
    # p = (1, 0) and (1/2, 1/2), mixture (3/4, 1/4): (log 4/3 + log(2/3)/2 + log(2)/2) / 2 = log(64/27) / 4.
    halves = np.float32([[[300, 0], [0, 0]]])
    check_value(jitted.jensen_shannon(halves), [math.log(64 / 27) / 4])
    # The order of the views does not matter, nor a constant added to a view's logits.
    x = normal(28, 3, 3, 4)
    moved = x[:, [2, 0, 1]] + normal(29, 3, 3, 1)
    check_value(jitted.jensen_shannon(moved), jitted.jensen_shannon(x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_jensen_shannon_extreme_logits(dtype):
    rows = [[[1e4, 0, 0], [0, 1e4, 0]], [[-1e4, 0, 1e4], [-1e4, 0, 1e4]], [[0, 0, 0], [1e30, 0, 0]]]
    values = check_finite(losses.jensen_shannon, jnp.asarray(rows, dtype))
    # The last: thirds against certainty, mixture (2/3, 1/6, 1/6).
    third = (math.log(1 / 2) / 3 + 2 * math.log(2) / 3 + math.log(3 / 2)) / 2
    check_value(values, [math.log(2), 0, third])
