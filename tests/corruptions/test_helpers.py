"""Photographs and comparisons for the tests of the corruptions; no tests of its own."""

import functools

import jax
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from craft_jax.corruptions import corrupt
from tests.corruptions.statistics import compare


@functools.cache
def photographs(count=24, size=32):
    """(count, size, size, 3) uint8: crops of scikit-learn's two pictures at several scales."""
    random = np.random.default_rng(7)
    crops = []
    for i in range(count):
        picture = Image.fromarray(load_sample_images().images[i % 2])
        side = int(random.integers(size, 400))
        left, top = random.integers(0, 640 - side), random.integers(0, 427 - side)
        box = (int(left), int(top), int(left) + side, int(top) + side)
        crops.append(np.asarray(picture.resize((size, size), Image.BICUBIC, box=box)))
    return np.stack(crops)


def corrupted(images, name, severity, seed=0):
    """`corrupt` of uint8 images as int levels (B, H, W, 3), after checks that hold for all."""
    out = corrupt(jax.random.key(seed), np.float32(images) / np.float32(255), name, severity)
    assert out.shape == images.shape and out.dtype == np.float32
    levels = np.rint(np.asarray(out) * 255).astype(int)
    assert levels.min() >= 0 and levels.max() <= 255
    np.testing.assert_array_equal(np.float32(levels) / np.float32(255), out)
    return levels


def assert_same_statistics(clean, got, want, limit=4.5):
    """What differs between (runs, B, H, W, 3) from independent draws is chance: `compare`'s figures."""
    for name, (a, b, distance) in compare(clean, got, want).items():
        assert abs(distance) < limit, f"{name}: {a:.3f}, the original {b:.3f}: {distance:.1f} errors"
