"""What every data set has: statistics, a fingerprint, a record, a validation split, subsets, classes."""

import hashlib
import json

import numpy as np
import pytest

from craft_jax import data
from craft_jax.data import dataset
from craft_jax.errors import DataError
from tests.data.loaded import ARRAYS, fails, load, save


def test_names():
    assert type(data.REGISTRY) is dict
    assert (
        data.NAMES
        == tuple(data.REGISTRY)
        == ("digits", "cifar10", "cifar100", "npz", "folder", "imagenet2012")
    )


def test_unknown_name_lists_the_names():
    message = fails("cifar11")
    assert "cifar11" in message and all(name in message for name in data.NAMES)


def test_statistics_are_those_of_the_training_images():
    loaded = load("digits")
    pixels = loaded.train_images.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(loaded.mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(loaded.std, pixels.std(0), rtol=1e-9)
    assert all(type(value) is float for value in (*loaded.mean, *loaded.std))


def test_statistics_keep_channels_apart_and_the_deviation_positive():
    images = np.random.default_rng(0).integers(0, 256, (1030, 8, 8, 3)).astype(np.uint8)
    images[..., 1] = 7
    mean, std = dataset.channel_statistics(images)
    np.testing.assert_allclose(mean, images.reshape(-1, 3).mean(0) / 255, rtol=1e-9)
    np.testing.assert_allclose(std[::2], (images.reshape(-1, 3).std(0) / 255)[::2], rtol=1e-9)
    assert std[1] == 1 / 255


def test_fingerprint_is_the_sha256_of_dtype_shape_and_bytes():
    loaded = load("digits")
    digest = hashlib.sha256()
    for name in ARRAYS:
        array = getattr(loaded, name)
        digest.update(f"{array.dtype.newbyteorder('<').str} {array.shape}\n".encode() + array.tobytes())
    assert loaded.fingerprint == digest.hexdigest()


def test_fingerprint_notices_every_change():
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int32)
    pixel, label = images.copy(), labels.copy()
    pixel[3, 7, 7, 2] = label[3] = 1
    prints = [
        dataset.fingerprint(images, labels, images, labels),
        dataset.fingerprint(pixel, labels, images, labels),
        dataset.fingerprint(images, label, images, labels),
        dataset.fingerprint(images, labels, pixel, labels),
        dataset.fingerprint(images, labels, images, label),
        dataset.fingerprint(images.reshape(4, 8, 3, 8), labels, images, labels),
        dataset.fingerprint(images.view(np.int8), labels, images, labels),
    ]
    assert len(set(prints)) == len(prints)
    strided = np.asfortranarray(pixel)
    assert dataset.fingerprint(strided, labels, images, labels) == prints[1]


def test_loading_twice_gives_the_same_and_arrays_are_read_only():
    first, second = load("digits"), load("digits")
    assert first.fingerprint == second.fingerprint
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        with pytest.raises(ValueError, match="read-only"):
            getattr(first, name)[0] = 0


def test_the_record_is_json():
    loaded = load("digits", validation=100)
    record = data.record(loaded)
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "name": "digits",
        "num_classes": 10,
        "classes": list("0123456789"),
        "input_shape": [32, 32, 3],
        "mean": list(loaded.mean),
        "std": list(loaded.std),
        "train_examples": 1300,
        "test_examples": 397,
        "validation_examples": 100,
        "fingerprint": loaded.fingerprint,
        "source_fingerprint": load("digits").fingerprint,  # that of the whole
    }
    assert loaded.fingerprint != load("digits").fingerprint


@pytest.mark.parametrize("validation", [0, 100])
def test_a_record_of_an_older_version_is_the_same_data(validation):
    """Which held images out in place of the test set, and wrote no word of the latter."""
    record = data.record(load("digits", validation=validation))
    old = {key: value for key, value in record.items() if key != "validation_examples"}
    old |= (
        {"test_examples": 100, "evaluation_split": "validation"}
        if validation
        else {"evaluation_split": "test"}
    )
    current = data.current(old)
    assert current == {key: record[key] for key in current}
    assert record.keys() - current.keys() == ({"test_examples"} if validation else set())
    assert data.current(record) == record


# ---- the validation split ----


def test_validation_holds_training_images_out():
    whole, split = load("digits"), load("digits", validation=300)
    assert (len(split.train_images), len(split.validation_images)) == (1100, 300)
    assert (len(split.train_labels), len(split.validation_labels)) == (1100, 300)
    held_out, kept = dataset.validation_split(1400, 300)
    assert sorted([*held_out, *kept]) == list(range(1400))
    np.testing.assert_array_equal(split.validation_images, whole.train_images[held_out])
    np.testing.assert_array_equal(split.validation_labels, whole.train_labels[held_out])
    np.testing.assert_array_equal(split.test_images, whole.test_images)
    np.testing.assert_array_equal(split.test_labels, whole.test_labels)
    np.testing.assert_array_equal(split.train_images, whole.train_images[kept])
    np.testing.assert_array_equal(split.train_labels, whole.train_labels[kept])
    assert split.fingerprint != whole.fingerprint
    np.testing.assert_allclose(split.mean, split.train_images.mean((0, 1, 2)) / 255)


def test_which_images_are_evaluated():
    whole, split = load("digits"), load("digits", validation=300)
    for dataset_, name, wanted in (
        (whole, "", "test"),
        (whole, "test", "test"),
        (split, "", "validation"),
        (split, "test", "test"),
        (split, "validation", "validation"),
    ):
        images, labels, found = dataset_.evaluated(name)
        assert found == wanted
        assert images is getattr(dataset_, f"{wanted}_images")
        assert labels is getattr(dataset_, f"{wanted}_labels")
    with pytest.raises(
        DataError, match=r"eval\.split is 'validation', and data\.validation holds no images out"
    ):
        whole.evaluated("validation")


def test_fingerprints_are_those_of_older_versions():
    """Of the training images and what was evaluated by default: they name cached teachers, as of 46777ef."""
    assert load("digits", validation=300).fingerprint.startswith("6eda61cddc224fffda2b50d1")
    assert load("digits", validation=300, max_train=200).fingerprint.startswith("30c50b8bc5403e7e65ab2032")
    assert load("digits", max_train=200).fingerprint.startswith("9931a3b8ec81725603565942")


def test_validation_split_is_fixed():
    first, second = load("digits", validation=50, seed=0), load("digits", validation=50, seed=1)
    assert first.fingerprint == second.fingerprint
    assert dataset.validation_split(1000, 5)[0].tolist() == [178, 324, 410, 795, 827]
    small, large = dataset.validation_split(1000, 100)[0], dataset.validation_split(1000, 300)[0]
    assert set(small) < set(large)


@pytest.mark.parametrize("validation", [-1, 1400, 10**6])
def test_impossible_validation_size(validation):
    message = fails("digits", validation=validation)
    assert "data.validation" in message and str(validation) in message and "1400" in message


@pytest.mark.parametrize("validation", [0.1, "5000", True])
def test_validation_size_that_is_no_integer(validation):
    assert "data.validation must be an integer" in fails("digits", validation=validation)


# ---- a subset of the training images ----


def test_a_subset_is_a_sample_of_the_training_images_fixed_for_every_seed():
    whole, part = load("digits"), load("digits", max_train=200, seed=1)
    assert (len(part.train_images), len(part.train_labels)) == (200, 200)
    rows = np.random.RandomState(20_240_518).permutation(1400)[:200]
    np.testing.assert_array_equal(part.train_images, whole.train_images[np.sort(rows)])
    np.testing.assert_array_equal(part.train_labels, whole.train_labels[np.sort(rows)])
    np.testing.assert_array_equal(part.test_images, whole.test_images)
    np.testing.assert_allclose(part.mean, part.train_images.mean((0, 1, 2)) / 255)
    assert part.fingerprint != whole.fingerprint  # which names its teacher, and the run
    for count in (0, 1400, 10**6):
        assert load("digits", max_train=count).fingerprint == whole.fingerprint


def test_a_subset_leaves_the_held_out_images_as_they_are_and_takes_none_of_them():
    whole, part = load("digits", validation=300), load("digits", validation=300, max_train=200)
    np.testing.assert_array_equal(part.validation_images, whole.validation_images)
    held_out, kept = dataset.validation_split(1400, 300)
    rows = {count: set(dataset.subset(1400, kept, count)) for count in (50, 200, 1100, 1200)}
    assert rows[50] < rows[200] < rows[1100] == rows[1200] == set(kept)
    np.testing.assert_array_equal(part.train_labels, load("digits").train_labels[sorted(rows[200])])
    # Nor are they those that validation would hold out: the two draws are independent.
    assert len(set(dataset.subset(1400, np.arange(1400), 300)) & set(held_out)) < 100


# ---- classes ----


def test_one_class_is_refused(tmp_path):
    for label in (0, 7):
        labels = {"train_labels": np.full(30, label), "test_labels": np.full(6, label)}
        message = fails("npz", save(tmp_path, **labels))
        assert f"all 30 training images are of class {label}" in message and "two classes" in message
    assert "all 1 training images" in fails("digits", max_train=1)


def test_classes_without_images():
    assert data.absent(np.array([1, 3, 3]), 5) == [0, 2, 4]
    assert data.absent(np.array([1, 0]), 2) == []


def test_data_offers_no_other_validation_than_its_own(digits):
    """`foreign` counts classes: any order and any part of the test set is its own, one label more is not."""
    labels = np.sort(digits.test_labels)
    assert data.dataset.foreign(labels, digits) is None
    assert data.dataset.foreign(labels[::3], digits) is None
    assert "has class" in data.dataset.foreign(np.append(labels, 3), digits)
