"""What several keys must be together: the data set, and which images are evaluated."""

import pytest

from tests.config.loaded import faults, faults_at, load


def test_tfds_has_no_c_bar():
    (line,) = faults(load(eval__source="cifar10_corrupted", eval__corruptions=("fog", "ripple")))
    assert line.startswith("config.eval.corruptions: ripple") and "allowed with it: " in line
    assert faults(load(eval__source="cifar10_c", eval__dir="d", eval__corruptions=("fog", "ripple"))) == []


def test_digits_are_never_flipped():
    config = load(data__name="digits")
    (line,) = faults(config)
    assert line.startswith("config.data.flip: True; allowed for digits: False")
    config.data.flip = False
    assert faults(config) == []


def test_npz_needs_a_path():
    assert "npz" in faults_at(load(data__name="npz"), "data.dir")[0]
    assert faults(load(data__name="npz", data__dir="images.npz")) == []


def test_what_cannot_stream_is_not_to_always():
    (line,) = faults_at(load(data__name="digits", data__streaming="always"), "data.streaming")
    assert "data.name=digits" in line and line.endswith("folder, imagenet2012")
    (line,) = faults_at(load(data__streaming="always", data__cue="color"), "data.streaming")
    assert "data.cue=color" in line
    for streaming in ("auto", "never"):
        assert not faults_at(load(data__name="digits", data__streaming=streaming), "data.streaming")
    assert not faults_at(load(data__streaming="always"), "data.streaming")


def test_a_folder_needs_a_path_and_a_size():
    assert "train/CLASS/" in faults_at(load(data__name="folder"), "data.dir")[0]
    (line,) = faults(load(data__name="folder", data__dir="pictures"))
    assert line.startswith("config.data.size: 0; data.name=folder needs the side")
    assert faults(load(data__name="folder", data__dir="pictures", data__size=64)) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("regenerated", ["cifar10", "cifar100", "digits", "npz"]),
        ("cifar10_c", ["cifar10", "cifar100", "digits", "npz"]),
        ("cifar10_corrupted", ["cifar10"]),
        ("cifar10_1", ["cifar10"]),
    ],
)
def test_shifted_images_are_of_the_data_set_that_was_trained_on(source, names):
    files = "" if source == "regenerated" else "files"
    for name in ("cifar10", "cifar100", "digits", "npz"):
        config = load(eval__source=source, eval__dir=files, data__name=name, data__dir="x", data__flip=False)
        lines = faults(config)
        assert bool(lines) == (name not in names)
        for line in lines:
            assert line.startswith(f"config.eval.source: '{source}' with data.name={name}; allowed with it: ")
            assert line.partition("with it: ")[2].split(" or ") == names


def test_where_shifted_images_come_from():
    assert faults_at(load(eval__source="cifar10_c"), "eval.dir")[0].startswith("config.eval.dir: empty; ")
    assert faults(load(eval__source="cifar10_corrupted")) == []  # TFDS: data.dir, or TFDS's default
    (line,) = faults(load(eval__dir="somewhere"))
    assert line.startswith("config.eval.dir: 'somewhere'; allowed: '' for eval.source=regenerated")


@pytest.mark.parametrize("source", ["cifar10_c", "cifar10_corrupted", "cifar10_1"])
def test_tuning_runs_see_no_published_test_images(source):
    (line,) = faults(load(eval__source=source, eval__dir="files", data__validation=5000))
    assert line.startswith(
        f"config.eval.source: '{source}' with data.validation=5000; allowed: 'regenerated'"
    )


def test_which_images_are_evaluated():
    (line,) = faults(load(eval__split="validation"))
    assert line.startswith("config.eval.split: 'validation' with data.validation=0")
    assert line.endswith("allowed: '' or 'test'")
    for split in ("", "test", "validation"):
        assert faults(load(eval__split=split, data__validation=50)) == []
    assert faults(load(eval__split="test")) == []
    # What is held out tells nothing of files, which are of test images.
    files = {"eval__source": "cifar10_c", "eval__dir": "files", "data__validation": 50}
    assert faults(load(eval__split="test", **files)) == []
    for split in ("", "validation"):
        (line,) = faults(load(eval__split=split, **files))
        assert line.startswith("config.eval.source: 'cifar10_c' with data.validation=50")
        assert "--config.eval.split=test" in line


@pytest.mark.parametrize("source", ["cifar10_c", "cifar10_corrupted", "cifar10_1"])
def test_published_files_are_not_of_shrunk_images(source):
    (line,) = faults(load(eval__source=source, eval__dir="files", data__size=16))
    assert line.startswith(f"config.eval.source: '{source}' with data.size=16; allowed: 'regenerated'")
