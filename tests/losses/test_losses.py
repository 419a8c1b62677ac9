"""Every loss against float64 loops written from the equations, and at the edges of its inputs.

The `ref_*` functions are the equations of the paper's section 3 (and of CRD's NCE) as nested Python
loops; they share no code with the package. Gradients are compared with central differences of
these references in float64. Hand-worked cases have their arithmetic in comments.
"""

import doctest
import functools
import importlib
import inspect
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from craft_jax import losses

EPS = 1e-6
POSITIVES = ["cross_view", "same_view", "each"]

# Compiling is what takes time here. The docstring examples run the losses as users do.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
jit = functools.partial(jax.jit, compiler_options=QUICK)


def jit_loss(loss):
    strings = {"reduction", "positives", "kind", "form"}
    if loss is losses.crd_nce:
        strings.remove("positives")  # there it is row numbers
    return jit(loss, static_argnames=strings & set(inspect.signature(loss).parameters))


jitted = SimpleNamespace(**{n: jit_loss(getattr(losses, n)) for n in losses.__all__ if not n.isupper()})


def normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def unit_rows(seed, *shape):
    x = normal(seed, *shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def check_value(actual, expected, rtol=2e-5, atol=2e-6):
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


@functools.cache
def value_and_gradient(loss):
    """Jitted: the arguments -> (values (B,), gradients of their sum with weights 1, 2, ...)."""

    def weighted(args):
        values = loss(*args)
        return jnp.sum(values * (1 + jnp.arange(len(values)))), values

    def both(*args):
        (_, values), gradients = jax.value_and_grad(weighted, has_aux=True)(args)
        return values, gradients

    return jit(both)


def check_reference(loss, reference, x, rtol=2e-5):
    """Values of `loss(x)` against `reference(x)`, gradients against its central differences."""
    values, (gradient,) = value_and_gradient(loss)(x)
    check_value(values, reference(np.float64(x)), rtol)
    weights, expected, h = 1 + np.arange(len(values)), np.zeros(x.shape), 1e-5
    for index in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[index] = h
        up, down = reference(np.float64(x) + step), reference(np.float64(x) - step)
        expected[index] = np.sum(weights * (np.asarray(up) - np.asarray(down))) / (2 * h)
    largest = np.abs(expected).max()
    assert largest > 1e-3  # or this would compare zeros
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-4 * largest)


def check_finite(loss, *args):
    """Values and gradients are finite; returns the values."""
    values, gradients = value_and_gradient(loss)(*args)
    for leaf in jax.tree.leaves((values, gradients)):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
    return values


# ------------------------------------------------------------------------ references: the equations


def ref_softmax(logits):
    e = [math.exp(x - max(logits)) for x in logits]
    return [x / sum(e) for x in e]


def ref_cross_entropy(logits, labels):
    return [-math.log(ref_softmax(row)[y]) for row, y in zip(logits, labels, strict=True)]


def ref_logit_kd(student, teacher, t):
    out = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p_s, p_t = ref_softmax(z_s / t), ref_softmax(z_t / t)
        out.append(t * t * sum(p * math.log(p / q) for p, q in zip(p_t, p_s, strict=True)))
    return out


def ref_jensen_shannon(logits):
    out = []
    for views in logits:
        p = [ref_softmax(v) for v in views]
        mixture = [sum(row[k] for row in p) / len(p) for k in range(len(p[0]))]
        out.append(sum(q * math.log(q / m) for row in p for q, m in zip(row, mixture, strict=True)) / len(p))
    return out


def ref_attention_map(h, height, width):
    """h (H, W, C) -> flat list: energy, adaptive average pooling, then division by the norm."""
    rows, columns, channels = h.shape
    energy = [
        [sum(h[i, j, c] ** 2 for c in range(channels)) / channels for j in range(columns)]
        for i in range(rows)
    ]
    flat = []
    for i in range(height):
        for j in range(width):
            window = [
                energy[a][b]
                for a in range(math.floor(i * rows / height), math.ceil((i + 1) * rows / height))
                for b in range(math.floor(j * columns / width), math.ceil((j + 1) * columns / width))
            ]
            flat.append(sum(window) / len(window))
    norm = math.sqrt(sum(x * x for x in flat))
    return [x / norm for x in flat]


def ref_attention_transfer(student, teacher, reduction):
    out = []
    for b in range(len(student[0])):
        total = 0.0
        for h_s, h_t in zip(student, teacher, strict=True):
            size = min(h_s.shape[1], h_t.shape[1]), min(h_s.shape[2], h_t.shape[2])
            a_s, a_t = ref_attention_map(h_s[b], *size), ref_attention_map(h_t[b], *size)
            squares = [(p - q) ** 2 for p, q in zip(a_t, a_s, strict=True)]
            total += sum(squares) / (len(squares) if reduction == "mean" else 1)
        out.append(total / len(student))
    return out


def ref_embed(stages, projections=None):
    out = []
    for b in range(len(stages[0])):
        z = []
        for level, h in enumerate(stages):
            _, rows, columns, channels = h.shape
            pooled = [
                sum(h[b, i, j, c] for i in range(rows) for j in range(columns)) / (rows * columns)
                for c in range(channels)
            ]
            if projections is not None:
                w = projections[level]
                pooled = [sum(pooled[s] * w[s, t] for s in range(channels)) for t in range(w.shape[1])]
            norm = math.sqrt(sum(x * x for x in pooled))
            z += [x / norm for x in pooled]
        norm = math.sqrt(sum(x * x for x in z))
        out.append([x / norm for x in z])
    return out


def ref_contrastive(teacher, student, tau, positives, labels=None):
    images, views = student.shape[:2]
    out = []
    for i in range(images):
        total = 0.0
        for m in range(views):

            def e(j, n, i=i, m=m):
                return math.exp(float(np.dot(teacher[i, m], student[j, n])) / tau)

            own = [e(i, n) for n in range(views)]
            others = 0.0
            for j in range(images):
                if j != i and (labels is None or labels[j] != labels[i]):
                    others += sum(e(j, n) for n in range(views))
            if positives == "cross_view":
                total -= math.log(sum(own) / (sum(own) + others))
            elif positives == "same_view":
                total -= math.log(own[m] / (sum(own) + others))
            else:
                total -= sum(math.log(p / (p + others)) for p in own) / views
        out.append(total / views)
    return out


def ref_reliability(logits, alpha, beta, gamma):
    out = []
    for views in logits:
        p = [ref_softmax(v) for v in views]
        entropy = sum(-sum(q * math.log(q) for q in row if q > 0) for row in p) / len(p)
        agree = sum(row.index(max(row)) == p[0].index(max(p[0])) for row in p) / len(p)
        out.append(1 / (1 + math.exp(-(alpha * (agree - gamma) - beta * entropy))))
    return out


def ref_directions(teacher, kind, eps):
    out = np.zeros(teacher.shape)
    for b, z in enumerate(np.float64(teacher)):
        mean = sum(z) / len(z)
        for m in range(len(z)):
            if kind == "principal":
                _, s, vh = np.linalg.svd(np.array([row - mean for row in z]))
                v = s[0] * vh[0]
            elif kind == "clean_shift":
                v = sum(z[k] - z[0] for k in range(1, len(z))) / (len(z) - 1)
            elif kind == "per_view":
                v = z[m] - mean
            else:
                v = sum(row - mean for row in z) / len(z)
            out[b, m] = v / (math.sqrt(sum(v * v)) + eps)
    return out


def ref_dealignment(student, directions, form):
    out = []
    for z, u in zip(student, directions, strict=True):
        if form == "position":
            squares = [float(np.dot(u[m], z[m])) ** 2 for m in range(len(z))]
        else:
            squares = [float(np.dot(u[m], z[m] - z[0])) ** 2 for m in range(1, len(z))]
        out.append(sum(squares) / len(squares))
    return out


def ref_crd_nce(anchors, bank, positives, negatives, tau, z):
    out = []
    for a, row, rows in zip(anchors, positives, negatives, strict=True):
        rows = [k for k in rows if k != -1]
        c = len(rows) / len(bank)
        p = math.exp(float(np.dot(a, bank[row])) / tau) / z
        loss = -math.log(p / (p + c + 1e-7))
        for k in rows:
            p = math.exp(float(np.dot(a, bank[k])) / tau) / z
            loss -= math.log(c / (p + c + 1e-7))
        out.append(loss)
    return out


# ----------------------------------------------------------------------------- rules for every loss

STAGES_S = normal(1, 3, 4, 4, 2), normal(2, 3, 2, 2, 3)
STAGES_T = normal(3, 3, 4, 4, 5), normal(4, 3, 2, 2, 4)
Z_S, Z_T = unit_rows(5, 3, 3, 4), unit_rows(6, 3, 3, 4)
LABELS = np.array([0, 4, 2])
ROWS = np.array([0, 1, 2]), np.array([[3, 4], [5, 6], [7, 8]])

# name: (the loss of its floating-point inputs, those inputs, which of them carry gradient)
CASES = {
    "cross_entropy": (lambda a: losses.cross_entropy(a, LABELS), [normal(7, 3, 5)], [True]),
    "logit_kd": (
        lambda s, t: losses.logit_kd(s, t, 4.0),
        [normal(8, 3, 5), normal(9, 3, 5)],
        [True, False],
    ),
    "jensen_shannon": (losses.jensen_shannon, [normal(15, 3, 4, 5)], [True]),
    "attention_transfer": (losses.attention_transfer, [STAGES_S, STAGES_T], [True, False]),
    "embed": (
        lambda s, w: jnp.sum(losses.embed(s, w) ** 3, axis=1),
        [STAGES_S, (normal(10, 2, 4), normal(11, 3, 2))],
        [True, True],
    ),
    **{
        f"contrastive {p}": (
            lambda t, s, p=p: losses.contrastive(t, s, 0.1, p),
            [Z_T, Z_S],
            [False, True],
        )
        for p in POSITIVES
    },
    "reliability": (
        lambda t: losses.reliability(t, 10.0, 1.0, 0.5),
        [normal(12, 3, 3, 5)],
        [False],
    ),
    **{
        f"fragility_directions {k}": (
            lambda t, k=k: jnp.sum(losses.fragility_directions(t, k, EPS) ** 3, axis=(1, 2)),
            [Z_T],
            [False],
        )
        for k in ["principal", "clean_shift", "per_view", "literal"]
    },
    **{
        f"dealignment {f}": (
            lambda s, u, f=f: losses.dealignment(s, u, f),
            [Z_S, Z_T],
            [True, False],
        )
        for f in ["position", "shift"]
    },
    "crd_nce": (
        lambda a, b: losses.crd_nce(a, b, *ROWS, 0.07, 20.0),
        [unit_rows(13, 3, 4), unit_rows(14, 9, 4)],
        [True, True],
    ),
}


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


# -------------------------------------------------------------------------- cross_entropy, logit_kd


def test_cross_entropy_reference():
    logits, labels = normal(20, 5, 7, scale=3), np.array([0, 6, 3, 3, 1])
    one_hot = np.eye(7)[labels]
    expected = optax.losses.softmax_cross_entropy(logits, one_hot)
    check_value(jitted.cross_entropy(logits, labels), expected)
    check_reference(lambda x: losses.cross_entropy(x, labels), lambda x: ref_cross_entropy(x, labels), logits)


def test_cross_entropy_by_hand():
    # softmax(log 1, log 2, log 5) = (1, 2, 5)/8, and the classes are 2 and 0.
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]))
    check_value(jitted.cross_entropy(logits, jnp.array([2, 0])), [math.log(8 / 5), math.log(8)])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_cross_entropy_extreme_logits(dtype):
    # Certain and right: 0. Certain and wrong: the difference of the logits, 2e4.
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    values = check_finite(lambda x: losses.cross_entropy(x, jnp.array([0, 1])), logits)
    check_value(values, [0.0, 2e4], rtol=1e-2)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logit_kd_reference(temperature):
    student, teacher = normal(21, 4, 6, scale=3), normal(22, 4, 6, scale=3)
    kl = optax.losses.kl_divergence(
        jax.nn.log_softmax(student / temperature), jax.nn.softmax(teacher / temperature)
    )
    check_value(jitted.logit_kd(student, teacher, temperature), temperature**2 * kl)
    check_reference(
        lambda x: losses.logit_kd(x, teacher, temperature),
        lambda x: ref_logit_kd(x, np.float64(teacher), temperature),
        student,
    )


def test_logit_kd_by_hand():
    # T = 2. Teacher logits (2 log 3, 0) -> p_T = (3, 1)/4; student (0, 0) -> p_S = (1, 1)/2.
    # 4 [3/4 log(3/2) + 1/4 log(1/2)] = 3 log 1.5 - log 2 = 0.5232; reversed it would be 0.5754.
    teacher, student = jnp.array([[2 * math.log(3), 0.0]]), jnp.zeros((1, 2))
    check_value(jitted.logit_kd(student, teacher, 2.0), [3 * math.log(1.5) - math.log(2)])


def test_logit_kd_is_zero_at_equality():
    logits = normal(23, 4, 6, scale=10)
    np.testing.assert_allclose(jitted.logit_kd(logits, logits + 5, 4.0), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_logit_kd_extreme_logits(dtype):
    # A one-hot teacher against a student as certain of the other class: KL = 2e4 / T, times T^2 is
    # 8e4 at T = 4; against the same student: 0.
    teacher = jnp.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    student = jnp.array([[-1e4, 1e4], [1e4, -1e4]], dtype)
    values = check_finite(lambda s: losses.logit_kd(s, teacher, 4.0), student)
    check_value(values, [8e4, 0.0], rtol=1e-2)


# ----------------------------------------------------------------------------------- jensen_shannon


@pytest.mark.parametrize("views", [1, 2, 3])
def test_jensen_shannon_reference(views):
    x = normal(26, 4, views, 5, scale=2)
    if views == 1:  # a prediction is its own mixture
        check_value(jitted.jensen_shannon(x), np.zeros(4))
    else:
        check_reference(losses.jensen_shannon, ref_jensen_shannon, x)


def test_jensen_shannon_by_hand():
    same = np.repeat(normal(27, 3, 1, 6, scale=3), 4, 1)
    check_value(jitted.jensen_shannon(same), np.zeros(3))
    # Each view certain of a class of its own: KL(p_v || mixture) = log V.
    disjoint = 200 * np.eye(3, 5, dtype=np.float32)[None]
    check_value(jitted.jensen_shannon(disjoint), [math.log(3)])
    # p = (1, 0) and (1/2, 1/2), mixture (3/4, 1/4): (log 4/3 + log(2/3)/2 + log(2)/2) / 2 = log(64/27) / 4.
    halves = np.float32([[[300, 0], [0, 0]]])
    check_value(jitted.jensen_shannon(halves), [math.log(64 / 27) / 4])
    # The order of the views does not matter, nor a constant added to a view's logits.
    x = normal(28, 3, 3, 4)
    moved = x[:, [2, 0, 1]] + normal(29, 3, 3, 1)
    check_value(jitted.jensen_shannon(moved), jitted.jensen_shannon(x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_jensen_shannon_extreme_logits(dtype):
    rows = [[[1e4, 0, 0], [0, 1e4, 0]], [[-1e4, 0, 1e4], [-1e4, 0, 1e4]], [[0, 0, 0], [1e30, 0, 0]]]
    values = check_finite(losses.jensen_shannon, jnp.asarray(rows, dtype))
    # The last: thirds against certainty, mixture (2/3, 1/6, 1/6).
    third = (math.log(1 / 2) / 3 + 2 * math.log(2) / 3 + math.log(3 / 2)) / 2
    check_value(values, [math.log(2), 0, third])


# ------------------------------------------------------------------------------- attention_transfer

SIZES = {
    "equal": ((4, 4), (4, 4)),
    "student larger": ((4, 4), (2, 2)),
    "teacher larger": ((2, 3), (4, 6)),
    "not divisible": ((3, 4), (5, 6)),
    "each larger on one axis": ((2, 5), (4, 3)),
}


@pytest.mark.parametrize(("sizes", "reduction"), [*((s, "sum") for s in SIZES), ("not divisible", "mean")])
def test_attention_transfer_reference(sizes, reduction):
    (h_s, w_s), (h_t, w_t) = SIZES[sizes]
    student = normal(30, 2, h_s, w_s, 3), normal(31, 2, 2, 2, 4)
    teacher = normal(32, 2, h_t, w_t, 5), normal(33, 2, 2, 2, 1)
    exact = [np.float64(h) for h in teacher]
    check_reference(
        lambda h: losses.attention_transfer([h, student[1]], teacher, reduction),
        lambda h: ref_attention_transfer([h, np.float64(student[1])], exact, reduction),
        student[0],
    )


def test_attention_transfer_by_hand():
    # Student energies, mean over 2 channels: (9 + 0)/2, (16 + 0)/2 -> (9, 16)/sqrt(337).
    # The teacher's 2x2 maps are pooled in pairs of rows: (1, 1)/2 and (0, 0)/2 -> (1, 0).
    # Squared distance: 2 - 2 * 9/sqrt(337) = 1.0195; over 2 positions the half of it.
    student = jnp.array([[3.0, 0.0], [4.0, 0.0]]).reshape(1, 1, 2, 2)
    teacher = jnp.array([[[1.0, 0.0], [-1.0, 0.0]]]).reshape(1, 2, 2, 1)
    expected = 2 - 2 * 9 / math.sqrt(337)
    check_value(jitted.attention_transfer([student], [teacher]), [expected])
    check_value(jitted.attention_transfer([student], [teacher], "mean"), [expected / 2])
    # Two stages are averaged, and the second, compared with itself, is 0.
    check_value(jitted.attention_transfer([student, teacher], [teacher] * 2), [expected / 2])


def test_attention_transfer_ignores_scale():
    values = jitted.attention_transfer(STAGES_S, STAGES_T)
    for scale in (1e-8, 1e8):  # the fourth powers leave float32's range
        scaled = [scale * h for h in STAGES_S]
        check_value(check_finite(losses.attention_transfer, scaled, STAGES_T), values)


def test_attention_transfer_dead_maps():
    # A map of zeros stays zero: the distance to a unit map is 1, to another dead one 0.
    dead, alive = [jnp.zeros((1, 2, 2, 3))], [jnp.ones((1, 4, 4, 3))]
    check_value(check_finite(losses.attention_transfer, dead, alive), [1.0])
    check_value(check_finite(losses.attention_transfer, alive, dead), [1.0])
    check_value(check_finite(losses.attention_transfer, dead, dead), [0.0])


# -------------------------------------------------------------------------------------------- embed


@pytest.mark.parametrize("projected", [False, True])
def test_embed_reference(projected):
    stages = normal(40, 2, 3, 2, 3), normal(41, 2, 2, 2, 2)
    w = (normal(42, 3, 4), normal(43, 2, 3)) if projected else None
    exact_w = [np.float64(x) for x in w] if projected else None
    z = jitted.embed(stages, w)
    assert z.shape == (2, 7 if projected else 5)
    check_value(z, ref_embed([np.float64(h) for h in stages], exact_w))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)

    probe = normal(44, *z.shape)  # the gradient of one linear function of z an example
    other = np.float64(stages[1])
    check_reference(
        lambda h: jnp.sum(probe * losses.embed([h, stages[1]], w), axis=1),
        lambda h: np.sum(probe * np.array(ref_embed([h, other], exact_w)), axis=1),
        stages[0],
    )
    if projected:
        exact = [np.float64(h) for h in stages]
        check_reference(
            lambda x: jnp.sum(probe * losses.embed(stages, [x, w[1]]), axis=1),
            lambda x: np.sum(probe * np.array(ref_embed(exact, [x, exact_w[1]])), axis=1),
            w[0],
        )


def test_embed_by_hand():
    # Stage 1 pools to (3, 4) -> (0.6, 0.8); stage 2 pools to 2, projected to (2, 0) -> (1, 0).
    # Concatenated the length is sqrt 2.
    stages = [
        jnp.array([[2.0, 8.0], [4.0, 0.0]]).reshape(1, 1, 2, 2),
        jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1),
    ]
    z = jitted.embed(stages, [jnp.eye(2), jnp.array([[1.0, 0.0]])])
    check_value(z, np.array([[0.6, 0.8, 1.0, 0.0]]) / math.sqrt(2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_embed_zero_stages(dtype):
    """A dead stage leaves its place empty and finite gradients everywhere; so do only dead ones."""
    dead, alive = jnp.zeros((1, 2, 2, 3), dtype), jnp.ones((1, 2, 2, 1), dtype)
    z = check_finite(losses.embed, [dead, alive])
    check_value(z, [[0.0, 0.0, 0.0, 1.0]])
    z = check_finite(losses.embed, [dead, dead], [jnp.zeros((3, 2), dtype)] * 2)
    check_value(z, np.zeros((1, 4)))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_embed_ignores_scale(scale):
    stages = STAGES_S
    scaled = [np.float32(scale) * h for h in stages]
    check_value(jitted.embed(scaled), jitted.embed(stages))
    check_finite(CASES["embed"][0], scaled, CASES["embed"][1][1])


# -------------------------------------------------------------------------------------- contrastive


@pytest.mark.parametrize("labels", [None, np.array([1, 0, 1, 2])], ids=["unlabelled", "labelled"])
@pytest.mark.parametrize("positives", POSITIVES)
def test_contrastive_reference(positives, labels):
    teacher, student = unit_rows(50, 4, 3, 4), unit_rows(51, 4, 3, 4)
    exact = np.float64(teacher)
    check_reference(
        lambda z: losses.contrastive(teacher, z, 0.2, positives, labels),
        lambda z: ref_contrastive(exact, z, 0.2, positives, labels),
        student,
    )


@pytest.mark.parametrize(
    ("positives", "expected"),
    # Two images with two views each, tau 1/2, every teacher view e1. The first student has
    # (e1, -e1), so own e^s are e^2 and e^-2; the second has (e2, e2): e^0 twice, together 2.
    [
        # -log((e^2 + e^-2) / (e^2 + e^-2 + 2)) for both anchors.
        ("cross_view", math.log(1 + 2 / (math.exp(2) + math.exp(-2)))),
        # Anchor 0 has e^2 above, anchor 1 e^-2: the logs cancel and the denominator stays.
        ("same_view", math.log(math.exp(2) + math.exp(-2) + 2)),
        # Mean over own views: log(1 + 2 e^-2) and log(1 + 2 e^2).
        ("each", (math.log(1 + 2 * math.exp(-2)) + math.log(1 + 2 * math.exp(2))) / 2),
    ],
)
def test_contrastive_by_hand(positives, expected):
    e1, e2 = jnp.eye(2)
    teacher = jnp.stack([jnp.stack([e1, e1])] * 2)
    student = jnp.stack([jnp.stack([e1, -e1]), jnp.stack([e2, e2])])
    check_value(jitted.contrastive(teacher, student, 0.5, positives)[:1], [expected])


def test_one_aligned_view_satisfies_cross_view_but_not_each():
    """The paper's sum inside the log lets a second view go anywhere; "each" does not."""
    e1, e2, e3 = jnp.eye(3)
    teacher = jnp.stack([jnp.stack([e1, e1]), jnp.stack([e2, e2])])
    good = jnp.stack([jnp.stack([e1, e1]), jnp.stack([e2, e2])])
    stray = jnp.stack([jnp.stack([e1, e3]), jnp.stack([e2, e2])])
    cost = {}
    for mode in ("cross_view", "each"):
        bad, ideal = (jitted.contrastive(teacher, z, 0.1, mode)[0] for z in (stray, good))
        cost[mode] = float(bad - ideal)
    assert cost["cross_view"] < 1e-3 and cost["each"] > 0.5


@pytest.mark.parametrize("positives", POSITIVES)
def test_contrastive_without_other_images(positives):
    """B = 1, and one class alone under labels: the denominators hold own views and no others."""
    teacher, student = unit_rows(52, 1, 3, 4), unit_rows(53, 1, 3, 4)
    alone = check_finite(lambda s: losses.contrastive(teacher, s, 0.1, positives), student)
    check_value(alone, ref_contrastive(np.float64(teacher), np.float64(student), 0.1, positives))
    if positives != "same_view":
        np.testing.assert_array_equal(alone, [0.0])

    teacher, student = unit_rows(54, 2, 3, 4), unit_rows(55, 2, 3, 4)
    labels = jnp.array([7, 7])
    both = check_finite(lambda s: losses.contrastive(teacher, s, 0.1, positives, labels), student)
    for i in range(2):
        pair = teacher[i : i + 1], student[i : i + 1]
        check_value(both[i : i + 1], jitted.contrastive(*pair, 0.1, positives))


def test_contrastive_without_other_images_runs_under_debug_nans():
    """No NaN on the way either: one that a mask hides later would stop a run in debug mode."""
    with jax.debug_nans(True):
        jax.grad(lambda s: jnp.sum(losses.contrastive(Z_T[:1], s, 0.1, "each")))(Z_S[:1])


@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("views", [1, 3])
def test_contrastive_identical_embeddings(positives, views):
    # All B V scores are equal, B = 4: cross_view log 4, same_view log(4 V), each log(1 + 3 V).
    z = jnp.broadcast_to(unit_rows(56, 1, 1, 4), (4, views, 4))

    def loss(t, s):
        return losses.contrastive(t, s, 0.07, positives)

    values = check_finite(loss, z, z)
    ratio = {"cross_view": 4, "same_view": 4 * views, "each": 1 + 3 * views}[positives]
    check_value(values, [math.log(ratio)] * 4)
    check_value(check_finite(loss, z, jnp.zeros_like(z)), [math.log(ratio)] * 4)


@pytest.mark.parametrize("positives", POSITIVES)
def test_contrastive_small_temperature(positives):
    """Scores of +-1000 overflow exp in float32, not here; with V = 1 all modes agree."""
    z = unit_rows(57, 3, 1, 4)

    def loss(t, s):
        return losses.contrastive(t, s, 1e-3, positives)

    check_value(check_finite(loss, z, z), [0.0] * 3)
    values = check_finite(loss, z, -z)
    scores = -(z[:, 0] @ z[:, 0].T) / 1e-3
    check_value(values, scores.max(axis=1) - np.diag(scores), rtol=1e-4)


# -------------------------------------------------------------------------------------- reliability


@pytest.mark.parametrize("weights", [(10.0, 1.0, 0.5), (2.0, 0.3, 0.8), (0.0, 1.0, 0.5)])
def test_reliability_reference(weights):
    logits = normal(60, 8, 3, 4, scale=2)
    values = jitted.reliability(logits, *weights)
    check_value(values, ref_reliability(np.float64(logits), *weights))
    assert np.all((values >= 0) & (values <= 1)) and np.ptp(values) > 0.01


@pytest.mark.parametrize(
    ("second_view", "expected"),
    [
        # alpha 10, beta 1, gamma 1/2, M = 1. Certain and agreeing: sigmoid(10/2).
        ([50.0, 0.0, 0.0], 1 / (1 + math.exp(-5))),
        # Certain of another class: agree 1/2, exponent 0.
        ([0.0, 50.0, 0.0], 0.5),
        # Undecided between the first two, the tie going to class 0: H = (0 + log 2)/2.
        ([50.0, 50.0, 0.0], 1 / (1 + math.exp(-(5 - math.log(2) / 2)))),
    ],
)
def test_reliability_by_hand(second_view, expected):
    logits = jnp.array([[[50.0, 0.0, 0.0], second_view]])
    check_value(jitted.reliability(logits, 10.0, 1.0, 0.5), [expected])


@pytest.mark.parametrize(
    ("views", "certain", "doubtful"), [(2, 0.50, 0.27), (3, 0.16, 0.06)], ids=["M=1", "M=2"]
)
def test_reliability_of_a_teacher_that_disagrees_everywhere(views, certain, doubtful):
    """The design's figures at alpha 10, beta 1, gamma 1/2, for an entropy of 0 and of 1 nat.

    sigmoid(10/V - 5 - H): 0 and -1 at V = 2, -1.67 and -2.67 at V = 3.
    """
    low, high = 0.0, 10.0
    for _ in range(60):  # bisection: the entropy of (t, 0, 0, ...) falls from log 8 to 0
        t = (low + high) / 2
        p = ref_softmax([t] + [0.0] * 7)
        low, high = (t, high) if -sum(q * math.log(q) for q in p) > 1 else (low, t)
    top = np.eye(8)[[[0] + [1] * (views - 1)]]
    for size, expected in [(60.0, certain), (t, doubtful)]:
        values = jitted.reliability(size * top, 10.0, 1.0, 0.5)
        np.testing.assert_allclose(values, [expected], atol=0.006)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e4, jnp.inf])
def test_reliability_of_a_certain_teacher(dtype, size):
    """p = 0 has no entropy: a logit of -1e4 or -inf gives sigmoid(alpha (1 - gamma)), not NaN."""
    logits = jnp.array([[[0.0, -size], [0.0, -size]]], dtype)
    values = check_finite(lambda x: losses.reliability(x, 10.0, 1.0, 0.5), logits)
    check_value(values, [1 / (1 + math.exp(-5))])


def test_reliability_counts_the_clean_view():
    # V = 1: agree = 1 and H = log 4 for a flat prediction.
    values = jitted.reliability(jnp.zeros((2, 1, 4)), 3.0, 1.0, 0.25)
    check_value(values, [1 / (1 + math.exp(-(3 * 0.75 - math.log(4))))] * 2)


# -------------------------------------------------------------------------- fragility, de-alignment

USEFUL = ["principal", "clean_shift", "per_view"]


@pytest.mark.parametrize("eps", [1e-6, 0.5])  # the large one shows |v|, and that v = sigma_1 v_1
@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("kind", USEFUL)
def test_directions_reference(kind, views, eps):
    teacher = unit_rows(70, 5, views, 6)
    u = jitted.fragility_directions(teacher, kind, eps)
    assert u.shape == teacher.shape
    expected = ref_directions(teacher, kind, eps)
    if kind == "principal":  # the sign is free
        expected *= np.sign(np.sum(expected * np.asarray(u), axis=2, keepdims=True))
    check_value(u, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    # Views (0, 0), (3, 0), (0, 4), times 1/10; mean (1, 4/3), so the deviations are (-1, -4/3),
    # (2, -4/3), (-1, 8/3).
    [
        ("clean_shift", [[0.6, 0.8]] * 3),  # (3 + 0, 0 + 4)/2 -> (3, 4)/5
        # (-1, -4/3) = (-3, -4)/3 -> (-0.6, -0.8); (2, -4/3) = (3, -2) 2/3; (-1, 8/3) = (-3, 8)/3.
        (
            "per_view",
            [
                [-0.6, -0.8],
                [3 / math.sqrt(13), -2 / math.sqrt(13)],
                [-3 / math.sqrt(73), 8 / math.sqrt(73)],
            ],
        ),
        # X^T X = [[6, -4], [-4, 32/3]]: eigenvalues (50 +- sqrt(772))/6, the larger 12.964;
        # (6 - 12.964) a = 4 b, so b = -1.7410 a, normalised (0.4981, -0.8671).
        ("principal", [[0.4981, -0.8671]] * 3),
    ],
)
def test_directions_by_hand(kind, expected):
    z = jnp.array([[[0.0, 0.0], [0.3, 0.0], [0.0, 0.4]]])
    u = np.asarray(jitted.fragility_directions(z, kind, EPS))[0]
    if kind == "principal":
        u = u * np.sign(u[:1, :1])
    np.testing.assert_allclose(u, expected, atol=1e-4)


def test_printed_formula_vanishes():
    """Delta_T = mean_m (z_T(v_m) - mean z_T) is zero by definition; what the text means is not."""
    teacher = unit_rows(71, 64, 3, 32)
    eps = 1e6 * EPS  # 1: then |u| = |v| / (|v| + 1), from which |v|
    size = {}
    for kind in ["literal", *USEFUL]:
        length = np.linalg.norm(jitted.fragility_directions(teacher, kind, eps), axis=2)
        size[kind] = length / (1 - length)
    deviation = np.linalg.norm(teacher - teacher.mean(axis=1, keepdims=True), axis=2)
    assert deviation.min() > 0.3
    assert size["literal"].max() < 1e-7 * np.sqrt(32)  # rounding of float32 coordinates below 1
    assert (size["literal"] / deviation).max() < 1e-6
    for kind in USEFUL:
        assert (size[kind] / deviation).min() > 0.3
    # In float64 it shrinks with the rounding unit, as a zero does.
    z = np.float64(teacher)
    delta = (z - z.mean(axis=1, keepdims=True)).mean(axis=1)
    assert np.abs(delta).max() < 1e-15

    # So with the paper's u the term is void, and with the others it is of the order of 1 / D.
    student = unit_rows(72, 64, 3, 32)
    term = {
        kind: float(jitted.dealignment(student, jitted.fragility_directions(teacher, kind, EPS)).mean())
        for kind in size
    }
    assert term["literal"] < 0.01 * min(term[k] for k in USEFUL)
    assert all(0.01 < term[k] < 0.1 for k in USEFUL)


@pytest.mark.parametrize("form", ["position", "shift"])
def test_kinds_agree_with_one_corrupted_view(form):
    teacher, student = unit_rows(73, 6, 2, 8), unit_rows(74, 6, 2, 8)
    values = [jitted.dealignment(student, jitted.fragility_directions(teacher, k, EPS), form) for k in USEFUL]
    assert np.min(values) > 1e-5
    check_value(values[0], values[1], rtol=1e-4)
    check_value(values[0], values[2], rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("views", [1, 3])
def test_identical_views_have_no_direction(views, dtype):
    """Exact zeros, also as a user's jit compiles them, and no NaN behind the stopped gradient."""
    z = jnp.broadcast_to(jnp.asarray(unit_rows(75, 4, 1, 7), dtype), (4, views, 7))

    def loss(z):
        u = {kind: losses.fragility_directions(z, kind, EPS) for kind in USEFUL}
        return sum(losses.dealignment(z, v, f) for v in u.values() for f in losses.FORMS), u

    values, u = jax.jit(loss)(z)
    assert not any(np.any(v) for v in [values, *u.values()])
    np.testing.assert_array_equal(check_finite(lambda z: loss(z)[0], z), np.zeros(4))


def test_literal_is_zero_for_one_view():
    u = jitted.fragility_directions(unit_rows(76, 4, 1, 7), "literal", EPS)
    np.testing.assert_array_equal(u, np.zeros((4, 1, 7)))


def test_degenerate_directions_are_finite():
    """sigma_1 = sigma_2: eigh's gradient would be NaN, but none flows; u is still a direction."""
    z = jnp.array([[[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]]])  # an equilateral triangle
    check_finite(lambda x: jnp.sum(losses.fragility_directions(x, "principal", EPS), (1, 2)), z)
    u = jitted.fragility_directions(z, "principal", EPS)
    np.testing.assert_allclose(np.linalg.norm(u, axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize("form", ["position", "shift"])
def test_dealignment_reference(form):
    student, u = unit_rows(77, 4, 3, 5), unit_rows(78, 4, 3, 5)
    exact = np.float64(u)
    check_reference(
        lambda z: losses.dealignment(z, u, form),
        lambda z: ref_dealignment(z, exact, form),
        student,
    )


def test_dealignment_by_hand():
    # u = e1. Position: (0.36 + 0.64 + 0)/3 = 1/3. Shift: (0.2^2 + 0.6^2)/2 = 0.2.
    z = jnp.array([[[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]]])
    u = jnp.broadcast_to(jnp.array([1.0, 0.0]), z.shape)
    check_value(jitted.dealignment(z, u), [1 / 3])
    check_value(jitted.dealignment(z, u, "shift"), [0.2])
    # Standing on u without moving costs 1 under "position" and nothing under "shift".
    check_value(jitted.dealignment(u, u, "position"), [1.0])
    check_value(jitted.dealignment(u, u, "shift"), [0.0])


# ------------------------------------------------------------------------------------------ crd_nce

POSITIVE_ROWS = np.array([0, 7, 3])
NEGATIVE_ROWS = {
    "all there": np.array([[1, 2, 5, 9], [0, 1, 2, 3], [11, 10, 4, 6]]),
    "some missing": np.array([[1, 2, -1, -1], [0, -1, 2, 3], [11, 10, 4, 6]]),
}


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("negatives", NEGATIVE_ROWS.values(), ids=NEGATIVE_ROWS)
def test_crd_nce_reference(negatives, temperature):
    anchors, bank, z = unit_rows(80, 3, 5), unit_rows(81, 12, 5), 30.0
    rest = POSITIVE_ROWS, negatives, temperature, z
    exact_a, exact_b = np.float64(anchors), np.float64(bank)
    check_reference(
        lambda a: losses.crd_nce(a, bank, *rest), lambda a: ref_crd_nce(a, exact_b, *rest), anchors
    )
    check_reference(
        lambda b: losses.crd_nce(anchors, b, *rest), lambda b: ref_crd_nce(exact_a, b, *rest), bank
    )


def test_crd_nce_by_hand():
    # Anchor e1 in a bank of N = 4 rows e1, e2, -e1, e2; tau 1, Z = 2; K = 2 of the negatives, so
    # c = 1/2. P+ = e/2, P- = 1/2 (e2) and 1/(2e) (-e1). With eps left out:
    # log(1 + 1/e) + log(1 + 1) + log(1 + 1/e) = 1.3197.
    e1, e2 = jnp.eye(2)
    bank = jnp.stack([e1, e2, -e1, e2])
    values = jitted.crd_nce(e1[None], bank, jnp.array([0]), jnp.array([[1, 2]]), 1.0, 2.0)
    check_value(values, [2 * math.log(1 + math.exp(-1)) + math.log(2)], atol=1e-5)


def test_crd_nce_epsilon():
    """With one negative among N = 100,000 rows c is 1e-5, and 1e-7 in the noise counts.

    P+ = e^2/Z, P- = e^-2/Z with tau 1/2 and Z = 2e5: in units of 1e-5, 3.6945 and 0.0677, c = 1 and
    eps = 0.01. log(4.7045/3.6945) + log(1.0777/1) = 0.2417 + 0.0748 = 0.3165; without eps 0.3050.
    """
    n = 100_000
    bank = np.zeros((n, 2), np.float32)
    bank[:, 0], bank[1, 0] = 1, -1
    rows = np.array([0]), np.array([[1]])
    value = jitted.crd_nce(np.array([[1.0, 0.0]]), bank, *rows, 0.5, 2e5)
    np.testing.assert_allclose(value, [0.3165], atol=1e-4)


def test_crd_nce_missing_negatives():
    """-1 stands for no negative: as if the list were shorter; with none at all, c = 0."""
    anchors, bank = unit_rows(82, 1, 5), unit_rows(83, 6, 5)
    padded = jitted.crd_nce(anchors, bank, jnp.array([0]), jnp.array([[3, -1, 4]]), 0.1, 9.0)
    short = jitted.crd_nce(anchors, bank, jnp.array([0]), jnp.array([[3, 4]]), 0.1, 9.0)
    check_value(padded, short)
    rows = jnp.array([0]), jnp.array([[-1, -1]])
    values = check_finite(lambda a, b: losses.crd_nce(a, b, *rows, 0.1, 9.0), anchors, bank)
    check_value(values, [0.0], atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_crd_nce_stays_finite(dtype):
    """exp(+-1/0.005) = e^200 leaves float32; the losses are then differences of logs."""
    e1, e2 = jnp.eye(2, dtype=dtype)
    bank = jnp.stack([e1, -e1, e2])

    def loss(a, b):
        return losses.crd_nce(a, b, jnp.array([0, 1]), jnp.array([[1], [0]]), 0.005, 3.0)

    values = check_finite(loss, jnp.stack([e1, e1]), bank)
    # c = 1/3 and Z = 3, so P/c = e^(<a, row>/tau). The good anchor has P+/c = e^200, P-/c = e^-200
    # and loss 0; the bad one the reverse: -log(P+/c) + log(P-/c) = 200 + 200.
    check_value(values, [0.0, 400.0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("temperature", "expected_z", "expected_loss"), [(0.07, 1.1e5, 23.0), (0.1, 7.4e4, 22.2)]
)
def test_crd_first_step_of_cifar(temperature, expected_z, expected_loss):
    """N = 50,000, K = 16,384, 128 wide, banks as they start: Z and both sides' loss.

    A score is normal with variance 1/128, so Z = N exp(1/(256 tau^2)): 1.109e5 and 7.389e4. A side
    is log Z + log c + N mean(P-) = log Z - 1.12 + 1.00: 11.5 and 11.1, and 0.005 from eps.
    """
    n, k, width, images = 50_000, 16_384, 128, 32
    rng = np.random.default_rng(84)
    bound = 1 / math.sqrt(width / 3)
    positives = rng.choice(n, images, replace=False)
    negatives = np.stack([rng.choice(n, k, replace=False) for _ in range(images)])
    total = 0.0
    for side in range(2):
        bank = rng.uniform(-bound, bound, (n, width)).astype(np.float32)
        anchors = unit_rows(85 + side, images, width)
        scores = anchors @ bank.T
        picked = np.concatenate(
            [scores[np.arange(images), positives], np.take_along_axis(scores, negatives, 1).ravel()]
        )
        z = np.exp(picked / temperature).mean() * n
        assert abs(z / expected_z - 1) < 0.02
        total += jitted.crd_nce(anchors, bank, positives, negatives, temperature, z).mean()
    assert abs(float(total) - expected_loss) < 0.6


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
