"""VGG for small images (after Simonyan and Zisserman 2015): 3x3 convolutions with BatchNorm, then one head.

As in the code of the distillation literature: five groups of 64, 128, 256, 512 and 512 channels, a 2x2
maximum after each of the first three, and global average pooling where the original has hidden layers.
"""

from functools import partial
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, batch_norm, classify, conv, kept_or_remade


class ConvBlock(nn.Module):
    """relu(BN(conv(x) + bias)); published weights have the bias, though it is void before a BatchNorm."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ _"], train: bool) -> Float[Array, "B _ _ _"]:
        x = conv(self.features, 3, 1, self.dtype, "conv", use_bias=True)(x)
        return nn.relu(batch_norm(train, self.dtype, "norm")(x))


class VGG(nn.Module):
    """Groups 0 to 4 of `blocks` convolutions each.

    Four stages: the outputs of groups 1 to 4, at a half, a quarter, an eighth and an eighth of the side (for
    64 pixels or more a sixteenth, by a fourth maximum). Initial values are those of `resnet.ResNet`.
    """

    blocks: int
    num_classes: int
    dtype: Any
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        pools = 4 if min(x.shape[1:3]) >= 64 else 3
        block_of, stages = kept_or_remade(ConvBlock, self.remat), []
        for group, features in enumerate((64, 128, 256, 512, 512)):
            for block in range(1, self.blocks + 1):
                x = block_of(features, self.dtype, name=f"group{group}_block{block}")(x, train)
            stages.append(x)
            if group < pools:
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))  # by keyword, for jax2onnx
        return classify(stages[1:], self.num_classes)


MODELS = {"vgg8": partial(VGG, 1), "vgg13": partial(VGG, 2)}
