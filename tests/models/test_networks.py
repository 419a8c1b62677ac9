"""The networks of the literature: published sizes, stages, and their blocks against NumPy float64."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import models
from craft_jax.errors import ModelError
from craft_jax.models import __main__ as table
from craft_jax.models import imagenet_resnet, mobilenetv2, shufflenetv2, torch_names, vit
from tests.models.test_models import reference_conv

# Parameters of 100 classes and stages at 32 pixels, of the networks that the literature has on CIFAR-100.
CIFAR = {
    "vgg8": (3_965_028, "128@16x16 256@8x8 512@4x4 512@4x4"),
    "vgg13": (9_462_180, "128@16x16 256@8x8 512@4x4 512@4x4"),
    "mobilenetv2": (812_836, "12@16x16 16@8x8 48@4x4 160@2x2"),
    "shufflenetv2": (1_355_528, "116@16x16 232@8x8 464@4x4"),
    "resnet18": (11_220_132, "64@32x32 128@16x16 256@8x8 512@4x4"),
    "resnet34": (21_328_292, "64@32x32 128@16x16 256@8x8 512@4x4"),
    "resnet50": (23_705_252, "256@32x32 512@16x16 1024@8x8 2048@4x4"),
}
# Of 1000 classes at 224 pixels, with the billions of multiply-adds that torchvision's documentation has.
IMAGENET = {
    "resnet18-imagenet": (11_689_512, 1.81, "64@56x56 128@28x28 256@14x14 512@7x7"),
    "resnet34-imagenet": (21_797_672, 3.66, "64@56x56 128@28x28 256@14x14 512@7x7"),
    "resnet50-imagenet": (25_557_032, 4.09, "256@56x56 512@28x28 1024@14x14 2048@7x7"),
}
VGG8 = (
    1024 * 9 * 3 * 64  # multiply-adds at 32x32, 16x16, 8x8, 4x4, 4x4, and of the head
    + 256 * 9 * 64 * 128
    + 64 * 9 * 128 * 256
    + 16 * 9 * 256 * 512
    + 16 * 9 * 512 * 512
    + 512 * 100
)


def bottlenecks(side, before, width, blocks, stride):
    """Multiply-adds of a group: its first convolution still has the group's input, and a shortcut is 1x1."""
    first = (side * stride) ** 2 * before * width + side**2 * (13 * width**2 + 4 * before * width)
    return first + (blocks - 1) * side**2 * 17 * width**2


RESNET50 = (
    1024 * 9 * 3 * 64
    + bottlenecks(32, 64, 64, 3, 1)
    + bottlenecks(16, 256, 128, 4, 2)
    + bottlenecks(8, 512, 256, 6, 2)
    + bottlenecks(4, 1024, 512, 3, 2)
    + 2048 * 100
)


def printed(capsys, *words):
    """{network: (parameters, FLOPs, stages)} of the command's table."""
    assert table.main(words) == 0
    lines = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()[1:]]
    return {name: (int(p.replace(",", "")), int(f.replace(",", "")), maps) for name, p, f, maps in lines}


def test_the_networks_of_cifar_have_the_published_sizes(capsys):
    found = printed(capsys, *CIFAR, "--num_classes=100")
    assert {name: (p, maps) for name, (p, _, maps) in found.items()} == CIFAR
    assert found["vgg8"][1] == 2 * VGG8
    assert found["resnet50"][1] == 2 * RESNET50


def test_those_of_imagenet_too(capsys):
    found = printed(capsys, *IMAGENET, "--num_classes=1000", "--side=224")
    assert {name: (p, round(f / 2e9, 2), maps) for name, (p, f, maps) in found.items()} == IMAGENET


@pytest.mark.parametrize(
    ("words", "said"),
    [(["resnet21"], "resnet21 unknown; allowed: resnet8,"), (["--side=4"], "--side: 4; allowed: at least 8")],
)
def test_what_the_table_cannot_be_of(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        table.main(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def size(module):
    """How many parameters a network has beside its head."""
    images = jax.ShapeDtypeStruct((1, 14, 14, 3), jnp.float32)
    params = jax.eval_shape(lambda: module.lazy_init(jax.random.key(0), images, train=False))["params"]
    return models.count_parameters(params) - models.count_parameters(params["head"])


@pytest.mark.parametrize(
    ("name", "width", "heads", "published"),
    [("vit_small14", 384, 6, 22_056_576), ("vit_base14", 768, 12, 86_580_480)],
)
def test_dinov2s_have_the_published_parameters(name, width, heads, published):
    """The published count has the mask token, `width` numbers for pretraining alone. Blocks are alike."""
    assert vit.MODELS[name].args == vit.MODELS[f"{name}-224"].args == (width, 12, heads)
    none, one = (size(vit.ViT(width, depth, heads, 10, jnp.float32)) for depth in (0, 1))
    assert none + 12 * (one - none) + width == published


def test_a_vit_enlarges_images_to_whole_patches(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "tiny_vit", functools.partial(vit.ViT, 4, 3, 2))
    assert models.stage_shapes("tiny_vit", (32, 28, 3)) == ((3, 2, 4),) * 3
    monkeypatch.setitem(models.REGISTRY, "tiny_vit", functools.partial(vit.ViT, 4, 3, 2, side=224))
    assert models.stage_shapes("tiny_vit", (32, 28, 3)) == ((16, 16, 4),) * 3


# ---- names in a state dict ----

NAMES = {
    "resnet20": {
        "params/stem_conv/kernel": "conv1.weight",
        "batch_stats/group2_block1/shortcut_norm/mean": "layer2.0.downsample.1.running_mean",
        "params/group3_block3/norm2/scale": "layer3.2.bn2.weight",
        "params/head/bias": "fc.bias",
    },
    "wrn-16-2": {
        "params/group1_block1/shortcut_conv/kernel": "block1.layer.0.convShortcut.weight",
        "batch_stats/final_norm/var": "bn1.running_var",
        "params/group3_block2/conv2/kernel": "block3.layer.1.conv2.weight",
    },
    "vgg13": {
        "params/group0_block1/conv/bias": "block0.0.bias",
        "params/group4_block2/conv/kernel": "block4.3.weight",
        "batch_stats/group4_block2/norm/var": "block4.4.running_var",
        "params/head/kernel": "classifier.weight",
    },
    "mobilenetv2": {
        "params/stem_norm/scale": "conv1.1.weight",
        "params/group1_block1/expand_conv/kernel": "blocks.0.0.conv.0.weight",
        "params/group7_block1/project_norm/bias": "blocks.6.0.conv.7.bias",
        "params/last_conv/kernel": "conv2.0.weight",
        "params/head/kernel": "classifier.0.weight",
    },
    "shufflenetv2": {
        "params/group2_block8/conv3/kernel": "layer2.7.conv3.weight",
        "params/group1_block1/norm5/scale": "layer1.0.bn5.weight",
        "params/head/bias": "linear.bias",
    },
    "resnet50": {
        "params/group1_block1/shortcut_conv/kernel": "layer1.0.shortcut.0.weight",
        "params/head/kernel": "linear.weight",
    },
    "resnet50-imagenet": {
        "params/group1_block1/shortcut_conv/kernel": "layer1.0.downsample.0.weight",
        "params/head/kernel": "fc.weight",
    },
    "vit_small14": {
        "params/class_token": "dinov2.embeddings.cls_token",
        "params/positions": "dinov2.embeddings.position_embeddings",
        "params/patches/bias": "dinov2.embeddings.patch_embeddings.projection.bias",
        "params/block12/query/kernel": "dinov2.encoder.layer.11.attention.attention.query.weight",
        "params/block1/out/bias": "dinov2.encoder.layer.0.attention.output.dense.bias",
        "params/block1/layer_scale2/lambda1": "dinov2.encoder.layer.0.layer_scale2.lambda1",
        "params/block2/norm1/scale": "dinov2.encoder.layer.1.norm1.weight",
        "params/block2/fc1/kernel": "dinov2.encoder.layer.1.mlp.fc1.weight",
        "params/norm/bias": "dinov2.layernorm.bias",
        "params/head/kernel": "classifier.weight",
    },
}


@pytest.mark.parametrize("network", NAMES)
def test_names_of_pytorch_code(network):
    known = torch_names.conventions(network)[0]
    assert {path: torch_names.name_of(known, path) for path in NAMES[network]} == NAMES[network]


def test_every_network_but_ones_own_has_names():
    assert all(torch_names.conventions(name) for name in models.NAMES)
    assert torch_names.conventions("tiny") == ()


@pytest.mark.parametrize("name", ["resnet9", "resnet20", "vgg7", "vit_own14"])
def test_ones_own_network_has_none_whatever_its_name(name, monkeypatch):
    monkeypatch.setitem(models.REGISTRY, name, functools.partial(vit.ViT, 4, 3, 2))
    assert torch_names.conventions(name) == ()
    assert torch_names.names(name, ["params/stem/kernel"]) == [
        (torch_names.PATH_NAMES, {"params/stem/kernel": "params/stem/kernel"})
    ]
    assert not torch_names.is_unused(name, "embeddings.mask_token")


@pytest.mark.parametrize("prefix", ["", "dinov2.", "module.", "module.dinov2."])
def test_a_mask_token_has_no_use(prefix):
    assert torch_names.is_unused("vit_small14", f"{prefix}embeddings.mask_token")
    assert not torch_names.is_unused("vit_small14", f"{prefix}embeddings.cls_token")


# ---- blocks against NumPy ----


class Reference:
    """Layers in NumPy float64, of one block's variables."""

    def __init__(self, variables):
        self.variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)

    def conv(self, name, x, stride=1, depthwise=False):
        kernel = self.variables["params"][name]["kernel"]
        if not depthwise:
            return reference_conv(x, kernel, stride)
        channels = range(x.shape[-1])
        parts = [reference_conv(x[..., c : c + 1], kernel[..., c : c + 1], stride) for c in channels]
        return np.concatenate(parts, axis=-1)

    def norm(self, name, x):
        affine, stats = self.variables["params"][name], self.variables["batch_stats"][name]
        return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * affine["scale"] + affine["bias"]

    def dense(self, name, x):
        return x @ self.variables["params"][name]["kernel"] + self.variables["params"][name]["bias"]

    def layer_norm(self, name, x):
        affine = self.variables["params"][name]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * affine["scale"] + affine["bias"]


def relu(x):
    return np.maximum(x, 0)


def inverted_residual(r, x):
    y = relu(r.norm("expand_norm", r.conv("expand_conv", x)))
    y = relu(r.norm("depthwise_norm", r.conv("depthwise_conv", y, depthwise=True)))
    return x + r.norm("project_norm", r.conv("project_conv", y))


def shuffled(left, right):
    return np.stack([left, right], axis=-1).reshape(*left.shape[:3], -1)


def unit(r, x):
    passed, y = np.split(x, 2, axis=-1)
    y = relu(r.norm("norm1", r.conv("conv1", y)))
    y = r.norm("norm2", r.conv("conv2", y, depthwise=True))
    return shuffled(passed, relu(r.norm("norm3", r.conv("conv3", y))))


def down_unit(r, x):
    left = r.norm("norm1", r.conv("conv1", x, 2, depthwise=True))
    left = relu(r.norm("norm2", r.conv("conv2", left)))
    y = relu(r.norm("norm3", r.conv("conv3", x)))
    y = r.norm("norm4", r.conv("conv4", y, 2, depthwise=True))
    return shuffled(left, relu(r.norm("norm5", r.conv("conv5", y))))


def bottleneck(r, x):
    y = relu(r.norm("norm1", r.conv("conv1", x)))
    y = relu(r.norm("norm2", r.conv("conv2", y, 2)))
    return relu(r.norm("norm3", r.conv("conv3", y)) + r.norm("shortcut_norm", r.conv("shortcut_conv", x, 2)))


def attention(r, x, heads=2):
    """Image by image, head by head, row by row."""
    q, k, v = (r.dense(name, x) for name in ("query", "key", "value"))
    y, size = np.zeros(x.shape), x.shape[2] // heads
    for b, h, i in np.ndindex(x.shape[0], heads, x.shape[1]):
        own = slice(h * size, (h + 1) * size)
        weights = np.exp(k[b, :, own] @ q[b, i, own] / np.sqrt(size))
        y[b, i, own] = weights @ v[b, :, own] / weights.sum()
    return r.dense("out", y)


def transformer(r, x):
    x = x[0]  # a block of (B, N, D)
    scale1, scale2 = (r.variables["params"][f"layer_scale{i}"]["lambda1"] for i in (1, 2))
    x = x + scale1 * attention(r, r.layer_norm("norm1", x))
    y = r.dense("fc1", r.layer_norm("norm2", x))
    y = y * (1 + np.vectorize(math.erf)(y / np.sqrt(2))) / 2
    return (x + scale2 * r.dense("fc2", y))[None]


class Transformer:
    """vit.Block as the other blocks are: of (1, B, N, D), and told whether it trains."""

    block = vit.Block(2, jnp.float32)

    def init(self, key, x, train):
        return self.block.init(key, x[0])

    def apply(self, variables, x, train):
        return self.block.apply(variables, x[0])[None]


@pytest.mark.parametrize(
    ("block", "reference"),
    [
        (imagenet_resnet.Bottleneck(2, 2, jnp.float32), bottleneck),
        (Transformer(), transformer),
        (mobilenetv2.InvertedResidual(4, 3, 1, jnp.float32), inverted_residual),
        (shufflenetv2.Unit(jnp.float32), unit),
        (shufflenetv2.DownUnit(6, jnp.float32), down_unit),
    ],
    ids=["bottleneck", "transformer", "inverted residual", "unit", "down unit"],
)
def test_a_block_equals_a_numpy_reference(block, reference):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 5, 4, 4)), jnp.float32)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, False))
    variables = jax.tree.map(lambda leaf: rng.uniform(0.2, 1.0, leaf.shape).astype(np.float32), shapes)
    found = jax.jit(lambda v, x: block.apply(v, x, False))(variables, x)
    expected = reference(Reference(variables), np.asarray(x, np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_positions_are_interpolated_by_cubic_convolution():
    np.testing.assert_array_equal(vit.cubic_weights(5, 5), np.eye(5))
    # Twice as many: centres at a quarter and three quarters, a = -0.75; the first and last value repeat.
    a, b, c, d = -0.10546875, 0.87890625, 0.26171875, -0.03515625
    half = [[d + c + b, a, 0], [a + b, c, d], [d + c, b, a]]
    np.testing.assert_allclose(vit.cubic_weights(3, 6), half + [row[::-1] for row in half[::-1]], atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(8, 14), (14, 14), (32, 224), (30, 14)])
def test_images_are_enlarged_bilinearly(n, m):
    """As JAX's own, of which the float32 positions are off by some 1e-7 of n."""
    expected = jax.image.resize(np.eye(n, dtype=np.float32), (m, n), "bilinear")
    np.testing.assert_allclose(vit.linear_weights(n, m), expected, atol=1e-5)


# ---- what no step could use ----


class Odd:
    """A stand-in for a Flax module: returns what it is told to."""

    def __init__(self, returned, collections=("params",)):
        self.returned, self.collections = returned, collections

    def lazy_init(self, key, images, train):
        return {name: {"w": jnp.zeros(2)} for name in self.collections}

    def apply(self, variables, x, train, mutable=()):
        return (self.returned, {}) if mutable else self.returned


LOGITS, POOLED, STAGES = jnp.zeros((2, 3)), jnp.zeros((2, 4)), (jnp.zeros((2, 1, 1, 4)),)


@pytest.mark.usefixtures("without_hook")
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (LOGITS, r"network odd: returns \w+; allowed: a models\.Outputs"),
        (models.Outputs(LOGITS[:, :2], STAGES, POOLED), r"logits float32\(2, 2\); allowed: float32\(2, 3\)"),
        (models.Outputs(LOGITS.astype(jnp.bfloat16), STAGES, POOLED), r"logits bfloat16"),
        (models.Outputs(LOGITS, STAGES, POOLED[0]), r"pooled float32\(4,\)"),
        (models.Outputs(LOGITS, POOLED, POOLED), "its stages; allowed: a tuple"),
    ],
)
def test_outputs_that_no_step_could_use_are_refused(returned, said, monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "odd", lambda num_classes, dtype: Odd(returned))
    model = models.build("odd", 3, dtype="float32", mean=(0,) * 3, std=(1,) * 3)
    variables = model.init(jax.random.key(0), (1, 8, 8, 3))
    assert variables["batch_stats"] == {}
    with pytest.raises(ModelError, match=said):
        model.apply(variables, jnp.zeros((2, 8, 8, 3)), True)


def test_variables_of_another_kind_are_refused(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "odd", lambda num_classes, dtype: Odd(None, ("params", "cache")))
    model = models.build("odd", 3, dtype="float32", mean=(0,) * 3, std=(1,) * 3)
    with pytest.raises(ModelError, match=r"network odd: variables \['cache'\]; allowed: params, batch_stats"):
        model.init(jax.random.key(0), (1, 8, 8, 3))
