"""How a loss is held to a reference: by its values, and its gradients by central differences in float64."""

import functools
import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import losses

# Compiling is what takes time here. The docstring examples run the losses as users do.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
jit = functools.partial(jax.jit, compiler_options=QUICK)


def jit_loss(loss):
    strings = {"reduction", "positives", "kind", "form"}
    if loss is losses.crd_nce:
        strings.remove("positives")  # there it is row numbers
    return jit(loss, static_argnames=strings & set(inspect.signature(loss).parameters))


jitted = SimpleNamespace(**{n: jit_loss(getattr(losses, n)) for n in losses.__all__ if not n.isupper()})


def normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def unit_rows(seed, *shape):
    x = normal(seed, *shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def check_value(actual, expected, rtol=2e-5, atol=2e-6):
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


@functools.cache
def value_and_gradient(loss):
    """Jitted: the arguments -> (values (B,), gradients of their sum with weights 1, 2, ...)."""

    def weighted(args):
        values = loss(*args)
        return jnp.sum(values * (1 + jnp.arange(len(values)))), values

    def both(*args):
        (_, values), gradients = jax.value_and_grad(weighted, has_aux=True)(args)
        return values, gradients

    return jit(both)


def check_reference(loss, reference, x, rtol=2e-5):
    """Values of `loss(x)` against `reference(x)`, gradients against its central differences."""
    values, (gradient,) = value_and_gradient(loss)(x)
    check_value(values, reference(np.float64(x)), rtol)
    weights, expected, h = 1 + np.arange(len(values)), np.zeros(x.shape), 1e-5
    for index in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[index] = h
        up, down = reference(np.float64(x) + step), reference(np.float64(x) - step)
        expected[index] = np.sum(weights * (np.asarray(up) - np.asarray(down))) / (2 * h)
    largest = np.abs(expected).max()
    assert largest > 1e-3  # or this would compare zeros
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-4 * largest)


def check_finite(loss, *args):
    """Values and gradients are finite; returns the values."""
    values, gradients = value_and_gradient(loss)(*args)
    for leaf in jax.tree.leaves((values, gradients)):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
    return values
