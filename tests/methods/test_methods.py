"""Each method's terms against the design's section 4 as float64 loops over random small network outputs.

The reference below shares no code with the package: plain loops over images, views and classes, and NumPy's
SVD for the principal direction. `outputs` makes what networks would return, so no network is needed.
"""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import methods
from craft_jax.config import reader
from craft_jax.models import Outputs

ROOT = Path(__file__).resolve().parents[2]
B, K, M = 5, 3, 2
STUDENT_WIDTHS, TEACHER_WIDTHS = (2, 3, 4), (3, 2, 5)
LABELS = np.array([0, 1, 1, 2, 0], np.int32)

# Compiling is what takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(method, **settings):
    """A method's configuration with `__` for the dot, and numbers that let every part of it count."""
    config = reader.load(str(ROOT / "configs" / f"{method}.py"))
    defaults = {
        "views__count": M,
        "kd__weight": 0.7,
        "kd__temperature": 3.0,
        "contrastive__weight": 0.6,
        "contrastive__temperature": 0.4,
        "dealign__weight": 1.3,
        "reliability__alpha": 2.0,  # moderate: r is not at 0 or 1
    }
    for key, value in (defaults | settings).items():
        *sections, leaf = key.split("__")
        node = config
        for section in sections:
            node = node[section]
        node[leaf] = value
    return config


def outputs(seed, views, widths):
    """Random Outputs with leaves (B, views, ...), views alike enough for teachers to agree at times."""
    random = np.random.default_rng(seed)

    def leaf(*shape):
        own = random.normal(size=(B, 1, *shape))
        return (own + 0.6 * random.normal(size=(B, views, *shape))).astype(np.float32)

    stages = tuple(leaf(2, 2, width) for width in widths)
    return Outputs(logits=2 * leaf(K), stages=stages, pooled=leaf(widths[-1]))


def make_signals(config, seed=0):
    """Signals as a step gives them: as many views as the method asks for."""
    method = methods.METHODS[config.method]
    seen, taught = method.views(config)
    student = outputs(seed, seen, STUDENT_WIDTHS)
    teacher = outputs(seed + 100, taught, TEACHER_WIDTHS) if taught else None
    params, memory = method.init(config, jax.random.key(seed), student, teacher, np.resize(LABELS, 50))
    index, key = jnp.arange(B, dtype=jnp.int32), jax.random.key(9)
    signals = methods.Signals(jnp.asarray(LABELS), student, teacher, params, memory, index, key)
    return signals._replace(memory=method.begin(config, signals)) if method.begin else signals


def terms_of(config, signals):
    """The method's Terms as NumPy: not jitted, so that configurations of M views share what XLA compiles."""
    terms = functools.partial(methods.METHODS[config.method].terms, config)
    signals = jax.tree.map(jnp.asarray, signals)
    return jax.tree.map(np.asarray, terms(signals) if config.views.count == M else jit(terms)(signals))


@functools.cache
def gradient_of(method, **settings):
    """(config, signals, gradients of the sum of the losses: {"student", "teacher", "params"})."""
    config = make_config(method, **settings)
    signals = make_signals(config)
    return config, signals, losses_and_gradient(config, signals)[1]


def losses_and_gradient(config, signals):
    """The losses and the gradients of their sum, jitted, as NumPy."""
    method = methods.METHODS[config.method]

    def total(inputs):
        losses = method.terms(config, signals._replace(**inputs)).losses
        return sum(losses.values()), losses

    inputs = {"student": signals.student, "teacher": signals.teacher, "params": signals.params}
    (_, losses), gradient = jit(jax.value_and_grad(total, has_aux=True))(inputs)
    return jax.tree.map(np.asarray, (losses, gradient))


# ----------------------------------------------------------------------------------------------------
# The reference: design, section 4


def softmax(z, temperature=1.0):
    e = [math.exp((x - max(z)) / temperature) for x in z]
    return [x / sum(e) for x in e]


def ref_ce(logits, label):
    return -math.log(softmax(logits)[label])


def ref_kd(student, teacher, temperature):
    p_t, p_s = softmax(teacher, temperature), softmax(student, temperature)
    return temperature**2 * sum(p * math.log(p / q) for p, q in zip(p_t, p_s, strict=True))


def ref_jensen_shannon(logits):
    """logits: (V, K) of one image."""
    p = [softmax(z) for z in logits]
    mixture = [sum(column) / len(p) for column in zip(*p, strict=True)]
    return sum(q * math.log(q / m) for row in p for q, m in zip(row, mixture, strict=True)) / len(p)


def ref_attention(student, teacher, reduction):
    """Maps (H, W, C) of one view, of one size a stage."""
    total = 0.0
    for pair in zip(student, teacher, strict=True):
        maps = []
        for h in pair:
            h = np.asarray(h, np.float64)
            sites = itertools.product(range(h.shape[0]), range(h.shape[1]))
            maps.append(ref_unit(np.array([sum(x * x for x in h[site]) / h.shape[2] for site in sites])))
        squares = [(a - b) ** 2 for a, b in zip(*maps, strict=True)]
        total += sum(squares) / (1 if reduction == "sum" else len(squares))
    return total / len(student)


def ref_reliability(logits, alpha, beta, gamma):
    """logits: (V, K) of one image."""
    top = [max(range(K), key=lambda k, z=z: z[k]) for z in logits]
    agree = sum(t == top[0] for t in top) / len(top)
    entropy = sum(-sum(p * math.log(p) for p in softmax(z)) for z in logits) / len(logits)
    return 1 / (1 + math.exp(-(alpha * (agree - gamma) - beta * entropy)))


def ref_unit(v):
    return v / math.sqrt(sum(x * x for x in v))


def ref_embed(stages, projections=None):
    """stages: maps (H, W, C) of one view -> a unit vector."""
    parts = []
    for level, h in enumerate(stages):
        h = np.asarray(h, np.float64)
        pooled = sum(h[y, x] for y in range(h.shape[0]) for x in range(h.shape[1]))
        pooled = pooled / (h.shape[0] * h.shape[1])
        if projections is not None:
            w = np.asarray(projections[level], np.float64)
            pooled = np.array([sum(pooled[c] * w[c, d] for c in range(len(w))) for d in range(w.shape[1])])
        parts.append(ref_unit(pooled))
    return ref_unit(np.concatenate(parts))


def ref_contrastive(z_t, z_s, i, tau, positives, anchor, mask):
    """The loss of image i; z_t, z_s: (B, V, D)."""
    views = range(z_s.shape[1])
    negatives = [(j, n) for j in range(B) for n in views if j != i and not (mask and LABELS[j] == LABELS[i])]
    total = 0.0
    for m in views:
        a = z_t[i, 0 if anchor == "clean" else m]

        def e(j, n, a=a):
            return math.exp(sum(a * z_s[j, n]) / tau)

        others = sum(e(j, n) for j, n in negatives)
        own = sum(e(i, n) for n in views)
        if positives == "cross_view":
            total -= math.log(own / (own + others))
        elif positives == "same_view":
            total -= math.log(e(i, m) / (own + others))
        else:
            total -= sum(math.log(e(i, p) / (e(i, p) + others)) for p in views) / len(views)
    return total / len(views)


def ref_directions(z, kind, eps):
    """z: (V, D) of one image -> (V, D)."""
    views = len(z)
    mean = sum(z) / views
    if kind == "principal":
        _, values, rows = np.linalg.svd(z - mean)
        v = [values[0] * rows[0]] * views
    elif kind == "clean_shift":
        v = [sum(z[m] - z[0] for m in range(1, views)) / max(views - 1, 1)] * views
    else:
        v = [z[m] - mean for m in range(views)]
    return [x / (math.sqrt(sum(x * x)) + eps) for x in v]


def ref_dealignment(z, u, form):
    """z: (V, D), the student's; u: (V, D)."""
    views = len(z)
    if form == "position":
        return sum(sum(u[m] * z[m]) ** 2 for m in range(views)) / views
    return sum(sum(u[m] * (z[m] - z[0])) ** 2 for m in range(1, views)) / max(views - 1, 1)


def ref_terms(config, s):
    """{name: scalar} of erm, augmix, kd, attkd and craft."""
    v = config.views
    everything, clean = range(v.count + 1), range(1)
    ce_views = everything if v.ce_views == "all" else clean
    kd_views = everything if v.distill_views == "all" else clean
    logits = np.asarray(s.student.logits, np.float64)

    ce = [sum(ref_ce(logits[b, m], LABELS[b]) for m in ce_views) / len(ce_views) for b in range(B)]
    terms = {"ce": sum(ce) / B}
    if config.method == "erm":
        return terms
    if config.method == "augmix":
        jsd = [ref_jensen_shannon(logits[b]) for b in range(B)]
        return terms | {"jsd": config.augmix.weight * sum(jsd) / B}

    taught = np.asarray(s.teacher.logits, np.float64)

    def distill(loss):
        """loss(b, m, t): image b, its student view m, the teacher's view t -> (B,)."""
        own = v.distill_target == "own"
        return [sum(loss(b, m, m if own else 0) for m in kd_views) / len(kd_views) for b in range(B)]

    if config.method == "attkd":
        attention = distill(
            lambda b, m, t: ref_attention(
                [h[b, m] for h in s.student.stages],
                [h[b, t] for h in s.teacher.stages],
                config.attention.reduction,
            )
        )
        return terms | {"attention": config.attention.weight * sum(attention) / B}
    kd = distill(lambda b, m, t: ref_kd(logits[b, m], taught[b, t], config.kd.temperature))
    if config.method == "kd":
        return terms | {"kd": config.kd.weight * sum(kd) / B}

    c, d, q = config.contrastive, config.dealign, config.reliability
    r = [ref_reliability(taught[b], q.alpha, q.beta, q.gamma) for b in range(B)]
    terms["kd"] = config.kd.weight * sum(r[b] * kd[b] for b in range(B)) / B
    if not c.weight and not d.weight:
        return terms if config.kd.weight else {"ce": terms["ce"]}
    w = s.params["projections"]
    z_t, z_s = (
        np.array(
            [[ref_embed([o.stages[i - 1][b, m] for i in c.stages], p) for m in everything] for b in range(B)]
        )
        for o, p in ((s.teacher, None), (s.student, w))
    )
    con = [
        ref_contrastive(z_t, z_s, b, c.temperature, c.positives, c.anchor, c.mask_same_class)
        for b in range(B)
    ]
    terms["contrastive"] = c.weight * sum(r[b] * con[b] for b in range(B)) / B
    de = [ref_dealignment(z_s[b], ref_directions(z_t[b], d.kind, d.eps), d.form) for b in range(B)]
    terms["dealign"] = d.weight * sum((1 - r[b]) * de[b] for b in range(B)) / B
    weights = {"kd": config.kd.weight, "contrastive": c.weight, "dealign": d.weight}
    return {name: value for name, value in terms.items() if weights.get(name, 1)}


def check(config, seed=0):
    """The method's terms are the reference's; returns both."""
    signals = make_signals(config, seed)
    found, expected = terms_of(config, signals), ref_terms(config, signals)
    assert found.losses.keys() == expected.keys()
    for name, value in expected.items():
        assert found.losses[name].shape == () and found.losses[name].dtype == np.float32
        np.testing.assert_allclose(found.losses[name], value, rtol=2e-5, err_msg=name)
        assert abs(value) > 1e-3, f"{name} is too near zero to test anything"
    return found, signals


# ----------------------------------------------------------------------------------------------------
# Values

VIEWS = [
    {"views__ce_views": ce, "views__distill_views": distill, "views__distill_target": target}
    for ce, distill, target in itertools.product(("clean", "all"), ("clean", "all"), ("own", "clean"))
]


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


# ----------------------------------------------------------------------------------------------------
# Zero weights and zero views

WEIGHTS = ("kd", "contrastive", "dealign")


@pytest.mark.parametrize("zero", [*itertools.combinations(WEIGHTS, 1), *itertools.combinations(WEIGHTS, 3)])
def test_craft_without_a_term(zero):
    """The others keep their values, and the dropped one is absent, not zero times what may be infinite."""
    config = make_config("craft", **{f"{name}__weight": 0.0 for name in zero})
    found, _ = check(config)
    assert found.losses.keys() == {"ce", *WEIGHTS} - set(zero)


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


@pytest.mark.parametrize("method", ["erm", "kd"])
def test_other_methods_without_corrupted_views(method):
    config = make_config(method, views__count=0, views__ce_views="all", views__distill_views="all")
    assert methods.METHODS[method].views(config) == (1, int(method == "kd"))
    check(config)


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
# Which views are forwarded


@pytest.mark.parametrize("count", [0, 1, 2])
def test_views_of_the_baselines(count):
    for settings in VIEWS:
        config = make_config("erm", views__count=count, **settings)
        everything = count + 1
        ce = everything if settings["views__ce_views"] == "all" else 1
        distill = everything if settings["views__distill_views"] == "all" else 1
        own = settings["views__distill_target"] == "own"
        assert methods.METHODS["erm"].views(config) == (ce, 0), "ERM distils nothing"
        assert methods.METHODS["augmix"].views(config) == (everything, 0)
        config.augmix.weight = 0.0
        assert methods.METHODS["augmix"].views(config) == (ce, 0), "then nothing reads the others"
        for name in ("kd", "attkd", "crd"):
            views = methods.METHODS[name].views(config)
            assert views == (max(ce, distill), distill if own else 1), name


@pytest.mark.parametrize("count", [0, 1, 2])
def test_views_of_craft(count):
    """The student's: all, if a term of all views has weight; else what CE and KD read. The teacher's: all."""
    for settings in VIEWS:
        for kd, contrastive, dealign in itertools.product((0.0, 1.0), repeat=3):
            config = make_config(
                "craft",
                views__count=count,
                kd__weight=kd,
                contrastive__weight=contrastive,
                dealign__weight=dealign,
                **settings,
            )
            reads = {settings["views__ce_views"]}
            if kd:
                reads.add(settings["views__distill_views"])
            if contrastive or dealign:
                reads.add("all")
            seen = count + 1 if "all" in reads else 1
            found = methods.METHODS["craft"].views(config)
            assert found == (seen, count + 1), f"{settings}, weights {kd, contrastive, dealign}"


def test_kd_of_weight_zero_forwards_no_view_for_it():
    """Or corrupted images that no loss reads would enter the student's BatchNorm statistics."""
    config = make_config("kd", kd__weight=0.0, views__distill_views="all")
    assert methods.METHODS["kd"].views(config)[0] == 1


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


# ----------------------------------------------------------------------------------------------------
# Gradients


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


@pytest.mark.parametrize("method", ["erm", "kd"])
def test_methods_without_parameters(method):
    signals = make_signals(make_config(method))
    assert signals.params == {} and signals.memory == ()


# ----------------------------------------------------------------------------------------------------
# What a run trains on, and what it reads


@pytest.mark.parametrize(
    ("method", "settings", "trained"),
    [
        ("erm", {}, False),
        ("erm", {"views__ce_views": "all"}, True),
        ("kd", {}, False),
        ("kd", {"views__distill_views": "all"}, True),
        ("craft", {}, True),
        ("craft", {"views__kind": "augmix"}, False),
        ("erm", {"views__ce_views": "all", "views__kind": "augmix"}, False),
        ("augmix", {}, False),
    ],
)
def test_trained_corruptions(method, settings, trained):
    config = make_config(method, **settings)
    assert methods.trained_corruptions(config) == (list(config.views.corruptions) if trained else [])


VIEW_KEYS = {"views.corruptions", "views.lanes", "views.count"}


@pytest.mark.parametrize(
    ("method", "settings", "unread"),
    [
        ("erm", {}, {"kd.weight", "teacher.epochs", "augmix.severity", *VIEW_KEYS}),
        ("erm", {"views__ce_views": "all"}, {"kd.weight", "teacher.epochs", "augmix.severity"}),
        ("kd", {}, {"augmix.severity", *VIEW_KEYS}),
        ("kd", {"teacher__method": "augmix"}, VIEW_KEYS),  # its teacher reads it
        ("craft", {"views__kind": "augmix"}, {"views.corruptions", "views.lanes"}),
        ("augmix", {}, {"kd.weight", "teacher.epochs", "views.corruptions", "views.lanes"}),
    ],
)
def test_keys_that_a_run_does_not_read(method, settings, unread):
    keys = ["seed", "kd.weight", "teacher.epochs", "augmix.severity", "views.corruptions"]
    keys += ["views.lanes", "views.count", "eval.corruptions"]
    assert set(methods.unread(make_config(method, **settings), keys)) == unread


def test_a_key_of_given_teachers_alone():
    """One trained on the way learns from the run's own data: there is nothing to allow."""
    key = "teacher.allow_other_data"
    assert methods.unread(make_config("kd"), [key, "teacher.cache"]) == [key]
    assert methods.unread(make_config("kd", teacher__checkpoint="DIR"), [key]) == []
    assert methods.unread(make_config("erm", teacher__checkpoint="DIR"), [key]) == [key]
