"""Blurs against SciPy, against the original's loops in NumPy, and against ImageMagick's output."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from test_corruptions_helpers import (
    agreement,
    assert_same_statistics,
    corrupted,
    photographs,
    truncated,
)

from craft_jax.corruptions import blur, ops

SEVERITIES = (1, 2, 3, 4, 5)


# ---------------------------------------------------------------- defocus

DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))


def disk_reference(radius, alias):
    """The float32 kernel, 17x17 or larger: a disk, normalised, through a 3x3 or 5x5 Gaussian."""
    offset, cut = (np.arange(-8, 9), 1) if radius <= 8 else (np.arange(-radius, radius + 1), 2)
    disk = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
    taps = np.exp(-0.5 * np.arange(-cut, cut + 1) ** 2 / alias**2)
    taps = (taps / taps.sum()).astype(np.float32)
    disk /= disk.sum()
    disk = ndimage.correlate1d(disk, taps, axis=1, mode="mirror")
    return ndimage.correlate1d(disk, taps, axis=0, mode="mirror")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus(severity):
    kernel = disk_reference(*DEFOCUS[severity - 1]).astype(float)[..., None]
    images = photographs()
    want = [truncated(ndimage.correlate(i / 255.0, kernel, mode="mirror")) for i in images]
    same, largest = agreement(corrupted(images, "defocus_blur", severity), want)
    assert largest <= 1 and same > 0.99, same


@pytest.mark.parametrize("severity", (1, 4, 5))
def test_defocus_is_opencvs(severity):
    cv2 = pytest.importorskip("cv2")
    radius, alias = DEFOCUS[severity - 1]
    offset = np.arange(-8, 9)
    disk = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
    kernel, images = cv2.GaussianBlur(disk / disk.sum(), (3, 3), sigmaX=alias), photographs()
    want = [np.dstack([cv2.filter2D(c, -1, kernel) for c in cv2.split(i / 255.0)]) for i in images]
    same, largest = agreement(corrupted(images, "defocus_blur", severity), truncated(want))
    assert largest <= 1 and same > 0.999, same


# ---------------------------------------------------------------- zoom


def zoom_reference(image, end, step=0.01):
    """The original's steps, in float32 as there; SciPy does the enlarging."""
    x = (image / 255.0).astype(np.float32)
    total, size, factors = np.zeros_like(x), len(x), np.arange(1, end, step)
    for factor in factors:
        part = int(np.ceil(size / factor))
        top = (size - part) // 2
        middle = x[top : top + part, top : top + part]
        large = ndimage.zoom(middle, (factor, factor, 1), order=1)
        trim = (len(large) - size) // 2
        total += large[trim : trim + size, trim : trim + size]
    return (x + total) / (len(factors) + 1)


@pytest.mark.parametrize(("size", "severity"), [*((32, s) for s in SEVERITIES), (16, 5), (96, 2)])
def test_zoom(size, severity):
    images = photographs(24 if size == 32 else 2, size)
    end = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    want = truncated([zoom_reference(image, end) for image in images])
    same, largest = agreement(corrupted(images, "zoom_blur", severity), want)
    assert largest <= 1 and same > 0.99, same


# ---------------------------------------------------------------- motion


def pattern():
    """A fixed image (32, 32, 3) uint8 without any smoothness."""
    y, x, c = np.meshgrid(np.arange(32), np.arange(32), np.arange(3), indexing="ij")
    return ((37 * y + 91 * x * x + 53 * c * x * y) % 256).astype(np.uint8)


# Radius, sigma, angle and the CRC-32 of what ImageMagick 6.9.11 (Q16) makes of the pattern; of its
# green channel as a grey image for the angles of snow, the last four.
IMAGEMAGICK = [
    (6, 1, -37.3, 74064340),
    (6, 1.5, -12.1, 3587162405),
    (6, 2, 0.0, 1361338357),
    (8, 2, 23.7, 2386098855),
    (9, 2.5, 44.6, 1702318903),
    (8, 3, -131.4, 2146090612),
    (10, 4, -100.9, 1361089388),
    (12, 6, -77.7, 3927165964),
    (14, 12, -49.2, 837554090),
]


@functools.partial(jax.jit, static_argnums=(1, 2))
def given_motion(image, radius, sigma, degrees):
    return ops.truncate(blur.motion(image, radius, sigma, degrees))


@pytest.mark.parametrize(("radius", "sigma", "angle", "checksum"), IMAGEMAGICK)
def test_motion_is_imagemagicks(radius, sigma, angle, checksum):
    image = pattern() if angle > -45 else pattern()[..., 1:2]
    got = given_motion(jnp.float32(image), radius, sigma, jnp.float32(angle))
    assert zlib.crc32(np.asarray(got).astype(np.uint8).tobytes()) == checksum


def motion_reference(image, radius, sigma, degrees):
    """ImageMagick's algorithm from its description, pixel by pixel: (H, W, C) uint8."""
    height, width, _ = image.shape
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    total = np.zeros(image.shape)
    for i, weight in enumerate(weights):
        dx = int(np.ceil(i * np.cos(np.radians(degrees)) - 0.5))
        dy = int(np.ceil(i * np.sin(np.radians(degrees)) - 0.5))
        rows = np.clip(np.arange(height) + dy, 0, height - 1)
        columns = np.clip(np.arange(width) + dx, 0, width - 1)
        total += weight * image[np.ix_(rows, columns)]
    return (np.floor(257 * total + 0.5) // 257).astype(np.uint8)


MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))


@pytest.mark.parametrize("size", [16, 32, 70])
def test_motion_with_given_angles(size):
    random = np.random.default_rng(size)
    for image in photographs(3, size):
        degrees = random.uniform(-45, 45)
        got = given_motion(jnp.float32(image), 9, 2.5, jnp.float32(degrees))
        same, largest = agreement(got, motion_reference(image, 9, 2.5, degrees))
        assert largest <= 1 and same > 0.999


@pytest.mark.parametrize("severity", (2, 5))
def test_motion_blur_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "motion_blur", severity, seed) for seed in range(8)])
    want = [
        [motion_reference(i, *MOTION[severity - 1], random.uniform(-45, 45)) for i in images]
        for _ in range(8)
    ]
    assert_same_statistics(images, got, np.stack(want))


def test_motion_blur_angles_are_uniform_within_45_degrees():
    dot = np.zeros((24, 32, 32, 3), np.uint8)
    dot[:, 16, 16] = 255
    trails = np.concatenate([corrupted(dot, "motion_blur", 5, seed)[..., 0] for seed in range(6)])
    mass = trails.sum((1, 2))
    x = 16 - (trails.sum(1) * np.arange(32)).sum(1) / mass
    y = 16 - (trails.sum(2) * np.arange(32)).sum(1) / mass
    angles = np.degrees(np.arctan2(y, x))
    assert np.abs(angles).max() < 50
    assert abs(angles.mean()) < 4.5 * 26 / np.sqrt(len(angles))
    assert 23 < angles.std() < 29  # 26 for a uniform angle
    assert len(np.unique(angles.round(1))) > 30


# ---------------------------------------------------------------- glass

GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))


def glass_reference(image, sigma, delta, times, draws):
    """The original's walk over the pixels, one by one, in float64; draws (times, H, W, 2)."""
    soft = (sigma, sigma, 0)
    blurred = ndimage.gaussian_filter(image / 255.0, soft, mode="nearest", truncate=4)
    x = np.uint8(blurred * 255)
    for draw in draws[:times]:
        for h in range(len(x) - delta, delta, -1):
            for w in range(len(x) - delta, delta, -1):
                dx, dy = draw[h, w]
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return ndimage.gaussian_filter(x / 255.0, soft, mode="nearest", truncate=4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_with_given_draws(severity):
    sigma, delta, times = GLASS[severity - 1]
    draws = np.random.default_rng(severity).integers(-delta, delta, (times, 32, 32, 2))
    moves = [(d[2:, 2:, 1:] == -1, d[2:, 2:, :1] == -1) for d in draws]
    images = photographs()[:6]
    glass = jax.jit(jax.vmap(lambda image: blur._glass(image, sigma, moves)))
    want = truncated([glass_reference(image, sigma, delta, times, draws) for image in images])
    same, largest = agreement(ops.truncate(glass(jnp.float32(images))), want)
    assert largest <= 1 and same > 0.998, same
    if severity == 1:  # the blur is none
        assert same == 1


def test_glass_draws_four_neighbours_evenly():
    index = np.arange(32 * 32).reshape(32, 32)
    image = np.stack([index % 256, index // 256, 0 * index], -1).astype(np.uint8)
    batch = np.repeat(image[None], 24, axis=0)
    got = np.concatenate([corrupted(batch, "glass_blur", 1, seed) for seed in range(2)])
    moved = got[..., 0] + 256 * got[..., 1]
    np.testing.assert_array_equal(moved[:, :2], np.repeat(index[None, :2], 48, 0))
    np.testing.assert_array_equal(moved[:, :, :2], np.repeat(index[None, :, :2], 48, 0))
    step = (index - moved)[:, 2:, 2:]
    counts = np.array([(step == s).sum() for s in (0, 1, 32, 33)])
    assert counts.sum() == step.size
    error = np.sqrt(0.25 * 0.75 / step.size)
    assert (np.abs(counts / step.size - 0.25) < 4.5 * error).all(), counts
