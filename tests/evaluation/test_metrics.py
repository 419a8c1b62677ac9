"""Accuracy and calibration against loops and by hand; and how evaluation goes over a set of images."""

import itertools
import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import corruptions, data
from craft_jax.config import reader
from craft_jax.data.dataset import Source
from craft_jax.evaluation import evaluate, metrics, targets
from craft_jax.evaluation.images import corruption_keys
from craft_jax.mesh import make_mesh

ROOT = Path(__file__).resolve().parents[2]

# ----------------------------------------------------------------------------------------------------
# Numbers


def random_case(seed=0, n=60, k=4, scale=2.0):
    random = np.random.default_rng(seed)
    logits = (scale * random.normal(size=(n, k))).astype(np.float32)
    labels = np.where(random.random(n) < 0.5, logits.argmax(1), random.integers(0, k, n)).astype(np.int32)
    return logits, labels


def ref_softmax(z):
    e = [math.exp(x - max(z)) for x in z]
    return [x / sum(e) for x in e]


def ref_ece(logits, labels, bins):
    """Guo et al. 2017, bin by bin."""
    p = [ref_softmax([float(x) for x in z]) for z in logits]
    total = 0.0
    for b in range(bins):
        held = [i for i in range(len(p)) if b / bins < max(p[i]) <= (b + 1) / bins]
        if held:
            accuracy = sum(p[i].index(max(p[i])) == labels[i] for i in held) / len(held)
            confidence = sum(max(p[i]) for i in held) / len(held)
            total += len(held) / len(p) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("seed", [0, 1])
def test_calibration_bins_add_up(seed):
    logits, labels = random_case(seed)
    count, confidence, right = metrics.confidence_bins(logits, labels, 15)
    p = [ref_softmax([float(x) for x in z]) for z in logits]
    for b in range(15):
        held = [i for i in range(len(p)) if b / 15 < max(p[i]) <= (b + 1) / 15]
        assert count[b] == len(held)
        assert confidence[b] == pytest.approx(sum(max(p[i]) for i in held), rel=1e-9)
        assert right[b] == sum(p[i].index(max(p[i])) == labels[i] for i in held)


@pytest.mark.parametrize("seed", [0, 1])
def test_against_loops(seed):
    logits, labels = random_case(seed)
    rows = [[float(x) for x in z] for z in logits]
    hits = [z.index(max(z)) == y for z, y in zip(rows, labels, strict=True)]
    nll = [-math.log(ref_softmax(z)[y]) for z, y in zip(rows, labels, strict=True)]
    assert metrics.accuracy(logits, labels) == pytest.approx(100 * sum(hits) / len(hits), rel=1e-12)
    assert metrics.nll(logits, labels) == pytest.approx(sum(nll) / len(nll), rel=1e-9)
    for bins in (1, 2, 15, 40):
        assert metrics.ece(logits, labels, bins) == pytest.approx(ref_ece(logits, labels, bins), rel=1e-9)
    assert metrics.ece(logits, labels) == metrics.ece(logits, labels, 15)
    for value in (metrics.accuracy(logits, labels), metrics.nll(logits, labels), metrics.ece(logits, labels)):
        assert type(value) is float, "JSON takes no NumPy scalars"


def confidence_of_errors(logits, labels):
    pairs = zip(logits, labels, strict=True)
    wrong = [ref_softmax([float(x) for x in z]) for z, y in pairs if z.argmax() != y]
    return sum(map(max, wrong)) / len(wrong) if wrong else None


@pytest.mark.parametrize("seed", [0, 1])
def test_confidence_on_errors_against_the_loop(seed):
    logits, labels = random_case(seed)
    assert metrics.confidence_on_errors(logits, labels) == pytest.approx(
        confidence_of_errors(logits, labels), rel=1e-9
    )


def test_confidence_on_errors_by_hand():
    logits = with_confidences(0.9, 0.7, 0.6)
    assert metrics.confidence_on_errors(logits, np.array([0, 1, 1])) == pytest.approx(0.65)
    assert metrics.confidence_on_errors(logits, np.array([0, 0, 0])) is None


def test_agreement_by_hand():
    logits = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
    others = np.array([[0.0, 9.0, 8.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0], [0.2, 0.1, 0.1]])
    assert metrics.agreement(logits, others) == 75.0
    assert metrics.agreement(logits, logits) == 100.0 and type(metrics.agreement(logits, others)) is float


def test_log_softmax_against_the_loop():
    logits, _ = random_case(3, n=5)
    expected = [[math.log(p) for p in ref_softmax([float(x) for x in z])] for z in logits]
    found = metrics.log_softmax(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def with_confidences(*confidences):
    """Two-class logits whose first class has these probabilities."""
    return np.array([[math.log(p), math.log(1 - p)] for p in confidences])


def test_accuracy_by_hand():
    logits = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
    assert metrics.accuracy(logits, np.array([1, 0, 2, 0])) == 100.0
    assert metrics.accuracy(logits, np.array([1, 0, 2, 1])) == 75.0
    assert metrics.accuracy(logits, np.array([0, 1, 0, 2])) == 0.0
    assert metrics.accuracy(np.zeros((2, 3)), np.array([0, 1])) == 50.0  # ties go to the first class


def test_nll_by_hand():
    logits = with_confidences(0.5, 0.8)
    # labels 0 and 1: -(log 0.5 + log 0.2) / 2
    assert metrics.nll(logits, np.array([0, 1])) == pytest.approx((math.log(2) + math.log(5)) / 2)
    assert metrics.nll(np.zeros((3, 10)), np.array([0, 4, 9])) == pytest.approx(math.log(10))


def test_ece_by_hand():
    # One bin of 0.8 to 0.866: confidences 0.81, 0.83, 0.85, two of three right:
    # |2/3 - 0.83| * 3/4; and 0.62, wrong, alone in its bin: 0.62 * 1/4.
    logits = with_confidences(0.81, 0.83, 0.85, 0.62)
    labels = np.array([0, 0, 1, 1])
    assert metrics.ece(logits, labels) == pytest.approx(0.75 * (0.83 - 2 / 3) + 0.25 * 0.62)
    # In one bin for all, over- and underconfidence cancel: |0.5 - 0.7775|.
    assert metrics.ece(logits, labels, bins=1) == pytest.approx(0.7775 - 0.5)


def test_ece_of_the_calibrated_and_of_the_certain():
    logits = with_confidences(*[0.75] * 4)
    assert metrics.ece(logits, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    certain = np.array([[100.0, 0.0]] * 4)
    assert metrics.ece(certain, np.array([0, 0, 0, 0])) == pytest.approx(0, abs=1e-12)
    assert metrics.ece(certain, np.array([1, 1, 1, 1])) == pytest.approx(1)


def test_a_bin_holds_its_upper_edge():
    """At even odds the confidence is 1/2 exactly: the lower of two bins has it, the upper one has 0.75."""
    logits = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    labels = np.array([1, 0])  # the tie goes to class 0: wrong; the other right
    # bins (0, 0.5] and (0.5, 1]: |0 - 0.5| / 2 + |1 - 0.75| / 2
    assert metrics.ece(logits, labels, bins=2) == pytest.approx(0.375)


def test_large_logits_are_finite():
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, -1e4]], np.float32)
    labels = np.array([0, 0, 1])
    assert np.isfinite(metrics.log_softmax(logits)).all()
    # nll: 0, 20000, log 2
    assert metrics.nll(logits, labels) == pytest.approx((20000 + math.log(2)) / 3)
    # confidences 1, 1, 1/2 of class 0: right, wrong, wrong
    assert metrics.accuracy(logits, labels) == pytest.approx(100 / 3)
    assert metrics.ece(logits, labels) == pytest.approx((1 + 0.5) / 3)


def test_a_shift_of_all_logits_changes_nothing():
    logits, labels = random_case(4)
    shifted = logits.astype(np.float64) + np.linspace(-50, 50, len(logits))[:, None]
    for metric in (metrics.accuracy, metrics.nll, metrics.ece):
        assert metric(shifted, labels) == pytest.approx(metric(logits, labels), rel=1e-9)


# ----------------------------------------------------------------------------------------------------
# Over a set of images

SIZE = 16  # the least that corruptions take


def pixels(seed, n):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 3)).astype(np.uint8)


class Predict:
    """A fake network: three pixels of each image as its logits; it remembers what it was called with."""

    def __init__(self):
        self.batches = []

    def __call__(self, variables, images):
        assert variables == "variables" and images.dtype == jnp.float32
        self.batches.append(np.asarray(images))
        return images.reshape(len(images), -1)[:, 100:103]


def logits_of(images, batch_size, name=None, severity=None, predict=None):
    mesh = make_mesh()
    networks = [(predict or Predict(), "variables")]
    (found,) = evaluate.logits_of(networks, images, batch_size, mesh, name, severity)
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_every_image_once_and_in_order(batch_size):
    images, predict = pixels(0, 7), Predict()
    found = logits_of(images, batch_size, predict=predict)
    assert found.shape == (7, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, images.reshape(7, -1)[:, 100:103] / 255.0, rtol=1e-6)
    # One shape for all batches, so that the network is compiled once; no batch more than needed.
    shapes = {batch.shape for batch in predict.batches}
    assert len(shapes) == 1 and len(predict.batches) == math.ceil(7 / shapes.pop()[0])


def test_corrupted_logits_do_not_depend_on_the_batch_size():
    images = pixels(1, 7)
    whole = logits_of(images, 7, "gaussian_noise", 3)
    np.testing.assert_array_equal(whole, logits_of(images, 3, "gaussian_noise", 3))
    # A part of the set, as under eval.max_examples, meets the same noise.
    np.testing.assert_array_equal(whole[:3], logits_of(images[:3], 3, "gaussian_noise", 3))
    assert np.abs(whole - logits_of(images, 7)).max() > 0.02


def test_noise_belongs_to_the_index():
    """Copies of one image get noises of their own, at every index and across the batches' border."""
    images = np.full((7, SIZE, SIZE, 3), 128, np.uint8)
    predict = Predict()
    logits_of(images, 3, "gaussian_noise", 3, predict)
    seen = np.concatenate(predict.batches)[:7].reshape(7, -1)
    for a, b in itertools.combinations(range(7), 2):
        assert abs(np.corrcoef(seen[a], seen[b])[0, 1]) < 0.2
    for i in range(7):  # what `corrupt` makes of the image alone, under the key of its index
        keys = corruption_keys("gaussian_noise", 3, jnp.array([i]))
        alone = corruptions.corrupt(keys, jnp.float32(images[:1]) / 255, "gaussian_noise", 3)
        np.testing.assert_array_equal(seen[i], np.asarray(alone).ravel())


def test_corruption_keys():
    """Folded from a constant, the name, the severity and the index: never from config.seed."""
    seen = set()
    for name in corruptions.NAMES:
        for severity in (1, 2, 3, 4, 5):
            keys = corruption_keys(name, severity, jnp.array([0, 1, 9999], jnp.int32))
            seen |= {tuple(key) for key in np.asarray(jax.random.key_data(keys)).tolist()}
    assert len(seen) == 15 * len(corruptions.NAMES)
    key = jax.random.key(20260)
    for part in (zlib.crc32(b"shot_noise"), 4, 9999):
        key = jax.random.fold_in(key, part)
    found = corruption_keys("shot_noise", 4, jnp.array([0, 9999], jnp.int32))[1]
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(key))


# ----------------------------------------------------------------------------------------------------
# The table of a run


@pytest.fixture(scope="module")
def measured():
    """(result, labels, images, config, dataset) of 9 images, 7 of them evaluated."""
    config = reader.load(f"{ROOT / 'configs' / 'craft.py'}:smoke")
    config.eval.corruptions, config.eval.severities = ("contrast", "jpeg_compression"), (1, 5)
    config.eval.max_examples, config.eval.batch_size = 7, 4
    config.eval.primary_weights = (0.4, 0.6)
    config.log.progress = False
    images = pixels(2, 9)
    labels = np.array([0, 1, 2, 0, 1, 2, 1, 0, 2], np.int32)
    dataset = data.make("digits", Source(images, labels, images, labels, 3), 0)
    wanted = targets.prepare(config, dataset)
    result = evaluate.evaluate((Predict(), "variables"), dataset, config, make_mesh(), wanted).result
    return result, labels[:7], images[:7], config, dataset


def test_the_table_by_hand(measured):
    result, labels, images, _, _ = measured
    cells = {}
    for name, severity in itertools.product(("contrast", "jpeg_compression"), (1, 5)):
        levels = corruptions.corrupt(jax.random.key(0), jnp.float32(images) / 255, name, severity)
        cells[name, severity] = np.asarray(levels).reshape(7, -1)[:, 100:103]  # these two draw nothing
    clean = images.reshape(7, -1)[:, 100:103] / 255.0

    def percent(logits):
        return 100 * sum(z.argmax() == y for z, y in zip(logits, labels, strict=True)) / 7

    accuracy = {cell: percent(z) for cell, z in cells.items()}
    assert result["clean_accuracy"] == pytest.approx(percent(clean))
    assert result["robust_accuracy"] == pytest.approx(sum(accuracy.values()) / 4)
    without = (accuracy["contrast", 1] + accuracy["contrast", 5]) / 2
    assert result["robust_accuracy_without_jpeg"] == pytest.approx(without)
    primary = 0.4 * percent(clean) + 0.6 * sum(accuracy.values()) / 4
    assert result["primary_metric"] == pytest.approx(primary)
    assert result["corruptions"] == {
        name: [pytest.approx(accuracy[name, 1]), None, None, None, pytest.approx(accuracy[name, 5])]
        for name in ("contrast", "jpeg_compression")
    }
    assert result["clean"]["nll"] == pytest.approx(metrics.nll(clean, labels), rel=1e-5)
    for metric in ("nll", "ece"):
        mean = sum(getattr(metrics, metric)(z, labels) for z in cells.values()) / 4
        assert result["corrupted"][metric] == pytest.approx(mean, rel=1e-5)
    for name, parts in (("clean", {"clean": clean}), ("corrupted", cells)):
        certain = [c for c in (confidence_of_errors(z, labels) for z in parts.values()) if c is not None]
        assert result[name]["confidence_on_errors"] == pytest.approx(sum(certain) / len(certain), rel=1e-5)
    assert result["teacher_evaluation"] is None and result["against_reference"] is None
    assert result["examples"] == result["clean_examples"] == 7
    assert result["corruption_settings_of_side"] == 32 and result["frost_pictures"] is None
    assert result["evaluated_corruptions"] == ["contrast", "jpeg_compression"]


def test_clean_accuracy_is_the_tables(measured):
    result, _, _, config, dataset = measured
    found = evaluate.clean_accuracy(Predict(), "variables", dataset, config, make_mesh())
    assert found == result["clean_accuracy"]
