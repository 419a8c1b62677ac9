"""configs/studies/_craft_variants.py against float64 loops, and by what it is with everything off."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses, methods
from tests.methods.references import ref_embed, ref_reliability, ref_terms, softmax
from tests.methods.signals import LABELS, B, M, make_config, make_signals, terms_of

VIEWS = range(M + 1)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))  # the file registers itself as it is read


def made(**variant):
    settings = {f"variant__{key}": value for key, value in variant.items()}
    return make_config("studies/_craft_variants", **settings)


def embedded(config, s):
    """The teacher's and the student's embeddings, (B, V, D) float64."""
    of = ((s.teacher, None), (s.student, s.params["projections"]))
    stages = [i - 1 for i in config.contrastive.stages]
    return (
        np.array([[ref_embed([o.stages[i][b, m] for i in stages], p) for m in VIEWS] for b in range(B)])
        for o, p in of
    )


def ref_r(config, s):
    q = config.reliability
    logits = np.asarray(s.teacher.logits, np.float64)
    return [ref_reliability(logits[b], q.alpha, q.beta, q.gamma) for b in range(B)]


def test_with_everything_off_it_is_craft_plus_and_kd():
    for base, method in (("craft", "craft_plus"), ("kd", "kd")):
        config, plain = made(base=base), make_config(method)
        if method == "kd":
            plain.views = config.views  # matched, with clean targets
        s = make_signals(config)
        plain.method = {"craft_plus": "craft"}.get(method, method)
        expected = ref_terms(plain, s)
        found = terms_of(config, s)
        assert {k: pytest.approx(v, rel=1e-4) for k, v in expected.items()} == found.losses
        assert (found.reliability is None) == (base == "kd")


@pytest.mark.parametrize("base", ["craft", "kd"])
def test_consistency_is_one_more_term(base):
    config, plain = made(base=base, consistency=0.5), made(base=base)
    s = make_signals(config)
    found, without = terms_of(config, s).losses, terms_of(plain, s).losses
    divergence = np.mean(np.asarray(losses.jensen_shannon(s.student.logits)))
    assert found.pop("consistency") == pytest.approx(0.5 * divergence, rel=1e-5)
    assert found == {k: pytest.approx(v, rel=1e-6) for k, v in without.items()}
    assert methods.METHODS["craft_variants"].views(config)[0] == M + 1


def test_the_confidence_on_the_clean_view_weighs_every_term():
    config = made(confidence=True)
    s = make_signals(config)
    found = terms_of(config, s)
    r = np.array([max(softmax(np.asarray(s.teacher.logits[b, 0], np.float64))) for b in range(B)])
    np.testing.assert_allclose(found.reliability, r, rtol=1e-5)
    # An r that is the same for all images gives the terms' unweighted means; theirs are linear in r.
    plain = made()
    one = np.array([terms_with(plain, s, jnp.eye(B)[b])["kd"] for b in range(B)])
    assert found.losses["kd"] == pytest.approx(float(one @ r), rel=1e-5)
    others = np.array([terms_with(plain, s, 1 - jnp.eye(B)[b])["dealign"] for b in range(B)])
    assert found.losses["dealign"] == pytest.approx(float(others @ (1 - r)), rel=1e-5)


def terms_with(config, s, r):
    return methods.craft.weighted(config, s, r).losses


def test_positives_of_the_class():
    config = made(class_positives=True)
    s = make_signals(config)
    z_t, z_s = embedded(config, s)
    total = 0.0
    for i, r in enumerate(ref_r(config, s)):
        score = z_t[i, 0] @ z_s.reshape(-1, z_s.shape[-1]).T / config.contrastive.temperature
        own = np.repeat(LABELS[i] == LABELS, M + 1)
        others = sum(math.exp(x) for x in score[~own])
        each = [-math.log(math.exp(x) / (math.exp(x) + others)) for x in score[own]]
        total += r * sum(each) / len(each)
    found = terms_of(config, s).losses
    assert found["contrastive"] == pytest.approx(0.6 * total / B, rel=1e-4)
    assert set(found) == {"ce", "kd", "contrastive", "dealign"}


def test_de_alignment_from_a_running_subspace():
    config = made(rank=2)
    s = make_signals(config)
    z_t, z_s = embedded(config, s)
    width = z_t.shape[-1]
    before = np.diag(np.arange(width, dtype=np.float64)) / width
    s = s._replace(memory=before.astype(np.float32))
    shifts = (z_t[:, 1:] - z_t[:, :1]).reshape(-1, width)
    scatter = 0.99 * before + 0.01 * sum(np.outer(d, d) for d in shifts) / len(shifts)
    found = terms_of(config, s)
    np.testing.assert_allclose(found.memory, scatter, rtol=1e-4, atol=1e-6)
    _, vectors = np.linalg.eigh(scatter)
    moved = (z_s[:, 1:] - z_s[:, :1]) @ vectors[:, -2:]
    squares = np.mean(np.sum(moved**2, axis=2), axis=1)
    expected = np.mean([(1 - r) * square for r, square in zip(ref_r(config, s), squares, strict=True)])
    assert found.losses["dealign"] == pytest.approx(1.3 * expected, rel=1e-3)

    def total(params):
        return methods.METHODS["craft_variants"].terms(config, s._replace(params=params)).losses["dealign"]

    assert all(not np.any(leaf) for leaf in jax.tree.leaves(jax.grad(total)(s.params)))
