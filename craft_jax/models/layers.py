"""What the networks share: their outputs, convolution, batch normalisation, the classifying head."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from craft_jax.models.batch_norm import BatchNorm


def kaiming_normal(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Float[Array, "H W in out"]:
    """N(0, 2 / fan_out) for a kernel of a convolution (He et al. 2015, eq. 14), usual for these networks.

    Drawn as one row and reshaped: the same values as over four axes, at a quarter of XLA's compile time,
    which on a CPU is most of what starting a run takes.
    """
    scale = math.sqrt(2 / (shape[0] * shape[1] * shape[3]))
    return scale * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


# U(-1/sqrt(D), 1/sqrt(D)), what PyTorch's Linear (and so the published baselines) starts from.
HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Outputs(NamedTuple):
    """What a network returns; distillation needs no hooks. *B is B, or B V once a step has split views.

    Attributes:
      logits: float32.
      stages: feature maps, (*B, H, W, C) each, in the compute dtype, from early to late: what a method calls
        stage i is `stages[i - 1]`. Maps never grow; how many there are, and which, a network says itself.
      pooled: float32, what the head reads: the mean over positions of the network's last map, which is the
        last stage or, where a 1x1 convolution follows that (MobileNetV2, ShuffleNetV2), the convolution's
        output; of a ViT its class token beside the mean of its patches.
    """

    logits: Float[Array, "*B K"]
    stages: tuple[Float[Array, "*B _ _ _"], ...]
    pooled: Float[Array, "*B D"]


def conv(
    features: int, size: int, stride: int, dtype: Any, name: str, groups: int = 1, use_bias: bool = False
) -> nn.Conv:
    """A convolution, padded alike on both sides (size // 2) as in PyTorch; a bias starts at 0.

    Flax's "SAME" would pad a strided convolution on one side only and so see a shifted image.
    """
    return nn.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=size // 2,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kaiming_normal,
        dtype=dtype,
        param_dtype=jnp.float32,
        name=name,
    )


def batch_norm(train: bool, dtype: Any, name: str) -> BatchNorm:
    """BatchNorm with momentum 0.9 and eps 1e-5; statistics and affine parameters in float32."""
    return BatchNorm(use_running_average=not train, dtype=dtype, name=name)


def kept_or_remade(block: Any, remat: bool, static: tuple[int, ...] = (2,)) -> Any:
    """A block's class, or one that keeps nothing for its backward pass but its input, and computes the rest
    again there (Chen et al. 2016). Values, gradients and names of parameters are the same.

    Args:
      block: a Flax module.
      remat: whether to.
      static: which of its call's arguments are no arrays, itself the first: `train` of (self, x, train).
    """
    return nn.remat(block, static_argnums=static) if remat else block


def adapting(running_weight: float) -> Callable[..., Any]:
    """A Flax interceptor under which BatchNorm, told to normalise by its running statistics, first mixes
    those of its input in: w running + (1 - w) batch, w the weight in [0, 1], of means and of variances.

    Later layers see what that gives, as in Schneider et al. 2020 (their N / (N + n) is w); the mixed
    statistics take the place of the running ones where the collection "batch_stats" is mutable.
    """

    def intercept(call, args, kwargs, context):
        module = context.module
        if isinstance(module, BatchNorm | nn.BatchNorm) and context.method_name == "__call__":
            x = args[0].astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            for name, batch in (("mean", jnp.mean(x, axes)), ("var", jnp.var(x, axes))):
                running = module.get_variable("batch_stats", name)
                mixed = running_weight * running + (1 - running_weight) * batch
                module.put_variable("batch_stats", name, mixed)
        return call(*args, **kwargs)

    return intercept


def classify(
    stages: list[Float[Array, "B _ _ _"]], num_classes: int, last: Float[Array, "B _ _ _"] | None = None
) -> Outputs:
    """Global average pooling, of the last stage or of a `last` map behind it, and `head`."""
    last = stages[-1] if last is None else last
    pooled = jnp.mean(last.astype(jnp.float32), axis=(1, 2))
    return Outputs(head(num_classes)(pooled), tuple(stages), pooled)


def head(num_classes: int) -> nn.Dense:
    """A linear layer by the name "head", in full float32.

    It is cheap, and a GPU's default for its product, TF32, would be off by about 1e-3 on a logit.
    """
    return nn.Dense(
        num_classes,
        kernel_init=HEAD_INIT,
        dtype=jnp.float32,
        precision=jax.lax.Precision.HIGHEST,
        name="head",
    )
