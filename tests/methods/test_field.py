"""The field's methods against loops, over views; and sums of methods against the methods themselves."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import methods
from craft_jax.config import rules
from craft_jax.errors import ConfigError, DataError, MethodError
from tests.losses import test_field as field
from tests.methods.references import ref_kd
from tests.methods.signals import LABELS, B, M, make_config, make_signals, outputs, terms_of

# ----------------------------------------------------------------------------------------------------
# The reference: a float64 value an image of one student view and one teacher view


def ref_convolution(h, kernel, bias=0.0):
    """Maps (B, H, W, C) by a (C, C') matrix at every position."""
    out = np.zeros((*h.shape[:3], kernel.shape[1]))
    for site in np.ndindex(*h.shape[:3]):
        out[site] = np.array([field.dot(h[site], column) for column in kernel.T]) + bias
    return out


def ref_fitnets(params, student, teacher):
    h = ref_convolution(student.stages[1], params["kernel"])
    for c in range(h.shape[-1]):
        values = h[..., c].ravel()
        mean = sum(values) / len(values)
        variance = sum((values - mean) ** 2) / len(values)
        normal = (h[..., c] - mean) / math.sqrt(variance + 1e-5)
        h[..., c] = np.maximum(normal * params["scale"][c] + params["bias"][c], 0)
    return field.ref_hint(h, teacher.stages[1])


def ref_vid(params, student, teacher):
    total = np.zeros(B)
    for p, h_s, h_t in zip(params["stages"], student.stages, teacher.stages, strict=True):
        first, second, third = p["kernels"]
        hidden = np.maximum(ref_convolution(h_s, first), 0)
        hidden = np.maximum(ref_convolution(hidden, second), 0)
        total += field.ref_variational(ref_convolution(hidden, third), p["log_scale"], h_t)
    return total


def ref_nst(params, student, teacher):
    return sum(
        np.array(field.ref_selectivity(*pair)) for pair in zip(student.stages, teacher.stages, strict=True)
    )


REFERENCES = {
    "fitnets": ref_fitnets,
    "sp": lambda params, s, t: field.ref_similarity(s.stages[2], t.stages[2]),
    "rkd": lambda params, s, t: field.ref_relational(s.pooled, t.pooled),
    "pkt": lambda params, s, t: field.ref_probabilistic(s.pooled, t.pooled),
    "nst": ref_nst,
    "vid": ref_vid,
    "dkd": lambda params, s, t: field.ref_decoupled(s.logits, t.logits, LABELS, 1.0, 8.0, 4.0),
    "dist": lambda params, s, t: field.ref_dist(s.logits, t.logits, 2.0, 2.0, 4.0),
}
WEIGHTS = {"fitnets": 100, "sp": 3000, "rkd": 1, "pkt": 30000, "nst": 50, "vid": 1, "dkd": 1, "dist": 1}
MATCHED = {"views__ce_views": "all", "views__distill_views": "all"}


def float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.mark.parametrize("method", REFERENCES)
def test_against_loops(method):
    """At the published weight, on the clean view alone and on all views, each from the teacher's own."""
    for settings, views in (({}, 1), (MATCHED, M + 1)):
        config = make_config(method, **settings)
        assert methods.METHODS[method].views(config) == (views, views)
        signals = make_signals(config)
        found = terms_of(config, signals)
        params, student, teacher = float64((signals.params, signals.student, signals.teacher))
        values = [
            REFERENCES[method](params, *(jax.tree.map(lambda x, m=m: x[:, m], o) for o in (student, teacher)))
            for m in range(views)
        ]
        assert found.losses.keys() == {"ce", method}
        np.testing.assert_allclose(found.losses[method], WEIGHTS[method] * np.mean(values), rtol=1e-4)
        assert abs(found.losses[method]) > 1e-2 and found.losses[method].shape == ()


def test_standardized_kd():
    config = make_config("kd", kd__standardize=True)
    signals = make_signals(config)
    z_s, z_t = (
        field.ref_standardize(np.asarray(o.logits[:, 0], np.float64))
        for o in (signals.student, signals.teacher)
    )
    value = np.mean([ref_kd(s, t, config.kd.temperature) for s, t in zip(z_s, z_t, strict=True)])
    np.testing.assert_allclose(terms_of(config, signals).losses["kd"], config.kd.weight * value, rtol=2e-5)


@pytest.mark.parametrize("method", REFERENCES)
def test_of_weight_zero_it_is_erm(method):
    """No term, no parameters, and no view forwarded for it."""
    config = make_config(method, views__distill_views="all", **{f"{method}__weight": 0.0})
    signals = make_signals(config)
    assert signals.params == {} and signals.memory == ()
    found, erm = terms_of(config, signals), terms_of(make_config("erm"), signals)
    assert found.losses == erm.losses
    assert methods.METHODS[method].views(config) == (1, 1)


def test_what_is_learned_starts_as_published():
    wide, thin = (outputs(0, 1, widths) for widths in ((50, 60, 70), (40, 30, 20)))
    (hint, _), (vid, _) = (
        methods.METHODS[name].init(make_config(name), jax.random.key(3), wide, thin, LABELS)
        for name in ("fitnets", "vid")
    )
    assert hint["kernel"].shape == (60, 30)
    np.testing.assert_array_equal((hint["scale"], hint["bias"]), (np.ones(30), np.zeros(30)))
    assert [[k.shape for k in stage["kernels"]] for stage in vid["stages"]] == [
        [(a, b), (b, b), (b, b)] for a, b in ((50, 40), (60, 30), (70, 20))
    ]
    for kernel in (hint["kernel"], *(k for stage in vid["stages"] for k in stage["kernels"])):
        bound = 1 / math.sqrt(kernel.shape[0])
        assert 0.95 * bound < np.abs(kernel).max() <= bound and abs(kernel.mean()) < 0.1 * bound
    for stage in vid["stages"]:
        np.testing.assert_allclose(np.log1p(np.exp(np.float64(stage["log_scale"]))) + 1e-5, 5, rtol=1e-6)
    assert not np.array_equal(
        vid["stages"][0]["kernels"][1][:20, :20], vid["stages"][0]["kernels"][2][:20, :20]
    )


@pytest.mark.parametrize("method", ["fitnets", "vid"])
def test_maps_of_unequal_size_are_pooled(method):
    """The larger map is averaged to the smaller one's size before the convolutions, on either side."""
    config = make_config(method)
    signals = make_signals(config)

    def grown(outputs):  # every pixel as 2 x 2 of itself: its average is the map
        return outputs._replace(stages=tuple(h.repeat(2, axis=2).repeat(2, axis=3) for h in outputs.stages))

    before = terms_of(config, signals).losses[method]
    for side in ("student", "teacher"):
        larger = signals._replace(**{side: grown(getattr(signals, side))})
        np.testing.assert_allclose(terms_of(config, larger).losses[method], before, rtol=1e-5)


@pytest.mark.parametrize("method", ["nst", "vid"])
def test_unequal_numbers_of_stages_are_refused(method):
    config = make_config(method)
    signals = make_signals(config)
    fewer = signals._replace(teacher=signals.teacher._replace(stages=signals.teacher.stages[1:]))
    with pytest.raises(ValueError, match="student_stages has 3, teacher_stages has 2"):
        terms_of(config, fewer)


@pytest.mark.parametrize("method", ["sp", "rkd", "pkt", "dist"])
def test_one_image_a_batch_is_refused(method):
    check = methods.METHODS[method].check
    with pytest.raises(DataError, match=rf"config.batch_size: 1; allowed with {method}\.weight.*at least 2"):
        check(make_config(method, batch_size=1), LABELS)
    check(make_config(method, batch_size=2), LABELS)
    check(make_config(method, batch_size=1, **{f"{method}__weight": 0.0}), LABELS)


def test_dkd_warms_up():
    """Linear over the first twelfth of the run, as 20 of the published 240 epochs; then at its weight."""
    config, whole = make_config("dkd"), make_config("dkd", dkd__warmup=0.0)
    signals = make_signals(config)
    full = terms_of(whole, signals).losses["dkd"]
    for progress, part in ((1 / 240, 1 / 20), (10 / 240, 1 / 2), (20 / 240, 1), (1 / 2, 1), (1, 1)):
        at = signals._replace(progress=jnp.float32(progress))
        np.testing.assert_allclose(terms_of(config, at).losses["dkd"], part * full, rtol=1e-5)
        assert terms_of(whole, at).losses["dkd"] == full


# ----------------------------------------------------------------------------------------------------
# Sums


def sum_of(*names, **settings):
    return make_config("combined", combined__methods=names, crd__negatives=8, **settings)


@pytest.mark.parametrize("method", ["crd", "vid", "craft"])
def test_a_sum_of_one_is_that_method(method):
    """Its parameters, memory and terms, to the bit, its draws among them."""
    settings = {"crd__negatives": 8, "reliability__source": "shuffled"}
    alone, config = make_config(method, **settings), sum_of(method, reliability__source="shuffled")
    assert methods.METHODS["combined"].views(config) == methods.METHODS[method].views(alone)
    one, sum_ = make_signals(alone), make_signals(config)
    for kind in ("params", "memory"):
        jax.tree.map(np.testing.assert_array_equal, getattr(sum_, kind), {method: getattr(one, kind)})
    a, b = terms_of(alone, one), terms_of(config, sum_)
    assert a.losses == b.losses
    jax.tree.map(np.testing.assert_array_equal, b.memory, {method: a.memory})
    np.testing.assert_array_equal(a.reliability, b.reliability)


@pytest.mark.parametrize(
    "names", [("kd", "crd"), ("kd", "attkd"), ("craft", "crd"), tuple(REFERENCES)], ids="+".join
)
def test_a_sum_has_each_methods_terms(names):
    """Each on the views that it asks for, though another's student forwards more."""
    config = sum_of(*names)
    signals = make_signals(config)
    found = terms_of(config, signals).losses
    for name in names:
        alone = make_config(name, crd__negatives=8)
        seen, taught = methods.METHODS[name].views(alone)
        own = signals._replace(
            student=jax.tree.map(lambda x, n=seen: x[:, :n], signals.student),
            teacher=jax.tree.map(lambda x, n=taught: x[:, :n], signals.teacher),
            params=signals.params[name],
            memory=signals.memory[name],
        )
        for term, value in terms_of(alone, own).losses.items():
            np.testing.assert_allclose(found.pop(term) if term != "ce" else found["ce"], value, rtol=1e-6)
    assert found.keys() == {"ce"}, "one cross-entropy, and nothing else"


def test_kd_is_in_a_sum_once():
    """Plain beside CRAFT's other terms, whose own KD is weighted by r."""
    plain, craft = sum_of("kd", "craft"), sum_of("craft")
    signals = make_signals(plain)
    both, alone = (terms_of(c, make_signals(c)).losses for c in (plain, craft))
    assert both.keys() == alone.keys() == {"ce", "kd", "contrastive", "dealign"}
    assert both["contrastive"] == alone["contrastive"] and both["dealign"] == alone["dealign"]
    kd = make_config("kd")
    assert both["kd"] == terms_of(kd, signals._replace(params={}, memory=())).losses["kd"] != alone["kd"]


def test_a_part_of_weight_zero_is_not_made_and_not_computed():
    config = sum_of("kd", "crd", "vid", crd__weight=0.0, vid__weight=0.0)
    signals = make_signals(config)
    assert signals.params == {"kd": {}, "crd": {}, "vid": {}}
    assert signals.memory == {"kd": (), "crd": (), "vid": ()}
    assert terms_of(config, signals).losses.keys() == {"ce", "kd"}
    # What it traces is KD: nothing reads the maps, whose products VID would need.
    program = jax.make_jaxpr(functools.partial(methods.METHODS["combined"].terms, config))(signals)
    assert "dot_general" not in str(program)


def test_views_of_a_sum_are_the_most_of_its_methods():
    views = methods.METHODS["combined"].views
    assert views(sum_of("kd", "sp")) == (1, 1)
    assert views(sum_of("kd", "craft")) == (M + 1, M + 1)
    assert views(sum_of("kd", "augmix", views__kind="augmix")) == (M + 1, 1)
    assert views(sum_of("augmix", views__kind="augmix")) == (M + 1, 0)
    assert not methods.needs_teacher(sum_of("augmix", views__kind="augmix"))


@pytest.mark.parametrize(
    ("names", "settings", "fault"),
    [
        (("kd", "erm"), {}, "config.combined.methods: 'erm' is unknown; allowed: augmix, kd, attkd, "),
        (("combined",), {}, "config.combined.methods: 'combined' is unknown; allowed: "),
        (("kd", "kd"), {}, "config.combined.methods: ('kd', 'kd') names one twice"),
        ((), {}, "config.combined.methods: empty; allowed: at least one"),
        (("kd", "augmix"), {}, "config.views.kind: 'corruptions'; allowed for the method augmix: 'augmix'"),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, tuple) else None,
)
def test_impossible_sums_are_refused(names, settings, fault):
    with pytest.raises(ConfigError) as error:
        rules.validate_training(sum_of(*names, **settings))
    (line,) = str(error.value).splitlines()
    assert line.startswith(fault)


def test_terms_of_one_name_are_refused(monkeypatch):
    """A user's own method may have any."""
    monkeypatch.setitem(methods.METHODS, "own", methods.METHODS["kd"])
    config = sum_of("kd", "own")
    with pytest.raises(MethodError, match=r"config\.combined\.methods: own has a term kd, as one before"):
        terms_of(config, make_signals(config))


def test_a_sum_checks_notes_and_reads_what_its_methods_do(monkeypatch):
    with pytest.raises(DataError, match=r"sp\.weight"):
        methods.METHODS["combined"].check(sum_of("kd", "sp", batch_size=1), LABELS)
    without_views = sum_of("kd", "craft", views__count=0)
    assert "de-alignment is zero" in methods.METHODS["combined"].note(without_views)
    keys = ["combined.methods", "kd.temperature", "sp.weight", "rkd.weight", "crd.bank"]
    assert methods.unread(sum_of("kd", "sp"), keys) == ["rkd.weight", "crd.bank"]
    monkeypatch.setitem(methods.METHODS, "own", methods.METHODS["kd"]._replace(reads=None))
    assert methods.unread(sum_of("own"), keys) == []  # it does not say
