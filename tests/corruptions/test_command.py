"""The corruptions for others: the room alone, under JAX's transformations, and a folder of pictures."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from craft_jax import corruptions
from craft_jax.corruptions import __main__ as command
from craft_jax.corruptions import corrupt

ALONE = """
import sys
from craft_jax.corruptions import corrupt
ours = {m for m in sys.modules if m.startswith("craft_jax.") and not m.startswith("craft_jax.corruptions")}
others = {"flax", "optax", "orbax", "tensorflow_datasets", "ml_collections", "sklearn"} & set(sys.modules)
assert not ours and not others, (ours, others)
"""


def test_the_room_imports_nothing_of_training():
    subprocess.run([sys.executable, "-c", ALONE], check=True, cwd=Path(__file__).resolve().parents[2])


@pytest.mark.parametrize("name", ["impulse_noise", "contrast"])
def test_jit_vmap_and_uint8_make_the_same(name):
    levels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    keys = jax.random.split(jax.random.key(0), 3)
    plain = [np.asarray(corrupt(key, levels / np.float32(255), name, 3)) for key in keys]
    jitted = jax.jit(corrupt, static_argnames=("name", "severity"))
    over_keys = jax.vmap(lambda key: corrupt(key, levels, name, 3))(keys)
    assert over_keys.dtype == np.uint8
    for key, expected, found in zip(keys, plain, over_keys, strict=True):
        np.testing.assert_array_equal(found, np.rint(expected * 255))
        np.testing.assert_array_equal(jitted(key, levels, name=name, severity=3), found)
    np.testing.assert_array_equal(jitted(keys[0], levels / np.float32(255), name=name, severity=3), plain[0])
    groups = np.stack([levels / np.float32(255)] * 2)
    over_both = jax.vmap(lambda key, images: corrupt(key, images, name, 3))(keys[:2], groups)
    np.testing.assert_array_equal(over_both, plain[:2])


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 16 x 20 pixels and one of 24 x 16."""
    rng = np.random.default_rng(0)
    for name, shape in (
        ("a.png", (20, 16)),
        ("b/c.BMP", (20, 16)),
        ("b/d.png", (20, 16)),
        ("e.png", (16, 24)),
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*shape, 3)).astype(np.uint8)).save(path)
    return tmp_path / "in"


def run(folder, out, *words):
    return command.main([str(folder), str(out), "--severity=3", "--names=contrast,impulse_noise", *words])


def test_a_folder_is_corrupted(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "_TOGETHER", 2)  # of three: the last batch is filled up
    (tmp_path / "out").mkdir()  # an empty one is taken
    assert run(folder, tmp_path / "out") == 0
    assert "4 pictures under 2 corruptions of severity 3" in capsys.readouterr().out
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    names = ("a.png", "b/c.png", "b/d.png", "e.png")
    assert written == {f"{kind}/{name}" for kind in ("contrast", "impulse_noise") for name in names}
    for source in ("a.png", "b/c.BMP", "b/d.png", "e.png"):
        pixels = np.asarray(Image.open(folder / source))
        made = np.asarray(Image.open((tmp_path / "out" / "contrast" / source).with_suffix(".png")))
        key = jax.random.key(0)  # which contrast does not read
        expected = np.rint(255 * np.asarray(corrupt(key, pixels[None] / np.float32(255), "contrast", 3)[0]))
        np.testing.assert_array_equal(made, expected)
        noisy = np.asarray(Image.open((tmp_path / "out" / "impulse_noise" / source).with_suffix(".png")))
        changed = np.mean(noisy != pixels)  # CIFAR-C's 3% at severity 3, of 960 and more numbers
        assert noisy.shape == pixels.shape and 0.005 < changed < 0.08
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_pictures_draws_are_its_own(folder, tmp_path):
    assert run(folder, tmp_path / "all") == 0
    for other in ("b/c.BMP", "b/d.png", "e.png"):
        (folder / other).unlink()
    assert run(folder, tmp_path / "one") == 0
    alone, among = (tmp_path / where / "impulse_noise" / "a.png" for where in ("one", "all"))
    assert alone.read_bytes() == among.read_bytes()


@pytest.mark.parametrize(
    ("out", "words", "said"),
    [
        ("in/out", (), "is in"),
        ("in", (), "is in"),
        ("in/../full", (), "is there already"),
        ("full/file", (), "is there already"),
        ("out", ("--names=rain",), "'rain' unknown; allowed: gaussian_noise"),
        ("out", ("--severity=6",), "invalid choice: 6"),
    ],
)
def test_what_is_refused_before_any_work(folder, tmp_path, capsys, out, words, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    try:
        status = run(folder, tmp_path / out, *words)
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_that_cannot_be_corrupted_are_all_named(folder, tmp_path, capsys):
    Image.new("RGB", (15, 30)).save(folder / "small.png")
    Image.new("RGB", (16, 16)).save(folder / "a.jpg")
    (folder / "broken.png").write_text("no picture")
    assert run(folder, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "small.png: 15 by 30 pixels; allowed: at least 16 a side" in said
    assert "broken.png: cannot be read" in said and "a.jpg would be written under the same name" in said
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out") == 2 and "no picture in it" in capsys.readouterr().err
    assert run(tmp_path / "none", tmp_path / "out") == 2 and "not a directory" in capsys.readouterr().err
    (tmp_path / "empty" / "x.png").symlink_to(folder / "a.png")
    assert run(tmp_path / "empty", tmp_path / "out") == 2 and "symbolic link" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_default_is_the_fifteen():
    options = command._parse(["a", "b", "--severity=1"])
    assert options.names == corruptions.TEST and len(options.names) == 15
