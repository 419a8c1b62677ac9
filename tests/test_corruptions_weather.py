"""Fog, snow and frost against the original's steps in NumPy and SciPy, with given draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_corruptions_blur import motion_reference
from test_corruptions_helpers import (
    agreement,
    assert_same_statistics,
    corrupted,
    photographs,
    truncated,
)

from craft_jax import corruptions
from craft_jax.corruptions import frost, weather
from craft_jax.corruptions.ops import truncate

SEVERITIES = (1, 2, 3, 4, 5)

# ---------------------------------------------------------------- fog

FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))


def plasma_reference(draw, size, decay):
    """Diamond-square on a torus, point by point; draw(n) gives 3 arrays (n, n) in [-1, 1]."""
    height, step, wibble = {(0, 0): 0.0}, size, 100.0

    def at(y, x):
        return height[y % size, x % size]

    while step >= 2:
        half, count = step // 2, size // step
        middle, top, side = draw(count)
        grid = [(i, j) for i in range(count) for j in range(count)]
        for i, j in grid:
            y, x = i * step, j * step
            corners = at(y, x) + at(y + step, x) + at(y, x + step) + at(y + step, x + step)
            height[y + half, x + half] = corners / 4 + wibble**2 * middle[i, j]
        for i, j in grid:
            y, x = i * step, j * step + half
            around = at(y, x - half) + at(y, x + half) + at(y - half, x) + at(y + half, x)
            height[y, x] = around / 4 + wibble**2 * top[i, j]
            y, x = i * step + half, j * step
            around = at(y, x - half) + at(y, x + half) + at(y - half, x) + at(y + half, x)
            height[y, x] = around / 4 + wibble**2 * side[i, j]
        step, wibble = half, wibble / decay
    field = np.array([[height[y, x] for x in range(size)] for y in range(size)])
    return (field - field.min()) / np.ptp(field)


def fog_reference(image, severity, draw):
    thickness, decay = FOG[severity - 1]
    return foggy_reference(image, thickness, plasma_reference(draw, 32, decay))


def foggy_reference(image, thickness, plasma):
    x = image / 255.0
    foggy = x + thickness * plasma[..., None]
    return foggy * x.max() / (x.max() + thickness)


@pytest.mark.parametrize("severity", (1, 3, 5))
def test_fog_with_given_draws(severity):
    thickness, decay = FOG[severity - 1]
    make = jax.jit(lambda image, draws: weather._fog(image, weather.plasma(draws, 32, decay), thickness))
    for seed, image in enumerate(photographs()[:4] // (1, 2, 1)):
        draws = np.random.default_rng(seed).uniform(-1, 1, 32 * 32 - 1)
        rest = iter(draws)

        def take(n, rest=rest):
            return np.array([next(rest) for _ in range(3 * n * n)]).reshape(3, n, n)

        got = truncate(make(jnp.float32(image), jnp.float32(draws)))
        same, largest = agreement(got, truncated(fog_reference(image, severity, take)))
        assert largest <= 1 and same > 0.99, same


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_settings(severity, monkeypatch):
    """What `fog` hands to the functions tested above."""
    calls = []
    monkeypatch.setattr(weather, "plasma", lambda chance, *given: calls.append(given) or chance)
    monkeypatch.setattr(weather, "_fog", lambda image, haze, thickness: calls.append(thickness))
    monkeypatch.setattr(weather, "draw", lambda sampler, key, shape, *_: np.zeros((64, 64)))
    weather.fog(None, np.zeros((40, 33, 3)), severity)
    thickness, decay = FOG[severity - 1]
    assert calls == [(64, decay), thickness]


@pytest.mark.parametrize("severity", (4,))
def test_fog_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "fog", severity, seed) for seed in range(8)])

    def draw(n):
        return random.uniform(-1, 1, (3, n, n))

    want = [[fog_reference(image, severity, draw) for image in images] for _ in range(4)]
    assert_same_statistics(images, got, truncated(want))


def test_fog_at_other_sizes():
    assert np.ptp(corrupted(photographs(2, 40), "fog", 3)) > 50
    assert (corrupted(np.zeros((24, 32, 32, 3), np.uint8), "fog", 5) == 0).all()


# ---------------------------------------------------------------- snow

SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)


def snow_reference(image, layer, degrees, zoom, threshold, radius, sigma, blend):
    size = len(image)
    part = int(np.ceil(size / zoom))
    top = (size - part) // 2
    middle = layer[top : top + part, top : top + part, None]
    large = ndimage.zoom(middle, (zoom, zoom, 1), order=1)
    trim = (len(large) - size) // 2
    layer = large[trim : trim + size, trim : trim + size]
    layer[layer < threshold] = 0
    flakes = motion_reference(truncated(layer), radius, sigma, degrees) / 255.0
    x = image / 255.0
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    x = blend * x + (1 - blend) * np.maximum(x, 1.5 * grey + 0.5)
    return x + flakes + np.rot90(flakes, k=2)


def snow_draws(random, severity):
    loc, scale = SNOW[severity - 1][:2]
    return random.normal(loc, scale, (32, 32)), random.uniform(-135, -45)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_with_given_draws(severity):
    random, images = np.random.default_rng(severity), photographs()[:8]
    draws = [snow_draws(random, severity) for _ in images]
    settings = SNOW[severity - 1][2:]
    want = [snow_reference(i, *d, *settings) for i, d in zip(images, draws, strict=True)]
    layers, degrees = (np.float32(d) for d in zip(*draws, strict=True))
    snowed = jax.jit(jax.vmap(lambda *given: weather._snow(*given, *settings)))
    same, largest = agreement(truncate(snowed(jnp.float32(images), layers, degrees)), truncated(want))
    assert largest <= 2 and same > 0.99, (same, largest)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_settings(severity, monkeypatch):
    """What `snow` hands to the function tested above, with draws of 0 and of 1."""
    calls = []
    monkeypatch.setattr(weather, "_snow", lambda image, *given: calls.append(given))
    for value in (0, 1):
        monkeypatch.setattr(weather, "draw", lambda _, key, shape, value=value: np.full(shape, value))
        weather.snow(jax.random.key(value), np.zeros((32, 32, 3)), severity)
    loc, scale, *settings = SNOW[severity - 1]
    for (layer, degrees, *rest), want in zip(calls, (loc, loc + scale), strict=True):
        assert -135 <= degrees <= -45 and rest == settings
        np.testing.assert_allclose(layer, np.full((32, 32), want))


@pytest.mark.parametrize("severity", (4,))
def test_snow_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "snow", severity, seed) for seed in range(6)])
    settings = SNOW[severity - 1][2:]
    want = [[snow_reference(i, *snow_draws(random, severity), *settings) for i in images] for _ in range(6)]
    assert_same_statistics(images, got, truncated(want))


# ---------------------------------------------------------------- frost

FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))


@pytest.fixture(params=["procedural", "imagecorruptions"])
def source(request, monkeypatch):
    """Frost from either source; the photographs only where the package is installed."""
    if request.param == "procedural":
        monkeypatch.setattr(frost, "_folder", lambda: None)
    elif corruptions.frost_source() != "imagecorruptions":
        pytest.skip("pip install --no-deps imagecorruptions==1.1.2")
    frost._pictures.cache_clear()
    assert corruptions.frost_source() == request.param
    yield request.param
    frost._pictures.cache_clear()


def crops(count, size=32):
    keys = jax.random.split(jax.random.key(0), count)
    crop = jax.jit(jax.vmap(lambda key: frost.frost_crop(key, (size, size, 3))))
    return np.asarray(crop(keys)).astype(int)


def test_crops_are_of_all_five_pictures_and_places(source):
    pictures, sizes = frost._pictures(5)
    found, places = [], []
    for crop in crops(60):
        hits = []
        for index, (picture, (height, width)) in enumerate(zip(pictures, sizes, strict=True)):
            starts = np.argwhere((picture[: height - 31, : width - 31] == crop[0, 0]).all(-1))
            hits += [
                (index, y / (height - 32), x / (width - 32))
                for y, x in starts
                if (picture[y : y + 32, x : x + 32] == crop).all()
            ]
        assert hits, "a crop that no picture holds"
        found.append(hits[0][0])
        places.append(hits[0][1:])
    # frost2.png and frost3.png are the same picture.
    assert set(found) == ({0, 1, 3, 4} if source == "imagecorruptions" else set(range(5)))
    places = np.array(places)
    assert (np.abs(places.mean(0) - 0.5) < 4.5 * 0.29 / np.sqrt(60)).all()
    assert (places.std(0) > 0.2).all() and (places < 1).all()


def test_photographs_are_every_fifth_pixel():
    if corruptions.frost_source() != "imagecorruptions":
        pytest.skip("pip install --no-deps imagecorruptions==1.1.2")
    frost._pictures.cache_clear()
    pictures, sizes = frost._pictures(5)
    for name, picture, size in zip(frost.FILES, pictures, sizes, strict=True):
        whole = Image.open(frost._folder() / name).convert("RGB")
        want = np.asarray(whole)[2::5, 2::5]
        assert want.shape[:2] == tuple(size)
        np.testing.assert_array_equal(picture[: size[0], : size[1]], want)


def test_textures_have_the_photographs_statistics(source):
    """Colours, contrast and autocorrelation, measured on the five photographs beforehand."""
    pictures, sizes = frost._pictures(5)
    pictures = [p[:h, :w].astype(float) for p, (h, w) in zip(pictures, sizes, strict=True)]
    mean = np.array([p.mean((0, 1)) for p in pictures])
    want = [[77.5, 149, 165.7], [200.8, 205.4, 214.5], [200.8, 205.4, 214.5], [138, 153.2, 165.6]]
    np.testing.assert_allclose(mean, [*want, [112.3, 123.3, 134.7]], atol=3)
    spread = np.array([p.std((0, 1)).mean() for p in pictures])
    np.testing.assert_allclose(spread, [19.5, 22, 22, 29.4, 43], atol=3)
    grey = [p.mean(-1) - p.mean() for p in pictures]
    for distance, least, most in ((1, 0.45, 0.75), (4, 0.33, 0.62), (16, 0.15, 0.5)):
        kept = [(g[:, distance:] * g[:, :-distance]).mean() / g.var() for g in grey]
        assert least < np.mean(kept) < most, (distance, kept)


@pytest.mark.parametrize("severity", (1, 5))
def test_frost_is_a_weighted_sum(severity, source):
    kept, added = FROST[severity - 1]
    images, keys = photographs(), jax.random.split(jax.random.key(2), 24)
    layer = np.asarray(jax.jit(jax.vmap(lambda key: frost.frost_crop(key, (32, 32, 3))))(keys), float)
    one = jax.jit(jax.vmap(lambda key, image: weather.frost(key, image, severity)))
    got = truncate(one(keys, jnp.float32(images)))
    want = np.clip(kept * images + added * layer, 0, 255).astype(np.uint8)
    same, largest = agreement(got, want)
    assert largest <= 1 and same > 0.95, same


@pytest.mark.parametrize("size", [16, 53, 64, 224, 400])
def test_frost_at_other_sizes(size, source):
    assert crops(2, size).shape == (2, size, size, 3)
    _, sizes = frost._pictures(frost._reduction((size, size)))
    assert (sizes > size).all()
