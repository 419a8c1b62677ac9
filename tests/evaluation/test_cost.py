"""What a network costs, counted by hand."""

import jax
import pytest

from craft_jax import models
from craft_jax.evaluation import cost


def test_parameters_flops_and_latency():
    model = models.build("tiny", 10, dtype="float32", mean=(0.5,) * 3, std=(0.25,) * 3)
    variables = model.init(jax.random.key(0), (1, 16, 16, 3))
    measured = cost.measure(model, variables, (16, 16, 3))
    assert measured["parameters"] == sum(x.size for x in jax.tree.leaves(variables["params"]))

    def conv(side, size, inputs, outputs, stride=1):
        """Multiplications and additions of the taps that lie inside the image."""
        out = side // stride
        taps = sum(0 <= i * stride + k - size // 2 < side for i in range(out) for k in range(size))
        return 2 * taps * taps * inputs * outputs

    convolutions = (
        conv(16, 3, 3, 4)
        + 2 * conv(16, 3, 4, 4)
        + conv(16, 3, 4, 4, stride=2)
        + conv(8, 3, 4, 4)
        + conv(16, 1, 4, 4, stride=2)
        + conv(8, 3, 4, 8, stride=2)
        + conv(4, 3, 8, 8)
        + conv(8, 1, 4, 8, stride=2)
    )
    # Normalisation, ReLU, pooling and the head come on top: a few operations a value.
    assert convolutions < measured["flops"] < 1.4 * convolutions
    assert measured["latency_ms"]["1"] > 0
    assert measured["latency_ms"]["128"] > measured["latency_ms"]["1"] * 0.5
    assert measured["device"] == pytest.approx(jax.local_devices()[0].device_kind)
