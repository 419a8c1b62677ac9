"""The picture of all corruptions: every cell is what `corrupt` gives."""

import functools

import numpy as np
import pytest
from PIL import Image

from craft_jax import corruptions
from craft_jax.errors import DataError
from craft_jax.evaluation.images import corruption_keys
from craft_jax.report import __main__ as report
from craft_jax.report import gallery
from tests.corruptions.test_helpers import photographs

NAMES = ("impulse_noise", "brightness", "contrast")


@pytest.fixture(scope="module")
def picture():
    return np.asarray(gallery.gallery(photographs(2), "a caption", NAMES))


@pytest.fixture
def short(monkeypatch):
    """The command with one row: all of them take a minute to compile."""
    monkeypatch.setattr(gallery, "gallery", functools.partial(gallery.gallery, names=("contrast",)))


def cell(picture, left, top, height=32, width=32, scale=2):
    """A cell back at its own size, after a look at whether each pixel fills a square."""
    block = picture[top : top + scale * height, left : left + scale * width]
    small = block[::scale, ::scale]
    np.testing.assert_array_equal(block, np.kron(small, np.ones((scale, scale, 1), np.uint8)))
    return small


def test_size(picture):
    # 210 for names; for each image 6 cells of 64 and 2 between, 8 more; 5 lines of text of 18, 3 rows.
    assert picture.shape == (5 * 18 + 3 * 66, 210 + 2 * (6 * 66 + 8), 3)


def test_each_cell_is_what_corrupt_gives(picture):
    images, rows = photographs(2), dict(zip(NAMES, (36, 36 + 66 + 18, 36 + 2 * (66 + 18)), strict=True))
    for name, top in rows.items():
        for severity in (1, 2, 3, 4, 5):
            keys = corruption_keys(name, severity, np.arange(2))
            want = 255 * corruptions.corrupt(keys, np.float32(images) / 255, name, severity)
            for i in (0, 1):
                got = cell(picture, 210 + i * 404 + severity * 66, top)
                np.testing.assert_array_equal(got, np.rint(want[i]))
        for i in (0, 1):  # each is the first row of its family
            np.testing.assert_array_equal(cell(picture, 210 + i * 404, top), images[i])


def test_clean_images_stand_in_the_first_row_of_a_family():
    _, _, headings, corners = gallery.layout((2, 32, 32, 3), corruptions.NAMES)
    assert list(headings) == ["noise", "blur", "weather", "digital", "extra", "CIFAR-10-C-bar"]
    assert len(corners) == 2 * (29 * 5 + 6)
    clean = [name for image, name, severity in corners if severity == 0 and image == 1]
    assert clean == [
        "gaussian_noise",
        "defocus_blur",
        "snow",
        "contrast",
        "speckle_noise",
        "blue_noise_sample",
    ]
    tops = [top for (image, _, severity), (_, top) in corners.items() if image == 0 and severity == 1]
    assert len(set(tops)) == 29 and tops == sorted(tops)


def test_large_images_are_not_enlarged():
    assert gallery.layout((1, 64, 48, 3), ("fog",))[0] == 1
    assert gallery.layout((1, 16, 16, 3), ("fog",))[0] == 4


def test_the_default_images_are_two_different_photographs():
    temple, flower = gallery.photographs(32)
    assert temple.shape == flower.shape == (32, 32, 3)
    red, _, blue = flower[8:20, 10:22].mean((0, 1))
    assert red > 1.5 * blue  # an orange flower
    assert temple[:6].mean() > 150 > flower[:6].mean()  # the sky; leaves in the dark


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), NAMES, "uint8, not float32"),
        (np.zeros((2, 8, 8, 3), np.uint8), NAMES, r">= 16, not \(2, 8, 8, 3\)"),
        (np.zeros((32, 32, 3), np.uint8), NAMES, r"not \(32, 32, 3\)"),
        (np.zeros((0, 32, 32, 3), np.uint8), NAMES, "N >= 1"),
        (np.zeros((2, 32, 32, 3), np.uint8), ("fgo",), r"\['fgo'\]; one or more of gaussian_noise"),
        (np.zeros((2, 32, 32, 3), np.uint8), (), "one or more of"),
    ],
)
def test_bad_images_and_names(images, names, message):
    with pytest.raises(DataError, match=message):
        gallery.gallery(images, names=names)


def test_the_command_writes_a_picture_and_says_what_is_in_it(short, tmp_path, capsys):
    out = tmp_path / "gallery.png"
    out.write_text("an old file")
    assert report.main(["gallery", f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: photographs, 32 x 32; settings of CIFAR-C; ")
    assert printed.rstrip().endswith(f"frost: {corruptions.frost_source()}")
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.size == (1018, 3 * 18 + 66)
        np.testing.assert_array_equal(cell(np.asarray(picture), 210, 36), gallery.photographs(32)[0])
    assert list(tmp_path.iterdir()) == [out]


def test_the_command_takes_a_data_set_and_other_sizes(short, tmp_path, capsys):
    images, labels = photographs(6, 20), np.arange(6) % 2
    arrays = {"train_images": images[:3], "train_labels": labels[:3]}
    np.savez(tmp_path / "d.npz", **arrays, test_images=images[3:], test_labels=labels[3:])
    out = tmp_path / "of_data.png"
    assert report.main(["gallery", f"--out={out}", "--data=npz", f"--data-dir={tmp_path / 'd.npz'}"]) == 0
    with Image.open(out) as picture:
        for i in (0, 1):
            left = 210 + i * (6 * 62 + 8)
            got = cell(np.asarray(picture), left, 36, 20, 20, scale=3)
            np.testing.assert_array_equal(got, images[3 + i])
    assert report.main(["gallery", f"--out={tmp_path / 'larger.png'}", "--size=64"]) == 0
    assert "npz, 20 x 20; settings of CIFAR-C" in (printed := capsys.readouterr().out)
    assert "photographs, 64 x 64; settings of Tiny-ImageNet-C" in printed


def test_bad_arguments(short, tmp_path, capsys):
    out, missing = f"--out={tmp_path / 'gallery.png'}", tmp_path / "no" / "gallery.png"
    for arguments, message in (
        ([f"--out={missing}"], f"--out={missing}: must be a .png file in a directory that is there"),
        ([f"--out={tmp_path}"], f"--out={tmp_path}: must be a .png file"),
        ([out, "--size=8"], "--size=8: at least 16"),
        ([out, "--size=64", "--data=digits"], "--size=64 is for --data=photographs"),
        ([out, "--data=npz"], "data.dir is empty"),
        (["--out=gallery.jpg"], "--out=gallery.jpg: must be a .png file"),
    ):
        assert report.main(["gallery", *arguments]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        report.main(["gallery", "--data-dir=nowhere"])
    assert stopped.value.code == 2 and "allowed: with another --data" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        report.main(["gallery", "--data=imagenet"])
    assert stopped.value.code == 2 and "invalid choice: 'imagenet'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
