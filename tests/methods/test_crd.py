"""CRD as its paper has it: whole steps against float64 loops, negatives by counting."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import crd as crd_config
from craft_jax import methods
from craft_jax.errors import DataError
from craft_jax.methods import crd
from craft_jax.models import Outputs

N, B, K, CLASSES, WIDTHS = 30, 4, 8, 3, (5, 6)
LABELS = np.arange(N, dtype=np.int32) % CLASSES
EPS = 1e-7
WIDTH_OF = dict(zip(("student", "teacher"), WIDTHS, strict=True))


def make_config(**settings):
    config = crd_config.get_config("digits")
    config.crd.negatives = K
    config.views.count = 1
    for key, value in settings.items():
        config[key.split("__")[0]][key.split("__")[1]] = value
    return config


def signals(config, seed, views=1, memory=None, params=None):
    random = np.random.default_rng(seed)
    sides = [
        Outputs(
            logits=jnp.asarray(random.normal(size=(B, views, CLASSES)), jnp.float32),
            stages=(),
            pooled=jnp.asarray(random.normal(size=(B, views, width)), jnp.float32),
        )
        for width in WIDTHS
    ]
    fresh = memory is None
    if fresh:
        params, memory = crd.init(config, jax.random.key(3), *sides, LABELS)
    index = np.int32([7, 2, 21, 12]) + seed % 5
    s = methods.Signals(
        labels=jnp.asarray(LABELS[index]),
        student=sides[0],
        teacher=sides[1],
        params=params,
        memory=memory,
        index=jnp.asarray(index),
        key=jax.random.key(seed),
    )
    return s._replace(memory=crd.begin(config, s)) if fresh else s


def step(config, s):
    return jax.jit(lambda s: methods.METHODS["crd"].terms(config, s))(s)


def embedded(head, pooled):
    rows = []
    for x in np.asarray(pooled, np.float64):
        e = x @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"], np.float64)
        rows.append(e / math.sqrt(sum(v * v for v in e)))
    return rows


def reference(s, banks, positives, negatives, tau, z):
    """Per-example loss, both sides, as loops; banks and z are of {"student", "teacher"}."""
    total = np.zeros(B)
    for side, other in (("student", "teacher"), ("teacher", "student")):
        anchors = embedded(s.params[side], getattr(s, side).pooled[:, 0])
        for i in range(B):
            rows = [r for r in negatives[i] if r >= 0]
            c = len(rows) / len(banks[other])

            def p(row, a=anchors[i], bank=banks[other], z=z[side]):
                return math.exp(sum(x * y for x, y in zip(a, bank[row], strict=True)) / tau) / z

            plus = p(positives[i])
            total[i] -= math.log(plus / (plus + c + EPS))
            total[i] -= sum(math.log(c / (p(r) + c + EPS)) for r in rows)
    return total


def banks_of(memory):
    return {side: np.asarray(memory[f"bank_{side}"], np.float64) for side in ("student", "teacher")}


def first_z(s, banks, tau):
    z = {}
    for side, other in (("student", "teacher"), ("teacher", "student")):
        anchors = embedded(s.params[side], getattr(s, side).pooled[:, 0])
        scores = [math.exp(float(np.dot(a, row)) / tau) for a in anchors for row in banks[other]]
        z[side] = len(banks[other]) * sum(scores) / len(scores)
    return z


@pytest.mark.parametrize("tau", [0.07, 0.1])
def test_two_steps_of_the_memory_bank_against_loops(tau):
    config = make_config(crd__temperature=tau)
    first = signals(config, seed=0)
    banks = banks_of(first.memory)
    z = first_z(first, banks, tau)
    memory = first.memory
    for seed in (0, 1):
        s = signals(config, seed, memory=memory, params=first.params)
        negatives = np.asarray(crd.draw_negatives(s.key, jnp.asarray(LABELS), s.labels, CLASSES, K))
        terms = step(config, s)
        expected = 0.8 * reference(s, banks, np.asarray(s.index), negatives, tau, z).mean()
        assert float(terms.losses["crd"]) == pytest.approx(expected, rel=2e-4)
        for side in banks:  # updated after scoring, the batch's rows alone
            anchors = embedded(s.params[side], getattr(s, side).pooled[:, 0])
            for i, row in enumerate(np.asarray(s.index)):
                new = 0.5 * banks[side][row] + 0.5 * anchors[i]
                banks[side][row] = new / math.sqrt(sum(v * v for v in new))
            np.testing.assert_allclose(terms.memory[f"bank_{side}"], banks[side], atol=1e-5)
            # Fixed before the first step: none may move it.
            assert float(terms.memory[f"z_{side}"]) == pytest.approx(z[side], rel=1e-4)
        memory = terms.memory


def test_the_batch_as_bank_against_loops():
    config = make_config(crd__bank="batch")
    s = signals(config, seed=0)
    assert sorted(s.memory) == ["z_student", "z_teacher"]
    banks = {side: np.array(embedded(s.params[side], getattr(s, side).pooled[:, 0])) for side in WIDTH_OF}
    z = first_z(s, banks, 0.1)
    labels = np.asarray(s.labels)
    negatives = [[j if labels[j] != labels[i] else -1 for j in range(B)] for i in range(B)]
    terms = step(config, s)
    expected = 0.8 * reference(s, banks, range(B), negatives, 0.1, z).mean()
    assert float(terms.losses["crd"]) == pytest.approx(expected, rel=2e-4)


def test_under_all_views_the_loss_is_their_mean_and_view_0_updates():
    both = make_config(views__distill_views="all", views__distill_target="clean")
    s = signals(both, seed=0, views=2)
    one = s._replace(student=jax.tree.map(lambda x: x[:, :1], s.student))
    other = s._replace(student=jax.tree.map(lambda x: x[:, 1:], s.student))
    config = make_config()
    memory = step(config, one).memory
    assert float(step(both, s).losses["crd"]) != pytest.approx(float(step(config, one).losses["crd"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), step(both, s).memory, memory
    )
    # With Z as view 0 fixed it, the loss over both views is the mean of the two.
    fixed = {k: (memory[k] if k.startswith("z_") else s.memory[k]) for k in s.memory}
    values = [float(step(config, x._replace(memory=fixed)).losses["crd"]) for x in (one, other)]
    assert float(step(both, s).losses["crd"]) == pytest.approx(np.mean(values), rel=1e-4)


def test_heads_train_and_neither_the_teacher_nor_the_banks_do():
    config = make_config()
    s = signals(config, seed=0)

    def loss(params, student, teacher, banks):
        x = s._replace(
            params=params,
            student=s.student._replace(pooled=student),
            teacher=s.teacher._replace(pooled=jax.lax.stop_gradient(teacher)),
            memory={**s.memory, **banks},
        )
        return methods.METHODS["crd"].terms(config, x).losses["crd"]

    banks = {k: v for k, v in s.memory.items() if k.startswith("bank")}
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(s.params, s.student.pooled, s.teacher.pooled, banks)
    for leaf in jax.tree.leaves(gradients):
        assert np.abs(leaf).max() > 1e-6
    memory = step(config, s).memory
    untouched = np.setdiff1d(np.arange(N), s.index)
    for name, bank in banks.items():
        np.testing.assert_array_equal(memory[name][untouched], bank[untouched])


def test_negatives_are_other_classes_without_replacement_and_all_alike():
    labels, classes = jnp.asarray(LABELS), jnp.asarray([0, 1, 2, 0])
    draw = jax.jit(lambda key: crd.draw_negatives(key, labels, classes, CLASSES, K))
    counts, apart = np.zeros((4, N)), 0
    for seed in range(300):
        rows = np.asarray(draw(jax.random.key(seed)))
        for i in range(4):
            assert len(set(rows[i])) == K
            assert not np.any(LABELS[rows[i]] == int(classes[i]))
            counts[i, rows[i]] += 1
        apart += set(rows[0]) != set(rows[3])
    assert apart > 250  # images of one class start from offsets of their own; 1 in 20 coincide
    allowed = LABELS[None] != np.asarray(classes)[:, None]
    expected = 300 * K / 20  # 20 of the 30 rows are outside a class
    assert np.all(np.abs(counts[allowed] - expected) < 5 * math.sqrt(expected))


@pytest.mark.parametrize("num_classes", [3, 40])
def test_negatives_against_loops(num_classes):
    """The draws of the scheme, then plain loops: filter one order, wrap around from the offset."""
    random = np.random.default_rng(num_classes)
    labels = random.integers(0, num_classes, 60).astype(np.int32)
    classes = np.append(labels[:6], labels[0])  # one class at least twice
    key, count = jax.random.key(5), 17
    order_key, offset_key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, len(labels)))
    outside = [[row for row in order if labels[row] != c] for c in classes]
    available = jnp.asarray([len(rows) for rows in outside])
    offsets = jax.random.randint(offset_key, classes.shape, 0, available)
    expected = [
        [rows[(int(offset) + k) % len(rows)] for k in range(count)]
        for rows, offset in zip(outside, offsets, strict=True)
    ]
    found = crd.draw_negatives(key, jnp.asarray(labels), jnp.asarray(classes), num_classes, count)
    np.testing.assert_array_equal(found, expected)


def largest(jaxpr):
    """The most elements that any array within a jaxpr has, those inside its calls and loops included."""
    sizes = [math.prod(v.aval.shape) for equation in jaxpr.eqns for v in equation.outvars]
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(value, "eqns"):
                sizes.append(largest(value))
    return max(sizes, default=0)


def test_negatives_take_no_memory_for_classes_that_the_batch_lacks():
    rows, batch, num_classes, count = 100_000, 16, 1000, 4096
    draw = functools.partial(crd.draw_negatives, num_classes=num_classes, count=count)
    shapes = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (rows, batch)]
    traced = jax.make_jaxpr(draw)(jax.random.key(0), *shapes)
    assert batch * count <= largest(traced.jaxpr) <= batch * rows  # not num_classes * rows


def test_as_many_negatives_as_there_are_rows_outside():
    labels = jnp.asarray([0, 0, 0, 1, 1])
    rows = np.asarray(crd.draw_negatives(jax.random.key(0), labels, jnp.asarray([1, 0]), 2, 2))
    assert set(rows[0]) <= {0, 1, 2}
    assert set(rows[1]) == {3, 4}


def test_more_negatives_than_images_of_other_classes_is_an_error():
    config = make_config(crd__negatives=21)
    with pytest.raises(DataError, match=r"crd\.negatives: 21; allowed: at most 20"):
        crd.check(config, LABELS)
    crd.check(make_config(crd__negatives=20), LABELS)
    crd.check(make_config(crd__negatives=21, crd__bank="batch"), LABELS)


def test_banks_start_as_published():
    s = signals(make_config(), seed=0)
    bound = 1 / math.sqrt(128 / 3)
    for side in ("student", "teacher"):
        bank = np.asarray(s.memory[f"bank_{side}"])
        assert bank.shape == (N, 128)
        assert np.abs(bank).max() <= bound
        assert bank.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert s.params[side]["kernel"].shape == (WIDTH_OF[side], 128)
    assert not np.array_equal(s.memory["bank_student"], s.memory["bank_teacher"])
