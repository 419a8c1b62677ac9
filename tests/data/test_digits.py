"""The embedded digits: each image once, enlarged as said, and the same on every machine."""

import jax
import numpy as np

from craft_jax.data import digits
from tests.data.loaded import load


def test_digits():
    loaded = load("digits")
    assert loaded.train_images.shape == (1400, 32, 32, 3) and loaded.test_images.shape == (397, 32, 32, 3)
    assert loaded.train_labels.shape == (1400,) and loaded.test_labels.shape == (397,)
    assert {loaded.train_images.dtype, loaded.test_images.dtype} == {np.dtype(np.uint8)}
    assert {loaded.train_labels.dtype, loaded.test_labels.dtype} == {np.dtype(np.int32)}
    assert loaded.num_classes == 10
    assert set(loaded.train_labels) == set(loaded.test_labels) == set(range(10))
    assert loaded.train_images.min() == 0 and loaded.train_images.max() == 255
    assert (loaded.train_images == loaded.train_images[..., :1]).all()
    assert loaded.name == "digits" and loaded.validation_images.shape == (0, 32, 32, 3)


def test_digits_split_holds_every_image_once():
    from sklearn.datasets import load_digits

    loaded, original = load("digits"), load_digits()
    expected = digits.upsample(original.images.astype(np.int64))
    actual = np.concatenate([loaded.train_images, loaded.test_images])[..., 0]
    labels = np.concatenate([loaded.train_labels, loaded.test_labels])

    def rows(images, labels):
        return sorted(image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True))

    assert rows(actual, labels) == rows(expected, original.target)


def test_digits_are_the_same_on_every_machine():
    fingerprint = "3d2a154a9c73717282b66978d6f1929a1e5870687fab1021b7e0eb36ea130deb"
    assert load("digits").fingerprint == fingerprint


def test_upsampling_is_bilinear():
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    expected = jax.image.resize(images * (255 / 16), (5, 32, 32), "bilinear")
    actual = digits.upsample(images)
    assert np.abs(actual - np.asarray(expected)).max() < 0.51
    assert (digits.upsample(np.full((1, 8, 8), 16)) == 255).all()
