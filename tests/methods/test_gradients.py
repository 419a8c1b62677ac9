"""Gradients of the methods' losses: of which views and parameters, and CRAFT's against float64 loops."""

import functools

import jax
import numpy as np
import pytest

from craft_jax import methods
from tests.methods.references import ref_terms
from tests.methods.signals import VIEWS, M, losses_and_gradient, make_config, make_signals


@functools.cache
def gradient_of(method, **settings):
    """(config, signals, gradients of the sum of the losses: {"student", "teacher", "params"})."""
    config = make_config(method, **settings)
    signals = make_signals(config)
    return config, signals, losses_and_gradient(config, signals)[1]


WEIGHTS = ("kd", "contrastive", "dealign")


def read_views(gradient):
    """The student's views that the loss depends on, by its gradient."""
    leaves = jax.tree.leaves(gradient["student"])
    return {v for leaf in leaves for v in range(leaf.shape[1]) if np.abs(leaf[:, v]).max() > 0}


@pytest.mark.parametrize("method", ["erm", "augmix", "kd", "craft"])
@pytest.mark.parametrize("settings", [VIEWS[2], VIEWS[4]], ids=lambda s: "-".join(s.values()))
def test_every_forwarded_view_is_read(method, settings):
    weights = {"contrastive__weight": 0.0, "dealign__weight": 0.0} if method == "craft" else {}
    config, _, gradient = gradient_of(method, **settings, **weights)
    assert read_views(gradient) == set(range(methods.METHODS[method].views(config)[0]))


@pytest.mark.parametrize("term", ["contrastive", "dealign"])
def test_contrastive_and_dealignment_see_all_views(term):
    _, _, gradient = gradient_of("craft", **{f"{name}__weight": 0.0 for name in WEIGHTS if name != term})
    for stage in gradient["student"].stages:
        assert all(np.abs(stage[:, v]).max() > 0 for v in range(M + 1))
    assert np.abs(gradient["student"].logits[:, 1:]).max() == 0, "CE sees view 0 alone"


EVERYTHING = {"views__ce_views": "all", "views__distill_views": "all"}


@pytest.mark.parametrize("method", ["kd", "craft"])
def test_no_gradient_reaches_the_teacher(method):
    _, _, gradient = gradient_of(method, **EVERYTHING)
    for leaf in jax.tree.leaves(gradient["teacher"]):
        np.testing.assert_array_equal(leaf, 0.0)
    assert np.abs(gradient["student"].logits).max() > 0


def largest(tree):
    return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))


def test_projections_learn_from_the_contrastive_term_alone():
    """De-alignment could null u through the projections and leave the network as it was."""
    contrastive, dealign = (
        gradient_of("craft", **{f"{name}__weight": 0.0 for name in WEIGHTS if name != term})[2]
        for term in ("contrastive", "dealign")
    )
    assert all(np.abs(g).max() > 1e-4 for g in contrastive["params"]["projections"])
    assert largest(dealign["params"]) == 0
    assert largest(dealign["student"].stages) > 1e-4


def test_the_gradient_is_that_of_the_reference():
    """Central differences of the loops, at r, u and the teacher constant by being the teacher's alone."""
    config, signals, gradient = gradient_of("craft", **EVERYTHING)
    gradient = gradient["student"]
    random = np.random.default_rng(5)
    student = jax.tree.map(lambda x: np.asarray(x, np.float64), signals.student)
    for leaf, name in ((gradient.logits, "logits"), (gradient.stages[1], "stage")):
        direction, h = random.normal(size=leaf.shape), 1e-5

        def moved(step, name=name, direction=direction):
            if name == "logits":
                changed = student._replace(logits=student.logits + step * direction)
            else:
                stages = list(student.stages)
                stages[1] = stages[1] + step * direction
                changed = student._replace(stages=tuple(stages))
            return sum(ref_terms(config, signals._replace(student=changed)).values())

        slope = (moved(h) - moved(-h)) / (2 * h)
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(np.sum(leaf * direction), slope, rtol=2e-4)
