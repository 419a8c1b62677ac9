"""MobileNetV2 (Sandler et al. 2018) at half width, in the form that the distillation literature has on CIFAR.

The stem has stride 2, the second group stride 1, and the last convolution keeps its full 1280 channels.
"""

from functools import partial
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, batch_norm, classify, conv, kept_or_remade

# A row a group: expansion, channels at width 1, blocks, stride of the first.
_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STAGES = (2, 3, 5, 7)  # the groups after which the literature takes its maps


class InvertedResidual(nn.Module):
    """1x1 up, 3x3 a channel, 1x1 down without ReLU; plus x where the shape stays."""

    features: int
    expansion: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ _"], train: bool) -> Float[Array, "B _ _ _"]:
        wide = x.shape[-1] * self.expansion
        y = conv(wide, 1, 1, self.dtype, "expand_conv")(x)
        y = nn.relu(batch_norm(train, self.dtype, "expand_norm")(y))
        y = conv(wide, 3, self.stride, self.dtype, "depthwise_conv", groups=wide)(y)
        y = nn.relu(batch_norm(train, self.dtype, "depthwise_norm")(y))
        y = conv(self.features, 1, 1, self.dtype, "project_conv")(y)
        y = batch_norm(train, self.dtype, "project_norm")(y)
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


class MobileNetV2(nn.Module):
    """A strided stem, seven groups of inverted residuals, a 1x1 convolution to 1280 channels, a head.

    Four stages: the outputs of groups 2, 3, 5 and 7, linear as they are, at a half, a quarter, an eighth and
    a sixteenth of the side. Initial values are those of `resnet.ResNet`.
    """

    width: float
    num_classes: int
    dtype: Any
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        x = conv(int(32 * self.width), 3, 2, self.dtype, "stem_conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, "stem_norm")(x))
        block_of, stages = kept_or_remade(InvertedResidual, self.remat), []
        for group, (expansion, channels, blocks, first_stride) in enumerate(_GROUPS, start=1):
            features = int(channels * self.width)
            for block in range(1, blocks + 1):
                stride = first_stride if block == 1 else 1
                name = f"group{group}_block{block}"
                x = block_of(features, expansion, stride, self.dtype, name=name)(x, train)
            if group in _STAGES:
                stages.append(x)
        x = conv(1280, 1, 1, self.dtype, "last_conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, "last_norm")(x))
        return classify(stages, self.num_classes, x)


MODELS = {"mobilenetv2": partial(MobileNetV2, 0.5)}
