"""Published corruptions: the layout of CIFAR-10-C's files, TFDS's sets, and our own files in that layout."""

import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from craft_jax import corruptions, data, files
from craft_jax.config import rules
from craft_jax.corruptions.ops import to_unit
from craft_jax.data import shifted, shifted_tfds, tfds
from craft_jax.errors import DataError
from craft_jax.evaluation import workdirs
from craft_jax.evaluation.images import corruption_keys
from craft_jax.report import __main__ as report
from craft_jax.report import measures
from craft_jax.runs import predict
from craft_jax.training import train
from launch import make_cifar_c

ROOT = Path(__file__).parents[2]
NAMES = ("fog", "glass_blur", "elastic_transform")
SIDE = 16  # of the images of the fixture `digits`


@pytest.fixture
def settings(make_config, tmp_path):
    """settings(source, **{"eval.key": value}): a configuration that evaluates NAMES, from `tmp_path`."""

    def make(source="cifar10_c", **overrides):
        fixed = {"eval.source": source, "eval.dir": str(tmp_path), "eval.corruptions": NAMES}
        return make_config("erm", **(fixed | overrides))

    return make


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


# ---- files ----


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


def relabelled(digits, images):
    return dataclasses.replace(digits, name="npz", test_images=images)


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


# ---- our own files ----

MADE = ("gaussian_noise", "jpeg_compression")


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """Files of 33 digits: neither a whole number of batches nor all there are."""
    out = tmp_path_factory.mktemp("made") / "new" / "folder"
    make_cifar_c.make(digits, out, MADE, 33, batch_size=16)
    return out


def test_our_files_are_read_as_the_images_that_evaluation_makes(made, settings, digits):
    config = settings(**{"eval.dir": str(made), "eval.corruptions": MADE})
    loaded = shifted.load(config, digits)
    assert loaded.labels.tolist() == digits.test_labels[:33].tolist()
    index = jnp.arange(33, dtype=jnp.int32)
    images = digits.test_images[:33].astype(np.float32) / 255
    for name, severity in itertools.product(MADE, range(1, 6)):
        keys = corruption_keys(name, severity, index)
        wanted = corruptions.corrupt(keys, images, name, severity)
        block = loaded.images(name, severity)
        np.testing.assert_array_equal(block, np.rint(np.asarray(wanted) * 255.0))
        # What a model is given is the same bit for bit, by the conversion that is exact.
        np.testing.assert_array_equal(to_unit(block.astype(np.float32)), wanted)
    assert (loaded.images(MADE[0], 1) != loaded.images(MADE[0], 5)).any()


def test_our_files_are_in_the_published_types_and_say_what_they_are(made, settings, digits):
    assert sorted(p.name for p in made.iterdir()) == sorted(
        [*(f"{name}.npy" for name in MADE), "labels.npy", "regenerated.json"]
    )
    images, labels = np.load(made / f"{MADE[0]}.npy"), np.load(made / "labels.npy")
    assert (images.dtype, images.shape) == (np.uint8, (165, SIDE, SIDE, 3))
    assert labels.dtype == np.uint8 and labels.tolist() == digits.test_labels[:33].tolist() * 5
    config = settings(**{"eval.dir": str(made), "eval.corruptions": MADE})
    note = shifted.load(config, digits).record["regenerated"]
    assert note == files.read_json(made / "regenerated.json")
    assert "not the published CIFAR-10-C" in note["what"] and note["images"] == 33
    assert note["data"]["fingerprint"] == digits.fingerprint and set(note["files"]) == {
        f"{n}.npy" for n in MADE
    }


def test_our_files_of_another_data_set_are_refused(made, settings, digits):
    """A folder of digits given to a student of others, whose labels are as many and the same."""
    config = settings(**{"eval.dir": str(made), "eval.corruptions": MADE})
    others = np.random.default_rng(0).integers(0, 256, digits.test_images.shape).astype(np.uint8)
    message = fails(config, relabelled(digits, others))
    assert "found among them. regenerated.json names digits. Are these" in message


def test_a_missing_file_is_listed_once(made, settings, digits):
    config = settings(**{"eval.dir": str(made), "eval.corruptions": (*MADE, "fog")})
    message = fails(config, digits)
    assert message.count("fog.npy") == 1 and "fog.npy is missing" in message


def test_files_are_added_but_not_replaced_unasked(made, digits, tmp_path):
    out = shutil.copytree(made, tmp_path / "copy")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(DataError, match=r"holds jpeg_compression\.npy; --overwrite"):
        make_cifar_c.make(digits, out, ("frost", "jpeg_compression"), 33)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    (out / "jpeg_compression.npy").write_bytes(b"old")
    make_cifar_c.make(digits, out, ("frost", "jpeg_compression"), 33, overwrite=True)
    after = {p.name: p.read_bytes() for p in out.iterdir()}
    assert {k: after[k] for k in before if k != shifted.NOTE} == {
        k: v for k, v in before.items() if k != shifted.NOTE
    }
    files = json.loads(after[shifted.NOTE])["files"]
    assert files.keys() == {"gaussian_noise.npy", "jpeg_compression.npy", "frost.npy"}
    assert files["frost.npy"] == {"frost_pictures": corruptions.frost_source()}


def test_files_of_two_origins_are_never_mixed(made, digits, tmp_path):
    out = shutil.copytree(made, tmp_path / "copy")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"holds gaussian_noise\.npy, jpeg_compression\.npy, which regen"):
            make_cifar_c.make(digits, out, ("fog",), 32, overwrite=overwrite)
    (out / shifted.NOTE).unlink()  # as the published files are
    with pytest.raises(DataError, match="give another directory"):
        make_cifar_c.make(digits, out, ("jpeg_compression",), 33, overwrite=True)
    (out / shifted.NOTE).write_bytes(before[shifted.NOTE])
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    make_cifar_c.make(digits, out, MADE, 5, overwrite=True)  # all of them: nothing is left to be mixed with
    assert len(np.load(out / "labels.npy")) == len(np.load(out / f"{MADE[0]}.npy")) == 25


def test_a_stranger_beside_ours_is_neither_kept_nor_called_ours(made, digits, tmp_path):
    out = shutil.copytree(made, tmp_path / "copy")
    shutil.copy(out / f"{MADE[0]}.npy", out / "snow.npy")  # of who knows what origin
    with pytest.raises(DataError, match=r"holds .*snow\.npy, which regenerated\.json does not give"):
        make_cifar_c.make(digits, out, ("fog",), 33)
    config = ConfigDict({"eval": {"source": "cifar10_c", "dir": str(out), "max_examples": 0}})
    config.eval.corruptions = (*MADE, "snow")
    with pytest.raises(DataError, match=r"snow\.npy is not among the files that regenerated\.json names"):
        shifted.load(config, digits)
    for note in ("null", "{}", "[]", '{"files": {}}'):
        (out / shifted.NOTE).write_text(note)
        with pytest.raises(DataError, match=r"regenerated\.json is not what launch/make_cifar_c\.py writes"):
            shifted.load(config, digits)


@pytest.mark.parametrize("shape", ["(-100, 32, 32, 3)", "(10**30, 32, 32, 3)", "("])
def test_a_damaged_header_is_told(made, digits, tmp_path, shape):
    out = shutil.copytree(made, tmp_path / "copy")
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".replace(
        "10**30", "1" + "0" * 30
    )
    header = header.ljust(117) + "\n"
    (out / f"{MADE[0]}.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    )
    config = ConfigDict({"eval": {"source": "cifar10_c", "dir": str(out), "max_examples": 0}})
    config.eval.corruptions = MADE
    with pytest.raises(DataError, match=rf"{MADE[0]}\.npy is not a complete \.npy file"):
        shifted.load(config, digits)


def test_a_file_cut_off_is_not_there(digits, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(images, index, name, group, severity):
        if name == "fog" and severity == 2:
            raise Stop
        return jnp.zeros(images.shape, jnp.uint8)

    monkeypatch.setattr(make_cifar_c, "_corrupt", stop)
    with pytest.raises(Stop):
        make_cifar_c.make(digits, tmp_path, ("snow", "fog"), 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.npy", "regenerated.json", "snow.npy"]
    assert list(json.loads((tmp_path / shifted.NOTE).read_text())["files"]) == ["snow.npy"]
    (tmp_path / "fog.npy").write_bytes(b"old images, soon beside new labels")
    with pytest.raises(Stop):
        make_cifar_c.make(digits, tmp_path, ("snow", "fog"), 5, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.npy", "regenerated.json", "snow.npy"]


def test_a_disk_that_is_too_small_is_told_before(digits, tmp_path, monkeypatch):
    # A memory-mapped write to a full disk would kill the process.
    monkeypatch.setattr(make_cifar_c.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 100))
    with pytest.raises(DataError, match=r"0\.00 GB do not fit 0\.00 GB"):
        make_cifar_c.make(digits, tmp_path, ("fog",), 4)
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_every_fault_and_leaves_nothing(capsys, tmp_path):
    out = tmp_path / "out"
    words = ["--data=digits", f"--out={out}", "--names=fog,rain", "--images=398", "--batch=0"]
    assert make_cifar_c.main(words) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("make_cifar_c: --names fog,rain: allowed: each once of gaussian_noise, ")
    assert second == "--images 398: allowed: 1 to 397, the test images"
    assert third == "--batch 0: allowed: at least 1"
    for words in (["--names=fog,fog"], ["--names="], ["--images=0"], ["--images=-1"]):
        assert make_cifar_c.main(["--data=digits", f"--out={out}", *words]) == 2
        assert words[0].partition("=")[0] in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert make_cifar_c.main(["--data=digits", f"--out={tmp_path / 'file'}", "--names=fog"]) == 2
    assert "cannot be made" in capsys.readouterr().err
    assert make_cifar_c.main(["--data=npz", f"--data-dir={tmp_path}/none.npz", f"--out={out}"]) == 2
    assert "none.npz is not there" in capsys.readouterr().err
    assert not out.exists()


def test_small_images_are_refused(digits, tmp_path):
    small = dataclasses.replace(digits, test_images=digits.test_images[:, ::2, ::2])
    with pytest.raises(DataError, match="images of 8 px; allowed: 16 or more"):
        make_cifar_c.make(small, tmp_path / "out", ("fog",), 4)


def test_the_command_runs_from_any_directory(tmp_path):
    words = ["--data=digits", "--names=contrast", "--images=3", "--out=made"]
    program = [sys.executable, str(ROOT / "launch" / "make_cifar_c.py"), *words]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.load(tmp_path / "made" / "contrast.npy").shape == (15, 32, 32, 3)


# ---- TFDS ----


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    stream.seek(0)
    return stream


def prepare_corrupted(root, config, images, labels):
    """DIR/cifar10_corrupted/CONFIG/1.0.0 as TFDS writes it, its images encoded here."""
    import tensorflow_datasets

    class Prepared(tensorflow_datasets.image_classification.Cifar10Corrupted, skip_registration=True):
        def _split_generators(self, dl_manager):
            rows = enumerate(zip(images, labels, strict=True))
            return {"test": [(i, {"image": png(x), "label": int(y)}) for i, (x, y) in rows]}

    Prepared.name = "cifar10_corrupted"
    Prepared(config=config, data_dir=root, file_format="array_record").download_and_prepare()


CELLS = {
    ("glass_blur", 1): "frosted_glass_blur_1",
    ("glass_blur", 5): "frosted_glass_blur_5",
    ("elastic_transform", 1): "elastic_1",
    ("elastic_transform", 5): "elastic_5",
}


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    """(TFDS's directory, {cell: 20 images}, 20 labels in that order before TFDS shuffles them)."""
    root, rng = tmp_path_factory.mktemp("corrupted"), np.random.default_rng(3)
    labels = np.arange(20) % 10
    images = {cell: rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8) for cell in CELLS}
    for cell, config in CELLS.items():
        prepare_corrupted(root, config, images[cell], labels)
    return root, images, labels


@pytest.fixture
def cifar(digits):
    """CIFAR-10 as far as the shifted images need it."""
    images = np.zeros((20, 32, 32, 3), np.uint8)
    return dataclasses.replace(digits, name="cifar10", test_images=images, test_labels=np.arange(20) % 10)


@pytest.fixture
def from_tfds(settings, corrupted):
    def make(**overrides):
        fixed = {
            "eval.dir": str(corrupted[0]),
            "eval.corruptions": ("glass_blur", "elastic_transform"),
            "eval.severities": (1, 5),
        }
        return settings("cifar10_corrupted", **(fixed | overrides))

    return make


@pytest.mark.parametrize("key", ["eval.dir", "data.dir"])
def test_tfds_gives_each_cell_its_own_images(from_tfds, corrupted, cifar, key):
    root, images, labels = corrupted
    loaded = shifted.load(from_tfds(**{"eval.dir": "", key: str(root)}), cifar)
    assert loaded.names == ("glass_blur", "elastic_transform") and loaded.labels.dtype == np.int32
    for cell in CELLS:
        block = loaded.images(*cell)
        assert block.dtype == np.uint8
        pairs = {(x.tobytes(), int(y)) for x, y in zip(block, loaded.labels, strict=True)}
        assert pairs == {(x.tobytes(), int(y)) for x, y in zip(images[cell], labels, strict=True)}
    record = json.loads(json.dumps(loaded.record))
    assert record["configs"] == dict.fromkeys(CELLS.values(), "1.0.0")
    assert record["dir"] == str(root) and record["examples"] == 20 and record["tfds_version"]


def test_tfds_is_cut_to_the_first_examples(from_tfds, cifar):
    whole = shifted.load(from_tfds(), cifar)
    some = shifted.load(from_tfds(**{"eval.max_examples": 7}), cifar)
    assert some.labels.tolist() == whole.labels[:7].tolist() and some.record["examples"] == 7
    np.testing.assert_array_equal(some.images("glass_blur", 5), whole.images("glass_blur", 5)[:7])


def test_tfds_has_all_our_corruptions_by_these_names():
    import tensorflow_datasets

    there = set(tensorflow_datasets.image_classification.Cifar10Corrupted.builder_configs)
    names = [shifted_tfds.TFDS_NAMES.get(name, name) for name in corruptions.CIFAR10_C]
    assert {f"{name}_{s}" for name in names for s in range(1, 6)} == there


def test_tfds_lists_all_that_is_missing_and_says_where_the_same_images_are(from_tfds, cifar):
    message = fails(
        from_tfds(**{"eval.corruptions": ("fog", "glass_blur"), "eval.severities": (1, 2)}), cifar
    )
    for part in (
        "fog_1",
        "fog_2",
        "frosted_glass_blur_2",
        "CIFAR-10-C.tar",
        "--config.eval.source=cifar10_c",
    ):
        assert part in message
    assert "frosted_glass_blur_1" not in message and message.startswith("eval.dir: ")
    missing = fails(from_tfds(**{"eval.dir": "nowhere"}), cifar)
    assert missing == "eval.dir=nowhere is not a directory; give one that exists"


def test_tfds_damage_is_found_before_any_evaluation(from_tfds, corrupted, cifar, tmp_path):
    root = shutil.copytree(corrupted[0], tmp_path / "copy")
    (records,) = root.glob("cifar10_corrupted/elastic_5/1.0.0/*.array_record*")
    whole = records.read_bytes()
    for damage in (lambda: records.write_bytes(whole[: len(whole) // 2]), records.unlink):
        damage()
        message = fails(from_tfds(**{"eval.dir": str(root)}), cifar)
        assert "elastic_5/1.0.0 cannot be read" in message and "--config.eval.dir=DIR" in message


def test_tfds_configurations_of_other_sizes_or_orders_are_refused(from_tfds, corrupted, cifar, tmp_path):
    _, images, labels = corrupted
    root = shutil.copytree(corrupted[0], tmp_path / "copy")
    cell = ("elastic_transform", 5)
    shutil.rmtree(root / "cifar10_corrupted/elastic_5")
    prepare_corrupted(root, "elastic_5", images[cell][:10], labels[:10])
    assert "differ in size: 10, 20" in fails(from_tfds(**{"eval.dir": str(root)}), cifar)
    shutil.rmtree(root / "cifar10_corrupted/elastic_5")
    prepare_corrupted(root, "elastic_5", images[cell], labels[::-1])
    loaded = shifted.load(from_tfds(**{"eval.dir": str(root)}), cifar)
    with pytest.raises(DataError, match=r"elastic_5.*labels are in another order"):
        loaded.images(*cell)


def test_tfds_labels_of_another_set(from_tfds, cifar):
    few = dataclasses.replace(cifar, test_labels=np.arange(20) % 5)
    assert "Are these the files of another data set?" in fails(from_tfds(), few)


@pytest.fixture
def published(served, monkeypatch):
    """CIFAR-10.1 v6, served on this machine: (images, labels)."""
    import tensorflow_datasets

    folder, address = served
    rng = np.random.default_rng(6)
    images, labels = (
        rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8),
        np.arange(20, dtype=np.int32) % 10,
    )
    np.save(folder / "v6_data.npy", images)
    np.save(folder / "v6_labels.npy", labels)
    module = tensorflow_datasets.image_classification.cifar10_1
    monkeypatch.setattr(module, "_DL_URL_IMAGES", f"{address}/{{}}_data.npy")
    monkeypatch.setattr(module, "_DL_URL_LABELS", f"{address}/{{}}_labels.npy")
    monkeypatch.setattr(shifted_tfds, "NATURAL_URL", f"{address}/v6_data.npy")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return images, labels


def test_cifar10_1_is_prepared_once_and_read(published, settings, cifar, tmp_path, monkeypatch):
    images, labels = published
    loaded = shifted.load(settings("cifar10_1"), cifar)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10_1"]
    monkeypatch.setattr(tfds, "_unreachable", lambda *args: pytest.fail("asked for the network"))
    again = shifted.load(settings("cifar10_1", **{"eval.max_examples": 6}), cifar)
    block = loaded.images(None, None)
    assert loaded.names == () and loaded.labels.dtype == np.int32 and block.dtype == np.uint8
    pairs = {(x.tobytes(), int(y)) for x, y in zip(block, loaded.labels, strict=True)}
    assert pairs == {(x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}
    np.testing.assert_array_equal(again.images(None, None), block[:6])
    assert again.labels.tolist() == loaded.labels[:6].tolist()
    assert json.loads(json.dumps(again.record))["source"] == "cifar10_1/v6" and again.record["examples"] == 6


def test_cifar10_1_that_breaks_leaves_nothing_and_says_what_helps(
    published, served, settings, cifar, tmp_path
):
    (served[0] / "v6_labels.npy").write_bytes(b"none")
    message = fails(settings("cifar10_1"), cifar)
    assert f"preparing cifar10_1/v6 in {tmp_path} failed" in message
    assert "--config.eval.dir=DIR" in message and "a network" in message
    assert list(tmp_path.iterdir()) == []


def test_cifar10_1_without_network(settings, cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "_unreachable", lambda *args: "no answer")
    message = fails(settings("cifar10_1"), cifar)
    assert message.startswith(f"cifar10_1/v6 is not in {tmp_path}, and cannot be downloaded (no answer)")
    assert list(tmp_path.iterdir()) == []


def test_every_source_of_files_is_one_that_the_configuration_allows(settings, digits):
    assert "eval.source is 'regenerated', which has no files" in fails(settings("regenerated"), digits)
    faults = rules.faults_of(settings("x"), training=False)
    (line,) = [x for x in faults if x.startswith("config.eval.source")]
    for source in re.split(", ", line.partition("allowed: ")[2]):
        if source != "regenerated":
            with pytest.raises(DataError, match=r"is not a directory|eval\.dir|data\.dir"):
                shifted.load(settings(source, **{"eval.dir": "nowhere", "data.dir": "nowhere"}), digits)


def test_data_offers_no_other_validation_than_its_own(digits):
    """`foreign` counts classes: any order and any part of the test set is its own, one label more is not."""
    labels = np.sort(digits.test_labels)
    assert data.dataset.foreign(labels, digits) is None
    assert data.dataset.foreign(labels[::3], digits) is None
    assert "has class" in data.dataset.foreign(np.append(labels, 3), digits)


@pytest.mark.slow
def test_a_run_is_evaluated_on_cifar10_1_by_config_and_reported(
    published, make_config, tmp_path, monkeypatch, capsys
):
    """A whole tiny run on images like CIFAR-10's: one step, then CIFAR-10.1 in place of corruptions."""
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (16, 32, 32, 3)).astype(np.uint8), np.arange(16) % 10
    dataset = data.dataset.make("cifar10", data.dataset.Source(images, labels, images, labels, 10), 0)
    monkeypatch.setattr(data, "load", lambda config: dataset)
    overrides = {"data.name": "cifar10", "eval.source": "cifar10_1", "eval.dir": str(tmp_path), "epochs": 1}
    config, workdir = make_config(**overrides), tmp_path / "run"
    result = train.train_and_evaluate(config, workdir)
    assert result["examples"] == 20 and result["clean_examples"] == 16 and result["corruptions"] == {}
    shown = shifted.load(config, dataset)
    logits = predict.load(workdir)(shown.images(None, None) / np.float32(255))
    assert result["shifted"]["accuracy"] == 100 * (logits.argmax(-1) == shown.labels).sum() / 20
    assert result["source_record"]["source"] == "cifar10_1/v6"
    again, path = workdirs.evaluate_workdir(config, workdir)
    assert again["shifted"] == result["shifted"] and path.name == "cifar10_1.json"
    assert report.main([str(workdir)]) == 0
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    ]
    percent = f"{result['shifted']['accuracy']:.2f}"
    own = [line for line in lines if line[:3] == [str(workdir), "cifar10_1", "20"]]
    assert [line[4] for line in own] == [percent]
    assert [line[-1] for line in lines if line[1:3] == ["cifar10_1", "cifar10_1"]] == [percent]
    assert measures.value(result, "shifted") == result["shifted"]["accuracy"]
