"""Rules for every loss: dtypes, gradients, one value an example, docstrings, errors."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.cases import CASES, EPS
from tests.losses.checks import check_value, value_and_gradient


def test_everything_is_exported():
    assert {name.split()[0] for name in CASES} <= set(losses.__all__)
    assert all(hasattr(losses, name) for name in losses.__all__)


@pytest.mark.parametrize("name", CASES)
def test_half_inputs_are_computed_in_float32(name):
    """The same numbers in bfloat16 and in float32 give the same losses."""
    loss, inputs, _ = CASES[name]
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), inputs)
    values, gradients = value_and_gradient(loss)(*half)
    assert values.shape == (3,)
    full = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    if name != "fragility_directions literal":  # rounding noise
        check_value(values, value_and_gradient(loss)(*full)[0], rtol=1e-5)
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jnp.bfloat16 and np.isfinite(np.float32(leaf)).all()


@pytest.mark.parametrize("name", CASES)
def test_gradient_flows_only_where_it_should(name):
    loss, inputs, carries = CASES[name]
    _, gradients = value_and_gradient(loss)(*inputs)
    for gradient, flows in zip(gradients, carries, strict=True):
        for leaf in jax.tree.leaves(gradient):
            assert np.any(np.asarray(leaf) != 0) == flows


@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith("literal")])
def test_every_example_has_its_own_value(name):
    """No reduction over the batch: the values differ, and reversing the batch reverses them."""
    loss, inputs, _ = CASES[name]
    values, _ = value_and_gradient(loss)(*inputs)
    assert values.dtype == jnp.float32 and len(set(values.tolist())) == 3
    if name not in ("cross_entropy", "embed", "crd_nce"):  # with inputs that are not per example
        turned = jax.tree.map(lambda x: x[::-1], inputs)
        check_value(value_and_gradient(loss)(*turned)[0], values[::-1])


@pytest.mark.parametrize("name", CASES)
def test_matrix_products_are_exact(name):
    """Every product asks for full float32; a GPU's default, TF32, is off by 1e-3."""
    loss, inputs, _ = CASES[name]
    jaxpr = str(jax.make_jaxpr(loss)(*inputs))
    full = "precision=(Precision.HIGHEST, Precision.HIGHEST)"
    assert jaxpr.count("dot_general[") == jaxpr.count(full)
    if name.split()[0] in ("embed", "contrastive", "crd_nce"):
        assert full in jaxpr


MODULES = [
    "attention",
    "classification",
    "contrastive",
    "crd",
    "decoupled",
    "dist",
    "embedding",
    "fragility",
    "hint",
    "probabilistic",
    "relational",
    "reliability",
    "selectivity",
    "similarity",
    "variational",
]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    failed, tried = doctest.testmod(importlib.import_module(f"craft_jax.losses.{module}"))
    assert tried > 0 and failed == 0


# ------------------------------------------------------------------------------------------- errors

H, E = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 3, 4))
ERRORS = {
    "labels shape": (lambda: losses.cross_entropy(jnp.ones((2, 3)), jnp.array([0])), "B, K"),
    "classes differ": (
        lambda: losses.logit_kd(jnp.ones((2, 3)), jnp.ones((2, 4)), 4.0),
        r"student_logits \(2, 3\), teacher_logits \(2, 4\)",
    ),
    "reduction": (lambda: losses.attention_transfer([H], [H], "avg"), "'avg'.*'sum', 'mean'"),
    "stage count": (lambda: losses.attention_transfer([H], [H, H]), "has 1, .*has 2"),
    "no stages": (lambda: losses.attention_transfer([], []), "at least one"),
    "stage rank": (lambda: losses.attention_transfer([H[0]], [H]), r"\(4, 4, 3\)"),
    "stage batch": (lambda: losses.attention_transfer([H], [H[:1]]), r"\(1, 4, 4, 3\)"),
    "embed nothing": (lambda: losses.embed([]), "at least one"),
    "embed rank": (lambda: losses.embed([H[0]]), r"\(4, 4, 3\)"),
    "embed batches": (lambda: losses.embed([H, H[:1]]), r"\(1, 4, 4, 3\)"),
    "projection count": (lambda: losses.embed([H, H], [jnp.eye(3)]), "has 2, .*has 1"),
    "projection shape": (lambda: losses.embed([H], [jnp.eye(4)]), r"projection \(4, 4\)"),
    "positives": (
        lambda: losses.contrastive(E, E, 0.1, "all"),
        "'all'.*'cross_view', 'same_view', 'each'",
    ),
    "views differ": (lambda: losses.contrastive(E, E[:, :2], 0.1), r"\(2, 2, 4\)"),
    "widths differ": (lambda: losses.contrastive(E, E[..., :3], 0.1), r"\(2, 3, 3\)"),
    "class labels": (
        lambda: losses.contrastive(E, E, 0.1, labels=jnp.zeros(3, int)),
        r"labels \(3,\)",
    ),
    "reliability rank": (lambda: losses.reliability(E[0], 1.0, 1.0, 0.5), r"\(3, 4\)"),
    "kind": (
        lambda: losses.fragility_directions(E, "svd", EPS),
        "'svd'.*'principal', 'clean_shift', 'per_view', 'literal'",
    ),
    "directions rank": (lambda: losses.fragility_directions(E[0], "literal", EPS), r"\(3, 4\)"),
    "form": (lambda: losses.dealignment(E, E, "place"), "'place'.*'position', 'shift'"),
    "directions shape": (lambda: losses.dealignment(E, E[:, 0]), r"directions \(2, 4\)"),
    "bank width": (
        lambda: losses.crd_nce(E[0], jnp.ones((9, 5)), jnp.arange(3), jnp.ones((3, 2), int), 1, 1),
        r"bank \(9, 5\)",
    ),
    "negatives": (
        lambda: losses.crd_nce(E[0], E[0], jnp.arange(3), jnp.ones((2, 2), int), 1, 1),
        r"negatives \(2, 2\)",
    ),
}


@pytest.mark.usefixtures("without_hook")
def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="integer"):
        losses.cross_entropy(jnp.ones((2, 3)), jnp.ones(2))


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.usefixtures("without_hook")
def test_errors_say_what_was_expected(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()
