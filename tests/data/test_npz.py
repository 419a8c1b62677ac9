"""Data sets in .npz files: what is read, and one clear error for whatever is missing or wrong."""

import numpy as np
import pytest

from craft_jax.data import npz
from tests.data.loaded import ARRAYS, arrays, fails, load, save


def test_npz(tmp_path):
    loaded, good = load("npz", save(tmp_path)), arrays()
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), good[name])
    assert loaded.num_classes == 3 and loaded.name == "npz"
    assert loaded.train_labels.dtype == np.int32
    np.testing.assert_allclose(loaded.mean, good["train_images"].mean((0, 1, 2)) / 255)
    assert len(load("npz", tmp_path / "images.npz", validation=10).validation_labels) == 10


def test_npz_compressed_greyscale_and_small_labels(tmp_path):
    grey = arrays()["train_images"][..., 0]
    good = arrays(train_images=grey, train_labels=(np.arange(30) % 3).astype(np.uint8))
    np.savez_compressed(tmp_path / "images.npz", **good)
    loaded = load("npz", tmp_path / "images.npz")
    assert loaded.train_images.shape == (30, 18, 16, 3)
    assert all((loaded.train_images[..., channel] == grey).all() for channel in range(3))
    assert loaded.train_labels.dtype == np.int32


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"test_labels": None}, ["test_labels is missing", "train_images, train_labels"]),
        ({"train_images": np.zeros((30, 18, 16, 3))}, ["train_images has dtype float64", "uint8"]),
        ({"train_images": np.zeros((30, 18, 16, 1), np.uint8)}, ["train_images has shape (30, 18, 16, 1)"]),
        ({"train_images": np.zeros((30, 120), np.uint8)}, ["train_images has shape (30, 120)", "(N, H, W"]),
        ({"train_images": np.uint8(3)}, ["train_images has shape ()"]),
        ({"train_images": np.zeros((29, 18, 16, 3), np.uint8)}, ["29 rows, train_labels 30"]),
        ({"test_images": np.zeros((7, 18, 16, 3), np.uint8)}, ["7 rows, test_labels 6"]),
        ({"test_images": np.zeros((6, 16, 18, 3), np.uint8)}, ["(16, 18)", "(18, 16)"]),
        (
            {"train_images": np.zeros((30, 7, 9), np.uint8), "test_images": np.zeros((6, 7, 9), np.uint8)},
            ["train_images has shape (30, 7, 9)", "at least 16", "test_images has shape (6, 7, 9)"],
        ),
        ({"train_labels": np.arange(30) % 3 - 1}, ["train_labels has the negative label -1"]),
        ({"train_labels": np.zeros(30)}, ["train_labels has dtype float64", "integer"]),
        ({"train_labels": np.zeros(30, bool)}, ["train_labels has dtype bool"]),
        ({"train_labels": np.eye(30, dtype=int)}, ["train_labels has shape (30, 30)"]),
        ({"train_labels": np.full(30, 2**40)}, ["train_labels has the label 1099511627776"]),
        ({"train_labels": np.array([*range(29), 10**6])}, ["has the label 1000000", "K at most 1000000"]),
        ({"test_labels": np.array([0, 1, 2, 3, 3, 9])}, ["test_labels", "train_labels has not: 3, 9"]),
        ({"test_images": np.zeros((0, 18, 16, 3), np.uint8), "test_labels": np.zeros(0, int)}, ["is empty"]),
        ({"test_labels": np.array([None] * 6)}, ["test_labels cannot be read", "allow_pickle"]),
    ],
)
def test_npz_faults(tmp_path, changes, faults):
    path = save(tmp_path, **changes)
    message = fails("npz", path)
    assert str(path) in message and "data.dir" in message and npz.FORMAT in message
    for fault in faults:
        assert fault in message


def test_npz_lists_all_faults_at_once(tmp_path):
    message = fails("npz", save(tmp_path, train_images=np.zeros((3, 18, 16)), test_labels=None))
    assert "float64" in message and "3 rows" in message and "test_labels is missing" in message


def test_npz_files_that_are_none(tmp_path):
    assert "data.dir is empty" in fails("npz", "")
    assert f"{tmp_path}/none.npz is not there" in fails("npz", tmp_path / "none.npz")
    assert f"{tmp_path} is a directory" in fails("npz", tmp_path)
    (tmp_path / "text.npz").write_text("no numbers")
    assert f"{tmp_path}/text.npz is not an .npz file" in fails("npz", tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "is not an .npz file" in fails("npz", tmp_path / "one.npy")
    whole = save(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "cut short" in fails("npz", tmp_path / "cut.npz")
    middle = len(whole) // 3
    (tmp_path / "bad.npz").write_bytes(whole[:middle] + b"\x55" * 64 + whole[middle + 64 :])
    assert "train_images cannot be read" in fails("npz", tmp_path / "bad.npz")
