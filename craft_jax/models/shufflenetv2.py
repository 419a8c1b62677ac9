"""ShuffleNetV2 (Ma et al. 2018) at width 1, in the form that the distillation literature has on CIFAR.

The stem is a 1x1 convolution of stride 1, and nothing is pooled before the first group.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, batch_norm, classify, conv, kept_or_remade


def shuffle(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Deal the channels' two halves out in turn: 0, C/2, 1, C/2 + 1, ..."""
    halves = x.reshape(*x.shape[:3], 2, x.shape[3] // 2)
    return halves.swapaxes(3, 4).reshape(x.shape)


class Unit(nn.Module):
    """Half the channels pass; the other half go through 1x1, 3x3 a channel, 1x1; joined and shuffled."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ C"], train: bool) -> Float[Array, "B _ _ C"]:
        half = x.shape[-1] // 2
        passed, y = x[..., :half], x[..., half:]
        y = nn.relu(batch_norm(train, self.dtype, "norm1")(conv(half, 1, 1, self.dtype, "conv1")(y)))
        y = conv(half, 3, 1, self.dtype, "conv2", groups=half)(y)
        y = batch_norm(train, self.dtype, "norm2")(y)
        y = nn.relu(batch_norm(train, self.dtype, "norm3")(conv(half, 1, 1, self.dtype, "conv3")(y)))
        return shuffle(jnp.concatenate([passed, y], axis=-1))


class DownUnit(nn.Module):
    """Both branches read the whole of x and halve its side: 3x3 a channel, 1x1; and 1x1, 3x3, 1x1."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ _"], train: bool) -> Float[Array, "B _ _ _"]:
        channels, half = x.shape[-1], self.features // 2
        left = conv(channels, 3, 2, self.dtype, "conv1", groups=channels)(x)
        left = batch_norm(train, self.dtype, "norm1")(left)
        left = nn.relu(batch_norm(train, self.dtype, "norm2")(conv(half, 1, 1, self.dtype, "conv2")(left)))
        y = nn.relu(batch_norm(train, self.dtype, "norm3")(conv(half, 1, 1, self.dtype, "conv3")(x)))
        y = conv(half, 3, 2, self.dtype, "conv4", groups=half)(y)
        y = batch_norm(train, self.dtype, "norm4")(y)
        y = nn.relu(batch_norm(train, self.dtype, "norm5")(conv(half, 1, 1, self.dtype, "conv5")(y)))
        return shuffle(jnp.concatenate([left, y], axis=-1))


class ShuffleNetV2(nn.Module):
    """A stem of 24, three groups, each a `DownUnit` and some `Unit`s, a 1x1 convolution to `last`, a head.

    Three stages: the groups' outputs, at a half, a quarter and an eighth of the side. Initial values are
    those of `resnet.ResNet`; the published code starts from PyTorch's default, uniform and smaller.
    """

    widths: tuple[int, int, int]
    last: int
    num_classes: int
    dtype: Any
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        x = conv(24, 1, 1, self.dtype, "stem_conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, "stem_norm")(x))
        down_of, unit_of = (kept_or_remade(unit, self.remat) for unit in (DownUnit, Unit))
        stages = []
        for group, (features, units) in enumerate(zip(self.widths, (3, 7, 3), strict=True), start=1):
            x = down_of(features, self.dtype, name=f"group{group}_block1")(x, train)
            for block in range(2, units + 2):
                x = unit_of(self.dtype, name=f"group{group}_block{block}")(x, train)
            stages.append(x)
        x = conv(self.last, 1, 1, self.dtype, "last_conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, "last_norm")(x))
        return classify(stages, self.num_classes, x)


MODELS = {"shufflenetv2": partial(ShuffleNetV2, (116, 232, 464), 1024)}
