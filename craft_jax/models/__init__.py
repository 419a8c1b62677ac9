"""Networks as two pure functions. Flax stays inside this package, and in a user's own file.

model = build("resnet20", 10, dtype="float32", mean=dataset.mean, std=dataset.std)
variables = model.init(jax.random.key(0), (1, 32, 32, 3))
outputs, batch_stats = model.apply(variables, images, train=True)

A network of one's own is an entry of `REGISTRY`: a Flax module of `num_classes` and `dtype` that is called
with (images, train) and returns `Outputs`; configs/own_network.py is one. `python -m craft_jax.models` prints
the networks with their parameters, FLOPs and stages.

Stages: a network has as many as it says (`stage_shapes`), three or four of those here, from large maps to
small. Methods pair the student's stage i with the teacher's stage i, whatever their heights, widths and
channels, and say by `Method.stages` which they read; a pair of networks that lacks one is refused before any
work (`methods.check_stages`).
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from craft_jax.errors import ModelError
from craft_jax.models import imagenet_resnet, mobilenetv2, resnet, shufflenetv2, vgg, vit, wide_resnet
from craft_jax.models.layers import Outputs, adapting

__all__ = [
    "NAMES",
    "PRECISIONS",
    "REGISTRY",
    "Model",
    "Outputs",
    "build",
    "can_remat",
    "count_parameters",
    "stage_shapes",
]

# name -> a callable of num_classes and dtype that gives a Flax module.
REGISTRY = {
    **resnet.MODELS,
    **wide_resnet.MODELS,
    **vgg.MODELS,
    **mobilenetv2.MODELS,
    **shufflenetv2.MODELS,
    **imagenet_resnet.MODELS,
    **vit.MODELS,
}
NAMES = tuple(REGISTRY)  # those that come with the package

_COLLECTIONS = ("params", "batch_stats")
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
    remat: bool = False,
) -> Model:
    """The network `name` for `num_classes` classes.

    Args:
      name: a key of `REGISTRY`.
      num_classes: K, the width of the logits.
      dtype: "float32" or "bfloat16", what the blocks compute in. Parameters, BatchNorm statistics,
        the pooled embedding and the logits are float32 either way.
      mean: three numbers, the images' mean per channel in [0, 1].
      std: three numbers, the same for the standard deviation. `apply` normalises in float32.
      precision: of float32 convolutions and their gradients: "default", what the device does by itself (TF32
        on an NVIDIA GPU: factors of 10 bits, float32 sums), or "highest", full float32. A CPU does the
        latter anyway. The head is in full float32 either way.
      remat: whether each block keeps its input alone for the backward pass and computes the rest again: less
        memory, a forward pass more. Of networks that `can_remat`.

    Raises:
      ValueError: an argument is not one of the above.
      ModelError: `init` and `apply`, of a network whose outputs or variables are not what they must be.
    """
    if name not in REGISTRY:
        raise ValueError(f"unknown model {name!r}; it must be one of: {', '.join(REGISTRY)}")
    dtype = _check_dtype(dtype)
    if isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, not {num_classes!r}")
    mean, std = _three("mean", mean), _three("std", std)
    if min(std) <= 0:
        raise ValueError(f"std must be positive, not {std}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if remat and not can_remat(name):
        raise ValueError(f"network {name} takes no `remat`")
    settings = {"remat": True} if remat else {}
    module = REGISTRY[name](num_classes=int(num_classes), dtype=dtype, **settings)

    def init(key, shape):
        images = jax.ShapeDtypeStruct((1, *shape[-3:]), jnp.float32)
        variables = module.lazy_init(key, images, train=False)  # runs no forward pass
        if odd := sorted(variables.keys() - _COLLECTIONS):
            raise ModelError(f"network {name}: variables {odd}; allowed: {', '.join(_COLLECTIONS)}")
        return {collection: variables.get(collection, {}) for collection in _COLLECTIONS}

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
                outputs, batch_stats = module.apply(variables, x, train=False), variables["batch_stats"]
            else:
                outputs, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
                batch_stats = updated.get("batch_stats", {})  # a network need not normalise by batches
        _check_outputs(name, outputs, (images.shape[0], int(num_classes)))
        return outputs, batch_stats

    def adapt(variables, images, running_weight):
        x = normalised(images)
        with jax.default_matmul_precision(precision), nn.intercept_methods(adapting(running_weight)):
            outputs, mixed = module.apply(variables, x, train=False, mutable=["batch_stats"])
            return outputs, mixed["batch_stats"]

    return Model(init, apply, adapt)


def can_remat(name: str) -> bool:
    """Whether a network of `REGISTRY` takes `remat`: all of the package's do, others as they wish."""
    return "remat" in inspect.signature(REGISTRY[name]).parameters


def stage_shapes(name: str, input_shape: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """(H, W, C) of each stage of a network on images of one shape; traced, not computed, and remembered.

    Args:
      name: a key of `REGISTRY`.
      input_shape: (H, W, 3).

    >>> stage_shapes("resnet20", (32, 32, 3))
    ((32, 32, 16), (16, 16, 32), (8, 8, 64))
    """
    return _stage_shapes(REGISTRY[name], name, tuple(input_shape))


@functools.cache
def _stage_shapes(factory, name, input_shape):  # the factory: a name may come to mean another network
    model = build(name, 2, dtype="float32", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)

    def stages(images):
        variables = model.init(jax.random.key(0), images.shape)
        return model.apply(variables, images, False)[0].stages

    return tuple(stage.shape[1:] for stage in jax.eval_shape(stages, images))


def count_parameters(params: Any) -> int:
    """The number of trained parameters; leaves may be arrays or shapes (`jax.eval_shape`)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _check_outputs(name, outputs, shape):
    """Refuse what no step could use; costs nothing once compiled. Under `jax.export` B is a symbol."""
    if not isinstance(outputs, Outputs):
        raise ModelError(f"network {name}: returns {type(outputs).__name__}; allowed: a models.Outputs")
    logits, stages, pooled = outputs
    if logits.shape != shape or logits.dtype != jnp.float32:
        raise ModelError(f"network {name}: logits {logits.dtype}{logits.shape}; allowed: float32{shape}")
    if pooled.ndim != 2 or pooled.shape[0] != shape[0] or pooled.dtype != jnp.float32:
        raise ModelError(f"network {name}: pooled {pooled.dtype}{pooled.shape}; allowed: float32 (B, D)")
    if not isinstance(stages, tuple) or any(x.ndim != 4 or x.shape[0] != shape[0] for x in stages):
        raise ModelError(f"network {name}: its stages; allowed: a tuple of (B, H, W, C)")


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
