"""Our own files in CIFAR-10-C's layout: what launch/make_cifar_c.py writes and `shifted` reads."""

import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from craft_jax import corruptions, files
from craft_jax.corruptions.ops import to_unit
from craft_jax.data import shifted
from craft_jax.errors import DataError
from craft_jax.evaluation.images import corruption_keys
from launch import make_cifar_c
from tests.data.shifted_files import SIDE, fails, relabelled

ROOT = Path(__file__).parents[2]
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
