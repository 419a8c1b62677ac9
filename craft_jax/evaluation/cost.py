"""What a network costs: parameters, FLOPs, latency. The reason why anyone distils."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import models
from craft_jax.models import latency
from craft_jax.models.flops import flops


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
            for batch in latency.BATCH_SIZES
        },
        "device": jax.local_devices()[0].device_kind,
    }


def _median_ms(forward, variables, shape):
    device = jax.local_devices()[0]
    variables, images = jax.device_put((variables, np.full(shape, 0.5, np.float32)), device)
    return latency.median_ms(lambda: forward(variables, images).block_until_ready())
