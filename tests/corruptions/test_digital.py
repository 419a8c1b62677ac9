"""JPEG compression against Pillow, elastic transform against OpenCV and SciPy's definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax.corruptions import digital
from tests.corruptions.given import both
from tests.corruptions.references import (
    ELASTIC,
    elastic_draws,
    elastic_transform,
    jpeg,
    jpeg_compression,
)
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import (
    assert_same_statistics,
    corrupted,
    photographs,
)


def harsh(shape):
    """Images that reach every clip: uniform noise and black or white elements, uint8."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, shape, dtype=np.uint8)
    return np.concatenate([noise, random.choice(np.uint8([0, 255]), shape)])


@pytest.mark.parametrize("severity", (1, 2, 3, 4, 5))
def test_jpeg_is_pillows_to_the_bit(severity):
    for images in (photographs(), harsh((12, 32, 32, 3))):
        want = np.stack([jpeg_compression(image, severity) for image in images])
        np.testing.assert_array_equal(corrupted(images, "jpeg_compression", severity), want)


@pytest.mark.parametrize(
    ("height", "width", "severity", "quality"),
    [(40, 25, 3, 58), (33, 46, 3, 58), (64, 64, 5, 25), (224, 224, 3, 15), (224, 224, 5, 7)],
)
def test_jpeg_at_other_sizes(height, width, severity, quality):
    photos = photographs(3, size=max(height, width))[:, :height, :width]
    images = np.concatenate([photos, harsh((1, height, width, 3))])
    want = np.stack([jpeg(image, quality) for image in images])
    np.testing.assert_array_equal(corrupted(images, "jpeg_compression", severity), want)


# ---------------------------------------------------------------- elastic


@pytest.mark.parametrize("severity", (1, 2, 3, 4, 5))
def test_elastic_with_given_draws(severity):
    random = np.random.default_rng(severity)
    same, largest = agreement(*both("elastic_transform", photographs()[:8], severity, random))
    assert largest <= 1 and same > 0.998, same


def test_affine_map_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    affine = jax.jit(digital._affine)
    for image in photographs()[:8]:
        jitter = np.float32(random.uniform(-2.56, 2.56, (3, 2)))
        before = np.float32([[26, 26], [26, 6], [6, 6]])
        matrix = cv2.getAffineTransform(before, before + jitter)
        x = np.float32(image) / 255
        want = cv2.warpAffine(x, matrix, (32, 32), borderMode=cv2.BORDER_REFLECT_101)
        got = np.asarray(affine(np.float32(image), jitter))
        # Older versions of OpenCV round places to 1/32 of a pixel.
        assert np.abs(got - 255 * want).mean() < 0.5


@pytest.mark.parametrize("severity", (1, 2, 3, 4, 5))
def test_elastic_settings(severity, monkeypatch):
    """What `elastic_transform` hands to the functions tested above, with draws of 1."""
    calls = []
    monkeypatch.setattr(digital, "_affine", lambda image, corners: calls.append(corners) or image)
    monkeypatch.setattr(digital, "_smoothed", lambda *given: calls.append(given))
    monkeypatch.setattr(digital, "_displace", lambda image, moves: image)
    monkeypatch.setattr(digital.draws, "uniform", lambda key, shape, low, high: np.full(shape, high))
    digital.elastic_transform(jax.random.key(0), jnp.zeros((32, 32, 3)), severity)
    _, _, jitter = ELASTIC[severity - 1]
    np.testing.assert_allclose(calls[0], np.full((3, 2), jitter))
    assert calls[1][0].shape == (2, 32, 32) and calls[1][1] == severity


@pytest.mark.parametrize("severity", (1, 4))
def test_elastic_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "elastic_transform", severity, seed) for seed in range(8)])
    want = [
        [elastic_transform(i, severity, *elastic_draws(random, severity, i.shape)) for i in images]
        for _ in range(8)
    ]
    assert_same_statistics(images, got, np.stack(want))
