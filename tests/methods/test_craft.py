"""CRAFT's terms against float64 loops: its variants, what each setting moves, zero weights, projections."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import methods
from craft_jax.models import Outputs
from tests.methods.references import check, ref_reliability, ref_terms, softmax
from tests.methods.signals import (
    LABELS,
    VIEWS,
    B,
    M,
    losses_and_gradient,
    make_config,
    make_signals,
    terms_of,
)


@pytest.mark.parametrize("settings", VIEWS, ids=lambda s: "-".join(s.values()))
def test_craft_views(settings):
    check(make_config("craft", **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"contrastive__anchor": "clean"},
        {"contrastive__anchor": "clean", "contrastive__positives": "each"},
        {"contrastive__mask_same_class": True},
        {"contrastive__mask_same_class": True, "contrastive__positives": "each"},
        {"contrastive__positives": "same_view"},
        {"contrastive__positives": "each"},
        {"contrastive__block": 2, "contrastive__anchor": "clean", "contrastive__mask_same_class": True},
        {"contrastive__stages": (3,)},
        {"contrastive__stages": (1, 3), "dealign__form": "shift"},
        {"contrastive__stages": (3, 1)},
        {"dealign__form": "shift"},
        {"dealign__kind": "clean_shift"},
        {"dealign__kind": "per_view"},
        {"dealign__kind": "per_view", "dealign__form": "shift"},
        {"dealign__eps": 0.5},
        {"views__count": 1, "dealign__form": "shift"},
        {"views__count": 3, "views__ce_views": "all", "views__distill_views": "all"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_craft_variants(settings):
    check(make_config("craft", **settings))


MOVES = {  # CRAFT's settings -> the terms that they bear on
    ("views__ce_views", "all"): {"ce"},
    ("views__distill_views", "all"): {"kd"},
    ("kd__weight", 0.3): {"kd"},
    ("kd__temperature", 5.0): {"kd"},
    ("contrastive__weight", 0.3): {"contrastive"},
    ("contrastive__temperature", 0.2): {"contrastive"},
    ("contrastive__anchor", "clean"): {"contrastive"},
    ("contrastive__positives", "each"): {"contrastive"},
    ("contrastive__mask_same_class", True): {"contrastive"},
    ("contrastive__stages", (3,)): {"contrastive", "dealign"},
    ("dealign__weight", 0.3): {"dealign"},
    ("dealign__form", "shift"): {"dealign"},
    ("dealign__kind", "per_view"): {"dealign"},
    ("dealign__eps", 0.5): {"dealign"},
    ("reliability__alpha", 4.0): {"kd", "contrastive", "dealign"},
    ("reliability__beta", 0.5): {"kd", "contrastive", "dealign"},
    ("reliability__gamma", 0.9): {"kd", "contrastive", "dealign"},
}


@functools.cache
def craft_losses(**settings):
    return check(make_config("craft", **settings))[0].losses


@pytest.mark.parametrize("setting", MOVES, ids=lambda s: "-".join(map(str, s)))
def test_settings_change_the_value(setting):
    """Of the terms that they bear on, and of no other: the method's own values, held to the reference."""
    base, moved = craft_losses(), craft_losses(**dict([setting]))
    assert {name for name in base if abs(base[name] - moved[name]) > 1e-4} == MOVES[setting]


def test_craft_weighs_by_reliability():
    """total = mean(CE) + l_kd mean(r KD) + l_con mean(r CON) + l_de mean((1 - r) DE), r from the views."""
    config = make_config("craft")
    found, signals = check(config)
    taught = np.asarray(signals.teacher.logits, np.float64)
    q = config.reliability
    r = np.array([ref_reliability(taught[b], q.alpha, q.beta, q.gamma) for b in range(B)])
    np.testing.assert_allclose(found.reliability, r, rtol=2e-5)
    assert r.min() < 0.4 and r.max() > 0.55 and np.ptp(r) > 0.2, "or the test could not tell r from 1 - r"
    # At alpha = beta = 0, r is 1/2 everywhere: the ablation without reliability.
    half = make_config("craft", reliability__alpha=0.0, reliability__beta=0.0)
    np.testing.assert_allclose(terms_of(half, signals).reliability, 0.5, rtol=1e-6)


def test_craft_with_another_reliability():
    """What an ablation puts in r's place: its mean, its values on other images, or what the label tells."""
    config = make_config("craft")
    signals = make_signals(config)
    r = np.asarray(terms_of(config, signals).reliability)
    found = {
        source: np.asarray(terms_of(make_config("craft", reliability__source=source), signals).reliability)
        for source in ("mean", "shuffled", "oracle")
    }
    np.testing.assert_allclose(found["mean"], [r.mean()] * B, rtol=1e-6)
    np.testing.assert_array_equal(np.sort(found["shuffled"]), np.sort(r))
    assert (found["shuffled"] != r).any()
    taught = np.asarray(signals.teacher.logits, np.float64)
    oracle = [np.mean([softmax(view)[LABELS[b]] for view in taught[b]]) for b in range(B)]
    np.testing.assert_allclose(found["oracle"], oracle, rtol=1e-5)


def test_literal_fragility_is_void():
    """The paper's printed formula: rounding noise, which eps = 1e-3 shows for what it is."""
    config = make_config("craft", dealign__kind="literal", dealign__eps=1e-3)
    signals = make_signals(config)
    assert float(terms_of(config, signals).losses["dealign"]) < 1e-6


def test_the_order_of_the_batch_does_not_matter():
    config = make_config("craft", views__ce_views="all", views__distill_views="all")
    signals = make_signals(config)
    order = np.array([3, 0, 4, 1, 2])
    turned = jax.tree.map(lambda x: x[order], (signals.labels, signals.student, signals.teacher))
    shuffled = signals._replace(labels=turned[0], student=turned[1], teacher=turned[2])
    a, b = terms_of(config, signals), terms_of(config, shuffled)
    for name in a.losses:
        np.testing.assert_allclose(a.losses[name], b.losses[name], rtol=1e-5)
    np.testing.assert_allclose(a.reliability[order], b.reliability, rtol=1e-6)


# ----------------------------------------------------------------------------------------------------
# Zero weights and zero views

WEIGHTS = ("kd", "contrastive", "dealign")


@pytest.mark.parametrize("zero", [*itertools.combinations(WEIGHTS, 1), *itertools.combinations(WEIGHTS, 3)])
def test_craft_without_a_term(zero):
    """The others keep their values, and the dropped one is absent, not zero times what may be infinite."""
    config = make_config("craft", **{f"{name}__weight": 0.0 for name in zero})
    found, _ = check(config)
    assert found.losses.keys() == {"ce", *WEIGHTS} - set(zero)


@pytest.mark.parametrize(("kind", "form"), [("principal", "position"), ("per_view", "shift")])
def test_craft_without_corrupted_views(kind, form):
    config = make_config(
        "craft",
        views__count=0,
        views__ce_views="all",
        views__distill_views="all",
        dealign__kind=kind,
        dealign__form=form,
    )
    assert methods.METHODS["craft"].views(config) == (1, 1)
    signals = make_signals(config)
    losses, gradient = losses_and_gradient(config, signals)
    expected = ref_terms(make_config("craft", views__count=0), signals)
    for name in ("ce", "kd", "contrastive"):
        np.testing.assert_allclose(losses[name], expected[name], rtol=2e-5)
    assert losses["dealign"] == 0
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()


def test_identical_views_are_finite():
    """As under a corruption that leaves images alone: no direction, and no NaN in any gradient."""
    config = make_config("craft", views__ce_views="all")
    signals = make_signals(config)
    same = jax.tree.map(lambda x: np.repeat(x[:, :1], M + 1, 1), (signals.student, signals.teacher))
    signals = signals._replace(student=same[0], teacher=same[1])
    losses, gradient = losses_and_gradient(config, signals)
    assert losses["dealign"] == 0
    for leaf in jax.tree.leaves((losses, gradient)):
        assert np.isfinite(leaf).all()


# ----------------------------------------------------------------------------------------------------
# The method's own parameters


def test_projections():
    """One matrix a stage of `contrastive.stages`, from the student's width to the teacher's."""
    config = make_config("craft", contrastive__stages=(1, 3))
    signals = make_signals(config)
    assert [w.shape for w in signals.params["projections"]] == [(2, 3), (4, 5)]
    assert signals.memory == ()

    wide = Outputs(None, tuple(jnp.zeros((1, 1, 1, 200)) for _ in range(3)), None)
    thin = Outputs(None, tuple(jnp.zeros((1, 1, 1, 100)) for _ in range(3)), None)
    init = methods.METHODS["craft"].init
    config = make_config("craft")
    (a, b, c), _ = (
        tree["projections"] if tree else tree for tree in init(config, jax.random.key(0), wide, thin, LABELS)
    )
    assert a.dtype == jnp.float32
    for w in (a, b, c):  # variance 1 / C_s keeps the length of what it projects
        assert float(jnp.std(w)) == pytest.approx(1 / math.sqrt(200), rel=0.05)
        assert abs(float(jnp.mean(w))) < 0.003
    assert (np.asarray(a) != np.asarray(b)).all() and (np.asarray(b) != np.asarray(c)).all()
    again, _ = init(config, jax.random.key(0), wide, thin, LABELS)
    np.testing.assert_array_equal(again["projections"][0], a)
    other, _ = init(config, jax.random.key(1), wide, thin, LABELS)
    assert (np.asarray(other["projections"][0]) != np.asarray(a)).all()
