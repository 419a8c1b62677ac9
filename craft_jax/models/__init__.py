"""Networks as two pure functions. Flax stays inside this package.

model = build("resnet20", 10, dtype="float32", mean=dataset.mean, std=dataset.std)
variables = model.init(jax.random.key(0), (1, 32, 32, 3))
outputs, batch_stats = model.apply(variables, images, train=True)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from craft_jax.models import resnet, wide_resnet
from craft_jax.models.layers import Outputs, adapting

__all__ = ["NAMES", "PRECISIONS", "REGISTRY", "Model", "Outputs", "build", "count_parameters"]

REGISTRY = {**resnet.MODELS, **wide_resnet.MODELS}
NAMES = tuple(REGISTRY)

_DTYPES = ("float32", "bfloat16")
PRECISIONS = ("default", "highest")


class Model(NamedTuple):
    """A network as two pure functions; jit them, differentiate them, shard them.

    Attributes:
      init: (key, shape) -> {"params": ..., "batch_stats": ...}, plain dicts of float32 arrays.
        `shape` is that of the images, (B, H, W, 3); the values do not depend on it.
      apply: (variables, images, train) -> (Outputs, new_batch_stats). `images` are
        floating point in [0, 1], H and W at least 8; `train` is a Python bool. True normalises by
        the batch's statistics and returns the updated running averages; False normalises by the
        running averages and returns them unchanged.
      adapt: (variables, images, running_weight) -> (Outputs, mixed_batch_stats): as `apply` without `train`,
        but BatchNorm normalises by w running + (1 - w) batch statistics, w in [0, 1], layer after layer.
    """

    init: Callable[[Key[Array, ""], Sequence[int]], dict[str, Any]]
    apply: Callable[[dict[str, Any], Float[Array, "B H W 3"], bool], tuple[Outputs, dict[str, Any]]]
    adapt: Callable[[dict[str, Any], Float[Array, "B H W 3"], float], tuple[Outputs, dict[str, Any]]]


def build(
    name: str,
    num_classes: int,
    *,
    dtype: Any,
    mean: Sequence[float | int],
    std: Sequence[float | int],
    precision: str = "default",
) -> Model:
    """The network `name` for `num_classes` classes.

    Args:
      name: one of `NAMES`.
      num_classes: K, the width of the logits.
      dtype: "float32" or "bfloat16", what the blocks compute in. Parameters, BatchNorm statistics,
        the pooled embedding and the logits are float32 either way.
      mean: three numbers, the images' mean per channel in [0, 1].
      std: three numbers, the same for the standard deviation. `apply` normalises in float32.
      precision: of float32 convolutions and their gradients: "default", what the device does by itself (TF32
        on an NVIDIA GPU: factors of 10 bits, float32 sums), or "highest", full float32. A CPU does the
        latter anyway. The head is in full float32 either way.

    Raises:
      ValueError: an argument is not one of the above.
    """
    if name not in REGISTRY:
        raise ValueError(f"unknown model {name!r}; it must be one of: {', '.join(NAMES)}")
    dtype = _check_dtype(dtype)
    if isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, not {num_classes!r}")
    mean, std = _three("mean", mean), _three("std", std)
    if min(std) <= 0:
        raise ValueError(f"std must be positive, not {std}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    module = REGISTRY[name](num_classes=int(num_classes), dtype=dtype)

    def init(key, shape):
        images = jax.ShapeDtypeStruct((1, *shape[-3:]), jnp.float32)
        return module.lazy_init(key, images, train=False)  # runs no forward pass

    def normalised(images):
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < 8:
            raise ValueError(f"images must be (B, H, W, 3) with H, W >= 8, not {images.shape}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images must be floating point in [0, 1], not {images.dtype}")
        x = (images.astype(jnp.float32) - jnp.array(mean)) / jnp.array(std)
        return x.astype(dtype)

    def apply(variables, images, train):
        x = normalised(images)
        # Every convolution traced here keeps it, and its gradient does: no layer needs to be told.
        with jax.default_matmul_precision(precision):
            if not train:
                return module.apply(variables, x, train=False), variables["batch_stats"]
            outputs, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
            return outputs, updated["batch_stats"]

    def adapt(variables, images, running_weight):
        x = normalised(images)
        with jax.default_matmul_precision(precision), nn.intercept_methods(adapting(running_weight)):
            outputs, mixed = module.apply(variables, x, train=False, mutable=["batch_stats"])
            return outputs, mixed["batch_stats"]

    return Model(init, apply, adapt)


def count_parameters(params: Any) -> int:
    """The number of trained parameters; leaves may be arrays or shapes (`jax.eval_shape`)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _check_dtype(dtype: Any) -> jnp.dtype:
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, not {dtype!r}")
    return found


def _three(key: str, values: Sequence[float | int]) -> tuple[float, ...]:
    values = tuple(float(value) for value in values)
    if len(values) != 3:
        raise ValueError(f"{key} must be three numbers, not {values}")
    return values
