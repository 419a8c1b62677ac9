"""Images that stay in their files: read as an array is, and known by the same numbers."""

import pickle
import time

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from craft_jax import data, pictures
from craft_jax.data import encoded, kept, survey
from craft_jax.errors import DataError

pytest.importorskip("grain", reason="requirements-streaming.txt is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "craft_jax" / "surveys"


@pytest.fixture
def root(tmp_path):
    """40 + 10 pictures of all sizes in two classes."""
    random = np.random.default_rng(1)
    for part, count in (("train", 40), ("test", 10)):
        for i in range(count):
            place = tmp_path / "set" / part / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            picture = random.integers(0, 256, (17 + i % 5, 19 + i % 3, 3)).astype(np.uint8)
            Image.fromarray(picture).save(place / f"{i:02}.{'jpg' if i % 3 else 'png'}")
    return tmp_path / "set"


def load(root, streaming="always", memory_gb=0.0, **more):
    section = {"name": "folder", "dir": str(root), "size": 16, "validation": 0, "max_train": 0, "cue": "none"}
    section |= {"streaming": streaming, "memory_gb": memory_gb, "test_crop": 1.0}
    return data.load(ConfigDict({"data": section | more}))


ARRAYS = [f"{part}_{what}" for part in ("train", "validation", "test") for what in ("images", "labels")]
NUMBERS = ("mean", "std", "fingerprint", "source_fingerprint", "num_classes", "classes")


def assert_same(streamed, resident):
    for name in ARRAYS:
        one, other = getattr(streamed, name), getattr(resident, name)
        assert (one.shape, one.dtype, one.nbytes) == (other.shape, other.dtype, other.nbytes)
        np.testing.assert_array_equal(np.asarray(one), other)
    for name in NUMBERS:
        assert getattr(streamed, name) == getattr(resident, name), name


@pytest.mark.parametrize(
    "split", [{}, {"validation": 7}, {"max_train": 11}, {"validation": 7, "max_train": 11}]
)
def test_a_set_in_its_files_is_that_in_memory(root, split):
    streamed = load(root, **split)
    assert isinstance(streamed.train_images, data.Encoded)
    assert_same(streamed, load(root, "never", **split))
    assert data.record(streamed) == data.record(load(root, "never", **split))


def test_it_is_indexed_as_an_array(root):
    streamed, resident = load(root).train_images, load(root, "never").train_images
    rows = np.array([[3, 39, 3], [0, 7, 12]])
    np.testing.assert_array_equal(streamed[rows], resident[rows])
    np.testing.assert_array_equal(streamed[rows[:, :0]], resident[rows[:, :0]])
    np.testing.assert_array_equal(streamed[resident[:, 0, 0, 0] > 99], resident[resident[:, 0, 0, 0] > 99])
    view = streamed[5:21][3:]
    assert isinstance(view, data.Encoded) and len(view) == 13
    np.testing.assert_array_equal(view, resident[8:21])
    np.testing.assert_array_equal(view.read(np.array([2, 1])), resident[[10, 9]])
    again = pickle.loads(pickle.dumps(view))
    assert again.key == view.key != streamed.key
    np.testing.assert_array_equal(again[np.array([12])], resident[20:21])
    with pytest.raises(IndexError):
        view[np.array([13])]


def test_a_set_streams_above_its_budget(root):
    size = 50 * 16 * 16 * 3
    inside, above = (size + more for more in (1, -1))
    assert isinstance(load(root, "auto", inside / 2**30).train_images, np.ndarray)
    streamed = load(root, "auto", above / 2**30, validation=8)
    kinds = [isinstance(getattr(streamed, f"{part}_images"), data.Encoded) for part in ("train", "test")]
    assert kinds == [True, False] and isinstance(streamed.validation_images, np.ndarray)
    assert isinstance(load(root, "always", 9 / 2**20).test_images, np.ndarray)  # 7,680 bytes of 9,663
    assert isinstance(load(root, "always", 7 / 2**20).test_images, data.Encoded)
    both = load(root, "always", 9 / 2**20, validation=8)  # 13,824 bytes
    assert isinstance(both.validation_images, data.Encoded) and isinstance(both.test_images, data.Encoded)


def test_a_cue_is_drawn_in_memory(root):
    cue = {"cue": "corner", "cue_correlation": 0.9}
    assert isinstance(load(root, "auto", 1e-6, **cue).train_images, np.ndarray)


def test_without_grain_nothing_streams(root, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None if name == "grain" else 1 / 0)
    with pytest.raises(DataError, match=r"'always'.*pip install -r requirements-streaming\.txt"):
        load(root)
    assert isinstance(load(root, "never").train_images, np.ndarray)


def test_pictures_that_cannot_be_read_are_left_out_alike(root, capsys):
    for name in ("train/a/00.png", "test/b/09.png"):
        (root / name).write_bytes(b"\x89PNG")
    streamed = load(root)
    told = capsys.readouterr().err
    assert_same(streamed, load(root, "never"))
    assert capsys.readouterr().err == told
    assert "2 of 50 pictures cannot be read and are left out" in told and "test/b/09.png: not of BMP" in told
    assert len(streamed.train_images) == 39 and len(streamed.test_images) == 9


def test_a_set_is_looked_through_once(root, cache, monkeypatch):
    load(root, validation=7)
    read, original = [], pictures.read
    monkeypatch.setattr(pictures, "read", lambda *a: (read.append(a[0]), original(*a))[1])
    load(root, memory_gb=1e-6, validation=7)
    assert not read and len(list(cache.iterdir())) == 2  # of the whole, and of what is trained on
    time.sleep(0.01)
    (root / "train" / "a" / "02.jpg").touch()
    load(root, memory_gb=1e-6)
    assert len(read) == 50, "a file that changed is looked at again, and the set with it"
    for path in cache.iterdir():
        path.write_text("{")
    fingerprint = load(root).fingerprint
    assert load(root, "never").fingerprint == fingerprint


def test_what_was_found_need_not_be_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert kept.found("0" * 64, lambda: [1]) == [1]
    assert "is not kept for the next time" in capsys.readouterr().err


def test_blocks_do_not_change_what_is_found(root, cache, monkeypatch):
    whole = load(root)
    for path in cache.iterdir():
        path.unlink()
    monkeypatch.setattr(survey, "_BLOCK", 7 * 16 * 16 * 3)
    monkeypatch.setattr(encoded, "_TOGETHER", 2)
    assert load(root).fingerprint == whole.fingerprint and load(root).std == whole.std
