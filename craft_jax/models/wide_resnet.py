"""Wide ResNets (Zagoruyko and Komodakis 2016): depth 6n + 4, k times as wide, pre-activation.

Where the shape changes the shortcut is a 1x1 convolution alone, and it reads the activated input,
as the original does. There is no dropout.
"""

from functools import partial
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, batch_norm, classify, conv, kept_or_remade


class PreActivationBlock(nn.Module):
    """conv(relu(BN(conv(a)))) + shortcut, a = relu(BN(x)); the shortcut is x or a 1x1 conv of a."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ _"], train: bool) -> Float[Array, "B _ _ _"]:
        a = nn.relu(batch_norm(train, self.dtype, "norm1")(x))
        y = conv(self.features, 3, self.stride, self.dtype, "conv1")(a)
        y = nn.relu(batch_norm(train, self.dtype, "norm2")(y))
        y = conv(self.features, 3, 1, self.dtype, "conv2")(y)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = conv(self.features, 1, self.stride, self.dtype, "shortcut_conv")(a)
        return x + y


class WideResNet(nn.Module):
    """Stem of 16, groups of 16k, 32k, 64k at strides 1, 2, 2, a final BatchNorm and ReLU, a head.

    The first two stages are the groups' sums as they are (not yet normalised or rectified); the
    third is after the final BatchNorm and ReLU. Initial values are those of `resnet.ResNet`.
    """

    depth: int
    widen: int
    num_classes: int
    dtype: Any
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        blocks, remainder = divmod(self.depth - 4, 6)
        assert remainder == 0 and blocks > 0, f"a wide ResNet has depth 6n + 4, not {self.depth}"
        x = conv(16, 3, 1, self.dtype, "stem_conv")(x)
        block_of, stages = kept_or_remade(PreActivationBlock, self.remat), []
        for group, features in enumerate((16, 32, 64), start=1):
            for block in range(1, blocks + 1):
                stride = 2 if group > 1 and block == 1 else 1
                name = f"group{group}_block{block}"
                x = block_of(features * self.widen, stride, self.dtype, name=name)(x, train)
            stages.append(x)
        stages[-1] = nn.relu(batch_norm(train, self.dtype, "final_norm")(x))
        return classify(stages, self.num_classes)


MODELS = {
    f"wrn-{depth}-{widen}": partial(WideResNet, depth, widen)
    for depth, widen in ((16, 1), (16, 2), (40, 1), (40, 2), (28, 10))
}
