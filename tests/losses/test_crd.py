"""CRD's NCE against float64 loops and by hand, its missing negatives, and the first step of CIFAR-10."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.losses.checks import check_finite, check_reference, check_value, jitted, unit_rows
from tests.losses.references import ref_crd_nce

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
