"""Spatter against the original's steps in NumPy, pixel by pixel, and against OpenCV."""

import functools

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

from craft_jax.corruptions import spatter
from craft_jax.corruptions.ops import truncate

SEVERITIES = (1, 2, 3, 4, 5)
SETTINGS = (
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
)


def canny_reference(plane, low, high):
    """OpenCV's Canny as its documentation has it, with a stack of edges to follow."""
    a = np.pad(plane.astype(int), 1, mode="edge")
    columns, rows = a[:, 2:] - a[:, :-2], a[2:] - a[:-2]
    dx = columns[:-2] + 2 * columns[1:-1] + columns[2:]
    dy = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    size = np.pad(np.abs(dx) + np.abs(dy), 1)
    state = np.zeros(size.shape, int)  # 1 is a candidate, 2 an edge
    for y, x in np.ndindex(dx.shape):
        u, v = dx[y, x], dy[y, x]
        m, at = size[y + 1, x + 1], size[y : y + 3, x : x + 3]
        if m <= low:
            continue
        if abs(v) << 15 < abs(u) * 13573:
            peak = m > at[1, 0] and m >= at[1, 2]
        elif abs(v) << 15 > abs(u) * (13573 + (2 << 15)):
            peak = m > at[0, 1] and m >= at[2, 1]
        else:
            s = -1 if (u < 0) != (v < 0) else 1
            peak = m > at[0, 1 - s] and m > at[2, 1 + s]
        state[y + 1, x + 1] = peak * (1 + (m > high))
    stack = list(np.argwhere(state == 2))
    while stack:
        y, x = stack.pop()
        for i, j in np.argwhere(state[y - 1 : y + 2, x - 1 : x + 2] == 1):
            state[y - 1 + i, x - 1 + j] = 2
            stack.append((y - 1 + i, x - 1 + j))
    return state[1:-1, 1:-1] == 2


def distance_reference(edges):
    """The least chamfer length to any edge, from the closed form; pixels, in steps of 2^-16."""
    if not edges.any():
        return np.full(edges.shape, 1000.0)
    gap = np.abs(np.argwhere(np.ones(edges.shape))[:, None] - np.argwhere(edges)[None])
    long, short = gap.max(-1), gap.min(-1)
    side, diagonal, knight = (np.round(w * 65536) for w in (1, 1.4, 2.1969))
    near_axis = (long - 2 * short) * side + short * knight
    near_diagonal = (2 * short - long) * diagonal + (long - short) * knight
    return np.where(2 * short <= long, near_axis, near_diagonal).min(1).reshape(edges.shape) / 65536


def equalise_reference(plane):
    histogram = np.bincount(plane.ravel(), minlength=256)
    first = np.flatnonzero(histogram)[0]
    if histogram[first] == plane.size:
        return plane
    scale, table = np.float32(255) / np.float32(plane.size - histogram[first]), np.zeros(256, int)
    table[first + 1 :] = np.rint(np.cumsum(histogram[first + 1 :]).astype(np.float32) * scale)
    return table[plane]


def relief_reference(plane):
    """From the drops (H, W) uint8 to the embossed relief, 0..255."""
    distance = np.minimum(distance_reference(canny_reference(plane, 50, 150)), 20)
    sums = ndimage.correlate(distance, np.ones((3, 3)), mode="mirror")
    equal = equalise_reference(np.floor(sums / 9 + 1e-9).astype(int))
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = np.clip(ndimage.correlate(equal, kernel, mode="mirror"), 0, 255)
    return np.rint(ndimage.correlate(relief, np.ones((3, 3), int), mode="mirror") / 9)


def relief_opencv(plane):
    cv2 = pytest.importorskip("cv2")
    distance = cv2.distanceTransform(255 - cv2.Canny(plane, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, kernel)
    return cv2.blur(relief, (3, 3)).astype(float)


def soft(x, sigma):
    return ndimage.gaussian_filter(x, sigma, mode="nearest", truncate=4)


def spatter_reference(image, layer, severity, relief=relief_reference, settings=SETTINGS):
    _, _, sigma, threshold, intensity = settings[severity - 1]
    x, drops = image / 255.0, soft(layer, sigma)
    drops[drops < threshold] = 0
    if severity <= 3:
        plane = np.floor(drops * 255).astype(int).astype(np.uint8)
        mask = plane * relief(plane)
        mask = intensity * mask / max(mask.max(), 1)
        return x + mask[..., None] * np.array([175, 238, 238]) / 255
    mask = soft((drops > threshold).astype(float), intensity)
    mask = np.where(mask < 0.8, 0, mask)[..., None]
    return x * (1 - mask) + mask * np.array([63, 42, 20]) / 255


def layers(random, severity, count):
    loc, scale = SETTINGS[severity - 1][:2]
    return np.float32(random.normal(loc, scale, (count, 32, 32))).astype(float)


@functools.cache
def given_spatter(severity):
    kind = spatter._water if severity <= 3 else spatter._mud
    settings = SETTINGS[severity - 1][2:]
    return jax.jit(jax.vmap(lambda image, layer: truncate(kind(image, layer, *settings))))


def spattered(images, given, severity):
    return given_spatter(severity)(jnp.float32(images), jnp.float32(given))


@pytest.mark.parametrize("relief", [relief_reference, relief_opencv])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_with_given_draws(severity, relief):
    images = photographs()
    given = layers(np.random.default_rng(severity), severity, len(images))
    got = spattered(images, given, severity)[:8]
    pairs = zip(images[:8], given[:8], strict=True)
    want = [spatter_reference(image, layer, severity, relief) for image, layer in pairs]
    same, largest = agreement(got, truncated(want))
    # A level of a drop that float32 truncates differently may move an edge: rare, but not small.
    assert same > 0.998, (same, largest)


def test_edges_and_distances_are_exact():
    random = np.random.default_rng(5)
    for contrast in (40, 120, 255):
        blobs = soft(random.normal(size=(32, 32)), 1.2)
        plane = np.where(blobs > 0.2, contrast * np.minimum(blobs + 0.4, 1), 0).astype(np.uint8)
        edges = canny_reference(plane, 50, 150)
        np.testing.assert_array_equal(spatter._canny(jnp.int32(plane), 50, 150), edges)
        got = np.minimum(spatter._distance(jnp.asarray(edges)), 20 << 16) / 65536
        np.testing.assert_array_equal(got, np.minimum(distance_reference(edges), 20))
    single = np.zeros((32, 32), bool)
    single[3, 3] = True
    got = np.minimum(spatter._distance(jnp.asarray(single)), 20 << 16) / 65536
    np.testing.assert_array_equal(got, np.minimum(distance_reference(single), 20))


def test_without_a_drop_the_image_stays():
    for severity in (1, 4):
        dry = np.zeros((24, 32, 32))
        np.testing.assert_array_equal(spattered(photographs(), dry, severity), photographs())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_settings(severity, monkeypatch):
    """What `spatter` hands to the functions tested above, with draws of 0 and of 1."""
    calls = []
    for kind in ("_water", "_mud"):
        record = functools.partial(lambda kind, image, *given: calls.append((kind, *given)), kind)
        monkeypatch.setattr(spatter, kind, record)
    for value in (0, 1):
        monkeypatch.setattr(spatter, "draw", lambda _, key, shape, value=value: np.full(shape, value))
        spatter.spatter(None, np.zeros((32, 32, 3)), severity)
    loc, scale, *settings = SETTINGS[severity - 1]
    for (kind, layer, *rest), want in zip(calls, (loc, loc + scale), strict=True):
        assert kind == ("_water" if severity <= 3 else "_mud") and rest == settings
        np.testing.assert_allclose(layer, np.full((32, 32), want))


@pytest.mark.parametrize("severity", (1, 4))
def test_spatter_has_the_originals_distribution(severity):
    images, random = photographs(), np.random.default_rng(severity)
    got = np.stack([corrupted(images, "spatter", severity, seed) for seed in range(16)])
    images, given = images[:8], layers(random, severity, 32).reshape(4, 8, 32, 32)
    want = [[spatter_reference(*pair, severity) for pair in zip(images, run, strict=True)] for run in given]
    assert_same_statistics(images, got[:, :8], truncated(want))
