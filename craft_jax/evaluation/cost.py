"""What a network costs: parameters, FLOPs, latency. The reason why anyone distils."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from craft_jax import models

_BATCH_SIZES = (1, 128)
_REPEATS = 10
_SECONDS = 2.0  # a network that is slow on this machine is measured less often


def optional(name: str, measurement: Callable[[], Any], notes: list[str]) -> Any:
    """The value of measurement(), or None and a note: what is merely measured shall not cost a result.

    Args:
      name: what is measured, for the note.
      measurement: what measures it.
      notes: where it fails for whatever reason, one more, printed to stderr too.
    """
    try:
        return measurement()
    except Exception as error:  # out of memory, a backend that lacks something: JAX raises many kinds
        reason = (str(error).splitlines() or [""])[0]
        notes.append(f"{name} is not measured: {type(error).__name__}: {reason}")
        print(f"note: {notes[-1]}", file=sys.stderr)
        return None


def measure(
    model: models.Model, variables: dict[str, Any], input_shape: Sequence[int], notes: list[str]
) -> dict[str, Any]:
    """The cost of a forward pass: what the network is, and how long this machine's first device takes.

    Args:
      model: the network.
      variables: {"params", "batch_stats"}.
      input_shape: of an image, (H, W, C).
      notes: what cannot be measured is added to them; see `optional`.
    Returns:
      A JSON-able dict, with None for what cannot be measured: "parameters"; "flops", of one image (`flops`);
      "latency_ms", {batch size: milliseconds}, the median of up to ten calls after a warm-up; "device".
    """

    def forward(variables, images):
        return model.apply(variables, images, False)[0].logits

    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return {
        "parameters": models.count_parameters(variables["params"]),
        "flops": optional("cost.flops", lambda: flops(forward, variables, image), notes),
        "latency_ms": {
            str(batch): optional(
                f"cost.latency_ms of {batch} images",
                lambda batch=batch: _median_ms(jax.jit(forward), variables, (batch, *input_shape)),
                notes,
            )
            for batch in _BATCH_SIZES
        },
        "device": jax.local_devices()[0].device_kind,
    }


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
    return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops(jaxpr):
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
            _flops(program.jaxpr if isinstance(program, ClosedJaxpr) else program) for program in inner
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


def _median_ms(forward, variables, shape):
    device = jax.local_devices()[0]
    variables, images = jax.device_put((variables, np.full(shape, 0.5, np.float32)), device)
    forward(variables, images).block_until_ready()
    times = []
    while len(times) < _REPEATS and sum(times) < _SECONDS:
        started = time.perf_counter()
        forward(variables, images).block_until_ready()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))
