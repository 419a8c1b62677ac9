"""Images of other sizes: whose settings they get, and the corruptions there against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from craft_jax import corruptions
from craft_jax.corruptions import blur, digital, frost, ops, settings, weather
from tests.conftest import some_slow
from tests.corruptions.given import spattered
from tests.corruptions.references import (
    affine,
    defocus,
    disk,
    displaced,
    glass,
    motion,
    soft,
    truncated,
    with_hsv,
    zoom,
)
from tests.corruptions.references_layers import foggy, snowed
from tests.corruptions.references_layers import spatter as spatter_reference
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import corrupted, photographs

# ---------------------------------------------------------------- whose settings


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((16, 16, 3), 32),
        ((32, 32, 3), 32),
        ((63, 300, 3), 32),
        ((64, 64, 3), 64),
        ((300, 96), 64),
        ((223, 224, 3), 64),
        ((224, 224, 3), 224),
        ((299, 299, 3), 224),
    ],
)
def test_the_shorter_side_decides(shape, side):
    assert settings.original_side(shape) == side


def test_every_table_has_every_corruption_at_five_severities():
    for table in settings.TABLES.values():
        assert sorted(table) == sorted(corruptions.NAMES)
        for rows in table.values():
            assert len(rows) == 5
            assert len({np.shape(row) for row in rows}) == 1


# Read off make_cifar_c.py, make_tinyimagenet_c.py and make_imagenet_c.py.
@pytest.mark.parametrize(
    ("side", "name", "severity", "want"),
    [
        (32, "shot_noise", 1, 500),
        (32, "glass_blur", 4, (0.25, 1, 2)),
        (32, "fog", 3, (0.75, 2.5)),
        (64, "gaussian_noise", 5, 0.18),
        (64, "shot_noise", 5, 15),
        (64, "impulse_noise", 4, 0.08),
        (64, "speckle_noise", 3, 0.25),
        (64, "defocus_blur", 4, (2.5, 0.01)),
        (64, "glass_blur", 4, (0.7, 2, 1)),
        (64, "motion_blur", 5, (12, 3)),
        (64, "snow", 5, (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6)),
        (64, "frost", 2, (0.9, 0.4)),
        (64, "elastic_transform", 2, (0.05, 0.3, 0.06)),
        (64, "spatter", 4, (0.65, 0.1, 0.7, 0.68, 0.6)),
        (64, "saturate", 5, (30, 0.2)),
        (224, "gaussian_noise", 3, 0.18),
        (224, "shot_noise", 1, 60),
        (224, "impulse_noise", 5, 0.27),
        (224, "speckle_noise", 4, 0.45),
        (224, "gaussian_blur", 5, 6),
        (224, "defocus_blur", 5, (10, 0.5)),
        (224, "glass_blur", 3, (1, 2, 3)),
        (224, "motion_blur", 4, (15, 12)),
        (224, "zoom_blur", 3, (1.21, 0.02)),
        (224, "snow", 4, (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65)),
        (224, "frost", 5, (0.6, 0.75)),
        (224, "fog", 5, (3, 1.4)),
        (224, "brightness", 5, 0.5),
        (224, "contrast", 5, 0.05),
        (224, "pixelate", 5, 0.25),
        (224, "jpeg_compression", 2, 18),
        (224, "spatter", 5, (0.67, 0.4, 1, 0.65, 1.5)),
        (224, "saturate", 5, (20, 0.2)),
    ],
)
def test_cells(side, name, severity, want):
    assert settings.settings(name, (side, side, 3), severity) == want


def test_elastic_at_224_has_the_originals_multiples_of_244():
    for severity, want in ((1, (488, 170.8, 24.4)), (2, (488, 19.52, 48.8)), (5, (29.28, 2.44, 4.88))):
        shares = settings.settings("elastic_transform", (224, 224, 3), severity)
        np.testing.assert_allclose(224 * np.array(shares), want)


# ---------------------------------------------------------------- without randomness


def gaussian_blur(image, sigma):
    return truncated(soft(image / 255.0, sigma))


def contrast(image, factor):
    mean = (image / 255.0).mean((0, 1))
    return truncated((image / 255.0 - mean) * factor + mean)


def brightness(image, shift):
    return truncated(with_hsv(image / 255.0, lambda h, s, v: (h, s, np.clip(v + shift, 0, 1))))


def saturate(image, a, b):
    return truncated(with_hsv(image / 255.0, lambda h, s, v: (h, np.clip(s * a + b, 0, 1), v)))


@pytest.mark.parametrize(
    ("name", "size", "severity", "reference", "given"),
    [
        ("gaussian_blur", 224, 1, gaussian_blur, (1,)),
        ("gaussian_blur", 224, 5, gaussian_blur, (6,)),
        ("defocus_blur", 224, 1, defocus, (3, 0.1)),
        ("defocus_blur", 224, 4, defocus, (8, 0.5)),
        ("defocus_blur", 224, 5, defocus, (10, 0.5)),
        ("defocus_blur", 64, 4, defocus, (2.5, 0.01)),
        ("zoom_blur", 224, 3, zoom, (1.21, 0.02)),
        ("zoom_blur", 64, 5, zoom, (1.26, 0.01)),
        ("contrast", 224, 5, contrast, (0.05,)),
        ("brightness", 224, 4, brightness, (0.4,)),
        ("saturate", 224, 5, saturate, (20, 0.2)),
        ("saturate", 64, 5, saturate, (30, 0.2)),
    ],
)
def test_within_one_level_of_float64(name, size, severity, reference, given):
    images = photographs(2, size)
    want = [reference(image, *given) for image in images]
    same, largest = agreement(corrupted(images, name, severity), want)
    assert largest <= 1 and same > 0.98, f"{same:.4f} equal, at most {largest} levels"


def test_the_disk_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    for radius, alias in ((3, 0.1), (8, 0.5), (10, 0.5)):
        offset = np.arange(-max(8, radius), max(8, radius) + 1)
        kernel = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
        taps = (3, 3) if radius <= 8 else (5, 5)
        want = cv2.GaussianBlur(kernel / kernel.sum(), taps, sigmaX=alias)
        np.testing.assert_allclose(disk(radius, alias), want, atol=1e-8)


# ---------------------------------------------------------------- with given draws


@pytest.mark.parametrize(("size", "severity"), [(224, 3), (224, 5), (64, 5), (64, 4)])
def test_glass_with_far_draws(size, severity):
    """The copies of the original's walk, pixel by pixel, where a source may be copied itself."""
    sigma, reach, times = settings.settings("glass_blur", (size, size), severity)
    offsets = np.random.default_rng(severity).integers(-reach, reach, (times, size, size, 2))
    image = photographs(2, size)[1]
    walk = jax.jit(lambda image, offsets: ops.truncate(blur._far_glass(image, sigma, reach, offsets)))
    want = glass(image, sigma, reach, offsets)
    same, largest = agreement(walk(jnp.float32(image), offsets), want)
    # The levels between the blurs are exact but for few that float32 truncates differently.
    assert same > 0.999 and largest <= 1, (same, largest)


def test_a_long_path_of_copies_is_followed_to_its_end():
    """Every pixel takes its right neighbour's value: a whole row the value of its last pixel."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    offsets = np.zeros((1, 64, 64, 2), int)
    offsets[..., 0] = 1
    got = blur._far_glass(jnp.float32(image), 0.05, 2, jnp.asarray(offsets))
    want = glass(image, 0.05, 2, offsets)
    np.testing.assert_array_equal(got, want)
    assert (want[10, 3:63] == image[10, 63]).all()


def test_glass_draws_evenly_within_reach():
    """At 64 pixels and severity 5: the 16 offsets of -2..1 in both directions, two walks."""
    seen, blank = [], jnp.zeros((64, 64, 3))

    def record(image, sigma, reach, offsets):
        seen.append(np.asarray(offsets))
        assert (sigma, reach) == (0.9, 2)
        return image

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blur, "_far_glass", record)
        for seed in range(4):
            blur.glass_blur(jax.random.key(seed), blank, 5)
    offsets = np.stack(seen)
    assert offsets.shape == (4, 2, 64, 64, 2)
    pairs = np.unique(offsets.reshape(-1, 2), axis=0, return_counts=True)[1]
    assert len(pairs) == 16
    error = np.sqrt(15 / 256 * pairs.sum())
    assert (np.abs(pairs - pairs.sum() / 16) < 4.5 * error).all(), pairs


def test_motion_of_the_largest_radius():
    image, degrees = photographs(1, 224)[0], np.float32(-31.7)
    got = jax.jit(lambda x, angle: ops.truncate(blur.motion(x, blur.ray(20, 15), angle)))(
        jnp.float32(image), degrees
    )
    same, largest = agreement(got, motion(image, 20, 15, float(degrees)))
    assert largest <= 1 and same > 0.999, same


@pytest.mark.parametrize("severity", (1, 4))
def test_snow_with_given_draws(severity):
    loc, scale, *given = settings.settings("snow", (224, 224), severity)
    random, image = np.random.default_rng(severity), photographs(1, 224)[0]
    layer = np.float32(random.normal(loc, scale, (224, 224)))
    degrees = np.float32(random.uniform(-135, -45))
    got = jax.jit(lambda *draws: ops.truncate(weather._snow(*draws, severity)))
    want = snowed(image, layer.astype(float), float(degrees), *given)
    same, largest = agreement(got(jnp.float32(image), layer, degrees), want)
    assert largest <= 2 and same > 0.99, (same, largest)


def test_fog_is_cropped_from_256():
    thickness, decay = settings.settings("fog", (224, 224), 4)
    image, chance = photographs(1, 224)[0], np.random.default_rng(4).uniform(-1, 1, 256 * 256 - 1)
    levels = np.split(chance, np.cumsum([3 * 4**level for level in range(8)])[:-1])
    levels = [level.reshape(3, 1 << i, 1 << i) for i, level in enumerate(levels)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weather.draws, "uniform", lambda key, shape, *_: jnp.float32(chance).reshape(shape))
        got = ops.truncate(weather.fog(jax.random.key(0), jnp.float32(image), 4))
    same, largest = agreement(got, foggy(image, thickness, decay, levels))
    assert largest <= 1 and same > 0.99, same


@pytest.mark.parametrize("severity", (1, 2, 5))
def test_elastic_with_given_draws(severity):
    strength, sigma, jitter = 224 * np.array(settings.settings("elastic_transform", (224, 224), severity))
    image = photographs(1, 224)[0]
    random = np.random.default_rng(severity)
    corners, field = random.uniform(-jitter, jitter, (3, 2)), random.uniform(-1, 1, (2, 224, 224))
    moved = affine(image / 255.0, corners)
    want = truncated(displaced(moved, field, strength, sigma))

    def transform(image, corners, field):
        return digital._displace(digital._affine(image, corners), digital._smoothed(field, severity))

    got = ops.truncate(jax.jit(transform)(jnp.float32(image), np.float32(corners), np.float32(field)))
    same, largest = agreement(got, want)
    assert largest <= 1 and same > 0.98, (same, largest)


@pytest.mark.parametrize("severity", (1, 4))
def test_spatter_with_given_draws(severity):
    """The settings of 224 pixels on 64, since the reference looks at every edge from every pixel."""
    rows = settings.IMAGENET["spatter"]
    loc, scale = rows[severity - 1][:2]
    layer = np.float32(np.random.default_rng(severity).normal(loc, scale, (64, 64)))
    image = photographs(1, 64)[0]
    got = jax.jit(lambda *x: ops.truncate(spattered(x[0], severity, x[1], rows)))(jnp.float32(image), layer)
    want = spatter_reference(image, severity, layer.astype(float), settings=rows)
    same, largest = agreement(got, want)
    assert same > 0.998 and (want != image).any(), (same, largest)


# ---------------------------------------------------------------- frost


def test_pictures_shrink_with_the_image():
    sides = {16: 10, 32: 5, 64: 10 / 3, 128: 5 / 3, 224: 1, 448: 0.5}
    for side, reduction in sides.items():
        assert frost._reduction((side, side, 3)) == pytest.approx(reduction)


def test_resize_is_linear_with_aligned_centres():
    picture = np.random.default_rng(0).integers(0, 256, (40, 53, 3)).astype(float)
    for reduction in (5, 10 / 3, 1, 0.5):
        got = frost._resize(frost._resize(picture, reduction, 0), reduction, 1)
        height, width = (round(n / reduction) for n in (40, 53))
        y, x = ((np.arange(n) + 0.5) * reduction - 0.5 for n in (height, width))
        places = np.meshgrid(y, x, indexing="ij")
        want = [ndimage.map_coordinates(picture[..., c], places, order=1, mode="nearest") for c in range(3)]
        np.testing.assert_allclose(got, np.stack(want, -1), atol=1e-9)


def test_frost_at_224_is_of_full_size_pictures():
    if corruptions.frost_source() != "imagecorruptions":
        pytest.skip("pip install --no-deps imagecorruptions==1.1.2")
    pictures, sizes = frost._pictures(frost._reduction((224, 224, 3)))
    for name, picture, (height, width) in zip(frost.FILES, pictures, sizes, strict=True):
        want = np.asarray(Image.open(frost._folder() / name).convert("RGB"))
        np.testing.assert_array_equal(picture[:height, :width], want)


def test_textures_at_full_size_have_the_photographs_statistics():
    """Measured on the five photographs beforehand; the grain is finer than a pixel at a fifth."""
    grey = [t.astype(float).mean(-1) - t.mean() for t in frost._textures(1.0)]
    for distance, least, most in ((1, 0.78, 0.9), (2, 0.58, 0.76), (5, 0.46, 0.71), (20, 0.37, 0.6)):
        kept = [(g[:, distance:] * g[:, :-distance]).mean() / g.var() for g in grey]
        assert least < np.mean(kept) < most, (distance, kept)


# ---------------------------------------------------------------- whole


@pytest.mark.parametrize(
    ("name", "severity", "scale"), [("gaussian_noise", 3, 0.18), ("speckle_noise", 2, 0.2)]
)
def test_noise_has_the_scale_of_the_size(name, severity, scale):
    images = np.full((1, 224, 224, 3), 100, np.uint8)
    change = corrupted(images, name, severity).astype(float) + 0.5 - 100
    want = 255 * scale if name == "gaussian_noise" else 100 * scale
    inside = np.abs(change) < want  # what no clipping reaches: 68.27% of a normal distribution
    assert abs(inside.mean() - 0.6827) < 4.5 * np.sqrt(0.6827 * 0.3173 / change.size) + 0.4 / want


# C-bar's meet their references at this side.
@pytest.mark.parametrize("name", some_slow(corruptions.NAMES, corruptions.CIFAR10_C))
def test_every_corruption_works_at_the_least_side(name):
    images = photographs(6, corruptions.LEAST_SIDE)
    change = np.abs(corrupted(images, name, 5) - images).mean((1, 2, 3))
    assert change.min() > 0 and 1 < change.mean() < 120


@pytest.mark.parametrize("name", ["glass_blur", "fog", "frost", "elastic_transform"])
def test_images_need_not_be_square(name):
    images = photographs(2, 120)[:, :70]
    changed = corrupted(images, name, 5)
    assert 2 < np.abs(changed - images).mean() < 120
