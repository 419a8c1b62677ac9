"""What a network costs, counted by hand."""

import functools

import jax
import jax.numpy as jnp
import pytest

from craft_jax import models
from craft_jax.evaluation import cost


def build(name, classes=10, dtype="float32", precision="default"):
    return models.build(name, classes, dtype=dtype, mean=(0.5,) * 3, std=(0.25,) * 3, precision=precision)


def flops(name, size=32, images=1, **settings):
    model = build(name, **settings)
    shape = (images, size, size, 3)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    return cost.flops(lambda v, x: model.apply(v, x, False)[0].logits, variables, image)


# Multiply-add pairs, layer by layer: positions of the output x taps x channels in x channels out.
RESNET20 = (
    1024 * 9 * 3 * 16  # the stem, 32x32                                       442,368
    + 6 * 1024 * 9 * 16 * 16  # three blocks of two                         14,155,776
    + 256 * 9 * 16 * 32 + 256 * 16 * 32  # to 16x16, with its shortcut       1,310,720
    + 5 * 256 * 9 * 32 * 32  #                                              11,796,480
    + 64 * 9 * 32 * 64 + 64 * 32 * 64  # to 8x8, with its shortcut           1,310,720
    + 5 * 64 * 9 * 64 * 64  #                                               11,796,480
    + 64 * 10  # the head                                                         640
)  # fmt: skip
WRN_16_2 = (
    1024 * 9 * 3 * 16  # the stem                                              442,368
    + 1024 * 9 * 16 * 32 + 1024 * 16 * 32  # to 32 channels, with shortcut   5,242,880
    + 3 * 1024 * 9 * 32 * 32  #                                             28,311,552
    + 256 * 9 * 32 * 64 + 256 * 32 * 64  # to 16x16                          5,242,880
    + 3 * 256 * 9 * 64 * 64  #                                              28,311,552
    + 64 * 9 * 64 * 128 + 64 * 64 * 128  # to 8x8                            5,242,880
    + 3 * 64 * 9 * 128 * 128  #                                             28,311,552
    + 128 * 10  # the head                                                       1,280
)  # fmt: skip


def test_flops_of_networks_equal_hand_counts():
    assert RESNET20 == 40_813_184 and WRN_16_2 == 101_106_944
    assert flops("resnet20") == 2 * RESNET20
    assert flops("wrn-16-2") == 2 * WRN_16_2
    # The head alone makes the difference: 64 or 128 features, 90 classes more.
    assert flops("resnet20", classes=100) - flops("resnet20") == 2 * 64 * 90
    assert flops("wrn-16-2", classes=100) - flops("wrn-16-2") == 2 * 128 * 90


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"precision": "highest"}])
def test_flops_do_not_depend_on_the_arithmetic(settings):
    assert flops("tiny", 16, **settings) == flops("tiny", 16) > 0


def test_flops_of_a_batch_are_those_of_its_images():
    assert flops("tiny", 16, images=5) == 5 * flops("tiny", 16)


def test_flops_of_convolutions():
    def conv(stride, groups, images, kernel):
        window = {"window_strides": (stride, stride), "padding": ((1, 1), (1, 1))}
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, dimension_numbers=layout, feature_group_count=groups, **window
        )

    images = jnp.ones((2, 7, 9, 6))
    # All nine taps at every position, those on the padding too.
    assert cost.flops(functools.partial(conv, 1, 1), images, jnp.ones((3, 3, 6, 4))) == 2 * (
        2 * 63 * 9 * 6 * 4
    )
    # 7x9 at stride 2 with a pixel of padding: 4x5 positions.
    assert cost.flops(functools.partial(conv, 2, 1), images, jnp.ones((3, 3, 6, 4))) == 2 * (
        2 * 20 * 9 * 6 * 4
    )
    # In three groups each output reads two of the six inputs.
    assert cost.flops(functools.partial(conv, 1, 3), images, jnp.ones((3, 3, 2, 6))) == 2 * (
        2 * 63 * 9 * 2 * 6
    )


def test_flops_of_products_within_functions_within_functions():
    a, b = jnp.ones((4, 3, 5)), jnp.ones((4, 5, 7))

    @jax.custom_jvp
    def inner(a, b):
        return jax.jit(jnp.matmul)(a, b)

    inner.defjvp(lambda primals, tangents: (inner(*primals), inner(*tangents)))
    nested = jax.jit(lambda a, b: jax.nn.relu(jax.checkpoint(inner)(a, b)) + 1.0)
    assert cost.flops(nested, a, b) == 2 * (4 * 3 * 5 * 7)
    assert cost.flops(lambda a: jnp.einsum("bij,bkj->ik", a, a), a) == 2 * (3 * 3 * 4 * 5)


def test_flops_of_a_loop_are_not_guessed():
    def looped(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ x, x)

    with pytest.raises(NotImplementedError):
        cost.flops(looped, jnp.ones((2, 2)))


@pytest.fixture
def tiny():
    model = build("tiny")
    return model, model.init(jax.random.key(0), (1, 16, 16, 3))


def test_parameters_flops_and_latency(tiny):
    notes = []
    measured = cost.measure(*tiny, (16, 16, 3), notes)
    assert measured["parameters"] == sum(x.size for x in jax.tree.leaves(tiny[1]["params"]))
    assert measured["flops"] == flops("tiny", 16)
    assert measured["latency_ms"]["1"] > 0
    assert measured["latency_ms"]["128"] > measured["latency_ms"]["1"] * 0.5
    assert measured["device"] == jax.local_devices()[0].device_kind
    assert notes == []


def test_what_cannot_be_measured_is_null_with_a_note(tiny, monkeypatch, capsys):
    whole = cost._median_ms

    def out_of_memory(forward, variables, shape):
        if shape[0] == 128:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory\nfor 128 images")
        return whole(forward, variables, shape)

    monkeypatch.setattr(cost, "_median_ms", out_of_memory)
    notes = []
    measured = cost.measure(*tiny, (16, 16, 3), notes)
    assert measured["latency_ms"]["1"] > 0 and measured["latency_ms"]["128"] is None
    assert measured["flops"] == flops("tiny", 16)
    (note,) = notes
    assert "128 images" in note and "RESOURCE_EXHAUSTED: no memory" in note
    assert capsys.readouterr().err == f"note: {note}\n"


def test_a_user_who_stops_the_measuring_stops_it(tiny):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cost.optional("latency", interrupted, [])
