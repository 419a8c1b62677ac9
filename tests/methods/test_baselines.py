"""The terms of erm, augmix, kd and attkd against float64 loops, and what all methods share at their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import methods
from tests.methods.references import check
from tests.methods.signals import VIEWS, make_config, make_signals, terms_of


@pytest.mark.parametrize("ce", ["clean", "all"])
def test_erm(ce):
    found, signals = check(make_config("erm", views__ce_views=ce))
    assert found.reliability is None and signals.teacher is None


@pytest.mark.parametrize("ce", ["clean", "all"])
def test_augmix(ce):
    found, signals = check(make_config("augmix", views__ce_views=ce, augmix__weight=1.7))
    assert found.reliability is None and signals.teacher is None
    check(make_config("augmix", views__count=1, views__ce_views=ce))


@pytest.mark.parametrize("settings", VIEWS, ids=lambda s: "-".join(s.values()))
def test_kd(settings):
    found, _ = check(make_config("kd", **settings))
    assert found.reliability is None


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("settings", VIEWS[1:4], ids=lambda s: "-".join(s.values()))
def test_attkd(settings, reduction):
    check(make_config("attkd", attention__reduction=reduction, attention__weight=30.0, **settings))


@pytest.mark.parametrize("method", ["kd", "craft"])
def test_bfloat16_outputs_give_float32_losses(method):
    config = make_config(method)
    signals = make_signals(config)
    stages = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), (signals.student, signals.teacher))
    found = terms_of(config, signals._replace(student=stages[0], teacher=stages[1]))
    exact = terms_of(config, signals)
    for name, value in found.losses.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, exact.losses[name], rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("method", "weight"),
    [
        ("augmix", "augmix__weight"),
        ("kd", "kd__weight"),
        ("attkd", "attention__weight"),
        ("crd", "crd__weight"),
    ],
)
def test_a_method_of_weight_zero_is_erm(method, weight):
    more = {"crd__negatives": 8} if method == "crd" else {}
    config = make_config(method, views__distill_views="all", **{weight: 0.0}, **more)
    signals = make_signals(config)
    found = terms_of(config, signals)
    erm = terms_of(make_config("erm"), signals)
    assert sum(found.losses.values()) == sum(erm.losses.values())


@pytest.mark.parametrize("method", ["erm", "kd"])
def test_other_methods_without_corrupted_views(method):
    config = make_config(method, views__count=0, views__ce_views="all", views__distill_views="all")
    assert methods.METHODS[method].views(config) == (1, int(method == "kd"))
    check(config)


@pytest.mark.parametrize("method", ["erm", "kd"])
def test_methods_without_parameters(method):
    signals = make_signals(make_config(method))
    assert signals.params == {} and signals.memory == ()
