"""Vision transformers as DINOv2's (Oquab et al. 2024): patches of 14 pixels, a class token, LayerScale.

Pre-norm blocks (Dosovitskiy et al. 2021), exact GELU, LayerNorm with eps 1e-6; no registers. The published
weights have positions for a grid of 37 x 37 patches (518 pixels), which other sizes interpolate.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from craft_jax.models.layers import Outputs, head, kept_or_remade

PATCH = 14
GRID = 37
# What DINOv2's images are normalised by: ImageNet's.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_normal = nn.initializers.truncated_normal(0.02)


def cubic_weights(n: int, m: int) -> Float[np.ndarray, "{m} {n}"]:
    """The matrix that resamples n values to m by cubic convolution (Keys 1981) with a = -0.75.

    PyTorch's bicubic interpolation, half-pixel centres and edges repeated, as Hugging Face's code has it;
    `jax.image.resize` has a = -0.5 and blurs where it shrinks.
    """
    a = -0.75
    centre = (np.arange(m) + 0.5) * n / m - 0.5
    first = np.floor(centre).astype(int) - 1
    weights = np.zeros((m, n))
    for tap in range(4):
        d = np.abs(centre - (first + tap))
        near = ((a + 2) * d - (a + 3)) * d**2 + 1
        far = a * (((d - 5) * d + 8) * d - 4)
        np.add.at(weights, (np.arange(m), np.clip(first + tap, 0, n - 1)), np.where(d <= 1, near, far))
    return weights.astype(np.float32)


def linear_weights(n: int, m: int) -> Float[np.ndarray, "{m} {n}"]:
    """The matrix that resamples n values to m as `jax.image.resize`'s "bilinear" does.

    A triangle of one value to each side, of n/m where it shrinks; beyond the ends there is none.
    """
    centre = (np.arange(m) + 0.5) * n / m - 0.5
    distance = np.abs(centre[:, None] - np.arange(n)) / max(n / m, 1)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class LayerScale(nn.Module):
    """x times a learned number a channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        scale = self.param("lambda1", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        return x * scale.astype(x.dtype)


class Block(nn.Module):
    """x + scale(attention(norm(x))), then x + scale(MLP(norm(x)))."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        width = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=_normal, dtype=self.dtype)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x)
        q, k, v = (dense(width, name=name)(y).reshape(*y.shape[:2], self.heads, -1) for name in _PROJECTIONS)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // self.heads) ** -0.5
        attention = jax.nn.softmax(scores.astype(jnp.float32)).astype(self.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", attention, v).reshape(x.shape)
        x = x + LayerScale(name="layer_scale1")(dense(width, name="out")(y))
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(dense(4 * width, name="fc1")(y), approximate=False)
        return x + LayerScale(name="layer_scale2")(dense(width, name="fc2")(y))


_PROJECTIONS = ("query", "key", "value")


class ViT(nn.Module):
    """Images, enlarged to a multiple of 14 pixels, as patches beside a class token; `depth` blocks; a head.

    Three stages: the patches, as maps, after a third of the blocks, two thirds, and the final LayerNorm. The
    head reads the class token and the mean of the patches beside it, as DINOv2's linear probes do.
    """

    width: int
    depth: int
    heads: int
    num_classes: int
    dtype: Any
    side: int = 0  # enlarge to so many pixels a side; 0: to the next multiple of a patch
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Outputs:
        sides = [self.side or -(-side // PATCH) * PATCH for side in x.shape[1:3]]
        # As `jax.image.resize`, which jax2onnx cannot convert for a number of images that is a symbol.
        weights = (linear_weights(n, m).astype(x.dtype) for n, m in zip(x.shape[1:3], sides, strict=True))
        x = jnp.einsum("bhwc,ph,qw->bpqc", x, *weights, precision=jax.lax.Precision.HIGHEST)
        rows, columns = (side // PATCH for side in sides)
        window = (PATCH, PATCH)
        x = nn.Conv(self.width, window, strides=window, padding="VALID", dtype=self.dtype, name="patches")(x)
        x = x.reshape(x.shape[0], rows * columns, self.width)
        token = self.param("class_token", _normal, (1, 1, self.width), jnp.float32)
        token = jnp.broadcast_to(token.astype(self.dtype), (x.shape[0], 1, self.width))
        x = jnp.concatenate([token, x], axis=1)
        x = x + self._positions(rows, columns).astype(self.dtype)
        block_of, stages = kept_or_remade(Block, self.remat, static=()), []
        for block in range(1, self.depth + 1):
            x = block_of(self.heads, self.dtype, name=f"block{block}")(x)
            if block in (self.depth // 3, 2 * self.depth // 3):
                stages.append(x[:, 1:].reshape(x.shape[0], rows, columns, self.width))
        x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
        stages.append(x[:, 1:].reshape(x.shape[0], rows, columns, self.width))
        x = x.astype(jnp.float32)
        pooled = jnp.concatenate([x[:, 0], jnp.mean(x[:, 1:], axis=1)], axis=1)
        return Outputs(head(self.num_classes)(pooled), tuple(stages), pooled)

    def _positions(self, rows, columns):
        """(1, 1 + rows columns, width): the class token's, and those of the patches interpolated."""
        shape = (1, 1 + GRID * GRID, self.width)
        positions = self.param("positions", _normal, shape, jnp.float32)
        if (rows, columns) == (GRID, GRID):
            return positions
        grid = positions[:, 1:].reshape(1, GRID, GRID, self.width)
        weights = cubic_weights(GRID, rows), cubic_weights(GRID, columns)
        grid = jnp.einsum("brcd,pr,qc->bpqd", grid, *weights, precision=jax.lax.Precision.HIGHEST)
        return jnp.concatenate([positions[:, :1], grid.reshape(1, rows * columns, self.width)], axis=1)


_small, _base = partial(ViT, 384, 12, 6), partial(ViT, 768, 12, 12)

MODELS = {
    "vit_small14": _small,
    "vit_base14": _base,
    # At 224 pixels, whatever the images' side: CIFAR at 32 would be nine patches.
    "vit_small14-224": partial(_small, side=224),
    "vit_base14-224": partial(_base, side=224),
}
