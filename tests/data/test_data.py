"""Data sets: shapes, splits, fingerprints, and one clear error for whatever is missing or wrong."""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from craft_jax import data, main
from craft_jax.data import dataset, digits, npz, tfds
from craft_jax.errors import DataError
from craft_jax.mesh import make_mesh
from craft_jax.report import __main__ as report
from craft_jax.runs import predict
from craft_jax.training.batches import Batches

ROOT = Path(__file__).resolve().parents[2]
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(name, directory="", validation=0, max_train=0, size=0, streaming="never", **more):
    section = {"name": name, "dir": str(directory), "validation": validation, "max_train": max_train}
    section |= {"size": size, "cue": "none", "streaming": streaming, "memory_gb": 0.0}
    return data.load(ConfigDict({"data": section, **more}))


def fails(*args, **kwargs):
    """The message of the DataError that loading gives."""
    with pytest.raises(DataError) as error:
        load(*args, **kwargs)
    return str(error.value)


# ---- digits ----


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


# ---- what every data set has ----


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


# ---- npz ----


def arrays(**changes):
    rng = np.random.default_rng(0)
    good = {
        "train_images": rng.integers(0, 256, (30, 18, 16, 3)).astype(np.uint8),
        "train_labels": np.arange(30) % 3,
        "test_images": rng.integers(0, 256, (6, 18, 16, 3)).astype(np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def save(directory, **changes):
    path = directory / "images.npz"
    np.savez(path, **arrays(**changes))
    return path


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
        ({"train_labels": np.full(30, 2**40)}, ["train_labels has the label 1099511627776", "int32"]),
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


# ---- TFDS: a tiny archive in CIFAR's format, served on this machine ----

LAYOUT = {
    "cifar10": (
        "cifar-10-batches-bin/",
        [f"data_batch_{i}.bin" for i in range(1, 6)],
        "test_batch.bin",
        {"batches.meta.txt": 10},
    ),
    "cifar100": (
        "cifar-100-binary/",
        ["train.bin"],
        "test.bin",
        {"coarse_label_names.txt": 20, "fine_label_names.txt": 100},
    ),
}


def cifar_archive(name):
    """A .tar.gz like the published one with 20 images a file, and what it holds, by split."""
    rng = np.random.default_rng(len(name))
    prefix, train_files, test_file, label_files = LAYOUT[name]
    stream, contents = io.BytesIO(), {"train": [], "test": []}
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:

        def add(file, content):
            member = tarfile.TarInfo(prefix + file)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for file, classes in label_files.items():
            add(file, "".join(f"class_{i}\n" for i in range(classes)).encode() + b"\n")
        for file in [*train_files, test_file]:
            images = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
            labels = [rng.integers(0, classes, 20) for classes in label_files.values()]
            planes = images.transpose(0, 3, 1, 2).reshape(20, -1)
            add(file, np.concatenate([np.stack(labels, 1).astype(np.uint8), planes], 1).tobytes())
            contents["test" if file == test_file else "train"].append((images, labels[-1]))
    contents = {
        split: [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        for split, blocks in contents.items()
    }
    return stream.getvalue(), contents


@pytest.fixture(scope="module")
def prepared(served, tmp_path_factory):
    """A directory into which both sets were downloaded and prepared, and what they should hold."""
    folder, address = served
    root, contents = tmp_path_factory.mktemp("prepared"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        for name in LAYOUT:
            archive, contents[name] = cifar_archive(name)
            (folder / f"{name}.tar.gz").write_bytes(archive)
            facts = tfds.SETS[name]._replace(url=f"{address}/{name}.tar.gz")
            patch.setitem(tfds.SETS, name, facts)
            load(name, root)
    return root, contents


@pytest.fixture
def offline(monkeypatch):
    """Fails the test where anything asks for the network."""

    def refuse(*args):
        raise AssertionError("asked for the network")

    monkeypatch.setattr(tfds, "_unreachable", refuse)


@pytest.mark.parametrize("name", LAYOUT)
def test_tfds_reads_what_was_prepared(name, prepared, offline):
    root, contents = prepared
    loaded = load(name, root)
    assert loaded.num_classes == len(loaded.classes) == {"cifar10": 10, "cifar100": 100}[name]
    assert loaded.train_images.shape == (len(contents[name]["train"][0]), 32, 32, 3)
    assert loaded.train_images.dtype == np.uint8 and loaded.train_labels.dtype == np.int32

    def rows(images, labels):
        return sorted(image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True))

    assert rows(loaded.train_images, loaded.train_labels) == rows(*contents[name]["train"])
    assert rows(loaded.test_images, loaded.test_labels) == rows(*contents[name]["test"])
    again = load(name, root)
    assert again.fingerprint == loaded.fingerprint
    np.testing.assert_array_equal(again.train_labels, loaded.train_labels)


def test_tfds_sets_have_the_published_statistics(prepared, offline):
    root, _ = prepared
    assert load("cifar10", root).mean == (0.4914, 0.4822, 0.4465)
    assert load("cifar10", root).std == (0.2470, 0.2435, 0.2616)
    assert load("cifar100", root).mean == (0.5071, 0.4867, 0.4408)
    assert load("cifar100", root).std == (0.2675, 0.2565, 0.2761)


def test_tfds_leaves_only_the_prepared_data(prepared):
    root, _ = prepared
    assert sorted(path.name for path in root.iterdir()) == ["cifar10", "cifar100"]
    assert [path.name for path in (root / "cifar10").iterdir()] == ["3.0.2"]


def test_tfds_default_directory(prepared, offline, monkeypatch):
    import tensorflow_datasets

    root, _ = prepared
    monkeypatch.setattr(tensorflow_datasets.core.constants, "DATA_DIR", str(root))
    assert load("cifar10").fingerprint == load("cifar10", root).fingerprint


def test_tfds_takes_the_newest_version_and_no_unfinished_one(prepared):
    root, _ = prepared
    assert tfds.find(root, "cifar10") == root / "cifar10" / "3.0.2"
    assert tfds.find(root, "svhn") is None


@pytest.mark.parametrize("names", [("3.0.2", "3.0.10", "incomplete.XY_4.0.0", "notes")])
def test_tfds_versions_are_numbers(tmp_path, names):
    for name in names:
        (tmp_path / "cifar10" / name).mkdir(parents=True)
    assert tfds.find(tmp_path, "cifar10").name == "3.0.10"


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environment},
    )


LOAD = """
import sys, time
from absl import logging
from ml_collections import ConfigDict
from craft_jax import data, main
logging.use_absl_handler()
logging.set_verbosity(logging.INFO)  # as absl.app.run leaves it
start = time.time()
try:
    section = dict(name="cifar10", dir={directory!r}, size=0, validation=0, max_train=0, cue="none")
    section |= dict(streaming="auto", memory_gb=0.0)
    data.load(ConfigDict({{"data": section}}))
except data.tfds.DataError as error:
    print(error)
print("seconds", time.time() - start)
print("tensorflow", "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("size", [0, 16])
def test_tfds_streams_what_it_reads(prepared, offline, tmp_path, monkeypatch, size):
    """The same images, labels and numbers from the records, and the same batches, an image at a time."""
    pytest.importorskip("grain", reason="requirements-streaming.txt is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in LAYOUT:
        resident, streamed = (load(name, prepared[0], 5, 0, size, way) for way in ("never", "always"))
        assert isinstance(streamed.train_images, data.Encoded)
        assert data.record(streamed) == data.record(resident)
        for key in (*ARRAYS, "validation_images", "validation_labels"):
            np.testing.assert_array_equal(getattr(streamed, key), getattr(resident, key))
    one, other = (Batches(dataset, 8, 0, make_mesh()) for dataset in (resident, streamed))
    with other.ahead(1, 30, 0):
        for step in range(1, 20):
            expected, found = one(step), other(step)
            for key in expected:
                np.testing.assert_array_equal(found[key], expected[key])


def test_tfds_names_an_image_that_cannot_be_decoded(prepared, offline, tmp_path, monkeypatch):
    pytest.importorskip("grain", reason="requirements-streaming.txt is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dataset = load("cifar10", prepared[0], streaming="always")
    monkeypatch.setattr(tfds, "decode", lambda encoded: 1 // 0)
    with pytest.raises(DataError, match=r"cannot be read: image 17 of train: .*by zero"):
        dataset.train_images.read(np.array([17]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    for _ in range(2):  # what failed is not kept
        assert "cannot be read: image 0 of train: " in fails("cifar10", prepared[0], streaming="always")


def test_tfds_needs_no_tensorflow_and_is_quiet(prepared):
    result = run_python(LOAD.format(directory=str(prepared[0])))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "tensorflow False"
    assert "data.dir" not in result.stdout and result.stderr == ""


def test_tfds_without_network_fails_fast_through_a_proxy_that_does_not_answer(tmp_path):
    # The proxy is an address nobody has, so that this holds with and without a network.
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://192.0.2.1:9")
    result = run_python(LOAD.format(directory=str(tmp_path)), **proxies, no_proxy="", NO_PROXY="")
    assert result.returncode == 0, result.stderr
    message, seconds, _ = result.stdout.rsplit("\n", 3)[:3]
    assert float(seconds.split()[1]) < 10
    check_ways_out(message, tmp_path, "cifar10")
    assert list(tmp_path.iterdir()) == []


def check_ways_out(message, directory, name):
    for part in (str(directory), name, "--config.data.dir=DIR", "a network", ":digits", "dataset_info.json"):
        assert part in message


def hang(*args, **kwargs):
    time.sleep(3)
    raise OSError("at last")


def test_tfds_probe_is_bounded_where_a_name_lookup_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    start = time.monotonic()
    message = fails("cifar100", tmp_path)
    assert time.monotonic() - start < 2.5
    check_ways_out(message, tmp_path, "cifar100")
    assert "within 0.3 s" in message
    assert list(tmp_path.iterdir()) == []


def test_tfds_probe_takes_refusals_and_answers(served, monkeypatch):
    folder, address = served
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (folder / "there").write_text("yes")
    assert tfds._unreachable(f"{address}/there", 5) is None
    assert "404" in tfds._unreachable(f"{address}/absent", 5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "refused" in tfds._unreachable(f"http://127.0.0.1:{port}/", 5)


def test_tfds_probe_goes_through_the_proxy(served, monkeypatch):
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", served[1])
    # Nobody but the proxy could answer for this name.
    assert "404" in tfds._unreachable("http://host.invalid/absent", 5)


@pytest.mark.parametrize("new_directory", [False, True])
def test_tfds_download_that_breaks_leaves_nothing_behind(served, tmp_path, monkeypatch, new_directory):
    import tensorflow_datasets

    folder, address = served
    archive, _ = cifar_archive("cifar10")
    (folder / "broken.tar.gz").write_bytes(archive[: len(archive) // 2])
    facts = tfds.SETS["cifar10"]._replace(url=f"{address}/broken.tar.gz")
    monkeypatch.setitem(tfds.SETS, "cifar10", facts)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = tmp_path / "new" if new_directory else tmp_path
    monkeypatch.setattr(tensorflow_datasets.core.constants, "DATA_DIR", str(root))
    message = fails("cifar10", "")
    check_ways_out(message, root, "cifar10")
    assert "failed" in message
    assert list(tmp_path.iterdir()) == []


def test_tfds_directory_that_is_not_there(tmp_path, offline):
    assert f"data.dir={tmp_path}/none" in fails("cifar10", tmp_path / "none")
    (tmp_path / "file").touch()
    assert f"data.dir={tmp_path}/file" in fails("cifar10", tmp_path / "file")


def remove(name):
    return lambda folder: (folder / name).unlink()


def rewrite(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


TRAIN_FILE = "cifar10-train.array_record-00000-of-00001"
TEST_FILE = "cifar10-test.array_record-00000-of-00001"


@pytest.mark.parametrize(
    "damage",
    [
        remove(TEST_FILE),
        remove("dataset_info.json"),
        remove("features.json"),
        rewrite(TRAIN_FILE, lambda content: content[: len(content) // 2]),
        rewrite(TRAIN_FILE, lambda content: b""),
        rewrite(TRAIN_FILE, lambda content: content[:70000] + b"\x00" * 100 + content[70100:]),
        rewrite("dataset_info.json", lambda content: content[:100]),
        rewrite("dataset_info.json", lambda content: content.replace(b'"test"', b'"other"')),
        rewrite("dataset_info.json", lambda content: content.replace(b'"100"', b'"101"')),
        rewrite("dataset_info.json", lambda content: content.replace(b"array_record", b"tfrecord")),
        rewrite("dataset_info.json", lambda content: b"{}"),
    ],
)
def test_tfds_damaged_directory(prepared, tmp_path, offline, damage):
    shutil.copytree(prepared[0] / "cifar10", tmp_path / "cifar10")
    damage(tmp_path / "cifar10" / "3.0.2")
    message = fails("cifar10", tmp_path)
    assert f"the data in {tmp_path}/cifar10/3.0.2 cannot be read" in message
    assert "--config.data.dir" in message


def test_tfds_labels_of_another_set(prepared, tmp_path, offline):
    shutil.copytree(prepared[0] / "cifar100", tmp_path / "cifar10")
    assert "a label is outside 0..9" in fails("cifar10", tmp_path)


@pytest.mark.slow
def test_a_run_on_cifar100_by_config(prepared, offline, tmp_path, capsys):
    """A whole tiny run by the command: one step on 20 images of 100 classes, its evaluation, its report."""
    root, contents = prepared
    words = ["--config=configs/erm.py:smoke", f"--workdir={tmp_path}", "--config.data.name=cifar100"]
    settings = {"data.dir": root, "data.size": 16, "student.name": "tiny", "batch_size": 16}
    settings |= {"eval.corruptions": "contrast", "eval.severities": 5, "compilation_cache": False}
    settings |= {"log.progress": False, "log.tensorboard": False}
    assert main.main([*words, *(f"--config.{key}={value}" for key, value in settings.items())]) == 0
    assert "classes: 100 (apple, aquarium_fish, baby, " in capsys.readouterr().out
    result = json.loads((tmp_path / "results.json").read_text())
    assert (result["status"], result["dataset"], result["data"]["num_classes"]) == ("done", "cifar100", 100)
    loaded = load("cifar100", root, size=16)
    logits = predict.load(tmp_path)(loaded.test_images / np.float32(255))
    assert logits.shape == (20, 100)
    hits = np.argmax(logits, -1) == loaded.test_labels
    assert result["clean_accuracy"] == 100 * int(hits.sum()) / 20
    assert len(contents["cifar100"]["test"][0]) == result["examples"] == 20
    assert report.main([str(tmp_path)]) == 0
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[2].split("|")[1:-1]]
    assert row[:4] == [str(tmp_path), "erm", "cifar100", "tiny"]
