"""Small files in the published layout of CIFAR-10-C, and what is said of those that cannot be used."""

import dataclasses

import numpy as np
import pytest

from craft_jax.data import shifted
from craft_jax.errors import DataError

NAMES = ("fog", "glass_blur", "elastic_transform")
SIDE = 16  # of the images of the fixture `digits`


def write(folder, dataset, count=8, repeat=5, **arrays):
    """Files in the published layout; returns {name: images (5 count, H, W, 3)}."""
    rng = np.random.default_rng(count)
    clean = np.tile(dataset.test_images[:count], (5, 1, 1, 1)) // 2
    images = {name: clean + rng.integers(0, 64, clean.shape).astype(np.uint8) for name in NAMES}
    labels = np.tile(dataset.test_labels[:count], repeat).astype(np.uint8)
    for name, array in ({**images, "labels": labels} | arrays).items():
        np.save(folder / f"{name}.npy", array)
    return images


def fails(config, dataset):
    with pytest.raises(DataError) as error:
        shifted.load(config, dataset)
    return str(error.value)


def relabelled(digits, images):
    return dataclasses.replace(digits, name="npz", test_images=images)
