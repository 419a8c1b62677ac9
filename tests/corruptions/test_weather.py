"""Fog, snow and frost against the original's steps in NumPy and SciPy, with given draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from craft_jax import corruptions
from craft_jax.corruptions import frost, weather
from tests.conftest import some_slow
from tests.corruptions import references_layers
from tests.corruptions.given import both, keyed
from tests.corruptions.references_layers import FOG, SNOW, fog_draws, snow_draws
from tests.corruptions.references_layers import fog as fog_reference
from tests.corruptions.references_layers import snow as snow_reference
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import (
    assert_same_statistics,
    corrupted,
    photographs,
)

SEVERITIES = (1, 2, 3, 4, 5)

# ---------------------------------------------------------------- fog


@pytest.mark.parametrize("severity", (1, 3, 5))
def test_fog_with_given_draws(severity):
    images = photographs()[:4] // np.uint8([1, 2, 1, 1])[:, None, None, None]
    random = np.random.default_rng(severity)
    same, largest = agreement(*both("fog", images, severity, random))
    assert largest <= 1 and same > 0.99, same


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_settings(severity, monkeypatch):
    """What `fog` hands to the functions tested above."""
    calls = []
    monkeypatch.setattr(weather, "plasma", lambda chance, *given: calls.append(given) or chance)
    monkeypatch.setattr(weather, "_fog", lambda image, haze, thickness: calls.append(thickness) or image)
    monkeypatch.setattr(weather.draws, "uniform", lambda key, shape, *_: np.zeros((64, 64)))
    weather.fog(jax.random.key(0), jnp.zeros((40, 33, 3)), severity)
    thickness, decay = FOG[severity - 1]
    assert calls == [(64, decay), thickness]


@pytest.mark.parametrize("severity", (4,))
def test_fog_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "fog", severity, seed) for seed in range(8)])

    want = [
        [fog_reference(i, severity, *fog_draws(random, severity, i.shape)) for i in images] for _ in range(4)
    ]
    assert_same_statistics(images, got, np.stack(want))


def test_fog_at_other_sizes():
    assert np.ptp(corrupted(photographs(2, 40), "fog", 3)) > 50
    assert (corrupted(np.zeros((24, 32, 32, 3), np.uint8), "fog", 5) == 0).all()


# ---------------------------------------------------------------- snow


@pytest.mark.parametrize("severity", some_slow(SEVERITIES, (1, 5)))
def test_snow_with_given_draws(severity):
    random = np.random.default_rng(severity)
    same, largest = agreement(*both("snow", photographs()[:8], severity, random))
    assert largest <= 2 and same > 0.99, (same, largest)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_settings(severity, monkeypatch):
    """What `snow` hands to the function tested above, with draws of 0 and of 1."""
    calls = []
    monkeypatch.setattr(weather, "_snow", lambda image, *given: calls.append(given) or image)
    for value in (0, 1):
        monkeypatch.setattr(weather.draws, "normal", lambda _, shape, value=value: np.full(shape, value))
        weather.snow(jax.random.key(value), jnp.zeros((32, 32, 3)), severity)
    loc, scale, *_ = SNOW[severity - 1]
    for (layer, degrees, *rest), want in zip(calls, (loc, loc + scale), strict=True):
        assert -135 <= degrees <= -45 and rest == [severity]
        np.testing.assert_allclose(layer, np.full((32, 32), want))


@pytest.mark.parametrize("severity", (4,))
def test_snow_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "snow", severity, seed) for seed in range(6)])
    want = [
        [snow_reference(i, severity, *snow_draws(random, severity, i.shape)) for i in images]
        for _ in range(6)
    ]
    assert_same_statistics(images, got, np.stack(want))


# ---------------------------------------------------------------- frost


@pytest.fixture(params=["procedural", "imagecorruptions"])
def source(request, monkeypatch):
    """Frost from either source; the photographs only where the package is installed."""
    if request.param == "procedural":
        monkeypatch.setattr(frost, "_folder", lambda: None)
    elif corruptions.frost_source() != "imagecorruptions":
        pytest.skip("pip install --no-deps imagecorruptions==1.1.2")
    caches = frost._pictures, references_layers.pictures, keyed
    for cache in caches:
        cache.cache_clear()
    assert corruptions.frost_source() == request.param
    yield request.param
    for cache in caches:
        cache.cache_clear()


def some_crops(count, size=32):
    crop = jax.jit(jax.vmap(lambda key: frost.frost_crop(key, (size, size, 3))))
    return np.asarray(crop(jax.random.split(jax.random.key(0), count))).astype(int)


def test_crops_are_of_all_five_pictures_and_places(source):
    pictures, sizes = frost._pictures(5)
    found, places = [], []
    for crop in some_crops(60):
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
    same, largest = agreement(*both("frost", photographs(), severity, np.random.default_rng(2)))
    assert largest <= 1 and same > 0.95, same


@pytest.mark.parametrize("size", some_slow([16, 53, 64, 224, 400], [16, 53]))
def test_frost_at_other_sizes(size, source):
    assert some_crops(2, size).shape == (2, size, size, 3)
    _, sizes = frost._pictures(frost._reduction((size, size)))
    assert (sizes > size).all()
