"""Spurious cues against a loop over images and pixels; which image carries whose, and what is left alone."""

import colorsys
import dataclasses

import numpy as np
import pytest

from craft_jax import data
from craft_jax.config import rules, tree
from craft_jax.data import cues
from craft_jax.data.dataset import Source, make
from craft_jax.errors import ConfigError
from craft_jax.methods import unread
from tests.conftest import small_config

K = 3


def source():
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (n, 18, 16, 3)).astype(np.uint8) for n in (60, 24)]
    labels = [random.integers(0, K, len(x)).astype(np.int64) for x in images]
    return Source(images[0], labels[0], images[1], labels[1], K)


def by_hand(kind, image, label):
    """One image, a pixel at a time; fractions of the colour as whole numbers, rounded half up."""
    colour = [round(255 * part) for part in colorsys.hsv_to_rgb(label / K, 1, 1)]
    marked = image.tolist()
    for row in range(18):
        for column in range(16):
            for channel in range(3):
                if kind == "color":
                    total = 3 * marked[row][column][channel] + colour[channel]
                    marked[row][column][channel] = (total + 2) // 4
                elif row < 4 and column < 4:  # a quarter of 16
                    marked[row][column][channel] = colour[channel]
    return np.array(marked)


@pytest.mark.parametrize("kind", ["corner", "color"])
def test_every_image_carries_the_cue_of_a_class(kind):
    own = source()
    marked, cue = cues.mark(own, kind, 0.6)
    assert (cue.kind, cue.correlation, cue.num_classes) == (kind, 0.6, K)
    for part in ("train", "test"):
        images, labels = getattr(own, f"{part}_images"), getattr(own, f"{part}_labels")
        given, other = cue.marks[part].given, cue.marks[part].other
        for i, image in enumerate(getattr(marked, f"{part}_images")):
            np.testing.assert_array_equal(image, by_hand(kind, images[i], given[i]))
        assert (other != labels).all() and set(other) == set(range(K))
        assert ((given == labels) | (given == other)).all()
        np.testing.assert_array_equal(cue.marks[part].plain, images)
        np.testing.assert_array_equal(getattr(marked, f"{part}_labels"), labels)
    np.testing.assert_array_equal(own.train_images, source().train_images)  # left as they were


def test_palettes_differ_between_classes():
    for count in (2, 10, 100):
        assert len({tuple(colour) for colour in cues.palette(count).tolist()}) == count
    assert cues.palette(3).tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_the_correlation_is_how_often_the_cue_is_right_and_the_rest_are_alike():
    labels = np.arange(30_000) % 5
    for correlation in (0.0, 0.25, 0.9, 1.0):
        given, other = cues.carried(labels, 5, correlation, 1)
        share = (given == labels).mean()
        assert share == pytest.approx(correlation, abs=4 * np.sqrt(0.25 / 30_000)) and 0 <= share <= 1
        assert (share == correlation) or 0 < correlation < 1
        steps = np.bincount((other - labels) % 5, minlength=5)
        assert steps[0] == 0 and (abs(steps[1:] - 7500) < 4 * np.sqrt(7500)).all()
    # An image's draws are its index's: more images, or another correlation, leave them alone.
    np.testing.assert_array_equal(cues.carried(labels[:100], 5, 1.0, 1)[1], other[:100])
    few, many = (cues.carried(labels, 5, c, 1)[0] == labels for c in (0.3, 0.6))
    assert (many | ~few).all()
    assert (cues.carried(labels, 5, 0.5, 2)[0] != cues.carried(labels, 5, 0.5, 1)[0]).any()


def test_held_out_images_keep_their_cues():
    """Whichever part an image is in, its marks are those of its row among all training images."""
    marked, cue = cues.mark(source(), "corner", 0.5)
    whole = make("npz", marked, 0, cue=cue)
    assert list(whole.cue.marks) == ["test", "validation"] and len(whole.cue.marks["validation"].given) == 0
    parts = make("npz", marked, 20, 30, cue=cue)
    held = parts.cue.marks["validation"]
    assert len(parts.train_labels) == 30 and len(held.plain) == 20
    rows = [
        next(i for i, x in enumerate(cue.marks["train"].plain) if (x == image).all()) for image in held.plain
    ]
    np.testing.assert_array_equal(held.given, cue.marks["train"].given[rows])
    np.testing.assert_array_equal(parts.validation_images, cues.draw("corner", held.plain, held.given, K))
    assert not held.plain.flags.writeable and not parts.cue.marks["test"].given.flags.writeable


def test_a_configuration_draws_one_and_every_record_tells():
    config = small_config("kd", **{"data.validation": 100})
    plain = data.load(config)
    assert plain.cue is None and "cue" not in data.record(plain)
    config.data.cue = "corner"
    found = {}
    for correlation in (0.5, 0.9):
        config.data.cue_correlation = correlation
        for seed in (0, 1):
            config.seed = seed
            dataset = data.load(config)
            found.setdefault(dataset.fingerprint, []).append((correlation, seed))
        assert data.record(dataset)["cue"] == {"kind": "corner", "correlation": correlation}
        assert plain.source_fingerprint != dataset.source_fingerprint
    # One data set for all seeds, and so one teacher; another for each correlation.
    assert list(found.values()) == [[(0.5, 0), (0.5, 1)], [(0.9, 0), (0.9, 1)]]
    given = dataset.cue.marks["validation"].given
    agree = (given == dataset.validation_labels).mean()
    assert 0.75 < agree < 1
    colours = dataset.validation_images[:, :8, :8]
    assert (colours == cues.palette(10)[given][:, None, None]).all()
    np.testing.assert_array_equal(dataset.validation_images[:, 8:], plain.validation_images[:, 8:])
    teacher = tree.teacher_config(config)
    assert (teacher.data.cue, teacher.data.cue_correlation) == ("corner", 0.9)
    assert dataclasses.replace(dataset).cue is dataset.cue


def test_rules_of_cues():
    for source_, refused in (("regenerated", False), ("cifar10_c", True), ("cifar10_1", True)):
        config = small_config("erm", **{"data.name": "cifar10", "eval.source": source_})
        config.eval.dir = "d" if source_ == "cifar10_c" else ""
        rules.validate(config)
        config.data.cue = "color"
        if refused:
            with pytest.raises(ConfigError, match=r"with data\.cue=color; allowed: 'regenerated'"):
                rules.validate(config)
        else:
            rules.validate(config)
    keys = ["data.cue", "data.cue_correlation"]
    assert unread(config, keys) == []
    config.data.cue = "none"
    assert unread(config, keys) == ["data.cue_correlation"]
