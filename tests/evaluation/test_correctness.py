"""Which images are right: packed and unpacked, held against the accuracies, and damaged files."""

import json

import numpy as np
import pytest

from craft_jax import files
from craft_jax.data.shifted import Shifted
from craft_jax.errors import CheckpointError
from craft_jax.evaluation import correctness, evaluate, metrics, targets
from craft_jax.mesh import make_mesh
from tests.evaluation.test_evaluate import case, make_config

BITS = {
    "clean": np.array([True] * 9 + [False, True]),
    "shifted": np.array([False, False, True]),
    "fog/5": np.zeros(8, bool),
    "gaussian_noise/1": np.ones(0, bool),
}


def same(found, wanted):
    assert list(found) == list(wanted)
    for cell, bits in wanted.items():
        assert found[cell].dtype == bool
        np.testing.assert_array_equal(found[cell], bits)


def test_what_is_written_is_read(tmp_path):
    for correct in (BITS, {}, {"clean": np.random.default_rng(0).random(1003) < 0.5}):
        correctness.write(tmp_path / "a.npz", correct)
        same(correctness.read(tmp_path / "a.npz"), correct)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_the_file_by_hand(tmp_path):
    """As another program reads it: bits from the most significant on, zeros after the last image."""
    correctness.write(tmp_path / "a.npz", BITS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        held = dict(arrays)
    assert held["cells"].tolist() == list(BITS) and held["examples"].tolist() == [11, 3, 8, 0]
    assert held["cells"].dtype.kind == "U" and held["examples"].dtype == np.int64
    assert held["bits"].dtype == np.uint8
    assert held["bits"].tolist() == [[0b11111111, 0b10100000], [0b00100000, 0], [0, 0], [0, 0]]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    correctness.write(tmp_path / "a.npz", BITS)

    def fail(file, **arrays):
        file.write(b"half of")
        raise OSError("No space left on device")

    monkeypatch.setattr(files.np, "savez_compressed", fail)
    with pytest.raises(CheckpointError, match=r"cannot be written .No space"):
        correctness.write(tmp_path / "a.npz", {})
    same(correctness.read(tmp_path / "a.npz"), BITS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": None}, "it holds cells, examples, and not cells, examples, bits"),
        ({"more": np.zeros(1)}, "it holds bits, cells, examples, more"),
        ({"cells": np.array([b"clean", b"fog/1"])}, "types are |S5"),
        ({"cells": np.array(["clean", "clean"])}, "one name twice"),
        ({"cells": np.array("clean")}, "1 names of cells with 2 counts"),
        ({"examples": np.array([9, 10], np.int32)}, "int32"),
        ({"examples": np.array([9])}, "2 names of cells with 1 counts"),
        ({"examples": np.array([-1, 10])}, "bits of shape"),
        ({"examples": np.array([9, 17])}, "17 images at most"),
        ({"examples": np.array([7, 10])}, "bits after the last image"),
        ({"bits": np.zeros((2, 3), np.uint8)}, r"bits of shape (2, 3)"),
        ({"bits": np.zeros((2, 2), bool)}, "and bool"),
        ({"cells": np.array(["clean", None])}, "not readable as an .npz file"),
    ],
)
def test_other_arrays_are_refused(tmp_path, change, message):
    good = {"cells": np.array(["clean", "fog/1"]), "examples": np.array([9, 10])}
    good["bits"] = np.uint8([[255, 128], [0, 64]])
    np.savez(tmp_path / "a.npz", **good)
    same(correctness.read(tmp_path / "a.npz"), {"clean": np.ones(9, bool), "fog/1": np.arange(10) == 9})
    wrong = {key: value for key, value in (good | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **wrong)
    with pytest.raises(CheckpointError) as error:
        correctness.read(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(error.value) and message in str(error.value)


def test_damaged_files_are_refused_and_never_read_as_something_else(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(CheckpointError, match="no such file"):
        correctness.read(path)
    correctness.write(path, BITS)
    whole = path.read_bytes()
    random, refused = np.random.default_rng(0), 0
    for trial in range(400):
        at = int(random.integers(len(whole)))
        flipped = whole[:at] + bytes([whole[at] ^ (1 << int(random.integers(8)))]) + whole[at + 1 :]
        path.write_bytes(whole[:at] if trial % 4 == 0 else flipped)
        try:
            same(correctness.read(path), BITS)  # a bit that says nothing, as of the date
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 200
    np.save(tmp_path / "b.npy", np.zeros(3))
    for other in (tmp_path, tmp_path / "b.npy"):
        with pytest.raises(CheckpointError, match=r"not readable as an \.npz file"):
            correctness.read(other)


def measured(files=None):
    """(Evaluation, what the student says, labels) of the random images and network of `test_evaluate`."""
    dataset, student, _ = case()
    mesh, config = make_mesh(), make_config(max_examples=21)
    pair = (evaluate.predictor(student.model, mesh), student.variables)
    wanted = targets.prepare(config, dataset)._replace(files=files)
    found = evaluate.evaluate(pair, dataset, config, mesh, wanted, pair)
    clean = evaluate.logits_of([pair], dataset.test_images[:21], 26, mesh)[0]
    return found, clean, dataset.test_labels[:21]


def test_the_bits_are_what_the_accuracies_count():
    found, clean, labels = measured()
    table = found.result["corruptions"]
    names = [f"{name}/{s + 1}" for name, row in table.items() for s in range(5) if row[s] is not None]
    assert list(found.correct) == ["clean", *names] and len(names) == 4
    by_hand = [int(np.argmax(row)) == label for row, label in zip(clean, labels, strict=True)]
    assert found.correct["clean"].tolist() == by_hand and 0 < sum(by_hand) < 21
    for cell, bits in found.correct.items():
        name, _, severity = cell.partition("/")
        accuracy = table[name][int(severity) - 1] if severity else found.result["clean_accuracy"]
        assert bits.dtype == bool and bits.shape == (21,)
        assert 100 * int(bits.sum()) / 21 == accuracy  # to the last bit
    json.dumps(found.result)


def test_a_natural_shift_has_bits_too():
    dataset = case()[0]
    shifted = Shifted(dataset.test_labels[:5], (), lambda *_: dataset.test_images[:5], {})
    found, clean, labels = measured(shifted)
    assert list(found.correct) == ["clean", "shifted"]
    np.testing.assert_array_equal(found.correct["shifted"], (clean.argmax(-1) == labels)[:5])
    assert found.result["shifted"]["accuracy"] == 100 * int(found.correct["shifted"].sum()) / 5


def test_an_image_without_finite_logits_is_wrong():
    logits = np.array([[9, 0], [9, np.nan], [np.inf, 0], [0, 9]], np.float32)
    assert metrics.correct(logits, np.array([0, 0, 0, 0])).tolist() == [True, False, False, False]
