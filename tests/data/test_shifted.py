"""Published corruptions in the layout of CIFAR-10-C's files: read, cut, damaged, or of another data set."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from craft_jax import data
from craft_jax.config import rules
from craft_jax.data import shifted
from craft_jax.errors import DataError
from tests.data.shifted_files import NAMES, SIDE, fails, relabelled, write


@pytest.mark.parametrize("repeat", [5, 1])
def test_files_give_the_rows_of_each_severity(settings, digits, tmp_path, repeat):
    images = write(tmp_path, digits, 8, repeat)
    loaded = shifted.load(settings(), digits)
    assert loaded.names == NAMES
    assert loaded.labels.dtype == np.int32 and loaded.labels.tolist() == digits.test_labels[:8].tolist()
    for name, severity in itertools.product(NAMES, range(1, 6)):
        block = loaded.images(name, severity)
        rows = [images[name][i] for i in range(5 * 8) if i // 8 == severity - 1]
        np.testing.assert_array_equal(block, rows)
        assert isinstance(block, np.memmap) and block.dtype == np.uint8 and not block.flags.writeable


@pytest.mark.parametrize(("wanted", "count"), [(3, 3), (8, 8), (9, 8), (0, 8)])
def test_files_are_cut_to_the_first_examples(settings, digits, tmp_path, wanted, count):
    images = write(tmp_path, digits, 8)
    loaded = shifted.load(settings(**{"eval.max_examples": wanted}), digits)
    assert loaded.labels.tolist() == digits.test_labels[:count].tolist()
    np.testing.assert_array_equal(loaded.images("fog", 4), images["fog"][24 : 24 + count])
    assert (loaded.record["images"], loaded.record["examples"]) == (8, count)


def test_only_the_corruptions_asked_for_are_opened(settings, digits, tmp_path):
    write(tmp_path, digits)
    (tmp_path / "glass_blur.npy").unlink()
    (tmp_path / "elastic_transform.npy").write_text("none")
    loaded = shifted.load(settings(**{"eval.corruptions": ("fog",)}), digits)
    assert loaded.names == ("fog",) and list(loaded.record["files"]) == ["fog.npy"]


def test_files_of_the_published_size(settings, digits, tmp_path):
    """50,000 rows in a sparse file: what is not written takes no room and is not read."""
    labels = np.arange(10_000, dtype=np.int32) % 10
    whole = np.broadcast_to(np.uint8(0), (10_000, 32, 32, 3))
    dataset = dataclasses.replace(digits, name="cifar10", test_images=whole, test_labels=labels)
    path = tmp_path / "fog.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(50_000, 32, 32, 3))
    for row in (0, 9_999, 10_000, 49_999):
        array[row] = row % 251
    del array
    np.save(tmp_path / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    loaded = shifted.load(settings(**{"eval.corruptions": ("fog",)}), dataset)
    assert loaded.labels.shape == (10_000,)
    assert [loaded.images("fog", s).shape for s in (1, 5)] == [(10_000, 32, 32, 3)] * 2
    corners = [loaded.images("fog", s)[i, 0, 0, 0] for s, i in ((1, 0), (1, -1), (2, 0), (5, -1), (3, 0))]
    assert corners == [row % 251 for row in (0, 9_999, 10_000, 49_999)] + [0]
    assert loaded.record["files"] == {"fog.npy": 153_600_128}  # as published


def test_the_record_is_json_and_knows_other_files(settings, digits, tmp_path):
    images = write(tmp_path, digits)
    first = shifted.load(settings(), digits).record
    assert json.loads(json.dumps(first)) == first
    assert first["source"] == "cifar10_c" and first["dir"] == str(tmp_path) and first["regenerated"] is None
    assert first["files"] == {f"{n}.npy": 128 + 40 * SIDE * SIDE * 3 for n in NAMES}
    assert shifted.load(settings(), digits).record == first
    images["fog"][32, 0, 0, 0] ^= 1  # the first image at severity 5
    np.save(tmp_path / "fog.npy", images["fog"])
    assert shifted.load(settings(), digits).record["fingerprint"] != first["fingerprint"]
    order = np.roll(np.arange(40), 1)
    images, labels = digits.test_images[order], digits.test_labels[order]
    write(tmp_path, dataclasses.replace(digits, test_images=images, test_labels=labels))
    assert shifted.load(settings(), digits).record["fingerprint"] != first["fingerprint"]


def test_all_faults_of_the_files_are_told_at_once(settings, digits, tmp_path):
    write(tmp_path, digits, fog=np.zeros((40, SIDE, SIDE, 3)), glass_blur=np.zeros((40, SIDE, 3), np.uint8))
    (tmp_path / "elastic_transform.npy").unlink()
    (tmp_path / "labels.npy").unlink()
    lines = fails(settings(), digits).split("\n")
    assert lines[0] == f"eval.dir={tmp_path} cannot be used as cifar10_c:"
    assert lines[1:-1] == [
        "  - fog.npy has dtype float64; it must be uint8",
        "  - glass_blur.npy has shape (40, 16, 3); it must be (5 N, 16, 16, 3), as the model's images",
        "  - elastic_transform.npy is missing",
        "  - labels.npy is missing",
    ]
    assert "NAME.npy" in lines[-1] and "uint8" in lines[-1]


def pickled():
    return np.array([{"a": 1}] * 40, object)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"fog": np.zeros((41, SIDE, SIDE, 3), np.uint8)}, "fog.npy has 41 rows; it must have 5 N"),
        ({"fog": np.zeros((0, SIDE, SIDE, 3), np.uint8)}, "fog.npy has 0 rows"),
        (
            {"glass_blur": np.zeros((45, SIDE, SIDE, 3), np.uint8)},
            "glass_blur.npy has 45 rows and fog.npy 40: not alike",
        ),
        ({"fog": np.zeros((40, 32, 32, 3), np.uint8)}, "(5 N, 16, 16, 3), as the model's images"),
        ({"fog": np.zeros((40, 3, SIDE, SIDE), np.uint8)}, "fog.npy has shape (40, 3, 16, 16)"),
        ({"fog": pickled()}, "fog.npy is not a complete .npy file of numbers"),
        ({"labels": pickled()}, "labels.npy is not a complete .npy file of numbers"),
        ({"labels": np.zeros(40)}, "labels.npy has dtype float64 and shape (40,)"),
        ({"labels": np.zeros((40, 1), int)}, "labels.npy has dtype int64 and shape (40, 1)"),
        (
            {"labels": np.zeros(39, int)},
            "labels.npy has 39 entries; for images of 40 rows it must have 40 or 8",
        ),
        ({"labels": np.arange(40) % 10}, "labels.npy does not repeat the same labels at each severity"),
        ({"labels": np.tile([0, 1, 2, 3, 4, 5, 6, 99], 5)}, "label 99; digits has the classes 0..9"),
        ({"labels": np.tile([0, 1, 2, 3, 4, 5, 6, -1], 5)}, "label -1; digits has the classes 0..9"),
    ],
)
def test_a_fault_of_the_files(settings, digits, tmp_path, arrays, fault):
    write(tmp_path, digits, **arrays)
    assert fault in fails(settings(), digits)


def test_files_that_are_none(settings, digits, tmp_path):
    write(tmp_path, digits)
    whole = (tmp_path / "fog.npy").read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-1]):
        (tmp_path / "fog.npy").write_bytes(content)
        assert "  - fog.npy is not a complete .npy file of numbers: " in fails(settings(), digits)


def test_nothing_is_unpickled(settings, digits, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    write(tmp_path, digits, fog=np.array([Trap()] * 40, object), labels=np.array([Trap()] * 40, object))
    message = fails(settings(), digits)
    assert "fog.npy is not" in message and "labels.npy is not" in message
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "fog.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists()  # the trap was one


def test_labels_of_another_data_set_with_fewer_classes(settings, digits, tmp_path):
    """CIFAR-10-C before a CIFAR-100 model: every label is a class, but there are too many of each."""
    labels = np.arange(40, dtype=np.int32)
    many = dataclasses.replace(digits, name="cifar100", num_classes=100, test_labels=labels)
    write(tmp_path, digits, 40, labels=np.tile(np.arange(40) % 10, 5))
    message = fails(settings(), many)
    assert "labels.npy has class 0 4 times; the 40 test images of cifar100 have it 1 times" in message
    write(tmp_path, digits, 40, labels=np.tile(labels[::-1], 5))  # in another order they are the same
    assert shifted.load(settings(), many).labels.tolist() == labels[::-1].tolist()


def test_images_of_another_data_set_whose_labels_fit(settings, digits, tmp_path):
    """As many of each class, in the same order: pixels alone can tell."""
    whole = data.load(settings())
    rows = [np.flatnonzero(whole.train_labels == label)[i] for i, label in enumerate(digits.test_labels)]
    others = whole.train_images[rows, ::2, ::2]  # of the same classes
    write(tmp_path, digits, 40)
    message = fails(settings(), relabelled(digits, others))
    assert "the images are not npz's test images under corruption: " in message
    assert "Are these the files of another data set?" in message
    assert shifted.load(settings(), digits).record["found_among_test_images"] == 1


def test_files_in_another_order_are_known(settings, digits, tmp_path):
    """As the published files, whose order is not TFDS's."""
    order = np.random.default_rng(1).permutation(40)
    theirs = dataclasses.replace(
        digits, test_images=digits.test_images[order], test_labels=digits.test_labels[order]
    )
    write(tmp_path, theirs, 40)
    assert shifted.load(settings(), digits).record["found_among_test_images"] == 1


def test_test_images_that_repeat_are_found(settings, digits, tmp_path):
    twice = dataclasses.replace(
        digits,
        test_images=np.repeat(digits.test_images, 2, axis=0),
        test_labels=np.repeat(digits.test_labels, 2),
    )
    images = np.tile(digits.test_images[:8], (5, 1, 1, 1))
    write(tmp_path, digits, fog=images)
    assert (
        shifted.load(settings(**{"eval.corruptions": ("fog",)}), twice).record["found_among_test_images"] == 1
    )


def test_images_without_contrast_tell_nothing(settings, digits, tmp_path):
    write(tmp_path, digits, fog=np.zeros((40, SIDE, SIDE, 3), np.uint8))
    loaded = shifted.load(settings(**{"eval.corruptions": ("fog",)}), digits)
    assert loaded.record["found_among_test_images"] is None


def test_a_directory_that_is_not_there_or_one_too_high(settings, digits, tmp_path):
    for wrong in ("", str(tmp_path / "none")):
        assert f"eval.dir={wrong} is not a directory" in fails(settings(**{"eval.dir": wrong}), digits)
    (tmp_path / "CIFAR-10-C").mkdir()
    write(tmp_path / "CIFAR-10-C", digits)
    assert f"Did you mean {tmp_path / 'CIFAR-10-C'}?" in fails(settings(), digits)


def test_a_note_that_is_no_json(settings, digits, tmp_path):
    write(tmp_path, digits)
    (tmp_path / shifted.NOTE).write_text("{")
    assert "regenerated.json cannot be read" in fails(settings(), digits)


def test_every_source_of_files_is_one_that_the_configuration_allows(settings, digits):
    assert "eval.source is 'regenerated', which has no files" in fails(settings("regenerated"), digits)
    faults = rules.faults_of(settings("x"), training=False)
    (line,) = [x for x in faults if x.startswith("config.eval.source")]
    for source in re.split(", ", line.partition("allowed: ")[2]):
        if source != "regenerated":
            with pytest.raises(DataError, match=r"is not a directory|eval\.dir|data\.dir"):
                shifted.load(settings(source, **{"eval.dir": "nowhere", "data.dir": "nowhere"}), digits)
