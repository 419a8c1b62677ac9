"""Blurs against SciPy, against the original's loops in NumPy, and against ImageMagick's output."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax.corruptions import blur, exact, ops
from tests.corruptions import originals
from tests.corruptions.given import both
from tests.corruptions.references import (
    defocus_blur,
    motion,
    motion_blur,
    motion_draws,
    soft,
    zoom_blur,
)
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import (
    assert_same_statistics,
    corrupted,
    photographs,
)

SEVERITIES = (1, 2, 3, 4, 5)


# ---------------------------------------------------------------- defocus


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus(severity):
    images = photographs()
    want = [defocus_blur(image, severity) for image in images]
    same, largest = agreement(corrupted(images, "defocus_blur", severity), want)
    assert largest <= 1 and same > 0.99, same


@pytest.mark.parametrize("severity", (1, 4, 5))
def test_defocus_is_opencvs(severity):
    pytest.importorskip("cv2")
    images = photographs()
    want = [originals.defocus_blur(image, severity) for image in images]
    same, largest = agreement(corrupted(images, "defocus_blur", severity), want)
    assert largest <= 1 and same > 0.999, same


# ---------------------------------------------------------------- zoom


@pytest.mark.parametrize(("size", "severity"), [*((32, s) for s in SEVERITIES), (16, 5), (96, 2)])
def test_zoom(size, severity):
    images = photographs(24 if size == 32 else 2, size)
    want = [zoom_blur(image, severity) for image in images]
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
    return ops.truncate(blur.motion(image, blur.ray(radius, sigma), degrees))


@pytest.mark.parametrize(("radius", "sigma", "angle", "checksum"), IMAGEMAGICK)
def test_motion_is_imagemagicks(radius, sigma, angle, checksum):
    image = pattern() if angle > -45 else pattern()[..., 1:2]
    got = given_motion(jnp.float32(image), radius, sigma, jnp.float32(angle))
    assert zlib.crc32(np.asarray(got).astype(np.uint8).tobytes()) == checksum


@pytest.mark.parametrize("size", [16, 32, 70])
def test_motion_with_given_angles(size):
    random = np.random.default_rng(size)
    for image in photographs(3, size):
        degrees = np.float32(random.uniform(-45, 45))
        got = given_motion(jnp.float32(image), 9, 2.5, degrees)
        np.testing.assert_array_equal(got, motion(image, 9, 2.5, float(degrees)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_is_exact(severity):
    got, want = both("motion_blur", photographs(), severity, np.random.default_rng(severity))
    np.testing.assert_array_equal(got, want)


def test_a_ray_takes_the_pixels_of_float64():
    count = 41
    bounds = np.degrees(np.arcsin((np.arange(20) + 0.5) / 40))  # where the last sample changes its row
    angles = np.concatenate([np.random.default_rng(0).uniform(-180, 180, 2000), bounds, -bounds, bounds - 90])
    near = np.float32(angles)
    angles = np.concatenate([near, np.nextafter(near, np.float32(400)), np.nextafter(near, np.float32(-400))])
    rows, columns = jax.jit(jax.vmap(lambda angle: blur._ray(angle, count)))(angles)
    radians = np.radians(angles.astype(float))[:, None]
    np.testing.assert_array_equal(rows, np.ceil(np.arange(count) * np.sin(radians) - 0.5))
    np.testing.assert_array_equal(columns, np.ceil(np.arange(count) * np.cos(radians) - 0.5))


@pytest.mark.parametrize("severity", (2, 5))
def test_motion_blur_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "motion_blur", severity, seed) for seed in range(8)])
    want = [
        [motion_blur(i, severity, *motion_draws(random, severity, i.shape)) for i in images] for _ in range(8)
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


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_with_given_draws(severity):
    """Exact at a blur of 0.05 and 0.25; at 0.4 float64's own rounding decides for 1 in 100,000."""
    random = np.random.default_rng(severity)
    same, largest = agreement(*both("glass_blur", photographs(), severity, random))
    if severity in (3, 5):
        assert largest <= 1 and same > 0.9999, same
    else:
        assert same == 1


@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.4, 0.6, 0.9, 1.5])
def test_truncated_gaussian_is_float64s(sigma):
    images, floor = photographs(), jax.jit(jax.vmap(lambda image: exact.gaussian_floor(image, sigma)))
    want = np.stack([soft(image / 255.0, sigma) * 255 for image in images])
    whole = np.abs(want - np.rint(want)) < 1e-12
    assert whole.mean() < 0.05 or sigma == 0.1  # where float64's rounding decides
    np.testing.assert_array_equal(np.asarray(floor(jnp.float32(images)))[~whole], np.floor(want)[~whole])
    even = np.broadcast_to(np.arange(256)[:, None, None, None], (256, 16, 16, 3))
    want = np.stack([np.uint8(soft(image / 255.0, sigma) * 255) for image in even])
    np.testing.assert_array_equal(floor(jnp.float32(even)), want)


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
