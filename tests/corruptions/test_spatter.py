"""Spatter against the original's steps in NumPy, pixel by pixel, and against OpenCV."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from craft_jax.corruptions import spatter
from craft_jax.corruptions.components import components
from craft_jax.corruptions.ops import gaussian_taps
from tests.conftest import some_slow
from tests.corruptions import originals
from tests.corruptions.given import both, given
from tests.corruptions.references import soft
from tests.corruptions.references_layers import SPATTER, canny, distance, spatter_draws
from tests.corruptions.references_layers import spatter as spatter_reference
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import (
    assert_same_statistics,
    corrupted,
    photographs,
)

SEVERITIES = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("severity", some_slow(SEVERITIES, (1, 4)))
def test_spatter_with_given_draws(severity):
    random = np.random.default_rng(severity)
    same, largest = agreement(*both("spatter", photographs()[:8], severity, random))
    # A level of a drop that float32 truncates differently may move an edge: rare, but not small.
    assert same > 0.998, (same, largest)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_is_opencvs(severity):
    pytest.importorskip("cv2")
    random, images = np.random.default_rng(severity), photographs()
    layers = np.stack([spatter_draws(random, severity, (32, 32))[0] for _ in images])
    got = given("spatter", severity)(jnp.float32(images), jnp.float32(layers))
    pairs = zip(images, layers, strict=True)
    want = [originals.spatter(image, severity, layer) for image, layer in pairs]
    assert agreement(got, want)[0] > 0.998


@pytest.mark.slow
def test_edges_and_distances_are_exact():
    random = np.random.default_rng(5)
    for contrast in (40, 120, 255):
        blobs = soft(random.normal(size=(32, 32)), 1.2)
        plane = np.where(blobs > 0.2, contrast * np.minimum(blobs + 0.4, 1), 0).astype(np.uint8)
        edges = canny(plane, 50, 150)
        np.testing.assert_array_equal(spatter._canny(jnp.int32(plane), 50, 150), edges)
        got = np.minimum(spatter._distance(jnp.asarray(edges)), 20 << 16) / 65536
        np.testing.assert_array_equal(got, np.minimum(distance(edges), 20))
    single = np.zeros((32, 32), bool)
    single[3, 3] = True
    got = np.minimum(spatter._distance(jnp.asarray(single)), 20 << 16) / 65536
    np.testing.assert_array_equal(got, np.minimum(distance(single), 20))


@functools.cache
def _components():
    return jax.jit(components)


def _agrees_with_scipy(plane):
    """Equal labels mean the same component, and only that."""
    found, (want, count) = np.asarray(_components()(plane))[plane], ndimage.label(plane, np.ones((3, 3)))
    pairs = set(zip(found.tolist(), want[plane].tolist(), strict=True))
    assert len(pairs) == count == len(set(found.tolist()))


@pytest.mark.parametrize("shape", [(32, 32), (31, 18)])
def test_components_are_scipys(shape):
    random = np.random.default_rng(0)
    for share in (0, 0.05, 0.2, 0.35, 0.4, 0.5, 0.7, 1):
        for _ in range(10):
            _agrees_with_scipy(random.random(shape) < share)


@pytest.mark.parametrize("width", [3, 20, 37, 256])
def test_components_of_a_line(width):
    """The longest path that a round can have: every block but the first chooses the one before it."""
    line = np.ones((1, width), bool)
    for gap in (None, width // 3, width - 2):
        _agrees_with_scipy(line & (np.arange(width) != gap))


def spiral(size, start=0):
    """A path one pixel wide from a corner to the middle, its turns one pixel apart: (size, size) booleans."""
    plane = np.zeros((size, size), bool)
    for ring in range(start, size // 2, 2):
        last = size - 1 - ring
        plane[ring, max(ring - 1, 0) : last + 1] = plane[ring : last + 1, last] = True
        plane[last, ring : last + 1] = plane[ring + 2 : last + 1, ring] = True
    return plane


def test_components_of_spirals_and_meanders():
    """Where a bound on dilations fails: 500 pixels of a path from end to end."""
    meander = np.zeros((32, 32), bool)
    meander[::2] = True
    meander[1::4, -1] = meander[3::4, 0] = True
    for plane in (spiral(32), ~spiral(32), meander, meander.T, np.rot90(spiral(31))):
        _agrees_with_scipy(plane)
    assert ndimage.label(meander, np.ones((3, 3)))[1] == 1 and meander.sum() > 500
    assert ndimage.label(spiral(32), np.ones((3, 3)))[1] == 1
    # An edge at one end is joined to all of the path, as the hysteresis has it.
    seed = np.zeros_like(meander)
    seed[0, 0] = True
    np.testing.assert_array_equal(spatter._join(jnp.asarray(seed), jnp.asarray(meander)), meander)


def test_without_a_drop_the_image_stays():
    for severity in (1, 4):
        dry = np.zeros((24, 32, 32))
        np.testing.assert_array_equal(
            given("spatter", severity)(jnp.float32(photographs()), dry), photographs()
        )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_settings(severity, monkeypatch):
    """What `spatter` hands to the functions tested above, with draws of 0 and of 1."""
    calls = []
    for kind in ("_water", "_mud"):
        record = functools.partial(lambda kind, image, *given: calls.append((kind, *given)) or image, kind)
        monkeypatch.setattr(spatter, kind, record)
    for value in (0, 1):
        monkeypatch.setattr(spatter.draws, "normal", lambda _, shape, value=value: np.full(shape, value))
        spatter.spatter(jax.random.key(0), jnp.zeros((32, 32, 3)), severity)
    loc, scale, sigma, threshold, last = SPATTER[severity - 1]
    for (kind, layer, taps, *rest), want in zip(calls, (loc, loc + scale), strict=True):
        assert kind == ("_water" if severity <= 3 else "_mud") and rest[0] == threshold
        np.testing.assert_array_equal(taps, np.float32(gaussian_taps(sigma)))
        np.testing.assert_array_equal(rest[1], last if severity <= 3 else np.float32(gaussian_taps(last)))
        np.testing.assert_allclose(layer, np.full((32, 32), want))


@pytest.mark.parametrize("severity", (1, 4))
def test_spatter_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "spatter", severity, seed) for seed in range(16)])
    images = images[:8]
    want = [
        [spatter_reference(i, severity, *spatter_draws(random, severity, i.shape)) for i in images]
        for _ in range(4)
    ]
    assert_same_statistics(images, got[:, :8], np.stack(want))
