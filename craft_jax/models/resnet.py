"""CIFAR ResNets (He et al. 2016, section 4.2): depth 6n + 2, three groups of n basic blocks.

As in the code of the distillation literature, a 1x1 convolution with BatchNorm is the shortcut
where the shape changes (the original pads with zeros), and resnet8x4 and resnet32x4 are four times
as wide in the groups but only twice as wide in the stem.
"""

from functools import partial
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, batch_norm, classify, conv, kept_or_remade


class BasicBlock(nn.Module):
    """relu(BN(conv(relu(BN(conv(x))))) + shortcut(x)), the first convolution strided."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ _"], train: bool) -> Float[Array, "B _ _ _"]:
        y = conv(self.features, 3, self.stride, self.dtype, "conv1")(x)
        y = nn.relu(batch_norm(train, self.dtype, "norm1")(y))
        y = conv(self.features, 3, 1, self.dtype, "conv2")(y)
        y = batch_norm(train, self.dtype, "norm2")(y)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = conv(self.features, 1, self.stride, self.dtype, "shortcut_conv")(x)
            x = batch_norm(train, self.dtype, "shortcut_norm")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stem convolution, three groups of basic blocks at strides 1, 2, 2, and a linear head.

    Convolutions start from Kaiming normal (fan-out), BatchNorm from scale 1 and bias 0 everywhere
    (the last one of a block is not zeroed), the head from U(-1/sqrt(D), 1/sqrt(D)) with bias 0.
    """

    depth: int
    num_classes: int
    dtype: Any
    stem: int = 16
    widths: tuple[int, int, int] = (16, 32, 64)
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        blocks, remainder = divmod(self.depth - 2, 6)
        assert remainder == 0 and blocks > 0, f"a CIFAR ResNet has depth 6n + 2, not {self.depth}"
        x = conv(self.stem, 3, 1, self.dtype, "stem_conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, "stem_norm")(x))
        block_of, stages = kept_or_remade(BasicBlock, self.remat), []
        for group, features in enumerate(self.widths, start=1):
            for block in range(1, blocks + 1):
                stride = 2 if group > 1 and block == 1 else 1
                name = f"group{group}_block{block}"
                x = block_of(features, stride, self.dtype, name=name)(x, train)
            stages.append(x)
        return classify(stages, self.num_classes)


_wide = partial(ResNet, stem=32, widths=(64, 128, 256))

MODELS = {
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
    "resnet8x4": partial(_wide, 8),
    "resnet32x4": partial(_wide, 32),
}
