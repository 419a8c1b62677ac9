"""CIFAR-10-C-bar's ten corruptions against the released program's formulas, with given and with own draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from craft_jax import corruptions
from craft_jax.corruptions import c_bar_draw, c_bar_noise, c_bar_warp, settings
from tests.conftest import some_slow
from tests.corruptions.given import REFERENCES, both, keyed
from tests.corruptions.references import nothing
from tests.corruptions.references_c_bar import walk
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import assert_same_statistics, corrupted, photographs

SEVERITIES = (1, 2, 3, 4, 5)
TEN = corruptions.CIFAR10_C_BAR
RANDOM = [name for name in TEN if REFERENCES[name].draw is not nothing]
# SciPy rounds what is halfway between two levels either way: one sum of a channel in 36.
LEAST = {"transverse_chromatic_abberation": 0.985}


def keys(count):
    return jax.random.split(jax.random.key(11), count)


# ---------------------------------------------------------------- with given draws


@pytest.mark.parametrize("severity", some_slow(SEVERITIES, (1, 4)))
@pytest.mark.parametrize("name", TEN)
def test_with_given_draws(name, severity):
    for size, count in ((32, 6), (16, 12)) if severity == 4 else ((32, 6),):
        images = photographs(count, size)
        same, largest = agreement(*both(name, images, severity, np.random.default_rng(severity)))
        assert largest <= 1 and same >= LEAST.get(name, 0.999), (size, same, largest)


@pytest.mark.parametrize("size", [48, 96])
@pytest.mark.parametrize("name", [n for n in TEN if n != "lines"])
def test_at_other_sizes_lengths_are_shares_of_the_side(name, size):
    """At 96 circular_motion_blur turns images one by one."""
    same, largest = agreement(*both(name, photographs(1, size), 4, np.random.default_rng(4)))
    assert largest <= 1 and same >= LEAST.get(name, 0.998), (same, largest)


def test_lines_at_other_sizes():
    for size, count in ((16, 1), (48, 2), (96, 4)):
        images, random = photographs(2, size), np.random.default_rng(size)
        same, largest = agreement(*both("lines", images, 1, random))
        assert largest <= 1 and same >= 0.999
        y, *_ = REFERENCES["lines"].draw(random, 1, images.shape[1:])
        assert len(y) == count


def test_harsh_images_stay_in_range():
    random = np.random.default_rng(0)
    images = random.choice(np.uint8([0, 255]), (12, 32, 32, 3))
    for name in TEN:
        same, largest = agreement(*both(name, images, 5, random))
        assert largest <= 1 and same >= 0.98, (name, same, largest)


@pytest.mark.parametrize("shape", some_slow([(16, 16), (17, 40), (96, 33), (224, 224)], [(17, 40)]))
@pytest.mark.parametrize("name", TEN)
def test_every_shape_works(name, shape):
    images = photographs(2, max(shape))[:, : shape[0], : shape[1]]
    levels = corrupted(images, name, 5)
    assert (levels != images).mean() > 0.01
    # Not square: each part of the image has its share, but of pinch_and_twirl's rim and of one sparkle.
    if name not in ("inverse_sparkles", "lines"):
        quarters = [
            part for half in np.array_split(levels != images, 2, 1) for part in np.array_split(half, 2, 2)
        ]
        assert min(part.mean() for part in quarters) > 0.01


# ---------------------------------------------------------------- what is known without a program


@pytest.mark.parametrize("size", [16, 32, 33])
def test_turning_by_nothing_and_warping_by_nothing_change_nothing(size):
    image = np.float32(photographs(1, size)[0])
    coefficients = image
    for axis in (0, 1):
        coefficients = np.tensordot(c_bar_warp._coefficients(size), coefficients, (1, axis))
        coefficients = np.moveaxis(coefficients, 0, axis)
    total = sum(
        weight[..., None] * np.pad(coefficients, ((4, 4), (4, 4), (0, 0)))[4 + i :, 4 + j :][:size, :size]
        for (i, j), weight in c_bar_warp._nearby(size, size, 0.0).items()
    )
    np.testing.assert_allclose(total, image, atol=1e-3)
    places = c_bar_warp._places((size, size, 3), 0.0, 0.0)
    np.testing.assert_allclose(places, np.mgrid[:size, :size], atol=1e-9)


@pytest.mark.parametrize("severity", [1, 5])
def test_every_weight_of_a_turn_is_a_mean_but_at_the_border(severity):
    """What is beyond the last pixel is black, so a white image darkens towards its corners alone."""
    white = corrupted(np.full((24, 32, 32, 3), 255, np.uint8), "circular_motion_blur", severity)
    assert (white[:, 6:-6, 6:-6] >= 254).all() and (white[:, 0, 0] < 200).all()


def test_a_line_fades_over_a_pixel_within_its_bounding_box():
    """The walk from pixel to pixel and the distance are the same line."""
    random = np.random.default_rng(0)
    draw = jax.jit(c_bar_draw._with_line)
    for _ in range(200):
        ends = random.integers(-20, 60, 4).astype(np.float32)
        got = np.asarray(draw(jnp.zeros((40, 40, 3)), *ends))[..., 0]
        want, (y0, x0, y1, x1) = np.zeros((40, 40)), map(int, ends)
        for (row, column), shown in walk((y0, x0), (y1, x1)):
            if 0 <= row < 40 and 0 <= column < 40:
                want[row, column] = np.floor(128 * (1 - shown) + 1e-4)
        assert np.abs(got - want).max() <= 1 and (got != want).mean() < 0.001


def test_squares_are_grey_or_untouched():
    images = photographs()
    for severity, share in zip(SEVERITIES, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
        levels = [corrupted(images, "checkerboard_cutout", severity, seed) for seed in range(8)]
        changed = np.stack([(out != images).any(-1) for out in levels])
        assert all((out[c] == 128).all() for out, c in zip(levels, changed, strict=True))
        # Half of the squares are dark; an image has 16 to 100 of them.
        assert abs(changed.mean() - share / 2) < 0.02


def test_blue_noise_blackens_whole_pixels():
    images = np.maximum(photographs(), 1)
    for severity, threshold in zip(SEVERITIES, (-2.29, -2.08, -1.87, -1.45, -1.24), strict=True):
        levels = np.concatenate([corrupted(images, "blue_noise_sample", severity, seed) for seed in (1, 2)])
        black = (levels == 0).all(-1)
        assert (levels[~black] == np.concatenate([images] * 2)[~black]).all()
        assert abs(black.mean() - stats.norm.cdf(threshold)) < 0.002


# ---------------------------------------------------------------- spectra


@pytest.mark.parametrize(
    ("amplitude", "slope"), [(lambda r: r, 2.0), (lambda r: 1 / (r**2 + 1), -4.0)], ids=["blue", "brownish"]
)
@pytest.mark.parametrize("size", [32, 45])
def test_power_falls_or_grows_with_frequency_as_said(amplitude, slope, size):
    phases = jax.vmap(lambda key: c_bar_noise._phases(key, (size, size, 3)))(keys(300))
    make = jax.jit(jax.vmap(lambda phases: c_bar_noise.spectral_noise(phases, (size, size), amplitude)))
    noise = np.asarray(make(phases))
    np.testing.assert_allclose(noise.std((1, 2)), 1, rtol=1e-5)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(size) * size] * 2))
    seen = (frequency > 3) & (frequency < size / 2)
    fitted = np.polyfit(np.log(frequency[seen]), np.log(power[seen]), 1)[0]
    assert abs(fitted - slope) < 0.12, fitted


def test_channels_of_brownish_noise_are_independent():
    grey = np.full((24, 32, 32, 3), 128, np.uint8)
    change = np.concatenate([corrupted(grey, "brownish_noise", 1, seed) for seed in range(6)]) - 128.0
    # A handful of slow waves is most of an image: the means of 144 images are what can correlate.
    for other in (1, 2):
        pairs = [np.corrcoef(image[..., 0].ravel(), image[..., other].ravel())[0, 1] for image in change]
        assert abs(np.mean(pairs)) < 4.5 * np.std(pairs) / 12
    assert abs(change.std((1, 2)).mean() - 16) < 0.2


# ---------------------------------------------------------------- the draws


def drawn(monkeypatch, module, worker, name, severity=3, size=32, count=4000):
    """What a corruption hands on to its deterministic part, of as many keys."""
    seen, image = [], jnp.zeros((size, size, 3))
    monkeypatch.setattr(module, worker, lambda image, *given: seen.append(given) or image)

    def one(key):
        corruptions.CORRUPTIONS[name](key, image, severity)
        return [part for part in jax.tree.leaves(seen.pop()) if not isinstance(part, int)]

    return [np.asarray(part) for part in jax.jit(jax.vmap(one))(keys(count))]


def assert_uniform(values, low, high):
    assert stats.kstest(np.ravel(values), stats.uniform(low, high - low).cdf).pvalue > 1e-4


def assert_even(values, least, most):
    counts = np.bincount(np.ravel(values), minlength=most + 1)
    assert counts.size == most + 1 and not counts[:least].any()
    assert stats.chisquare(counts[least:]).pvalue > 1e-4


def test_draws_of_the_noises(monkeypatch):
    for name, worker in (("blue_noise_sample", "_sampled"), ("brownish_noise", "_browned")):
        phases = drawn(monkeypatch, c_bar_noise, worker, name, count=100)
        assert all(part.shape == (100, 512) for part in phases)
        assert_uniform(phases, 0, 2 * np.pi)


@pytest.mark.parametrize("size", [16, 32])
def test_draws_of_what_is_drawn_over(monkeypatch, size):
    angle, square, chance = drawn(monkeypatch, c_bar_draw, "_cut_out", "checkerboard_cutout", size=size)
    assert_uniform(angle, 0, 2 * np.pi)
    assert_uniform(square, 0.1 * size, 0.25 * size)
    assert_uniform(chance[:, ::7, ::7], 0, 1)
    centre, lengths, rays = drawn(monkeypatch, c_bar_draw, "_lit", "inverse_sparkles", size=size)
    assert_uniform(centre, size / 4, 3 * size / 4)
    assert stats.kstest(lengths[::20].ravel(), stats.norm(1, 0.25).cdf).pvalue > 1e-4
    assert_even(rays, 50, 199)
    centres, lengths, rays = drawn(monkeypatch, c_bar_draw, "_sparkling", "sparkles", size=size)
    assert centres.shape[1:] == (5, 2) and lengths.shape[1:] == (5, 199)
    assert_uniform(centres, 0, size)
    assert_even(rays, 50, 199)
    assert np.abs(np.corrcoef(centres.reshape(-1, 10).T) - np.eye(10)).max() < 0.08


def test_draws_of_lines(monkeypatch):
    for severity, count in zip(SEVERITIES, (1, 3, 4, 6, 8), strict=True):
        y, x, angles = drawn(monkeypatch, c_bar_draw, "_lined", "lines", severity)
        assert y.shape[1] == x.shape[1] == angles.shape[1] == count
        assert_uniform(y, 0, 32)
        assert_uniform(x, 0, 32)
        if severity == 1:
            assert_uniform(angles[:, 0] % (2 * np.pi), 0, 2 * np.pi)
        # A line's turn from another's: the spread, in 0.1 to 1, times the difference of two uniform numbers.
        else:
            random = np.random.default_rng(0)
            spread, turns = random.uniform(0.1, 1, 20000), random.uniform(size=(2, 20000))
            want = 2 * np.pi * spread * (turns[0] - turns[1])
            assert stats.ks_2samp(angles[:, 0] - angles[:, 1], want).pvalue > 1e-4


@pytest.mark.parametrize("size", [16, 32])
def test_draws_of_warps(monkeypatch, size):
    wavelengths, phases = drawn(monkeypatch, c_bar_warp, "_rippled", "ripple", size=size)
    assert_uniform(wavelengths, 0.1 * size, 0.3 * size)
    assert_uniform(phases, 0, 2 * np.pi)
    (positive,) = drawn(monkeypatch, c_bar_warp, "_twirled", "pinch_and_twirl", size=size)
    assert positive.shape[1:] == (3, 3)
    assert_even(np.packbits(positive.reshape(-1, 9)[:, :5], axis=1) >> 3, 0, 31)
    (order,) = drawn(monkeypatch, c_bar_warp, "_fringed", "transverse_chromatic_abberation", size=size)
    assert_even(order, 0, 5)


@pytest.mark.parametrize("name", RANDOM)
def test_has_the_originals_distribution(name):
    images, random, reference = photographs(12), np.random.default_rng(5), REFERENCES[name]
    got = np.stack([corrupted(images, name, 4, seed) for seed in range(12)])
    want = [
        [reference.apply(image, 4, *reference.draw(random, 4, image.shape)) for image in images]
        for _ in range(4 if "sparkles" in name else 8)
    ]
    assert_same_statistics(images, got, np.stack(want))


# ---------------------------------------------------------------- severities and programs


@pytest.mark.slow
@pytest.mark.parametrize("name", TEN)
def test_a_higher_severity_changes_more(name):
    images = photographs(24)
    change = [
        np.mean([np.abs(corrupted(images, name, s, seed) - images).mean() for seed in range(8)])
        for s in SEVERITIES
    ]
    assert change[0] > 0.3 and (np.diff(change) > 0).all(), change


@pytest.mark.parametrize("name", some_slow(TEN, ("ripple", "sparkles", "brownish_noise")))
def test_jitted_and_not_is_the_same(name):
    """`corrupt` is; each operation by itself may round otherwise, a level apart at the most."""
    key, image = keys(1)[0], jnp.float32(photographs(1)[0])
    got = np.asarray(keyed(name, 4)(key[None], image[None]))[0]
    with jax.disable_jit():
        plain = corruptions.CORRUPTIONS[name](key, image, 4)
    same, largest = agreement(np.floor(np.clip(plain, 0, 255) + 1e-4), got)
    assert largest <= 1 and same > 0.995


def test_one_table_for_every_size():
    for table in settings.TABLES.values():
        assert {name: table[name] for name in TEN} == settings.C_BAR


def test_splines_are_scipys():
    """The constant matrices, exactly: float64 against SciPy's own zoom."""
    random = np.random.default_rng(0)
    for size in (16, 17, 32):
        x = random.normal(size=(size, size))
        for factor in (1, 1.025, 1.25, 1.5):
            large = ndimage.zoom(x, factor, prefilter=False)
            edge = (len(large) - size) // 2
            matrix = c_bar_warp._zoom(size, factor)
            want = large[edge : edge + size, edge : edge + size]
            np.testing.assert_allclose(matrix @ x @ matrix.T, want, atol=1e-12)
