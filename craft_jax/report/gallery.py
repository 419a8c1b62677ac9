"""Every corruption at every severity in one picture: `python -m craft_jax.report gallery`.

One row a corruption, grouped by family or set, two images side by side: clean in a family's first row, and
severities 1 to 5.
The default images are crops of scikit-learn's two sample photographs, so that nothing is downloaded;
of a data set they are the first two of the test set, corrupted just as an evaluation corrupts them.
"""

import argparse
import os
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from craft_jax import corruptions, data
from craft_jax.corruptions.settings import original_side
from craft_jax.errors import DataError
from craft_jax.evaluation.images import corruption_keys

PHOTOGRAPHS = "photographs"
# Of scikit-learn's china.jpg and flower.jpg: left, upper, right, lower.
_CROPS = ((10, 25, 410, 425), (120, 30, 500, 410))
_ORIGINAL = {32: "CIFAR-C", 64: "Tiny-ImageNet-C", 224: "ImageNet-C"}

_LABEL, _LINE, _GAP, _LEAST_CELL = 210, 18, 2, 64  # pixels; a smaller image is enlarged


def photographs(side: int) -> UInt8[np.ndarray, "2 {side} {side} 3"]:
    """Crops of scikit-learn's sample photographs, a temple and a flower."""
    from sklearn.datasets import load_sample_images

    pairs = zip(load_sample_images().images, _CROPS, strict=True)
    crops = [Image.fromarray(p).resize((side, side), Image.LANCZOS, box=box) for p, box in pairs]
    return np.stack([np.asarray(crop) for crop in crops])


def layout(shape, names):
    """Where everything stands.

    Args:
      shape: of the images, (N, H, W, 3).
      names: the corruptions, each a row.
    Returns:
      How many times the images are enlarged; the picture's (width, height); the headings
      {text: top}; the corners {(image, name, severity): (left, top)} of the cells, severity 0 being
      the clean image, which stands in the first row of its family alone.
    """
    count, height, width, _ = shape
    scale = max(1, _LEAST_CELL // max(height, width))
    columns = 1 + len(corruptions.SEVERITIES)
    block = columns * (scale * width + _GAP) + 4 * _GAP
    headings, corners, top = {}, {}, _LINE
    others = {"extra": corruptions.EXTRA, "CIFAR-10-C-bar": corruptions.CIFAR10_C_BAR}
    for family, members in (corruptions.FAMILIES | others).items():
        rows = [name for name in members if name in names]
        if rows:
            headings[family], top = top, top + _LINE
        for name in rows:
            for image in range(count):
                for severity in range(0 if name == rows[0] else 1, columns):
                    left = _LABEL + image * block + severity * (scale * width + _GAP)
                    corners[image, name, severity] = left, top
            top += scale * height + _GAP
    return scale, (_LABEL + count * block, top + _LINE), headings, corners


def gallery(images: UInt8[np.ndarray, "N H W 3"], caption="", names=corruptions.NAMES):
    """The picture.

    Args:
      images: H and W at least 16; N is 1 or more.
      caption: a line below.
      names: the corruptions to show.
    Returns:
      A PIL.Image, RGB, of `layout`'s size.
    Raises:
      DataError: images of another type or shape, or a name that is no corruption.
    """
    images = np.asarray(images)
    _check(images, names)
    scale, size, headings, corners = layout(images.shape, names)
    picture = Image.new("RGB", size, "white")
    index, clean = jnp.arange(len(images)), jnp.float32(images) / 255
    for name, severity in dict.fromkeys((name, severity) for _, name, severity in corners):
        cells = images
        if severity:
            keys = corruption_keys(name, severity, index)
            cells = np.uint8(np.rint(255 * corruptions.corrupt(keys, clean, name, severity)))
        for i, cell in enumerate(cells):
            left, top = corners[i, name, severity]
            picture.paste(Image.fromarray(cell.repeat(scale, 0).repeat(scale, 1)), (left, top))
    _write(picture, caption, headings, corners)
    return picture


def _write(picture, caption, headings, corners):
    """Everything in letters, onto the picture."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for text, top in headings.items():
        draw.text((4, top), text, "gray", font)
    for name, top in {name: top for (_, name, _), (_, top) in corners.items()}.items():
        draw.text((4, top + 4), name, "black", font)
    for severity, left in {(severity, left) for (_, _, severity), (left, _) in corners.items()}:
        draw.text((left, 2), str(severity) if severity else "clean", "black", font)
    draw.text((4, picture.height - _LINE), caption, "gray", font)


def _check(images, names):
    unknown = [name for name in names if name not in corruptions.NAMES]
    if unknown or not names:
        raise DataError(f"unknown corruptions {unknown}; one or more of {', '.join(corruptions.NAMES)}")
    least, shape = corruptions.LEAST_SIDE, images.shape
    if len(shape) != 4 or shape[3] != 3 or not shape[0] or min(shape[1:3]) < least:
        raise DataError(f"images must be (N, H, W, 3), N >= 1, H and W >= {least}, not {shape}")
    if images.dtype != np.uint8:
        raise DataError(f"images must be uint8, not {images.dtype}")


def _images(name, directory, side):
    """Two images, uint8, of the data set `name`, or photographs of `side` pixels (None: 32)."""
    if name not in (PHOTOGRAPHS, "folder"):
        if side is not None:
            raise DataError(f"--size={side} is for --data={PHOTOGRAPHS}; {name} has a size of its own")
        return data.REGISTRY[name](directory, 0).test_images[:2]
    side = 32 if side is None else side
    if name == "folder":
        return data.REGISTRY[name](directory, side).test_images[:2]
    if side < corruptions.LEAST_SIDE:
        raise DataError(f"--size={side}: at least {corruptions.LEAST_SIDE}, which the corruptions need")
    return photographs(side)


def _check_out(path):
    """Now and not after all the work."""
    if not Path(path).parent.is_dir() or Path(path).is_dir() or Path(path).suffix.lower() != ".png":
        raise DataError(f"--out={path}: must be a .png file in a directory that is there")


def _save(picture, path):
    """As PNG; a reader meets the old file or the whole new one.

    Raises:
      DataError: `path` cannot be written.
    """
    temporary = Path(f"{path}.tmp")
    try:
        picture.save(temporary, "PNG", optimize=True)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"--out={path} cannot be written: {error}") from error


def main(argv=None):
    """Draw the gallery and say what is in it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m craft_jax.report gallery", description=__doc__)
    parser.add_argument("--out", default="gallery.png", metavar="FILE", help="PNG to write (%(default)s)")
    parser.add_argument(
        "--data", default=PHOTOGRAPHS, choices=(PHOTOGRAPHS, *data.NAMES), help="images (%(default)s)"
    )
    parser.add_argument("--data-dir", default="", metavar="DIR", help="as config.data.dir, for --data")
    parser.add_argument("--size", type=int, help="side of photographs or of a folder's pictures (32)")
    options = parser.parse_args(argv)
    if options.data_dir and options.data == PHOTOGRAPHS:
        parser.error("--data-dir: the photographs are scikit-learn's; allowed: with another --data")
    _check_out(options.out)
    images = _images(options.data, options.data_dir, options.size)
    original = _ORIGINAL[original_side(images.shape[1:])]
    caption = (
        f"{options.data}, {images.shape[1]} x {images.shape[2]}; settings of {original}; "
        f"frost: {corruptions.frost_source()}"
    )
    _save(gallery(images, caption), options.out)
    print(f"{options.out}: {caption}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
