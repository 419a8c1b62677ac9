"""BatchNorm against Flax's and against float64; folded into convolutions: the same network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from craft_jax import models
from craft_jax.models import batch_norm, folding
from craft_jax.models.batch_norm import BatchNorm
from craft_jax.models.layers import classify, conv

RANDOM = np.random.default_rng(0)
X = (3 + 2 * RANDOM.normal(size=(6, 5, 4, 3))).astype(np.float32)
SCALE, BIAS = RANDOM.normal(size=(2, 3)).astype(np.float32)
COTANGENT = RANDOM.normal(size=X.shape).astype(np.float32)


def normalised(x, scale, bias):
    """In float64, as Ioffe and Szegedy have it."""
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return scale * (x - mean) / np.sqrt(var + 1e-5) + bias


@pytest.mark.parametrize("sums", ["_apart", "_at_once"])  # a CPU's, and a GPU's on this CPU
def test_batches_statistics_and_gradients(sums, monkeypatch):
    monkeypatch.setattr(batch_norm, "_sums", getattr(batch_norm, sums))
    y, back = jax.vjp(lambda *given: batch_norm.normalise(*given)[0], *map(jnp.asarray, (X, SCALE, BIAS)))
    exact = [a.astype(np.float64) for a in (X, SCALE, BIAS)]
    np.testing.assert_allclose(y, normalised(*exact), atol=1e-5)
    for which, gradient in enumerate(back(jnp.asarray(COTANGENT))):
        for at in [(0,), (2,)] if which else [(0, 0, 0, 0), (3, 4, 2, 1), (5, 1, 3, 2)]:
            moved = []
            for step in (1e-5, -1e-5):
                given = [a.copy() for a in exact]
                given[which][at] += step
                moved.append(np.sum(normalised(*given) * COTANGENT))
            np.testing.assert_allclose(gradient[at], (moved[0] - moved[1]) / 2e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_layer_is_flax_s(dtype):
    x = jnp.asarray(X, dtype)
    flax = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype, param_dtype=jnp.float32)
    variables = {
        "params": {"scale": jnp.asarray(SCALE), "bias": jnp.asarray(BIAS)},
        "batch_stats": {"mean": jnp.float32([1, 2, 3]), "var": jnp.float32([0.5, 1, 4])},
    }
    for frozen in (True, False):
        ours = BatchNorm(frozen, dtype).apply(variables, x, mutable=["batch_stats"])
        theirs = flax(use_running_average=frozen).apply(variables, x, mutable=["batch_stats"])
        assert ours[0].dtype == dtype
        jax.tree.map(lambda *pair: close(*pair, jnp.finfo(pair[0].dtype).eps), ours, theirs)
    key = jax.random.key(0)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(dict(layer.init(key, x)) for layer in (BatchNorm(False, dtype), flax(use_running_average=False))),
    )


def close(one, other, eps):
    np.testing.assert_allclose(np.float32(one), np.float32(other), rtol=8 * eps, atol=8 * eps)


class Odd(nn.Module):
    """Convolutions with a bias, read twice and called twice, and a BatchNorm behind no convolution."""

    num_classes: int
    dtype: object

    @nn.compact
    def __call__(self, x, train):
        norm = partial(BatchNorm, use_running_average=not train, dtype=self.dtype)
        x = nn.relu(norm(name="norm1")(conv(4, 3, 1, self.dtype, "with_bias", use_bias=True)(x)))
        y = conv(4, 3, 2, self.dtype, "read_twice")(x)
        y = norm(name="norm3")(y + norm(name="norm2")(y))
        called_twice = conv(4, 3, 1, self.dtype, "called_twice")
        y = norm(name="norm5")(called_twice(y)) + norm(name="norm6")(called_twice(nn.relu(y)))
        return classify([norm(name="norm4")(conv(8, 1, 1, self.dtype, "alone")(y))], self.num_classes)


_AFTER_SUMS = {"final_norm", *(f"group{group}_block{block}/norm1" for group in (1, 2, 3) for block in (1, 2))}


@pytest.mark.parametrize(
    ("network", "kept"),
    [
        ("tiny", set()),
        ("wrn-16-1", _AFTER_SUMS),
        (Odd, {"norm2", "norm3", "norm5", "norm6"}),
    ],
)
def test_folded_networks_say_the_same(network, kept, monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "odd", Odd)
    name = "odd" if network is Odd else network
    model = models.build(name, 10, dtype="float32", mean=(0.5,) * 3, std=(0.25,) * 3)
    variables = jax.device_get(jax.jit(partial(model.init, shape=(1, 16, 16, 3)))(jax.random.key(0)))
    variables = jax.tree.map(lambda x: x + RANDOM.uniform(0, 0.5, x.shape).astype(np.float32), variables)
    images = RANDOM.random((4, 16, 16, 3), np.float32)
    folded, variables_of = folding.fold(model, (16, 16, 3))

    norms = {path for path in _paths(variables["batch_stats"]) if path.endswith("/mean")}
    assert len(_paths(variables_of(variables)["folded"])) == len(norms) - len(kept)
    # Of those that are folded nothing is read any more.
    others = variables_of(variables)
    others["batch_stats"] = jax.tree_util.tree_map_with_path(
        lambda path, x: x if _name(path[:-1]) in kept else np.full_like(x, np.nan), others["batch_stats"]
    )
    wanted = jax.jit(lambda v: model.apply(v, images, False)[0])(variables)
    found = jax.jit(lambda v: folded.apply(v, images, False)[0])(others)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
    shapes = jax.eval_shape(partial(folded.init, shape=(1, 16, 16, 3)), jax.random.key(0))
    jax.tree.map(lambda one, other: one.shape == other.shape or pytest.fail(), shapes, others)
    with pytest.raises(ValueError, match="not for training"):
        folded.apply(others, images, True)


def test_a_folded_network_in_bfloat16_keeps_its_kernels_so(monkeypatch):
    """They are what each step would make of float32 ones: the same logits, to the bit."""
    model = models.build("tiny", 10, dtype="bfloat16", mean=(0.5,) * 3, std=(0.25,) * 3)
    variables = jax.device_get(jax.jit(partial(model.init, shape=(1, 16, 16, 3)))(jax.random.key(0)))
    variables = jax.tree.map(lambda x: x + RANDOM.uniform(0, 0.5, x.shape).astype(np.float32), variables)
    folded, variables_of = folding.fold(model, (16, 16, 3))
    rounded = variables_of(variables)
    kept = {_name(path): x.dtype for path, x in jax.tree_util.tree_leaves_with_path(rounded["params"])}
    convs = {name for name in kept if "conv" in name}
    assert {kept[name] for name in convs} == {np.dtype("bfloat16")} and len(convs) == 9
    assert {kept[name] for name in kept.keys() - convs} == {np.dtype("float32")}

    by_name = {"/".join(path): pair for path, pair in folding._pairs(model, (16, 16, 3)).items()}
    assert len(by_name) == len(convs)
    monkeypatch.setattr(
        folding,
        "_pairs",
        lambda *_: {tuple(n.split("/")): (norm, np.float32) for n, (norm, _) in by_name.items()},
    )
    exact = folding.fold(model, (16, 16, 3))[1](variables)
    images = RANDOM.random((4, 16, 16, 3), np.float32)
    found, wanted = (np.asarray(folded.apply(v, images, False)[0].logits) for v in (rounded, exact))
    np.testing.assert_array_equal(found, wanted)


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _paths(tree):
    return [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
