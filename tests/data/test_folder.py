"""Folders of pictures: splits counted by hand, pixels as saved, one clear error for what is wrong."""

import json
import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import craft_jax
from craft_jax import data, main, pictures, predict
from craft_jax.data import decoded, folder, names
from craft_jax.errors import DataError
from craft_jax.runs import export


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "craft_jax" / "images"


def load(directory, size=16, **more):
    section = {"name": "folder", "dir": str(directory), "size": size, "validation": 0, "max_train": 0}
    section |= {"streaming": "never", "memory_gb": 0.0, "test_crop": 1.0}
    return data.load(ConfigDict({"data": section | {"cue": "none"} | more}))


def fails(directory, size=16):
    with pytest.raises(DataError) as error:
        load(directory, size)
    return str(error.value)


def level(number):
    """The picture of a number: all of one grey, which a lossless file keeps."""
    return np.full((16, 16, 3), number, np.uint8)


def add(directory, *files):
    """Pictures of the levels 0, 1, 2, ... in the order of the files; returns the directory."""
    for number, name in enumerate(files):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(level(number)).save(directory / name)
    return directory


@pytest.fixture
def animals(tmp_path):
    return add(
        tmp_path / "animals",
        *("train/dog/a.png", "train/dog/b.BMP", "train/cat/deep/c.png", "train/cat/d.png", "train/owl/e.png"),
        *("test/dog/f.png", "test/cat/g.png"),
    )


def test_classes_labels_and_pixels(animals, capsys):
    loaded = load(animals)
    assert loaded.classes == ("cat", "dog", "owl") and loaded.num_classes == 3
    assert loaded.train_images.shape == (5, 16, 16, 3) and loaded.train_images.dtype == np.uint8
    assert loaded.train_images[:, 0, 0, 0].tolist() == [3, 2, 0, 1, 4]  # d, deep/c; a, b; e
    assert loaded.train_labels.tolist() == [0, 0, 1, 1, 2]
    assert loaded.test_images[:, 5, 5, 2].tolist() == [6, 5] and loaded.test_labels.tolist() == [0, 1]
    assert data.record(loaded)["classes"] == ["cat", "dog", "owl"]
    assert loaded.class_name(1) == "dog"
    assert capsys.readouterr().err == ""


def test_val_is_the_test_set_where_there_is_no_other(animals):
    whole = load(animals)
    (animals / "test").rename(animals / "val")
    assert load(animals).fingerprint == whole.fingerprint


def test_without_a_test_set_a_fifth_of_each_class_is_held_apart(tmp_path):
    counts = {"one": 1, "two": 2, "seven": 7, "eight": 8, "twenty": 20}
    files = [f"train/{name}/{i:02}.png" for name, count in counts.items() for i in range(count)]
    loaded = load(add(tmp_path / "set", *files))
    apart = dict(zip(loaded.classes, np.bincount(loaded.test_labels, minlength=5).tolist(), strict=True))
    assert apart == {"one": 0, "two": 1, "seven": 1, "eight": 2, "twenty": 4}
    seen = [*loaded.train_images[:, 0, 0, 0], *loaded.test_images[:, 0, 0, 0]]
    assert sorted(seen) == list(range(38))  # every picture once
    assert load(tmp_path / "set").fingerprint == loaded.fingerprint
    (tmp_path / "set" / "train" / "two" / "00.png").unlink()
    again = load(tmp_path / "set")  # what is another class's does not move the others
    twenty = loaded.classes.index("twenty")
    np.testing.assert_array_equal(
        again.test_images[again.test_labels == twenty], loaded.test_images[loaded.test_labels == twenty]
    )


def test_pictures_are_cropped_and_resized(tmp_path):
    add(tmp_path / "set", "train/a/1.png", "train/b/2.png", "test/a/3.png")
    wide = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(wide).save(tmp_path / "set" / "test" / "a" / "3.png")
    expected = np.asarray(Image.fromarray(wide).resize((30, 20), Image.Resampling.BILINEAR))[:, 5:25]
    np.testing.assert_array_equal(load(tmp_path / "set", 20).test_images[0], expected)


TINY = (
    *("train/n02/images/n02_0.JPEG", "train/n01/images/n01_0.JPEG", "train/n03/images/n03_0.JPEG"),
    *("val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG"),
)


@pytest.fixture
def tiny(tmp_path):
    root = add(tmp_path / "tiny", *TINY)
    (root / "train" / "n01" / "n01_boxes.txt").write_text("n01_0.JPEG\t0\t0\t9\t9\n")
    annotations = "val_0.JPEG\tn03\t0\t0\t9\t9\nval_1.JPEG\tn01\t1\t1\t8\t8\n"
    (root / "val" / "val_annotations.txt").write_text(annotations)
    (root / "words.txt").write_text("n00\tthing\nn01\tcrane, bird\nn02\tgoldfish, Carassius\nn03\tcrane\n")
    return root


def test_tiny_imagenets_layout(tiny):
    loaded = load(tiny)
    assert loaded.classes == ("crane (n01)", "goldfish", "crane (n03)")
    assert np.round(loaded.train_images.mean((1, 2, 3))).tolist() == [1, 0, 2]
    assert loaded.test_labels.tolist() == [0, 2]
    assert np.round(loaded.test_images.mean((1, 2, 3))).tolist() == [4, 3]
    (tiny / "words.txt").unlink()
    assert load(tiny).classes == ("n01", "n02", "n03")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("val_0.JPEG\tn03\nval_1.JPEG\tn04\n", "line 2: a class that train has not"),
        ("val_0.JPEG\tn03\n../../x.JPEG\tn01\n", "line 2: a picture that is not in val/images"),
        ("val_0.JPEG\tn03\nval_0.JPEG\tn01\n", "line 2: a picture that is not in val/images"),
        ("val_0.JPEG\tn03\n", "no class of val/images/val_1.JPEG"),
        ("\xff", "cannot be read"),
    ],
)
def test_tiny_imagenets_annotations_are_checked(tiny, lines, said):
    (tiny / "val" / "val_annotations.txt").write_bytes(lines.encode("latin-1"))
    assert said in fails(tiny)


def test_tiny_imagenet_with_the_pictures_of_val_in_directories_of_their_class(tiny):
    """As a script that many use leaves it."""
    (tiny / "val" / "n02").mkdir()
    for path in (tiny / "val" / "images").iterdir():
        path.rename(tiny / "val" / "n02" / path.name)
    (tiny / "val" / "images").rmdir()
    assert "test: classes that train has not: images (pictures whose class is not known" in fails(tiny)
    (tiny / "test").rename(tiny / "unlabelled")
    assert load(tiny).test_labels.tolist() == [1, 1]


# ---- what was decoded is kept ----


@pytest.fixture
def decodings(monkeypatch):
    """The names of the pictures that are decoded from now on."""
    seen, read = [], pictures.read
    monkeypatch.setattr(pictures, "read", lambda path, *size: seen.append(path.name) or read(path, *size))
    return seen


def test_decoded_once_and_then_mapped(animals, cache, decodings):
    first = load(animals)
    assert sorted(decodings) == ["a.png", "b.BMP", "c.png", "d.png", "e.png", "f.png", "g.png"]
    decodings.clear()
    again = load(animals)
    assert decodings == [] and again.fingerprint == first.fingerprint
    assert isinstance(again.train_images.base, np.memmap)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]
    load(animals, 20)
    assert len(decodings) == 7 and len(list(cache.iterdir())) == 4


def test_a_change_of_any_file_is_seen(animals, cache, decodings):
    load(animals)
    times = (1_000_000_000, 1_000_000_000)
    os.utime(animals / "test" / "cat" / "g.png", times)
    for change in (
        lambda: os.utime(animals / "test" / "cat" / "g.png", (1, 1)),
        lambda: Image.fromarray(level(9)).save(animals / "train" / "owl" / "e.png"),
        lambda: (animals / "train" / "owl" / "e.png").rename(animals / "train" / "owl" / "z.png"),
    ):
        decodings.clear()
        change()
        load(animals)
        assert len(decodings) == 7
    assert load(animals).train_images[4, 0, 0, 0] == 9
    assert len(list(cache.iterdir())) == 2  # of one directory and size the last is kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.write_bytes(kept.read_bytes()[:-1]),
        lambda kept: kept.write_bytes(kept.read_bytes()[:-1] + b"\x07"),
        lambda kept: kept.write_bytes(b""),
        lambda kept: kept.unlink(),
        lambda kept: kept.with_suffix(".json").write_text("{}"),
        lambda kept: kept.with_suffix(".json").write_text("[]"),
        lambda kept: kept.with_suffix(".json").write_text("half a"),
    ],
)
def test_a_damaged_cache_is_decoded_again(animals, cache, decodings, damage):
    whole = load(animals).fingerprint
    (kept,) = cache.glob("*.npy")
    damage(kept)
    decodings.clear()
    assert load(animals).fingerprint == whole and len(decodings) == 7
    decodings.clear()
    assert load(animals).fingerprint == whole and decodings == []


def test_without_a_place_for_the_cache_it_works_too(animals, tmp_path, capsys):
    (tmp_path / "cache").write_text("no directory")
    assert len(load(animals).train_images) == 5
    assert "note: the decoded pictures are not kept for the next time" in capsys.readouterr().err


# ---- what is wrong ----


def many(tmp_path, broken):
    """40 pictures in two classes, so many of which are none."""
    root = add(tmp_path / "many", *(f"train/{'ab'[i % 2]}/{i:02}.png" for i in range(40)))
    for i in range(broken):
        (root / "train" / "ab"[i % 2] / f"{i:02}.png").write_text("no picture")
    return root


def test_unreadable_pictures_are_listed_and_left_out(tmp_path, capsys):
    root = many(tmp_path, 2)
    for _ in range(2):  # from the cache too
        loaded = load(root)
        said = capsys.readouterr().err
        assert "2 of 40 pictures cannot be read and are left out" in said
        assert "train/a/00.png: not of BMP" in said and "train/b/01.png" in said
        seen = [*loaded.train_images[:, 0, 0, 0], *loaded.test_images[:, 0, 0, 0]]
        assert sorted(seen) == list(range(2, 40))
        assert {*loaded.train_labels[loaded.train_images[:, 0, 0, 0] % 2 == 1]} == {1}


def test_too_many_unreadable_pictures_are_an_error(tmp_path):
    message = fails(many(tmp_path, 3))
    assert "3 of 40 pictures cannot be read; allowed: 5%" in message and "train/a/02.png" in message


def test_a_class_without_a_readable_picture_is_an_error(tmp_path):
    root = many(tmp_path, 0)
    (root / "train" / "c").mkdir()
    (root / "train" / "c" / "x.png").touch()
    assert "no training picture that can be read of c" in fails(root)


def test_directories_that_are_none(tmp_path, animals):
    assert "data.dir, which is empty" in fails("")
    assert f"{tmp_path}/none is not a directory" in fails(tmp_path / "none")
    assert "has no directory 'train'" in fails(animals / "train")
    assert "data.size is 0" in fails(animals, 0)
    assert "--config.data.size=32" in fails(animals, 15)
    add(animals, "test/wolf/x.png")
    assert "classes that train has not: wolf" in fails(animals)
    (animals / "train" / "ant").mkdir()
    assert "no picture of ant" in fails(animals)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    assert "no picture in a directory of its class" in fails(tmp_path / "empty")
    add(tmp_path / "lonely", "train/a/1.png", "train/b/1.png")
    assert "no picture to test on" in fails(tmp_path / "lonely")


def test_links_that_leave_are_refused(animals, tmp_path):
    add(tmp_path / "elsewhere", "x.png")
    (animals / "train" / "dog" / "x.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    message = fails(animals)
    assert "symbolic links lead out" in message and "train/dog/x.png" in message


def test_pictures_of_other_kinds_are_told(animals, capsys):
    (animals / "train" / "dog" / "x.GIF").touch()
    load(animals)
    assert "note: " in (said := capsys.readouterr().err) and "1 pictures of other kinds (.gif)" in said


def test_pictures_of_no_class_are_told(animals, capsys):
    add(animals, "train/x.png", "test/y.png", "z.png")
    load(animals)
    assert "2 pictures that lie in no directory of their class are left out" in capsys.readouterr().err


def test_more_than_the_memory_is_refused_before_any_work(animals, decodings, monkeypatch):
    monkeypatch.setattr(decoded.files, "memory", lambda: 7 * 16 * 16 * 3 - 1)
    assert "7 pictures would have 5376 bytes" in fails(animals) and decodings == []


# ---- names ----


def test_names_of_published_classes():
    """The first, the last, and some that the published meta files number: CIFAR-100's 71 is sea."""
    assert names.CIFAR10[3] == "cat" and len(set(names.CIFAR10)) == 10
    assert len(set(names.CIFAR100)) == 100 and sorted(names.CIFAR100) == list(names.CIFAR100)
    assert (names.CIFAR100[0], names.CIFAR100[71], names.CIFAR100[99]) == ("apple", "sea", "worm")


def test_records_of_older_versions_have_names_too():
    assert data.class_names({"name": "cifar10", "num_classes": 10})[9] == "truck"
    assert data.class_names({"name": "npz", "num_classes": 3}) == ("0", "1", "2")
    assert data.class_names({"name": "cifar10", "num_classes": 3}) == ("0", "1", "2")
    stored = {"name": "folder", "num_classes": 2, "classes": ["a", "b"]}
    assert data.class_names(json.loads(json.dumps(stored))) == ("a", "b")


def test_names_that_are_no_text_are_escaped(tmp_path):
    odd = os.fsdecode(b"b\xff")
    add(tmp_path / "set", "train/a/1.png", f"train/{odd}/1.png", "test/a/1.png")
    assert folder.listed(tmp_path / "set").classes == ("a", "b\\udcff")


def test_a_macs_umlauts_and_a_pcs_are_the_same(tmp_path):
    """Decomposed and composed; the files are found by what they are called."""
    add(tmp_path / "set", "train/Mo\u0308we/a b.png", "train/Ra be/1.JPG", "test/M\u00f6we/\u00e4.PNG")
    loaded = load(tmp_path / "set")
    assert loaded.classes == ("M\u00f6we", "Ra be") and loaded.test_labels.tolist() == [0]


def test_from_a_folder_of_pictures_to_an_exported_student(tmp_path, digits, capsys):
    """By the commands, on digits as files: a run's first lines and records, what its export says of one."""
    for split in ("train", "test"):
        images, labels = getattr(digits, f"{split}_images"), getattr(digits, f"{split}_labels")
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = tmp_path / "set" / split / f"d{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    words = ["--config=configs/erm.py:smoke", f"--workdir={tmp_path / 'run'}", "--config.data.name=folder"]
    settings = {"data.dir": tmp_path / "set", "data.size": 16, "student.name": "tiny", "batch_size": 16}
    settings |= {"eval.corruptions": "contrast", "eval.severities": 5, "compilation_cache": False}
    settings |= {"log.progress": False, "log.tensorboard": False}
    assert main.main([*words, *(f"--config.{key}={value}" for key, value in settings.items())]) == 0
    assert "classes: 10 (d0, d1, d2, d3, d4, d5, d6, d7, d8, d9)" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    classes = [f"d{label}" for label in range(10)]
    assert result["data"]["classes"] == classes and result["data"]["train_examples"] == 72
    assert export.main([str(tmp_path / "run"), "--formats=safetensors"]) == 0
    picture = sorted((tmp_path / "set" / "test").rglob("*.png"))[0]
    capsys.readouterr()
    assert predict.main([str(tmp_path / "run" / "export"), str(picture), "--top=1", "--json"]) == 0
    ((likeliest,),) = (row["classes"] for row in json.loads(capsys.readouterr().out))
    student = craft_jax.load(tmp_path / "run")
    logits = student(np.asarray(Image.open(picture))[None] / np.float32(255))
    assert likeliest["class"] == classes[int(logits[0].argmax())] and list(student.classes) == classes
