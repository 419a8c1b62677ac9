"""BatchNorm whose training pass reduces its input once forward and once backward.

Sum and sum of squares of a map are one pass over it, and so are the two sums that its gradient needs.
Apart, as JAX differentiates Flax's layer, they are more kernels a layer on a GPU.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray  # variables may be of either

_MOMENTUM = 0.9
_EPSILON = 1e-5


class BatchNorm(nn.Module):
    """As flax.linen.BatchNorm over all axes but the last, with its variables by its names, in float32.

    Momentum 0.9, eps 1e-5. The running variance is the mean of the batches' biased variances (Flax; PyTorch's
    is unbiased).

    Attributes:
      use_running_average: normalise by the running statistics, and leave them; else by the batch's.
      dtype: of what is returned. Statistics, and what is done with them, are float32.
    """

    use_running_average: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B C"]) -> Float[Array, "*B C"]:
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if self.use_running_average:
            return _affine(x, mean.value, var.value, scale, bias).astype(self.dtype)
        y, batch_mean, batch_var = normalise(x, scale, bias)
        if not self.is_initializing():
            mean.value = _MOMENTUM * mean.value + (1 - _MOMENTUM) * batch_mean
            var.value = _MOMENTUM * var.value + (1 - _MOMENTUM) * batch_var
        return y.astype(self.dtype)


def folded(
    kernel: Float[Any, "H W in out"], bias: Any, params: Mapping[str, Any], stats: Mapping[str, Any]
) -> tuple[Any, Any]:
    """(kernel, bias) of the convolution that gives what this one and a BatchNorm of running statistics do.

    Args:
      kernel: (H, W, in, out).
      bias: (out,), or 0 for a convolution without.
      params: the BatchNorm's {"scale", "bias"}, (out,) each.
      stats: its {"mean", "var"}.
    """
    by = params["scale"] / (stats["var"] + _EPSILON) ** 0.5
    return kernel * by, (bias - stats["mean"]) * by + params["bias"]


def _affine(x, mean, var, scale, bias):
    return (x.astype(jnp.float32) - mean) * (jax.lax.rsqrt(var + _EPSILON) * scale) + bias


@jax.custom_vjp
def normalise(
    x: Float[AnyArray, "*B C"], scale: Float[AnyArray, " C"], bias: Float[AnyArray, " C"]
) -> tuple[Float[Array, "*B C"], Float[Array, " C"], Float[Array, " C"]]:
    """(x normalised by its own statistics, float32; their mean; their biased variance).

    Ioffe and Szegedy 2015, algorithm 1. The gradient is of the first alone; the others are for averages.
    """
    return _forward(x, scale, bias)[0]


def _forward(x, scale, bias):
    x32, count = x.astype(jnp.float32), x.size // x.shape[-1]
    total, squares = _sums(x32, x32 * x32)
    mean = total / count
    var = jnp.maximum(0.0, squares / count - mean * mean)  # as Flax, and as PyTorch's kernels for GPUs
    return (_affine(x, mean, var, scale, bias), mean, var), (x, mean, var, scale)


def _backward(kept, cotangents):
    x, mean, var, scale = kept
    dy, count = cotangents[0], x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + _EPSILON)
    normal = (x.astype(jnp.float32) - mean) * inverse
    dbias, dscale = _sums(dy, dy * normal)
    dx = (scale * inverse) * (dy - (dbias / count + normal * (dscale / count)))
    return dx.astype(x.dtype), dscale, dbias


normalise.defvjp(_forward, _backward)


def _sums(*maps):
    """The sum of each of several maps over all axes but the last: (*B, C) each -> (C,) each."""
    # On a CPU XLA adds up one by one where several are reduced together: slower, and less exact.
    return jax.lax.platform_dependent(*maps, cpu=_apart, default=_at_once)


def _apart(*maps):
    return tuple(jnp.sum(x, axis=tuple(range(x.ndim - 1))) for x in maps)


def _at_once(*maps):
    def add(one, other):
        return tuple(x + y for x, y in zip(one, other, strict=True))

    return tuple(jax.lax.reduce(maps, (jnp.float32(0),) * len(maps), add, tuple(range(maps[0].ndim - 1))))
