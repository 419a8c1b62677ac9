"""JPEG compression against Pillow, elastic transform against OpenCV and SciPy's definitions."""

import io

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_corruptions_helpers import (
    agreement,
    assert_same_statistics,
    corrupted,
    photographs,
    truncated,
)

from craft_jax.corruptions import digital
from craft_jax.corruptions.ops import truncate

QUALITY = (80, 65, 58, 50, 40)


def pillow_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def harsh(shape):
    """Images that reach every clip: uniform noise and black or white elements, uint8."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, shape, dtype=np.uint8)
    return np.concatenate([noise, random.choice(np.uint8([0, 255]), shape)])


@pytest.mark.parametrize("severity", (1, 2, 3, 4, 5))
def test_jpeg_is_pillows_to_the_bit(severity):
    for images in (photographs(), harsh((12, 32, 32, 3))):
        want = np.stack([pillow_jpeg(image, QUALITY[severity - 1]) for image in images])
        np.testing.assert_array_equal(corrupted(images, "jpeg_compression", severity), want)


@pytest.mark.parametrize(
    ("height", "width", "severity", "quality"),
    [(40, 25, 3, 58), (33, 46, 3, 58), (64, 64, 5, 25), (224, 224, 3, 15), (224, 224, 5, 7)],
)
def test_jpeg_at_other_sizes(height, width, severity, quality):
    photos = photographs(3, size=max(height, width))[:, :height, :width]
    images = np.concatenate([photos, harsh((1, height, width, 3))])
    want = np.stack([pillow_jpeg(image, quality) for image in images])
    np.testing.assert_array_equal(corrupted(images, "jpeg_compression", severity), want)


# ---------------------------------------------------------------- elastic

ELASTIC = ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))


def affine_reference(image, jitter):
    """The affine map of three points, as SciPy samples it in float64; image in [0, 1]."""
    size = len(image)
    center, side = np.array([size // 2, size // 2]), size // 3
    before = np.stack([center + side, [center[0] + side, center[1] - side], center - side])
    ones = np.ones((3, 1))
    back = np.linalg.solve(np.hstack([before + jitter, ones]), before)  # (x, y, 1) @ back = (x, y)
    y, x = np.mgrid[:size, :size]
    place = np.stack([x, y, np.ones_like(x)], -1) @ back
    return resample(image, place[..., 1], place[..., 0], "mirror")


def resample(image, y, x, mode):
    channels = np.moveaxis(image, -1, 0)
    return np.dstack([ndimage.map_coordinates(c, [y, x], order=1, mode=mode) for c in channels])


def displace_reference(image, field, strength, sigma):
    soft = [ndimage.gaussian_filter(f, sigma, mode="reflect", truncate=3) for f in field]
    y, x = np.mgrid[: len(image), : len(image)]
    return resample(image, y + strength * soft[1], x + strength * soft[0], "reflect")


def elastic_draws(random, jitter, size=32):
    return random.uniform(-jitter, jitter, (3, 2)), random.uniform(-1, 1, (2, size, size))


def elastic_reference(image, corners, field, strength, sigma):
    x = affine_reference(image / 255.0, corners)
    return displace_reference(x, field, strength, sigma) if strength else x


@pytest.mark.parametrize("severity", (1, 2, 3, 4, 5))
def test_elastic_with_given_draws(severity):
    strength, sigma, jitter = ELASTIC[severity - 1]
    random, images = np.random.default_rng(severity), photographs()[:8]
    draws = [elastic_draws(random, jitter) for _ in images]
    want = [elastic_reference(i, *d, strength, sigma) for i, d in zip(images, draws, strict=True)]

    def transform(image, corners, field):
        image = digital._affine(image, corners)
        return digital._displace(image, field, strength, sigma) if strength else image

    corners = np.float32([d[0] for d in draws])
    fields = np.float32([np.moveaxis(d[1], 0, -1) for d in draws])
    got = truncate(jax.jit(jax.vmap(transform))(np.float32(images), corners, fields))
    same, largest = agreement(got, truncated(want))
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
    monkeypatch.setattr(digital, "_displace", lambda image, *given: calls.append(given) or image)
    monkeypatch.setattr(digital, "draw", lambda sampler, key, shape, *range_: np.ones(shape))
    digital.elastic_transform(jax.random.key(0), np.zeros((32, 32, 3)), severity)
    strength, sigma, jitter = ELASTIC[severity - 1]
    np.testing.assert_allclose(calls[0], np.full((3, 2), jitter))
    assert len(calls) == (2 if strength else 1)
    if strength:
        np.testing.assert_allclose(calls[1][1:], (strength, sigma))
        assert calls[1][0].shape == (32, 32, 2)


@pytest.mark.parametrize("severity", (1, 4))
def test_elastic_has_the_originals_distribution(severity):
    strength, sigma, jitter = ELASTIC[severity - 1]
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "elastic_transform", severity, seed) for seed in range(8)])
    want = [
        [elastic_reference(i, *elastic_draws(random, jitter), strength, sigma) for i in images]
        for _ in range(8)
    ]
    assert_same_statistics(images, got, truncated(want))
