"""Shrunk images against means worked out pixel by pixel, in exact fractions."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from craft_jax import data
from craft_jax.corruptions import LEAST_SIDE
from craft_jax.data import dataset, shrink
from craft_jax.data.dataset import Source
from tests.data.loaded import ARRAYS, fails, load, save


def area_mean(image, size):
    """The mean over each new pixel's area, without NumPy's arithmetic; rounded half up."""
    side = len(image)
    scale = Fraction(side, size)
    result = np.zeros((size, size, image.shape[2]), int)
    for i, j, channel in np.ndindex(*result.shape):
        total = Fraction(0)
        for y, x in itertools.product(range(side), range(side)):
            height = min((i + 1) * scale, y + 1) - max(i * scale, y)
            width = min((j + 1) * scale, x + 1) - max(j * scale, x)
            if height > 0 and width > 0:
                total += height * width * int(image[y, x, channel])
        result[i, j, channel] = (total / scale**2 + Fraction(1, 2)).__floor__()
    return result


@pytest.mark.parametrize(("side", "size"), [(8, 4), (9, 3), (12, 3), (7, 5), (8, 7), (10, 4), (5, 1), (4, 4)])
def test_each_new_pixel_is_the_mean_over_its_area(side, size):
    images = np.random.default_rng(side).integers(0, 256, (3, side, side, 3)).astype(np.uint8)
    found = shrink.shrink(images, size)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [area_mean(image, size) for image in images])


def test_by_hand():
    """Halves are rounded up; of three pixels made two, the middle one belongs to both by a half."""
    image = np.uint8([[0, 0, 9, 10], [0, 2, 10, 9], [255, 255, 1, 0], [255, 255, 0, 0]])[None, :, :, None]
    assert shrink.shrink(image, 2)[0, :, :, 0].tolist() == [[1, 10], [255, 0]]
    row = np.uint8([[0, 90, 240]] * 3)[None, :, :, None]
    assert shrink.shrink(row, 2)[0, :, :, 0].tolist() == [[30, 190]] * 2


def test_blocks_of_images_and_of_float64(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    blocks = images.reshape(50, 16, 2, 16, 2, 3).astype(np.float64)
    wanted = np.floor(blocks.mean((2, 4)) + 0.5)  # quarters are exact
    np.testing.assert_array_equal(shrink.shrink(images, 16), wanted)
    monkeypatch.setattr(shrink, "_BLOCK", 7 * 32 * 32 * 3 + 5)
    np.testing.assert_array_equal(shrink.shrink(images, 16), wanted)


def test_training_and_test_images_are_shrunk_and_all_that_follows_from_them():
    whole, small = load("digits"), load("digits", size=16)
    for name in ("train_images", "test_images"):
        np.testing.assert_array_equal(getattr(small, name), shrink.shrink(getattr(whole, name), 16))
    for name in ("train_labels", "test_labels"):
        np.testing.assert_array_equal(getattr(small, name), getattr(whole, name))
    np.testing.assert_allclose(small.mean, small.train_images.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(small.std, small.train_images.std((0, 1, 2)) / 255)
    own = dataset.fingerprint(*(getattr(small, name) for name in ARRAYS))
    assert small.fingerprint == small.source_fingerprint == own != whole.fingerprint
    assert load("digits", size=16, validation=100).source_fingerprint == own
    assert data.record(small)["input_shape"] == [16, 16, 3]


def test_published_statistics_are_those_of_images_as_they_are():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8), np.arange(6) % 2
    published = Source(images, labels, images[:2], labels[:2], 2, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    for size in (0, 32):
        assert shrink.shrunk("cifar10", published, size) is published
    small = dataset.make("cifar10", shrink.shrunk("cifar10", published, 20), 0)
    np.testing.assert_allclose(small.mean, small.train_images.mean((0, 1, 2)) / 255)


@pytest.mark.parametrize("size", [-1, 1, LEAST_SIDE - 1, 33, 64])
def test_impossible_sizes(size):
    message = fails("digits", size=size)
    assert f"data.size is {size}; the images of digits are 32 by 32 pixels" in message
    assert "allowed: 0 (as they are) or 16 to 32" in message


@pytest.mark.parametrize("size", [16.0, "16", True])
def test_a_size_that_is_no_integer(size):
    assert "data.size must be an integer" in fails("digits", size=size)


def test_images_that_are_not_square_are_not_shrunk(tmp_path):
    path = save(tmp_path)
    for size in (16, 18):
        message = fails("npz", path, size=size)
        assert f"data.size is {size}; the images of npz are 18 by 16 pixels, and only square ones" in message
    assert load("npz", path).train_images.shape[1:] == (18, 16, 3)
