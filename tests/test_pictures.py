"""Picture files: which are found, and what is read from them, against arrays that are worked out by hand."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from craft_jax import pictures
from craft_jax.errors import DataError


def save(path, array, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **more)
    return path


def fails(path):
    with pytest.raises(DataError) as error:
        pictures.read(path)
    assert str(path) in str(error.value)
    return str(error.value)


LEFT = np.array([[[255, 0, 0], [0, 0, 255]], [[255, 255, 0], [0, 128, 0]]], np.uint8)  # 2 x 2, all different


def test_found_are_pictures_by_their_endings(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.jpeg", "b/c/d.WebP", "z.bmp", ".hidden.png", ".git/x.png", "_.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "x.gif").touch()
    unread = []
    assert [*map(str, pictures.find(tmp_path, unread))] == [
        *("a.jpeg", "b/1.png", "b/2.JPG", "b/c/d.WebP", "z.bmp")
    ]
    assert [*map(str, unread)] == ["x.gif"]
    with pytest.raises(DataError, match="none: cannot be listed"):
        pictures.find(tmp_path / "none")


@pytest.mark.parametrize("target", ["../outside", "/etc", "..", "."])
def test_links_that_lead_out_or_in_a_circle_are_refused(tmp_path, target):
    (tmp_path / "outside").mkdir()
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "link").symlink_to(target)
    with pytest.raises(DataError, match=r"symbolic links lead out of it or in a circle: .*link"):
        pictures.find(tmp_path / "in")
    assert len(pictures.find(tmp_path / "in" / "a")) == 0


def test_links_within_are_followed_and_circles_of_two_are_seen(tmp_path):
    save(tmp_path / "in" / "a" / "1.png", LEFT)
    (tmp_path / "in" / "b").symlink_to("a")
    (tmp_path / "in" / "2.png").symlink_to("a/1.png")
    (tmp_path / "in" / "3.png").symlink_to("4.png")
    (tmp_path / "in" / "4.png").symlink_to("3.png")
    assert [*map(str, pictures.find(tmp_path / "in"))] == ["2.png", "3.png", "4.png", "a/1.png", "b/1.png"]
    assert "no such file" in fails(tmp_path / "in" / "3.png")
    (tmp_path / "in" / "c").mkdir()
    (tmp_path / "in" / "a" / "x").symlink_to("../c")
    (tmp_path / "in" / "c" / "y").symlink_to("../a")
    with pytest.raises(DataError, match="in a circle: a/x/y, b/x/y"):
        pictures.find(tmp_path / "in")


@pytest.mark.parametrize("kind", ["png", "bmp", "webp"])
def test_a_picture_is_read_as_it_was_saved(tmp_path, kind):
    more = {"lossless": True} if kind == "webp" else {}
    found = pictures.read(save(tmp_path / f"x.{kind}", LEFT, **more))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LEFT)


def test_it_is_turned_as_its_camera_says(tmp_path):
    """EXIF orientation 6: what is stored is to be turned by 90 degrees clockwise; 3: by 180."""
    for orientation, turns in ((6, -1), (3, 2), (1, 0)):
        exif = Image.Exif()
        exif[274] = orientation
        path = save(tmp_path / f"{orientation}.png", LEFT, exif=exif)
        np.testing.assert_array_equal(pictures.read(path), np.rot90(LEFT, turns))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # pytest sets its own filters
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_exif_data_that_cannot_be_read_turns_nothing(tmp_path, kind):
    for garbage in (b"Exif\0\0no TIFF", b"Exif\0\0II*\0\xff\xff\xff\x7f"):
        plain = pictures.read(save(tmp_path / f"plain.{kind}", LEFT))
        path = save(tmp_path / f"x.{kind}", LEFT, exif=garbage)
        np.testing.assert_array_equal(pictures.read(path), plain)


def test_other_modes_become_rgb(tmp_path):
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    np.testing.assert_array_equal(pictures.read(save(tmp_path / "l.png", grey))[..., 1], grey)
    deep = Image.fromarray(np.array([[0, 257], [257 * 200 + 128, 65535]], np.uint16))
    deep.save(tmp_path / "deep.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "deep.png")[..., 2], [[0, 1], [200, 255]])
    palette = Image.fromarray(LEFT).quantize(4)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "p.png"), LEFT)
    Image.fromarray(grey > 150).save(tmp_path / "1.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "1.png")[..., 0], [[0, 0], [255, 255]])


def test_what_is_transparent_shows_white(tmp_path):
    alpha = np.array([[255, 0], [0, 128]], np.uint8)
    found = pictures.read(save(tmp_path / "a.png", np.dstack([LEFT, alpha])))
    expected = LEFT * (alpha / 255)[..., None] + 255 * (1 - alpha / 255)[..., None]
    assert np.abs(found - expected).max() <= 1
    np.testing.assert_array_equal(found[0, 1], [255, 255, 255])


def test_cmyk_is_what_pillow_makes_of_it(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0] = 255  # cyan alone
    Image.frombytes("CMYK", (16, 16), inks.tobytes()).save(tmp_path / "c.jpg", quality=100, subsampling=0)
    assert np.abs(pictures.read(tmp_path / "c.jpg").astype(int) - [0, 255, 255]).max() <= 2


def test_the_middle_is_cut_out_and_resized(tmp_path):
    """A wide picture: 8 columns of 1, the middle 16 x 16 in fours of 40 and 80, 8 columns of 2."""
    middle = np.kron([[40, 80], [80, 40]], np.ones((8, 8)))
    wide = np.hstack([np.full((16, 8), 1), middle, np.full((16, 8), 2)])
    path = save(tmp_path / "wide.png", wide)
    np.testing.assert_array_equal(pictures.read(path, 16, 16)[..., 0], middle)
    np.testing.assert_array_equal(pictures.read(path, 16, 32)[..., 0], wide)
    assert pictures.read(save(tmp_path / "tall.png", wide.T), 16, 16)[0, 0, 0] == 40


def test_a_shrunk_pixel_is_a_weighted_mean_of_those_about_it(tmp_path):
    """Pillow's bilinear filter at a half: a triangle of four pixels a side, weights 1, 3, 3, 1 of eighths."""
    levels = np.random.default_rng(0).integers(0, 256, (32, 32))
    found = pictures.read(save(tmp_path / "x.png", levels), 16, 16)[..., 0]
    weights = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    for row, column in ((3, 5), (8, 8), (14, 1)):
        block = levels[2 * row - 1 : 2 * row + 3, 2 * column - 1 : 2 * column + 3]
        assert abs(found[row, column] - (block * weights).sum()) <= 1


def png(width, height):
    """A PNG file that claims to be so large, and has no pixels."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_what_is_no_picture_is_refused_in_words(tmp_path, recwarn):
    assert "no such file" in fails(tmp_path / "none.png")
    assert "a directory" in fails(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    assert "not of BMP, JPEG, PNG, WEBP" in fails(tmp_path / "text.png")
    Image.fromarray(LEFT).save(tmp_path / "gif.png", "GIF")
    assert "not of BMP, JPEG, PNG, WEBP" in fails(tmp_path / "gif.png")
    whole = save(tmp_path / "x.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3))).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in fails(tmp_path / "cut.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    assert "no such file" in fails(tmp_path / "pipe.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_bomb_is_refused_by_its_header(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    assert "pixels" in fails(tmp_path / "bomb.png")
