"""A trained student in use: what it takes, what it refuses, and that its weights travel once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import models
from craft_jax.runs.predict import Predictor


@pytest.fixture(scope="module")
def predict():
    model = models.build("tiny", 3, dtype="float32", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    variables = jax.tree.map(np.asarray, model.init(jax.random.key(0), (1, 16, 16, 3)))
    return Predictor(model, variables, None, 0, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def images(low=0.0, high=1.0, shape=(2, 16, 16, 3)):
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, jnp.bfloat16])
def test_floats_give_what_the_model_gives(predict, kind):
    given = images().astype(kind)
    found = predict(given)
    expected = predict.model.apply(predict.variables, jnp.asarray(given, jnp.float32), False)[0].logits
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_weights_are_sent_to_the_device_once(predict):
    given = jnp.asarray(images())
    first = predict(given)
    with jax.transfer_guard("disallow"):
        again = predict(given)
        with pytest.raises(Exception, match="Disallowed host-to-device"):  # the guard sees such a transfer
            jax.jit(lambda v, x: predict.model.apply(v, x, False)[0].logits)(predict.variables, given)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, bool, np.complex64])
def test_what_is_no_float_is_a_type_error(predict, kind):
    with pytest.raises(TypeError, match=rf"images: {np.dtype(kind)}; allowed: .*divide uint8 by 255"):
        predict(images().astype(kind))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((16, 16, 3), r"\(16, 16, 3\)"),
        ((2, 16, 16, 1), r"\(2, 16, 16, 1\)"),
        ((2, 3, 16, 16), r"\(2, 3, 16, 16\)"),
        ((2, 16, 4, 3), r"\(2, 16, 4, 3\); allowed: \(B, H, W, 3\), H and W >= 8"),
    ],
)
def test_another_shape_is_a_value_error(predict, shape, said):
    with pytest.raises(ValueError, match=f"images: shape {said}"):
        predict(images(shape=shape))


@pytest.mark.parametrize(("value", "said"), [(255.0, "to 255"), (-0.5, "from -0.5"), (np.inf, "to inf")])
def test_values_outside_are_a_value_error(predict, value, said):
    given = images()
    given[1, 3, 3, 0] = value
    with pytest.raises(ValueError, match=rf"images: values .*{said}.*; allowed: \[0, 1\] \(divide .* by 255"):
        predict(given)
    with pytest.raises(ValueError, match="allowed"):
        predict(jnp.asarray(given))  # on the device too


def test_a_value_that_is_none_is_a_value_error(predict):
    given = images()
    given[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN among the values"):
        predict(given)


def test_rounding_about_the_ends_is_taken(predict):
    assert predict(images(-5e-4, 1 + 5e-4)).shape == (2, 3)


def test_other_sides_and_no_images_at_all(predict):
    assert predict(images(shape=(1, 24, 20, 3))).shape == (1, 3)
    assert predict(images(shape=(0, 16, 16, 3))).shape == (0, 3)


def test_within_a_users_own_jit(predict):
    """Values cannot be checked there; type and shape can."""
    given = images()
    np.testing.assert_allclose(jax.jit(predict)(given), predict(given), rtol=1e-5, atol=1e-5)
    assert jax.jit(predict)(255 * given).shape == (2, 3)
    with pytest.raises(TypeError, match="uint8"):
        jax.jit(predict)(given.astype(np.uint8))
    gradient = jax.grad(lambda x: predict(x).sum())(given)
    assert np.isfinite(gradient).all() and np.any(gradient)
