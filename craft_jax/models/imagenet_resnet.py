"""The ResNets of ImageNet (He et al. 2016, table 1): four groups of basic or bottleneck blocks.

The stride of a bottleneck is in its 3x3 convolution, as in all code of today. The stem is for ImageNet (7x7
of stride 2, then a 3x3 maximum of stride 2) or for CIFAR (3x3 of stride 1), by which the literature's
ResNet-50 teacher on CIFAR-100 is known.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, batch_norm, classify, conv, kept_or_remade
from craft_jax.models.resnet import BasicBlock

STEMS = ("cifar", "imagenet")


class Bottleneck(nn.Module):
    """relu(BN(1x1 up(relu(BN(3x3(relu(BN(1x1(x))))))) + shortcut(x)), to four times `features`."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B _ _ _"], train: bool) -> Float[Array, "B _ _ _"]:
        y = conv(self.features, 1, 1, self.dtype, "conv1")(x)
        y = nn.relu(batch_norm(train, self.dtype, "norm1")(y))
        y = conv(self.features, 3, self.stride, self.dtype, "conv2")(y)
        y = nn.relu(batch_norm(train, self.dtype, "norm2")(y))
        y = conv(4 * self.features, 1, 1, self.dtype, "conv3")(y)
        y = batch_norm(train, self.dtype, "norm3")(y)
        if self.stride != 1 or x.shape[-1] != 4 * self.features:
            x = conv(4 * self.features, 1, self.stride, self.dtype, "shortcut_conv")(x)
            x = batch_norm(train, self.dtype, "shortcut_norm")(x)
        return nn.relu(x + y)


class ImageNetResNet(nn.Module):
    """Stem of 64, groups of 64, 128, 256, 512 at strides 1, 2, 2, 2, a head.

    Four stages: the groups' outputs, after their ReLU; from the full side to an eighth, or with ImageNet's
    stem from a quarter to a 32nd. Initial values are those of `resnet.ResNet`.
    """

    block: Any
    blocks: tuple[int, int, int, int]
    stem: str
    num_classes: int
    dtype: Any
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        assert self.stem in STEMS
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = conv(64, size, stride, self.dtype, "stem_conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, "stem_norm")(x))
        if self.stem == "imagenet":
            # Padded by hand, and called by keyword: jax2onnx converts no other way.
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
            x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))
        block_of, stages = kept_or_remade(self.block, self.remat), []
        for group, (features, blocks) in enumerate(zip((64, 128, 256, 512), self.blocks, strict=True), 1):
            for block in range(1, blocks + 1):
                stride = 2 if group > 1 and block == 1 else 1
                x = block_of(features, stride, self.dtype, name=f"group{group}_block{block}")(x, train)
            stages.append(x)
        return classify(stages, self.num_classes)


_DEPTHS = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}

MODELS = {
    f"resnet{depth}" + ("-imagenet" if stem == "imagenet" else ""): partial(ImageNetResNet, *kind, stem)
    for stem in STEMS
    for depth, kind in _DEPTHS.items()
}
