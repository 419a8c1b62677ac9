"""Networks: parameter counts, stages, statistics, precision, wiring against NumPy float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import models
from tests.programs import equations, precisions

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

PARAMETERS = {
    "resnet8": 78_042,
    "resnet14": 175_258,
    "resnet20": 272_474,
    "resnet32": 466_906,
    "resnet44": 661_338,
    "resnet56": 855_770,
    "resnet110": 1_730_714,
    "resnet8x4": 1_210_410,
    "resnet32x4": 7_410_730,
    "wrn-16-1": 175_066,
    "wrn-16-2": 691_674,
    "wrn-40-1": 563_930,
    "wrn-40-2": 2_243_546,
    "wrn-28-10": 36_479_194,
}
WIDTHS = {
    "resnet8": (16, 32, 64),
    "resnet8x4": (64, 128, 256),
    "wrn-16-1": (16, 32, 64),
    "wrn-16-2": (32, 64, 128),
    "wrn-28-10": (160, 320, 640),
}


def build(name, num_classes=10, dtype="float32", mean=MEAN, std=STD, **settings):
    return models.build(name, num_classes, dtype=dtype, mean=mean, std=std, **settings)


def shapes(name, image_shape=(2, 32, 32, 3), train=False, **kwargs):
    """Shapes and dtypes of variables, outputs and new statistics; nothing is computed."""
    model = build(name, **kwargs)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image_shape))
    images = jax.ShapeDtypeStruct(image_shape, jnp.float32)
    outputs, stats = jax.eval_shape(lambda v, x: model.apply(v, x, train), variables, images)
    return variables, outputs, stats


def images_like(shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@functools.cache
def network(name, dtype="float32"):
    """Random variables with nothing at its initial 0 or 1, and the model's jitted apply."""
    model = build(name, dtype=dtype)
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        limits = {"scale": (0.5, 1.5), "var": (0.3, 3.0), "mean": (-0.4, 0.4), "bias": (-0.4, 0.4)}
        limit = (6 / np.prod(leaf.shape[:-1])) ** 0.5  # of a kernel: Kaiming uniform, fan-in
        values = rng.uniform(*limits.get(path[-1].key, (-limit, limit)), leaf.shape)
        return values.astype(np.float32)

    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 8, 8, 3)))
    variables = jax.tree_util.tree_map_with_path(draw, variables)
    return variables, jax.jit(model.apply, static_argnums=2)


# ---- a float64 reference, written out loop by loop ----


def reference_conv(x, kernel, stride):
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height = (x.shape[1] - size) // stride + 1
    width = (x.shape[2] - size) // stride + 1
    y = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            patch = x[:, top : top + size, left : left + size]
            y[:, i, j] = np.einsum("bhwc,hwcd->bd", patch, kernel)
    return y


class Reference:
    """The network in NumPy float64; `new_stats` collects the running averages after one batch."""

    def __init__(self, variables, train):
        self.variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        self.train, self.new_stats = train, {}

    def at(self, collection, path):
        return functools.reduce(lambda tree, key: tree[key], path, self.variables[collection])

    def conv(self, x, *path, stride=1):
        return reference_conv(x, self.at("params", path)["kernel"], stride)

    def norm(self, x, *path):
        affine, stats = self.at("params", path), self.at("batch_stats", path)
        mean, var = stats["mean"], stats["var"]
        if self.train:
            batch_mean, batch_var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            self.new_stats[path] = {
                "mean": 0.9 * mean + 0.1 * batch_mean,
                "var": 0.9 * var + 0.1 * batch_var,
            }
            mean, var = batch_mean, batch_var
        return (x - mean) / np.sqrt(var + 1e-5) * affine["scale"] + affine["bias"]

    def basic_block(self, x, block, stride):
        y = np.maximum(self.norm(self.conv(x, block, "conv1", stride=stride), block, "norm1"), 0)
        y = self.norm(self.conv(y, block, "conv2"), block, "norm2")
        if stride == 2:
            x = self.conv(x, block, "shortcut_conv", stride=2)
            x = self.norm(x, block, "shortcut_norm")
        return np.maximum(x + y, 0)

    def pre_activation_block(self, x, block, stride):
        a = np.maximum(self.norm(x, block, "norm1"), 0)
        y = np.maximum(self.norm(self.conv(a, block, "conv1", stride=stride), block, "norm2"), 0)
        y = self.conv(y, block, "conv2")
        return y + (self.conv(a, block, "shortcut_conv", stride=2) if stride == 2 else x)

    def __call__(self, images, name):
        x = (np.asarray(images, np.float64) - np.array(MEAN)) / np.array(STD)
        x = self.conv(x, "stem_conv")
        if name == "resnet8":
            blocks, block_function = 1, self.basic_block
            x = np.maximum(self.norm(x, "stem_norm"), 0)
        else:
            blocks, block_function = 2, self.pre_activation_block
        stages = []
        for group in (1, 2, 3):
            for block in range(1, blocks + 1):
                stride = 2 if group > 1 and block == 1 else 1
                x = block_function(x, f"group{group}_block{block}", stride)
            stages.append(x)
        if name != "resnet8":
            stages[-1] = np.maximum(self.norm(x, "final_norm"), 0)
        pooled = stages[-1].mean((1, 2))
        head = self.variables["params"]["head"]
        return models.Outputs(pooled @ head["kernel"] + head["bias"], tuple(stages), pooled)


def assert_close(actual, expected, tolerance=2e-4):
    """Equal up to float32 rounding, relative to the array's own scale."""
    expected = np.asarray(expected, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["resnet8", "wrn-16-1"])
def test_forward_pass_and_statistics_equal_a_numpy_reference(name, train):
    variables, apply = network(name)
    images = images_like((4, 8, 8, 3) if train else (1, 8, 8, 3))
    outputs, stats = apply(variables, images, train)
    reference = Reference(variables, train)
    expected = reference(images, name)
    assert len(outputs.stages) == 3
    for actual, stage in zip(outputs.stages, expected.stages, strict=True):
        assert_close(actual, stage)
    assert_close(outputs.pooled, expected.pooled)
    assert_close(outputs.logits, expected.logits)
    if not train:
        return
    assert sum(map(len, reference.new_stats.values())) == len(jax.tree.leaves(stats))
    for path, expected_stats in reference.new_stats.items():
        actual = functools.reduce(lambda tree, key: tree[key], path, stats)
        assert_close(actual["mean"], expected_stats["mean"])
        assert_close(actual["var"], expected_stats["var"])


# ---- counts, shapes, names ----


def test_the_registry_holds_the_designs_models():
    assert set(PARAMETERS) <= set(models.NAMES) <= set(models.REGISTRY)  # the others: test_networks.py
    assert type(models.REGISTRY) is dict and isinstance(models.NAMES, tuple)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    model = build(name)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 32, 32, 3)))
    assert models.count_parameters(variables["params"]) == PARAMETERS[name]


@pytest.mark.parametrize("name", WIDTHS)
def test_stage_shapes(name):
    variables, outputs, _ = shapes(name, (2, 32, 32, 3), num_classes=7)
    a, b, c = WIDTHS[name]
    assert [s.shape for s in outputs.stages] == [(2, 32, 32, a), (2, 16, 16, b), (2, 8, 8, c)]
    assert outputs.pooled.shape == (2, c)
    assert outputs.logits.shape == (2, 7)
    assert variables["params"]["head"]["kernel"].shape == (c, 7)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (64, 64)])
@pytest.mark.parametrize("name", ["resnet8", "wrn-16-1"])
def test_any_image_size_from_eight(name, size):
    _, outputs, _ = shapes(name, (2, *size, 3))
    expected = [tuple(-(-side // stride) for side in size) for stride in (1, 2, 4)]
    assert [stage.shape[1:3] for stage in outputs.stages] == expected
    assert outputs.logits.shape == (2, 10)


@functools.cache
def initialised():
    """resnet8's initial variables for two keys."""
    model = build("resnet8")
    init = jax.jit(lambda key: model.init(key, (1, 8, 8, 3)))
    return init(jax.random.key(3)), init(jax.random.key(4))


def test_variables_are_plain_dicts_that_do_not_depend_on_the_image_size():
    first, second = initialised()
    assert set(first) == {"params", "batch_stats"}
    assert all(type(tree) is dict for tree in (first, *first.values(), first["params"]["head"]))
    assert (first["params"]["stem_conv"]["kernel"] != second["params"]["stem_conv"]["kernel"]).any()
    model = build("resnet8")
    shapes = ((1, 8, 8, 3), (5, 32, 32, 3), (32, 24, 3))
    drawn = [jax.jit(lambda key, shape=shape: model.init(key, shape))(jax.random.key(0)) for shape in shapes]
    for other in drawn[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, drawn[0])


def test_initial_values():
    variables, _ = initialised()
    params = variables["params"]
    block = params["group3_block1"]
    kernel = np.asarray(block["conv2"]["kernel"])
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)  # Kaiming, fan-out
    assert np.abs(kernel).max() > 3.5 * kernel.std()  # not truncated
    shortcut = np.asarray(block["shortcut_conv"]["kernel"])
    assert shortcut.std() == pytest.approx((2 / 64) ** 0.5, rel=0.06)
    assert 0.97 / 8 < np.abs(params["head"]["kernel"]).max() <= 1 / 8
    assert not params["head"]["bias"].any()
    assert all((block[name]["scale"] == 1).all() for name in ("norm1", "norm2", "shortcut_norm"))
    assert all("bias" not in block[name] for name in ("conv1", "conv2", "shortcut_conv"))
    assert not jnp.any(variables["batch_stats"]["stem_norm"]["mean"])
    assert jnp.all(variables["batch_stats"]["stem_norm"]["var"] == 1)


# ---- what the outputs are ----


@pytest.mark.parametrize("name", ["resnet8", "wrn-16-1"])
def test_pooled_and_logits_follow_from_the_last_stage(name):
    variables, apply = network(name)
    outputs, _ = apply(variables, images_like((4, 8, 8, 3)), False)
    assert (outputs.stages[-1] >= 0).all()  # after a ReLU
    np.testing.assert_allclose(outputs.pooled, outputs.stages[-1].mean((1, 2)), rtol=1e-5)
    head = variables["params"]["head"]
    np.testing.assert_allclose(
        outputs.logits, outputs.pooled @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-4
    )


def test_running_averages_are_used_and_unchanged_in_evaluation():
    variables, apply = network("resnet8")
    images = images_like((4, 8, 8, 3))
    outputs, stats = apply(variables, images, False)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), stats, variables["batch_stats"]))
    # An image's output does not depend on its neighbours.
    alone, _ = apply(variables, images[:1], False)
    np.testing.assert_allclose(outputs.logits[:1], alone.logits, rtol=1e-4, atol=1e-4)


def test_training_normalises_by_the_batch_and_not_by_the_running_averages():
    variables, apply = network("resnet8")
    images = images_like((4, 8, 8, 3))
    shifted = {
        "params": variables["params"],
        "batch_stats": jax.tree.map(lambda leaf: leaf + 1, variables["batch_stats"]),
    }
    first, stats = apply(variables, images, True)
    second, shifted_stats = apply(shifted, images, True)
    np.testing.assert_array_equal(first.logits, second.logits)
    difference = jax.tree.map(lambda a, b: float(jnp.abs(b - a - 0.9).max()), stats, shifted_stats)
    assert max(jax.tree.leaves(difference)) < 1e-5  # momentum 0.9


def test_normalisation_is_inside_apply():
    variables, apply = network("resnet8")
    images = images_like((4, 8, 8, 3))
    plain = build("resnet8", mean=(0, 0, 0), std=(1, 1, 1))
    normalised = (images - np.float32(MEAN)) / np.float32(STD)
    expected, _ = jax.jit(plain.apply, static_argnums=2)(variables, normalised, False)
    actual, _ = apply(variables, images, False)
    np.testing.assert_allclose(actual.logits, expected.logits, rtol=1e-4, atol=1e-4)


# ---- precision ----


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["resnet20", "wrn-16-2"])
@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_bfloat16_keeps_state_and_logits_in_float32(name, train, dtype):
    variables, outputs, stats = shapes(name, (2, 8, 8, 3), train, dtype=dtype)
    leaves = jax.tree.leaves((variables, stats, outputs.logits, outputs.pooled))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert {stage.dtype for stage in outputs.stages} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_is_close_to_float32(train):
    variables, apply = network("resnet8")
    _, apply_bfloat16 = network("resnet8", "bfloat16")
    images = images_like((8, 8, 8, 3))
    expected, expected_stats = apply(variables, images, train)
    actual, stats = apply_bfloat16(variables, images, train)
    scale = np.abs(expected.logits).max()
    error = np.abs(actual.logits - expected.logits).max()
    assert 0 < error < 0.05 * scale
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05), stats, expected_stats)


@pytest.mark.parametrize("precision", models.PRECISIONS)
@pytest.mark.parametrize("name", ["resnet8", "wrn-16-1"])
def test_convolutions_have_the_precision_asked_for_and_the_head_full_float32(name, precision):
    model = build(name, precision=precision)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 8, 8, 3)))

    def gradient(variables, images):
        def loss(params):
            return model.apply({**variables, "params": params}, images, True)[0].logits.sum()

        return jax.grad(loss)(variables["params"])

    found = equations(gradient, variables, jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32))
    assert precisions(found, "conv_general_dilated") == {(precision.upper(),) * 2}
    assert precisions(found, "dot_general") == {("HIGHEST", "HIGHEST")}


def test_gradients_reach_every_parameter():
    model = build("wrn-16-1")
    variables, _ = network("wrn-16-1")

    def loss(params, images):
        outputs, _ = model.apply({"params": params, "batch_stats": variables["batch_stats"]}, images, True)
        return jnp.mean(outputs.logits[:, 0] ** 2)

    gradients = jax.jit(jax.grad(loss))(variables["params"], images_like((4, 8, 8, 3)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert bool(jnp.isfinite(leaf).all()) and bool(jnp.any(leaf != 0)), path


# ---- arguments that cannot be right ----


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match="resnet21") as error:
        build("resnet21")
    assert all(name in str(error.value) for name in models.NAMES)


@pytest.mark.parametrize("dtype", ["float16", "float64", "half precision", None, 16])
def test_unknown_dtype(dtype):
    with pytest.raises(ValueError, match="float32, bfloat16"):
        build("resnet8", dtype=dtype)


@pytest.mark.usefixtures("without_hook")
@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"std": (0.2,)}, "std"),
        ({"std": (0.2, 0.0, 0.2)}, "std"),
        ({"precision": "high"}, "default, highest"),
    ],
)
def test_bad_arguments(arguments, fault):
    with pytest.raises(ValueError, match=fault):
        build("resnet8", **arguments)


@pytest.mark.parametrize(
    ("shape", "dtype", "fault"),
    [
        ((8, 8, 3), "float32", "must be"),
        ((2, 8, 8, 1), "float32", "must be"),
        ((2, 7, 8, 3), "float32", "must be"),
        ((2, 8, 8, 3), "uint8", "floating"),
    ],
)
def test_bad_images(shape, dtype, fault):
    model = build("resnet8")
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 8, 8, 3)))
    with pytest.raises(ValueError, match=fault):
        jax.eval_shape(lambda v, x: model.apply(v, x, False), variables, jax.ShapeDtypeStruct(shape, dtype))
