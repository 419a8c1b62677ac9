"""The contrastive loss against float64 loops and by hand, and where an image has no others.

In blocks of images: test_contrastive_blocks.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.cases import POSITIVES, Z_S, Z_T
from tests.losses.checks import check_finite, check_reference, check_value, jitted, unit_rows
from tests.losses.references import ref_contrastive


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
