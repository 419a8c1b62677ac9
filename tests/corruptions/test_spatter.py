"""Spatter against the original's steps in NumPy, pixel by pixel, and against OpenCV."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax.corruptions import spatter
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


@pytest.mark.parametrize("severity", SEVERITIES)
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
        record = functools.partial(lambda kind, image, *given: calls.append((kind, *given)), kind)
        monkeypatch.setattr(spatter, kind, record)
    for value in (0, 1):
        monkeypatch.setattr(spatter.draws, "normal", lambda _, shape, value=value: np.full(shape, value))
        spatter.spatter(None, np.zeros((32, 32, 3)), severity)
    loc, scale, *settings = SPATTER[severity - 1]
    for (kind, layer, *rest), want in zip(calls, (loc, loc + scale), strict=True):
        assert kind == ("_water" if severity <= 3 else "_mud") and rest == settings
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
