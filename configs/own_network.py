"""A network of one's own, as student: copy this file. As teacher: config.teacher.name, or a run's workdir."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from configs import default
from craft_jax import models


class SmallNet(nn.Module):
    """Three strided convolutions with GroupNorm, a stage each, and a linear head."""

    num_classes: int
    dtype: Any  # what to compute in: float32 or bfloat16

    @nn.compact
    def __call__(self, x, train):  # x: (B, H, W, 3), normalised; train: a bool, for BatchNorm and the like
        stages = []
        for features in (32, 64, 128):
            x = nn.Conv(features, (3, 3), strides=2, padding=1, dtype=self.dtype)(x)
            x = nn.relu(nn.GroupNorm(num_groups=8, dtype=self.dtype)(x))
            stages.append(x)
        pooled = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        logits = nn.Dense(self.num_classes)(pooled)
        return models.Outputs(logits, tuple(stages), pooled)  # (B, K), of (B, H, W, C), (B, D)


models.REGISTRY["smallnet"] = SmallNet


def get_config(preset=""):
    """Logit KD with this student."""
    config = default.get_config(preset)
    config.method = "kd"
    config.student.name = "smallnet"
    return config
