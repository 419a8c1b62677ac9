"""CIFAR through TFDS, from archives served on this machine: prepared, read, streamed, damaged."""

import json
import shutil

import numpy as np
import pytest

from craft_jax import data, main
from craft_jax.data import tfds
from craft_jax.errors import DataError
from craft_jax.mesh import make_mesh
from craft_jax.report import __main__ as report
from craft_jax.runs import predict
from craft_jax.training.batches import Batches
from tests.data.archives import LAYOUT, cifar_archive
from tests.data.loaded import ARRAYS, LOAD, fails, load, run_python


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
