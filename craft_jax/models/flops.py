"""The FLOPs of a program, counted in what JAX traces."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    """The multiplications and additions in a function's convolutions and matrix products, two for a pair.

    They are counted in the program that JAX traces, before any backend compiles it: one number everywhere,
    whatever the dtype. Every output of a convolution counts all taps of its kernel, those on the padding
    too. Normalisation, activations and pooling, one operation or a few a value, are left out, as usual.

    Args:
      function: of arrays; nothing is computed.
      arguments: arrays or jax.ShapeDtypeStructs.
    Raises:
      NotImplementedError: the program has a loop or a branch, whose turns the trace does not tell.

    >>> flops(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 5)))  # 30 pairs
    60
    """
    return of_program(jax.make_jaxpr(function)(*arguments).jaxpr)


def of_program(jaxpr: Jaxpr) -> int:
    """`flops` of what is traced already.

    Raises:
      NotImplementedError: as `flops`.
    """
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in ("while", "scan", "cond"):
            raise NotImplementedError(f"FLOPs of a program with {name}")
        if name in _PAIRS:
            total += 2 * _PAIRS[name](eqn)
        # pjit, custom_jvp_call, remat and the like hold programs of their own.
        inner = [value for value in eqn.params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
        total += sum(
            of_program(program.jaxpr if isinstance(program, ClosedJaxpr) else program) for program in inner
        )
    return total


def _convolution_pairs(eqn):
    kernel = eqn.invars[1].aval
    outputs_at = eqn.params["dimension_numbers"].rhs_spec[0]
    # A kernel holds the taps of every output channel, over the inputs of its group alone.
    return eqn.outvars[0].aval.size * kernel.size // kernel.shape[outputs_at]


def _product_pairs(eqn):
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return eqn.outvars[0].aval.size * math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)


_PAIRS = {"conv_general_dilated": _convolution_pairs, "dot_general": _product_pairs}
