"""The losses of the field's methods against float64 loops over their papers' formulas, and at their edges.

The `ref_*` functions share no code with the package; `tests/methods/test_field.py` holds methods to them too.
Hand-worked cases have their arithmetic in comments, others stand in the docstrings.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.checks import check_finite, check_value, jit, normal, value_and_gradient
from tests.losses.references import ref_logit_kd, ref_softmax
from tests.programs import equations, precisions

# ------------------------------------------------------------------------ references: the equations


def sites(h):
    return itertools.product(range(h.shape[0]), range(h.shape[1]))


def length(x):
    return math.sqrt(sum(v * v for v in x))


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def ref_hint(student, teacher):
    out = []
    for h_s, h_t in zip(student, teacher, strict=True):
        squares = [(h_t[i] - h_s[i]) ** 2 for i in np.ndindex(*h_s.shape)]
        out.append(sum(squares) / len(squares))
    return out


def ref_similarity(student, teacher):
    rows = []
    for maps in (student, teacher):
        q = [list(h.ravel()) for h in maps]
        g = [[dot(a, b) for b in q] for a in q]
        rows.append([[x / length(row) for x in row] for row in g])
    pairs = [zip(*both, strict=True) for both in zip(*rows, strict=True)]
    return [sum((s - t) ** 2 for s, t in pair) / len(pairs) for pair in pairs]


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def ref_relational(student, teacher, distance_weight=25.0, angle_weight=50.0):
    images = range(len(student))
    d, a = [], []
    for x in (student, teacher):
        far = [[length(x[j] - x[i]) for j in images] for i in images]
        positive = [v for row in far for v in row if v > 0]
        mu = sum(positive) / len(positive) if positive else 1
        d.append([[v / mu for v in row] for row in far])

        def direction(i, j, x=x, far=far):
            return (x[j] - x[i]) / far[i][j] if far[i][j] > 0 else 0 * x[i]

        a.append([[[dot(direction(i, j), direction(i, k)) for k in images] for j in images] for i in images])
    out = []
    for i in images:
        by_distance = sum(huber(d[0][i][j] - d[1][i][j]) for j in images) / len(images)
        by_angle = sum(huber(a[0][i][j][k] - a[1][i][j][k]) for j in images for k in images)
        out.append(distance_weight * by_distance + angle_weight * by_angle / len(images) ** 2)
    return out


def ref_probabilistic(student, teacher):
    p = []
    for x in (student, teacher):
        s = [[(dot(a, b) / length(a) / length(b) + 1) / 2 for b in x] for a in x]
        p.append([[v / sum(row) for v in row] for row in s])
    return [
        sum(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in zip(row_s, row_t, strict=True)) / len(row_s)
        for row_s, row_t in zip(*p, strict=True)
    ]


def ref_pool(h, size):
    """Adaptive average pooling of one map (H, W, C)."""
    out = np.zeros((*size, h.shape[2]))
    for i, j in itertools.product(*map(range, size)):
        spans = [
            range(math.floor(k * n / m), math.ceil((k + 1) * n / m))
            for k, n, m in zip((i, j), h.shape[:2], size, strict=True)
        ]
        out[i, j] = sum(h[a, b] for a, b in itertools.product(*spans)) / len(spans[0]) / len(spans[1])
    return out


def ref_selectivity(student, teacher):
    out = []
    for h_s, h_t in zip(student, teacher, strict=True):
        size = min(h_s.shape[0], h_t.shape[0]), min(h_s.shape[1], h_t.shape[1])
        sets = []
        for h in (ref_pool(h_s, size), ref_pool(h_t, size)):
            channels = [[h[site][c] for site in sites(h)] for c in range(h.shape[2])]
            sets.append([[v / length(f) for v in f] for f in channels])

        def kernel(a, b):
            return sum(dot(f, g) ** 2 for f in a for g in b) / len(a) / len(b)

        s, t = sets
        out.append(kernel(t, t) + kernel(s, s) - 2 * kernel(s, t))
    return out


def ref_variational(mean, log_scale, teacher):
    out = []
    for m, t in zip(mean, teacher, strict=True):
        total = 0.0
        for site in sites(m):
            for c, scale in enumerate(log_scale):
                v = math.log(1 + math.exp(scale)) + 1e-5
                total += ((t[site][c] - m[site][c]) ** 2 / v + math.log(v)) / 2
        out.append(total / m.size)
    return out


def ref_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def ref_decoupled(student, teacher, labels, alpha, beta, t):
    out = []
    for z_s, z_t, y in zip(student, teacher, labels, strict=True):
        p_s, p_t = ref_softmax(z_s / t), ref_softmax(z_t / t)
        others = [k for k in range(len(p_s)) if k != y]
        q_s, q_t = ([p[k] / sum(p[j] for j in others) for k in others] for p in (p_s, p_t))
        own = ref_kl((p_t[y], 1 - p_t[y]), (p_s[y], 1 - p_s[y]))
        out.append(t * t * (alpha * own + beta * ref_kl(q_t, q_s)))
    return out


def ref_pearson(x, y):
    x, y = ([v - sum(z) / len(z) for v in z] for z in (x, y))
    return dot(x, y) / length(x) / length(y)


def ref_dist(student, teacher, beta, gamma, t):
    p_s, p_t = ([ref_softmax(z / t) for z in logits] for logits in (student, teacher))
    columns = list(zip(zip(*p_s, strict=True), zip(*p_t, strict=True), strict=True))
    over_batch = sum(1 - ref_pearson(*pair) for pair in columns) / len(columns)
    rows = zip(p_s, p_t, strict=True)
    return [t * t * (beta * (1 - ref_pearson(*row)) + gamma * over_batch) for row in rows]


def ref_standardize(logits):
    out = []
    for z in logits:
        mean = sum(z) / len(z)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in z) / (len(z) - 1))
        out.append([(v - mean) / (deviation + 1e-7) for v in z])
    return out


# ------------------------------------------------------------------------------------------ values

MAPS, WIDER, SMALLER = normal(1, 3, 4, 2, 3), normal(2, 3, 4, 2, 3), normal(3, 3, 3, 1, 2)
ROWS, LONGER = normal(4, 4, 3), normal(5, 4, 5)
Z_S, Z_T, Y = normal(6, 4, 5, scale=3), normal(7, 4, 5, scale=3), np.array([4, 0, 2, 2])
SCALE = normal(8, 3)

# name: (loss of what the student and the teacher give, its reference, the two inputs)
CASES = {
    "hint": (losses.hint, ref_hint, MAPS, WIDER),
    "similarity": (losses.similarity_preserving, ref_similarity, MAPS, SMALLER),
    "relational": (losses.relational, ref_relational, ROWS, LONGER),
    "relational, distances": (
        lambda s, t: losses.relational(s, t, 2.0, 0.0),
        lambda s, t: ref_relational(s, t, 2.0, 0.0),
        4 * ROWS,
        LONGER,
    ),
    "probabilistic": (losses.probabilistic_transfer, ref_probabilistic, ROWS, LONGER),
    "selectivity": (losses.neuron_selectivity, ref_selectivity, MAPS, SMALLER),
    "variational, of the mean": (
        lambda s, t: losses.variational_information(s, SCALE, t),
        lambda s, t: ref_variational(s, np.float64(SCALE), t),
        MAPS,
        WIDER,
    ),
    "variational, of the scale": (
        lambda s, t: losses.variational_information(MAPS, s, t),
        lambda s, t: ref_variational(np.float64(MAPS), s, t),
        SCALE,
        WIDER,
    ),
    "decoupled": (
        lambda s, t: losses.decoupled_kd(s, t, Y, 1.5, 8.0, 4.0),
        lambda s, t: ref_decoupled(s, t, Y, 1.5, 8.0, 4.0),
        Z_S,
        Z_T,
    ),
    "dist": (
        lambda s, t: losses.dist(s, t, 2.0, 3.0, 4.0),
        lambda s, t: ref_dist(s, t, 2.0, 3.0, 4.0),
        Z_S,
        Z_T,
    ),
    "standardized KD": (
        lambda s, t: losses.logit_kd(losses.standardize(s), losses.standardize(t), 2.0),
        lambda s, t: ref_logit_kd(np.array(ref_standardize(s)), np.array(ref_standardize(t)), 2.0),
        Z_S,
        Z_T,
    ),
}


def values_of(name, student, teacher):
    """What a case's loss gives, from the program that is compiled for its shapes already."""
    return value_and_gradient(CASES[name][0])(student, teacher)[0]


@pytest.mark.parametrize("name", CASES)
def test_against_loops(name):
    """A value an image, its gradient in the student's input by central differences, none in the teacher's."""
    loss, reference, student, teacher = CASES[name]
    values, (gradient, of_teacher) = value_and_gradient(loss)(student, teacher)
    exact = np.float64(teacher)
    check_value(values, reference(np.float64(student), exact))
    assert len(set(values.tolist())) == len(values) == len(teacher) and not np.any(of_teacher)
    expected, weights, h = np.zeros(student.shape), 1 + np.arange(len(values)), 1e-5
    for index in np.ndindex(*student.shape):
        step = np.zeros(student.shape)
        step[index] = h
        up, down = (np.array(reference(student + sign * step, exact)) for sign in (1, -1))
        expected[index] = np.sum(weights * (up - down)) / (2 * h)
    largest = np.abs(expected).max()
    assert largest > 1e-3  # or this would compare zeros
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-4 * largest)


@pytest.mark.parametrize("name", CASES)
def test_half_inputs_become_float32_before_anything_is_computed(name):
    """By the program alone: no arithmetic has a bfloat16 operand, nor is a factor rounded to TF32."""
    loss, _, *inputs = CASES[name]
    half = [jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) for x in inputs]
    found = equations(loss, *half)
    of_half = {e.primitive.name for e in found if any(v.aval.dtype == jnp.bfloat16 for v in e.invars)}
    assert of_half - {"jit", "pjit"} == {"convert_element_type"}
    assert jax.eval_shape(loss, *half).dtype == jnp.float32
    assert precisions(found, "dot_general") <= {("HIGHEST", "HIGHEST")}


@pytest.mark.parametrize("name", ["similarity", "relational", "probabilistic"])
def test_the_order_of_the_batch_does_not_matter(name):
    _, _, student, teacher = CASES[name]
    check_value(values_of(name, student[::-1], teacher[::-1]), values_of(name, student, teacher)[::-1])


# ----------------------------------------------------------------------------------------- by hand


def test_relational_by_hand():
    # Student: corners 0, 3 on one axis, 4 on the other: distances 3, 4, 5, mean 4; cosines 0, 3/5, 4/5.
    # Teacher: 0, 1, 2 on a line: distances 1, 2, 1, mean 4/3; cosines 1, -1, 1.
    student, teacher = np.float32([[0, 0], [3, 0], [0, 4]]), np.float32([[0], [1], [2]])
    # Row 0: distances 3/4 - 3/4 = 0 and 1 - 3/2 = -1/2; huber 1/8, over 3. Its cosine twice: huber(1) = 1/2.
    # Row 1: 0 and 5/4 - 3/4 = 1/2: 1/8. Cosine 3/5 + 1 = 8/5: huber 11/10. Row 2: -1/2 and 1/2; 1/5: 1/50.
    distances = np.array([1 / 8, 1 / 8, 2 / 8]) / 3
    angles = 2 * np.array([1 / 2, 11 / 10, 1 / 50]) / 9
    loss = jit(losses.relational)
    check_value(loss(student, teacher, 1.0, 0.0), distances)
    check_value(loss(student, teacher, 0.0, 1.0), angles)
    check_value(jit(lambda s, t: losses.relational(s, t))(student, teacher), 25 * distances + 50 * angles)


def test_decoupled_kd_with_logit_kds_weights_is_logit_kd():
    p = np.array([ref_softmax(z / 4)[y] for z, y in zip(np.float64(Z_T), Y, strict=True)])
    loss = jit(losses.decoupled_kd)
    own, others = loss(Z_S, Z_T, Y, 1.0, 0.0, 4.0), loss(Z_S, Z_T, Y, 0.0, 1.0, 4.0)
    check_value(own + np.float32(1 - p) * others, ref_logit_kd(np.float64(Z_S), np.float64(Z_T), 4.0))


def test_selectivity_by_hand():
    # One channel each, at right angles: 1 + 1 - 0. A channel of zeros has k = 0 with all: 1 + 0 - 0.
    one, other = np.float32([1, 0]).reshape(1, 1, 2, 1), np.float32([0, 2]).reshape(1, 1, 2, 1)
    loss = jit(losses.neuron_selectivity)
    check_value(loss(one, other), [2.0])
    check_value(loss(0 * one, other), [1.0])
    # Pooled 2 to 1: (4, 0, 0, 2) becomes (2, 1); against (2, 1) itself nothing is left.
    wide = np.float32([4, 0, 0, 2]).reshape(1, 1, 4, 1)
    check_value(loss(wide, np.float32([2, 1]).reshape(1, 1, 2, 1)), [0.0])


def test_a_correlation_knows_no_scale_and_no_offset():
    assert np.abs(values_of("dist", Z_T + 5, Z_T)).max() < 1e-4
    moved = values_of("standardized KD", 3 * Z_S + 7, Z_T)
    check_value(moved, values_of("standardized KD", Z_S, Z_T), rtol=1e-4)


# ------------------------------------------------------------------------------------------- edges

COMPARING = ["similarity", "relational", "probabilistic", "dist", "standardized KD"]


@pytest.mark.parametrize("name", COMPARING)
def test_constant_inputs_are_finite(name):
    """A network that gives one thing for all images, or nothing: values, and gradients of small size."""
    loss, _, *others = CASES[name]
    for value in (0.0, 0.3):
        constants = [np.full(x.shape, value, np.float32) for x in others]
        for pair in ((constants[0], others[1]), (others[0], constants[1]), constants):
            check_finite(loss, *pair)
            _, (gradient, _) = value_and_gradient(loss)(*pair)
            assert np.abs(gradient).max() < 1e3


def test_images_in_one_place_are_finite():
    """Distances of zero, and directions of none, on either side or on both."""
    twice = [0, 1, 1, 2]
    for pair in ((ROWS[twice], LONGER), (ROWS, LONGER[twice]), (ROWS[twice], LONGER[twice])):
        values = check_finite(losses.relational, *pair)
        check_value(values, ref_relational(*map(np.float64, pair)))


def test_relational_at_scales_that_float32_cannot_square():
    """Nearly in one place is in one place, without gradient; far apart is as at any other scale."""
    run = value_and_gradient(losses.relational)
    values, (gradient, _) = run(np.float32(1e-30) * ROWS, LONGER)
    check_value(values, ref_relational(np.float64(0 * ROWS), np.float64(LONGER)))
    assert not gradient.any()
    expected, (slope, _) = run(ROWS, LONGER)
    assert np.isnan(run(np.nan * ROWS, LONGER)[0]).all()
    values, (gradient, _) = run(np.float32(1e20) * ROWS, LONGER)
    check_value(values, expected)
    np.testing.assert_allclose(gradient * 1e20, slope, rtol=0, atol=1e-4 * np.abs(slope).max())


def test_one_image_alone():
    """It is like itself: no loss. DIST has its rows' part alone, since columns of one value are constant."""
    names = ["similarity", "relational", "probabilistic", "dist"]
    alone = {name: [x[:1] for x in CASES[name][2:]] for name in names}
    values = check_finite(lambda x: jnp.concatenate([CASES[name][0](*x[name]) for name in names]), alone)
    row = 1 - ref_pearson(*(ref_softmax(z[0] / 4) for z in (np.float64(Z_S), np.float64(Z_T))))
    check_value(values, [0.0, 0.0, 0.0, 16 * (2 * row + 3)])


def test_extreme_logits_are_finite():
    student = jnp.array([[-1e4, 1e4, -1e4], [1e4, -1e4, 0]])
    teacher = jnp.array([[1e4, -1e4, -1e4], [0, 1e4, -1e4]])

    def each(s):
        return jnp.concatenate(
            [
                losses.decoupled_kd(s, teacher, np.array([0, 0]), 1.0, 0.0, 4.0),
                losses.decoupled_kd(s, teacher, np.array([0, 0]), 0.0, 1.0, 4.0),
                losses.dist(s, teacher, 2.0, 2.0, 4.0),
                losses.logit_kd(losses.standardize(s), losses.standardize(teacher), 2.0),
            ]
        )

    values = check_finite(each, student)
    # T = 4. Sure and wrong: log p_T,y - log p_S,y is 2e4 / 4, times 16. And where the teacher is sure that it
    # is another class, 1 - p_S,y is e^-2500: 1e4 / 4 times 16. There (0, 1e4, -1e4) against (., -1e4, 0):
    # the others by 1e4 / 4.
    np.testing.assert_allclose(values[:4:3], [8e4, 4e4], rtol=1e-4)
    np.testing.assert_allclose(values[1], 4e4, rtol=1e-4)


H, E = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 3))
ERRORS = {
    "hint": (lambda: losses.hint(H, H[..., :2]), r"teacher_stage \(2, 4, 4, 2\)"),
    "similarity": (lambda: losses.similarity_preserving(H, H[:1]), r"teacher_stage \(1, 4, 4, 3\)"),
    "relational": (lambda: losses.relational(E, E[0]), r"teacher \(3,\)"),
    "probabilistic": (lambda: losses.probabilistic_transfer(E, E[:1]), r"teacher \(1, 3\)"),
    "selectivity": (lambda: losses.neuron_selectivity(H[0], H), r"student_stage \(4, 4, 3\)"),
    "variational": (lambda: losses.variational_information(H, jnp.ones(2), H), r"log_scale \(2,\)"),
    "decoupled": (lambda: losses.decoupled_kd(E, E, jnp.array([0]), 1.0, 1.0, 1.0), r"labels \(1,\)"),
    "dist": (lambda: losses.dist(E, E[:, :2], 1.0, 1.0, 1.0), r"teacher_logits \(2, 2\)"),
    "one class": (lambda: losses.standardize(E[:, :1]), r"\(2, 1\): one class"),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.usefixtures("without_hook")
def test_errors_say_what_was_expected(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()
