"""What a network costs: parameters, FLOPs, latency. The reason why anyone distils."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import models

_BATCH_SIZES = (1, 128)
_REPEATS = 10
_SECONDS = 2.0  # a network that is slow on this machine is measured less often


def measure(model, variables, input_shape):
    """The cost of a forward pass on this machine's first device.

    Args:
      model: a models.Model.
      variables: {"params", "batch_stats"}.
      input_shape: (H, W, C).
    Returns:
      A JSON-able dict: "parameters"; "flops", of one image, as XLA counts them (a multiplication and an
      addition are two); "latency_ms", {batch size: milliseconds}, the median of up to ten calls after a
      warm-up; "device".
    """
    forward = jax.jit(lambda variables, images: model.apply(variables, images, False)[0].logits)
    variables = jax.device_put(variables, jax.local_devices()[0])
    latency = {}
    for batch in _BATCH_SIZES:
        images = jnp.full((batch, *input_shape), 0.5)
        latency[str(batch)] = _median_ms(forward, variables, images)
    one = forward.lower(variables, jnp.zeros((1, *input_shape))).cost_analysis()
    return {
        "parameters": models.count_parameters(variables["params"]),
        "flops": int(one["flops"]),
        "latency_ms": latency,
        "device": jax.local_devices()[0].device_kind,
    }


def _median_ms(forward, variables, images):
    forward(variables, images).block_until_ready()
    times = []
    while len(times) < _REPEATS and sum(times) < _SECONDS:
        started = time.perf_counter()
        forward(variables, images).block_until_ready()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))
