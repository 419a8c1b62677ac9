"""A batch in parts and blocks that are computed again: the same numbers, in less memory."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import own_network
from craft_jax import methods, models
from craft_jax.errors import DataError
from craft_jax.models import vit
from craft_jax.models.layers import batch_norm, classify
from craft_jax.training import gradients
from craft_jax.training.batches import Batches
from craft_jax.training.step import begin, init_state, make_run, train_step
from tests.conftest import some_slow
from tests.programs import equations

FAMILIES = ("tiny", "wrn-16-1", "vgg8", "mobilenetv2", "shufflenetv2", "resnet18", "vit_small14")
REMAT = ("checkpoint", "remat2")  # what JAX calls it
QUICK = ("tiny", "vgg8", "vit_small14")


class Micro(nn.Module):
    """The least that a method can pair, with BatchNorm or without: it compiles in no time."""

    num_classes: int
    dtype: Any
    norm: bool = False

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (4, 4), strides=4)(x)
        x = nn.relu(batch_norm(train, self.dtype, "norm")(x) if self.norm else x)
        return classify([x], self.num_classes)


@pytest.fixture
def micro(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "micro", Micro)
    monkeypatch.setitem(models.REGISTRY, "micro_norm", functools.partial(Micro, norm=True))


def close(found, wanted, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, wanted)


def test_parts_add_up_to_the_whole_batch(make_config, digits, micro):
    """Of a network without BatchNorm: the gradient, the loss, and the logits of every image in its place."""
    found = []
    for parts in (1, 4):
        settings = {"student.name": "micro", "optimizer.accumulate_steps": parts}
        run = make_run(make_config("erm", **settings), digits, None, 12)
        state = init_state(run, (16, 16, 3), digits.train_labels)
        batch = Batches(digits, 16, 0, run.mesh)(0)
        found.append(jax.jit(lambda s, b, run=run: gradients.gradients(run, s, (), b))(state, batch))
    ((loss, (terms, logits, stats)), gradient), ((whole, (_, whole_logits, _)), whole_gradient) = found[::-1]
    assert stats == {} and list(terms.losses) == ["ce"]
    np.testing.assert_allclose(loss, whole, rtol=1e-5)
    close(logits, whole_logits)
    largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(whole_gradient))
    close(gradient, whole_gradient, atol=1e-6 * largest)


def test_a_part_is_a_batch_of_its_own(make_config, digits, monkeypatch, micro):
    """BatchNorm and banks: as a loop over the parts has them, written out here."""
    # Of two classes alike in size a draw of so many negatives is the whole other class.
    data = dataclasses.replace(digits, train_labels=np.arange(72, dtype=np.int32) % 2, num_classes=2)
    images = jax.random.uniform(jax.random.key(1), (72, 2, 16, 16, 3))
    monkeypatch.setattr(
        gradients.views, "make", lambda c, k, image, count, *_: images[image[:, 0, 0, 0], :count]
    )
    settings = {"crd.negatives": 36, "student.name": "micro_norm"}
    rows = np.arange(16) + 3

    def batch_of(rows):
        image = np.zeros((len(rows), 16, 16, 3), np.uint8)
        image[:, 0, 0, 0] = rows
        return {"image": image, "label": data.train_labels[rows], "index": rows.astype(np.int32)}

    runs = [
        make_run(make_config("crd", **settings, **{"optimizer.accumulate_steps": k}), data, None, 12)
        for k in (2, 1)
    ]
    runs = [run._replace(teacher=run.student) for run in runs]
    teacher = runs[0].teacher.init(jax.random.key(7), (1, 16, 16, 3))
    state = init_state(runs[0], (16, 16, 3), data.train_labels)
    parts = [batch_of(rows[j::2]) for j in (0, 1)]
    first = begin(runs[0], state, teacher, batch_of(rows))
    close(first, begin(runs[1], state, teacher, parts[0]), rtol=1e-5)

    (loss, (terms, logits, stats)), gradient = jax.jit(lambda s, t, b: gradients.gradients(runs[0], s, t, b))(
        first, teacher, batch_of(rows)
    )
    alone = jax.jit(lambda s, t, b: gradients.gradients(runs[1], s, t, b))
    now, seen = first, []
    for part in parts:
        (part_loss, (part_terms, part_logits, part_stats)), part_gradient = alone(now, teacher, part)
        now = {**now, "student": {**now["student"], "batch_stats": part_stats}, "memory": part_terms.memory}
        seen.append((part_loss, part_terms.losses, part_gradient, part_logits))
    assert set(terms.losses) == {"ce", "crd"}
    close((stats, terms.memory), (part_stats, part_terms.memory), rtol=1e-5)
    mean = jax.tree.map(lambda *x: sum(np.float64(y) for y in x) / 2, *(s[:3] for s in seen))
    close((loss, terms.losses), mean[:2])
    largest = max(float(np.max(np.abs(x))) for x in jax.tree.leaves(mean[2]))
    close(gradient, mean[2], atol=1e-5 * largest)
    close(logits, np.stack([seen[0][3], seen[1][3]], axis=1).reshape(16, -1))


def test_a_term_that_compares_images_needs_two_in_a_part(make_config, digits):
    config = make_config("sp", batch_size=16, **{"optimizer.accumulate_steps": 16})
    with pytest.raises(DataError, match=r"at least 32, since the term compares images of a batch .each"):
        methods.METHODS["sp"].check(config, digits.train_labels)
    config.optimizer.accumulate_steps = 8
    methods.METHODS["sp"].check(config, digits.train_labels)


# ----------------------------------------------------------------------------------------------------
# student.remat


def network(name, remat):
    return models.build(name, 10, dtype="float32", mean=(0.5,) * 3, std=(0.25,) * 3, remat=remat)


def loss_of_outputs(model, variables, images):
    outputs, stats = model.apply(variables, images, True)
    return jnp.mean(outputs.logits**2) + sum(jnp.mean(stage**2) for stage in outputs.stages), stats


def loss_of(model):
    return jax.value_and_grad(functools.partial(loss_of_outputs, model), has_aux=True)


@pytest.mark.parametrize("name", some_slow(FAMILIES, QUICK))
def test_a_network_that_computes_again_has_the_same_variables(name):
    kept, again = network(name, False), network(name, True)
    shape = (1, 32, 32, 3)
    variables = [jax.eval_shape(lambda m=m: m.init(jax.random.key(0), shape)) for m in (kept, again)]
    assert variables[0] == variables[1]
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = equations(lambda v, x: again.apply(v, x, True), variables[0], images)
    assert any(eqn.primitive.name in REMAT for eqn in found)


def kept_for_the_backward_pass(model, variables, images):
    """Bytes that the forward pass leaves for the backward pass.

    As JAX traces it: what XLA then allocates is its own affair (on a CPU jaxlib 0.10 saves nothing by it).
    """

    def backward(variables, images):
        return jax.vjp(lambda v: loss_of_outputs(model, v, images), variables, has_aux=True)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, variables, images))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@pytest.mark.parametrize("name", some_slow(["tiny", "vit_tiny"], ("tiny",)))
def test_what_is_computed_again_is_the_same_in_less_memory(name, monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "vit_tiny", functools.partial(vit.ViT, 32, 6, 2))
    kept, again = network(name, False), network(name, True)
    variables = jax.jit(lambda: kept.init(jax.random.key(0), (1, 16, 16, 3)))()
    images = jax.random.uniform(jax.random.key(1), (32, 16, 16, 3))
    programs = [jax.jit(loss_of(m)).lower(variables, images).compile() for m in (kept, again)]
    one, other = (program(variables, images) for program in programs)
    close(one[0], other[0], rtol=1e-4)
    largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(one[1]))
    close(one[1], other[1], rtol=1e-3, atol=1e-5 * largest)
    residuals = [kept_for_the_backward_pass(m, variables, images) for m in (kept, again)]
    assert residuals[1] < 0.6 * residuals[0]
    if name == "vit_tiny" and jax.__version_info__ >= (0, 12):  # XLA's own, of six blocks
        memory = [program.memory_analysis().temp_size_in_bytes for program in programs]
        assert memory[1] < 0.6 * memory[0]


def test_a_run_says_so_to_its_student(make_config, digits):
    found = []
    for remat in (False, True):
        run = make_run(make_config("erm", **{"student.remat": remat}), digits, None, 12)
        state = jax.eval_shape(lambda run=run: init_state(run, (16, 16, 3), digits.train_labels))
        batch = Batches(digits, 16, 0, run.mesh)(0)
        step = equations(lambda s, b, run=run: train_step(run, s, (), b), state, batch)
        found.append(sum(eqn.primitive.name in REMAT for eqn in step))
    assert found[0] == 0 < found[1]


def test_a_network_may_not_know_of_it(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "smallnet", own_network.SmallNet)
    with pytest.raises(ValueError, match="network smallnet takes no `remat`"):
        network("smallnet", True)
