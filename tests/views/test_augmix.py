"""AugMix: each operation against Pillow's, the draws' distributions, the mixture, what an image depends on.

Pillow is called as the public code calls it (google-research/augmix, augmentations.py): its magnitudes are
written out again below, in Python's float64.
"""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import stats

from craft_jax import corruptions, files, streams, views
from craft_jax.training import train
from craft_jax.views import augmix
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import photographs
from tests.methods.references import ref_ce, softmax
from tests.training.test_step import one_step
from tests.views.test_views import crop_and_flip, maker, pixels
from tests.views.test_views import make_config as make_views_config

NINE = {
    *("autocontrast", "equalize", "posterize", "rotate", "solarize"),
    *("shear_x", "shear_y", "translate_x", "translate_y"),
}
# None at a step of a magnitude, where float32 and float64 could fall on different sides.
LEVELS = (0.1, 1.33, 2.95, 6.12, 9.95)


@jax.jit
def operated(images, operation, level, sign):
    """(B, H, W, C) uint8 under one operation, int32."""
    return jax.vmap(augmix.operate, (0, None, None, None))(images.astype(jnp.int32), operation, level, sign)


def pillow(image, name, level, sign):
    """One operation on (H, W, 3) uint8 as the public code has it, its sign given."""
    height, width = image.shape[:2]
    picture = Image.fromarray(np.asarray(image, np.uint8))

    def affine(*matrix):
        return picture.transform((width, height), Image.AFFINE, matrix, resample=Image.BILINEAR)

    made = {
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "posterize": lambda: ImageOps.posterize(picture, 4 - int(level * 4 / 10)),
        "solarize": lambda: ImageOps.solarize(picture, 256 - int(level * 256 / 10)),
        "rotate": lambda: picture.rotate(sign * int(level * 30 / 10), resample=Image.BILINEAR),
        "shear_x": lambda: affine(1, sign * level * 0.3 / 10, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, sign * level * 0.3 / 10, 1, 0),
        "translate_x": lambda: affine(1, 0, sign * int(level * (width / 3) / 10), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, sign * int(level * (height / 3) / 10)),
    }
    return np.asarray(made[name](), int)


def compare(images, name, level, sign):
    """(share of equal values, largest difference) from Pillow, and the share that the operation changed."""
    found = operated(images, augmix.OPERATIONS.index(name), level, sign)
    assert found.dtype == jnp.int32 and found.shape == images.shape
    expected = np.stack([pillow(image, name, level, sign) for image in images])
    return *agreement(found, expected), (expected != images).mean()


# ----------------------------------------------------------------------------------------------------
# Operations


def test_the_operations_are_the_papers_and_none_is_a_test_corruption():
    assert set(augmix.OPERATIONS) == NINE and len(augmix.OPERATIONS) == 9
    assert not NINE & {"color", "contrast", "brightness", "sharpness", *corruptions.NAMES}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", sorted(NINE))
def test_an_operation_is_pillows(name, level):
    for sign in (1, -1):
        same, largest, changed = compare(photographs(), name, level, sign)
        # Shears and rotations compute in float32, Pillow in double: where a fraction is dropped, that is one
        # level at times. Autocontrast here is exact; Pillow's double falls just short of some whole levels.
        assert largest <= 1 and same > 0.995
        if name in ("equalize", "posterize", "solarize", "translate_x", "translate_y"):
            assert same == 1
        assert changed > 0.02 or level < 1, "or the test could not tell the operation from none"


@pytest.mark.parametrize("name", sorted(NINE))
def test_an_operation_on_an_oblong_image(name):
    images = photographs()[:8, 4:20, 2:26]
    for level in (2.95, 8.3):
        same, largest, _ = compare(np.ascontiguousarray(images), name, level, 1)
        assert largest <= 1 and same > 0.99


def flat_cases():
    """16x16 images whose histograms are degenerate: one level, two, one pixel apart, all, too few pixels."""
    random = np.random.default_rng(3)
    cases = [np.full((16, 16, 3), level) for level in (0, 77, 255)]
    cases.append(random.choice([3, 200], (16, 16, 3)))
    cases.append(np.where(np.arange(256).reshape(16, 16, 1) == 40, 9, np.full(3, 8)))
    cases.append(np.stack([random.permutation(256).reshape(16, 16) for _ in range(3)], -1))
    cases.append(np.concatenate([random.integers(0, 9, (16, 16, 2)), np.full((16, 16, 1), 5)], -1))
    return np.stack(cases).astype(np.uint8)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_histograms_without_spread(name):
    same, largest, changed = compare(flat_cases(), name, 1.0, 1)
    assert largest <= 1 and same > 0.99 and 0 < changed < 0.9


def test_equalize_never_exceeds_255():
    """Where the last level has few pixels the table runs past 255, and Pillow cuts it there."""
    images = np.repeat(np.minimum(np.arange(1024), 255).reshape(1, 32, 32, 1), 3, 3)[:, :, ::-1]
    few = np.where(images == 255, np.arange(1024).reshape(1, 32, 32, 1) % 255, images).astype(np.uint8)
    few[0, 0, 0] = 255
    assert compare(few, "equalize", 1.0, 1)[:2] == (1, 0)


def test_nothing_is_nothing():
    np.testing.assert_array_equal(operated(photographs(), augmix.NOTHING, 3.0, 1), photographs())


# ----------------------------------------------------------------------------------------------------
# Draws

COUNT = 20_000


@functools.cache
def draws(severity=3, width=3, depth=0, alpha=1.0):
    keys = jax.random.split(jax.random.key(4), COUNT)
    one = functools.partial(augmix.draw, severity=severity, width=width, depth=depth, alpha=alpha)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def assert_uniform(values, kinds, limit):
    """`limit` is chi-square's upper 1e-4 point."""
    counts = np.bincount(values.ravel(), minlength=kinds)
    assert len(counts) == kinds
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < limit, counts


def test_operations_and_depths_are_uniform():
    operations = draws().operations
    assert operations.shape == (COUNT, 3, 3)
    going = operations != augmix.NOTHING
    assert (going[:, 0] & (going[:, 1] >= going[:, 2])).all(), "a chain ends once"
    assert_uniform(going.sum(1) - 1, 3, 18.4)  # 2 degrees of freedom
    for step in range(3):
        for chain in range(3):
            assert_uniform(operations[:, step, chain][going[:, step, chain]], 9, 31.8)  # 8
    both = operations[:, 0, 0] * 9 + operations[:, 0, 1]
    assert_uniform(both, 81, 135)  # 80: two chains are independent
    assert_uniform((going[:, :, 0].sum(1) - 1) * 9 + operations[:, 0, 0], 27, 61.7)  # 26: so are depths


def test_a_fixed_depth():
    operations = draws(depth=2, width=4, severity=1).operations
    assert operations.shape == (COUNT, 2, 4)
    assert_uniform(operations, 9, 31.8)


@pytest.mark.parametrize("settings", [{}, {"depth": 2, "width": 4, "severity": 1}])
def test_levels_and_signs(settings):
    found, severity = draws(**settings), settings.get("severity", 3)
    assert found.levels.min() >= 0.1 and found.levels.max() <= severity
    bins = ((found.levels - 0.1) / (severity - 0.1) * 20).astype(int).clip(0, 19)
    assert_uniform(bins, 20, 50.8)  # 19
    assert set(np.unique(found.signs)) == {-1, 1}
    assert_uniform((found.signs > 0).astype(int), 2, 15.2)  # 1
    flat = [x.reshape(-1).astype(float) for x in (found.levels, found.signs, found.operations)]
    correlations = np.corrcoef(flat)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(len(flat[0]))


@pytest.mark.parametrize("alpha", [1.0, 0.2, 5.0])
def test_weights_are_dirichlet_and_the_share_beta(alpha):
    found = draws(alpha=alpha)
    weights, share = found.weights.astype(float), found.share.astype(float)
    assert weights.shape == (COUNT, 3) and share.shape == (COUNT,)
    assert weights.min() >= 0 and share.min() >= 0 and share.max() <= 1
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    # Means, variances and one covariance; 5 standard errors of a variable in [0, 1] are under 0.02.
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.015)
    variance = (1 / 3) * (2 / 3) / (3 * alpha + 1)
    np.testing.assert_allclose(weights.var(0), variance, rtol=0.06)
    np.testing.assert_allclose(np.cov(weights[:, 0], weights[:, 1])[0, 1], -variance / 2, rtol=0.1)
    assert abs(share.mean() - 0.5) < 0.015
    np.testing.assert_allclose(share.var(), 0.25 / (2 * alpha + 1), rtol=0.06)
    # A third moment, which tells Beta from other symmetric laws: E m^3 = (a+2)/(4 (2a+1)) for Beta(a, a).
    np.testing.assert_allclose((share**3).mean(), (alpha + 2) / (4 * (2 * alpha + 1)), rtol=0.05)
    assert abs(np.corrcoef(share, weights[:, 0])[0, 1]) < 5 / math.sqrt(COUNT)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_the_marginals_are_scipys(alpha):
    """A Dirichlet's weight is Beta(alpha, 2 alpha), the sum of two Beta(2 alpha, alpha)."""
    found = draws(alpha=alpha)
    weights = found.weights.astype(float)
    chances = [stats.kstest(found.share.astype(float), stats.beta(alpha, alpha).cdf).pvalue]
    chances += [stats.kstest(weight, stats.beta(alpha, 2 * alpha).cdf).pvalue for weight in weights.T]
    chances.append(stats.kstest(weights[:, 0] + weights[:, 1], stats.beta(2 * alpha, alpha).cdf).pvalue)
    assert min(chances) > 1e-4, chances


# ----------------------------------------------------------------------------------------------------
# The mixture

SETTINGS = {"severity": 3, "width": 3, "depth": 0, "alpha": 1.0}
augment = jax.jit(functools.partial(augmix.augment, **SETTINGS))
KEYS = jax.random.split(jax.random.key(12), 24)


def chains(image, drawn):
    """The chains of one image from its Draws: Pillow's operations one after another."""
    for i in range(len(drawn.weights)):
        chain = image
        for operation, level, sign in zip(
            drawn.operations[:, i], drawn.levels[:, i], drawn.signs[:, i], strict=True
        ):
            if operation != augmix.NOTHING:
                chain = pillow(chain, augmix.OPERATIONS[operation], float(level), int(sign))
        yield chain


def reference(image, drawn):
    """The view of one image from its Draws, mixed in float64."""
    mixture = sum(float(w) * chain for w, chain in zip(drawn.weights, chains(image, drawn), strict=True))
    share = float(drawn.share)
    return ((1 - share) * image + share * mixture) / 255


def draws_of_keys():
    """The Draws of KEYS, a list."""
    drawn = jax.tree.map(np.asarray, jax.jit(jax.vmap(functools.partial(augmix.draw, **SETTINGS)))(KEYS))
    return [jax.tree.map(lambda x, i=i: x[i], drawn) for i in range(len(KEYS))]


def test_a_view_is_the_mixture_of_pillows_chains():
    images = photographs()
    found = np.asarray(augment(KEYS, images))
    assert found.dtype == np.float32 and found.shape == images.shape
    assert found.min() >= 0 and found.max() <= 1
    moved = []
    for image, view, drawn in zip(images, found, draws_of_keys(), strict=True):
        expected = reference(image, drawn)
        distance = np.abs(view - expected) * 255
        # One level off in a chain can fall on the other side of a later table's step.
        assert (distance < 1.01).mean() > 0.99 and distance.mean() < 0.1
        moved.append(np.abs(expected - image / 255).mean() * 255)
    assert np.median(moved) > 3, "or the image itself would do"


def test_a_view_is_between_the_least_and_the_greatest_of_its_chains():
    """Convex, on a flat image: a chain may make anything of it, as an equalized black border."""
    images = np.full((24, 32, 32, 3), 100, np.uint8)
    found = np.asarray(augment(KEYS, images)) * 255
    for image, view, drawn in zip(images, found, draws_of_keys(), strict=True):
        mixed = np.stack([image, *chains(image, drawn)])
        assert ((mixed.min(0) - 0.01 < view) & (view < mixed.max(0) + 0.01)).mean() > 0.998
    assert found.min() < 90 and found.max() > 110, "or nothing was mixed"


def test_an_image_depends_on_its_own_key_and_pixels_alone():
    images = photographs()
    found = np.asarray(augment(KEYS, images))
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_array_equal(augment(KEYS[order], images[order]), found[order])
    others = np.where(np.arange(24).reshape(-1, 1, 1, 1) == 5, images, images[::-1])
    again = np.asarray(augment(KEYS, others))
    np.testing.assert_array_equal(again[5], found[5])
    same = np.asarray(augment(KEYS, np.repeat(images[:1], 24, 0)))
    assert len(np.unique(same.reshape(24, -1), axis=0)) == 24, "another key is another view"


# ----------------------------------------------------------------------------------------------------
# The views of a batch and the method; that the devices' number does not matter is in test_views.py


def augmix_views(**settings):
    config = make_views_config(**settings)
    config.views.kind = "augmix"
    return config


def test_the_views_of_a_batch():
    """View 0 is the crop, view m its AugMix, keyed by m and by the image's place; views.* are unread."""
    images = pixels(3, 6)
    found = maker(3, augmix_views())(5, 6, images)
    crop = np.asarray(crop_and_flip(jax.random.key(5), images, 2, True))
    np.testing.assert_allclose(found[:, 0], crop / 255.0, rtol=0, atol=1e-7)
    for m in (1, 2):
        key = jax.random.fold_in(jax.random.key(6), m)
        keys = jnp.stack([jax.random.fold_in(key, i) for i in range(6)])
        np.testing.assert_allclose(found[:, m], augment(keys, crop), rtol=0, atol=1e-6)
    others = augmix_views(names=("contrast", "fog"), severities=(1,), lanes=5)
    np.testing.assert_array_equal(maker(2, others)(5, 6, images), found[:, :2])


@pytest.mark.slow
def test_a_step_adds_cross_entropy_and_the_weighted_divergence(make_config, digits):
    config = make_config("augmix", **{"augmix.weight": 5.0})
    run, before, batch, after, metrics = one_step(config, digits)
    keys = (streams.stream(config.seed, 0, name) for name in (streams.CROPS, streams.CORRUPTIONS))
    images = np.asarray(views.make(*keys, batch["image"], 3, config, run.mesh))
    flat = images.reshape(-1, *images.shape[2:])
    logits = np.asarray(run.student.apply(before["student"], flat, True)[0].logits, np.float64)
    logits, labels = logits.reshape(16, 3, 10), np.asarray(batch["label"])
    entropy = divergence = 0.0
    for rows, label in zip(logits, labels, strict=True):
        entropy += ref_ce(rows[0], label) / 16
        p = np.array([softmax(row) for row in rows])
        divergence += (p * np.log(p / p.mean(0))).sum() / 3 / 16
    assert divergence > 1e-4
    assert float(metrics["loss/ce"]) == pytest.approx(entropy, rel=1e-4)
    assert float(metrics["loss/jsd"]) == pytest.approx(5 * divergence, rel=1e-3)
    assert float(metrics["loss"]) == pytest.approx(entropy + 5 * divergence, rel=1e-4)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before["student"], after["student"])
    assert max(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.slow
def test_an_augmix_teacher_learns_from_no_corruption_and_teaches(make_config, digits, tmp_path, capsys):
    config = make_config("kd", epochs=1, **{"teacher.method": "augmix", "teacher.epochs": 20})
    result = train.train_and_evaluate(config, tmp_path / "student", digits)
    (cached,) = [p for p in (tmp_path / "teachers").iterdir() if p.is_dir()]
    taught = files.read_json(cached / "results.json")
    assert (taught["method"], taught["teacher"]) == ("augmix", None)
    assert (taught["trained_corruptions"], taught["overlap"]) == ([], [])
    assert (taught["config"]["views"]["kind"], taught["config"]["views"]["count"]) == ("augmix", 2)
    assert config.views.count == 1, "the teacher's two views are not the student's"
    said = capsys.readouterr().out
    assert "views:   3 for the student, 0 for the teacher (clean and augmix)\n" in said, "the teacher's run"
    assert "views:   1 for the student, 1 for the teacher\n" in said, "the student's"
    assert "teacher: tiny by augmix, " in said and result["teacher"]["method"] == "augmix"
    rows = [json.loads(line) for line in (cached / "metrics.jsonl").read_text().splitlines()]
    entropies = [row["loss/ce"] for row in rows]
    assert len(rows) == 80 and np.mean(entropies[-12:]) < 0.95 * np.mean(entropies[:4])
    assert result["teacher"]["params_sha256"] == taught["params_sha256"]
