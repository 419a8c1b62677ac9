"""Picture files as people keep them: found below a folder, and read as RGB in one stated way.

Read are JPEG, PNG, BMP and WebP, by what is in them; found they are by their names' endings. A picture is
turned as its EXIF orientation says (as it is stored, where that cannot be read), 16-bit grey is scaled to 8
bits, what is transparent shows white, and all else (palettes, grey, CMYK) is converted to RGB by Pillow,
colour profiles aside; of an animation the first frame is taken.
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from craft_jax.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")  # in any case
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
UNREAD = (".avif", ".gif", ".heic", ".jfif", ".tif", ".tiff")  # pictures too, which are not read
_LISTED = 10  # names in an error

# Of pictures that `read` refuses itself; and filters cannot be set around a call where threads decode.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # then a picture is not turned


def find(folder: str | Path, unread: list[PurePosixPath] | None = None) -> list[PurePosixPath]:
    """The pictures below a folder, by their names, relative to it and sorted.

    Hidden files and folders, whose names begin with a dot, are left out. A symbolic link to what is in the
    folder too is followed.

    Args:
      folder: a directory.
      unread: if given, pictures of kinds that are not read are added to it.
    Raises:
      DataError: a symbolic link leads out of the folder or in a circle, or a directory cannot be listed.
    """
    root = Path(folder).resolve()
    found, strangers = [], []
    try:
        for path in _walk(root, root, (root,), strangers):
            kind = path.suffix.lower()
            if kind in SUFFIXES:
                found.append(path)
            elif kind in UNREAD and unread is not None:
                unread.append(path)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    if strangers:
        some = ", ".join(map(str, strangers[:_LISTED])) + (", ..." if len(strangers) > _LISTED else "")
        raise DataError(
            f"{folder}: {len(strangers)} symbolic links lead out of it or in a circle: {some}; "
            "allowed: links to what is in it"
        )
    return sorted(found)


def _walk(root: Path, folder: Path, above: tuple[Path, ...], strangers: list) -> Iterator[PurePosixPath]:
    """The files below `folder`, relative to `root`; `above` are the real directories on the way there."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        name = PurePosixPath(path.relative_to(root))
        real = path
        if entry.is_symlink():
            real = Path(os.path.realpath(path))  # which never raises, not of links that lead to each other
            if not real.is_relative_to(root) or real in above:
                strangers.append(name)
                continue
        if (real if entry.is_symlink() else entry).is_dir():  # a path knows of links to each other
            yield from _walk(root, path, (*above, real), strangers)
        else:
            yield name


def read(path: str | Path, height: int = 0, width: int = 0, share: float | int = 1.0) -> np.ndarray:
    """A picture as (H, W, 3) uint8, in its own size or, with `height` and `width`, resized and cropped.

    It is then resized by Pillow's bilinear filter, whose support grows as the picture shrinks, to the least
    size that covers these sides, and cropped to them about its centre; a smaller picture is enlarged.

    Args:
      path: of the file.
      height, width: pixels; 0 for its own.
      share: how much of either side, in (0, 1], is kept of what would be cropped to; 0.875 is what resizing
        to 256 pixels and cropping to 224 keeps.
    Raises:
      DataError: no such file, not a picture of `FORMATS`, damaged, or of more pixels than
        PIL.Image.MAX_IMAGE_PIXELS (about 89 million), whose header is refused before anything is decoded.
    """
    try:
        if not Path(path).is_file():  # a pipe would wait for ever
            raise ValueError("a directory" if Path(path).is_dir() else "no such file")
        return decode(path, height, width, share)
    except Exception as error:  # Pillow's decoders raise errors of a dozen kinds
        raise DataError(f"{path}: cannot be read as a picture ({reason(error)})") from error


def decode(file: Any, height: int = 0, width: int = 0, share: float | int = 1.0) -> np.ndarray:
    """`read` of a path or an open file. Raises what Pillow raises, errors of a dozen kinds."""
    with _opened(file) as image:
        picture = _rgb(_turned(image))
    if height and width:
        bleed = (1 - share) / 2
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR, bleed)
    return np.asarray(picture)


def reason(error: Exception) -> str:
    """The first line of an error, of Pillow's without the path, which is told beside it."""
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not of {', '.join(FORMATS)}"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _opened(file):
    image = Image.open(file, formats=FORMATS)
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        image.close()
        raise ValueError(f"{image.width} by {image.height} pixels; allowed: {Image.MAX_IMAGE_PIXELS} in all")
    return image


def _turned(image):
    image.load()  # what is wrong with the pixels is not to be taken for a fault of the EXIF data
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # likewise of many kinds
        return image


def _rgb(image):
    if image.mode.startswith("I"):  # 0..65535, which `convert` would clip
        levels = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.uint8((levels + 128) // 257)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
