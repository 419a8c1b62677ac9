"""Pictures in a folder, corrupted: `python -m craft_jax.corruptions DIR_IN DIR_OUT --severity=3`.

Every picture below DIR_IN (JPEG, PNG, BMP, WebP; see craft_jax/pictures.py) is written in its own size, 16
pixels a side or more, as DIR_OUT/CORRUPTION/ITS/NAME.png; by the shorter side it gets CIFAR-C's settings,
Tiny-ImageNet-C's or ImageNet-C's. What is drawn for a picture depends on the corruption, the severity and the
picture's name below DIR_IN: the same command makes the same pictures. DIR_OUT appears when all are there.
Each size of pictures is compiled for anew: seconds a corruption.

exit status
  0   done
  2   something to put right: the message says what
"""

import argparse
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import jax
import numpy as np
from jaxtyping import Array, Key
from PIL import Image
from tqdm import tqdm

from craft_jax import corruptions, errors, files, pictures
from craft_jax.errors import CheckpointError, DataError

_PIXELS = 2**20  # of the pictures that are corrupted together
_TOGETHER = 64  # pictures, at most
_LISTED = 20  # pictures in a message

BySize = dict[tuple[int, int], list[PurePosixPath]]


@errors.command
def main(argv: list[str]) -> int:
    """Corrupt a folder of pictures; returns the exit status."""
    options = _parse(argv)
    source, out = Path(options.source), Path(options.out).resolve()
    _check_out(source, out)
    by_size = _by_size(source)
    count = sum(map(len, by_size.values()))
    files.check_writable(out.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with tqdm(total=count * len(options.names), desc="corrupting", leave=False, disable=None) as progress:
            for name in options.names:
                for paths in by_size.values():
                    _write(source, paths, temporary / name, name, options.severity, progress.update)
        temporary.chmod(0o755)  # mkdtemp's is its owner's alone
        temporary.rename(out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    frost = f"; frost is {corruptions.frost_source()}" if "frost" in options.names else ""
    print(f"{count} pictures under {len(options.names)} corruptions of severity {options.severity}{frost}")
    print(errors.printable(f"written to {options.out}"))
    return 0


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.corruptions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="DIR_IN", help="a folder of pictures")
    parser.add_argument("out", metavar="DIR_OUT", help="a folder that is not there yet, or empty")
    parser.add_argument("--severity", type=int, choices=corruptions.SEVERITIES, required=True)
    parser.add_argument(
        "--names",
        type=_names,
        default=corruptions.TEST,
        metavar="NAME,NAME",
        help="default: CIFAR-10-C's fifteen; of: " + ", ".join(corruptions.NAMES),
    )
    return parser.parse_args(argv)


def _names(text):
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in corruptions.NAMES]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, unknown))} unknown; allowed: {', '.join(corruptions.NAMES)}"
        )
    return tuple(dict.fromkeys(names))


def _check_out(source, out):
    if not source.is_dir():
        raise DataError(f"{source}: not a directory; DIR_IN is a folder of pictures")
    if out.is_relative_to(source.resolve()):
        raise DataError(f"{out}: is in {source}; allowed: a folder outside DIR_IN")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; allowed: a new or an empty folder")


def _by_size(source) -> BySize:
    """The pictures below a folder by their (height, width), each read once: nothing is written before."""
    found, by_size, faults, names = pictures.find(source), {}, [], {}
    for path in tqdm(found, desc="reading", delay=1, leave=False, disable=None):
        try:
            size = pictures.read(source / path).shape[:2]
        except DataError as error:
            faults.append(str(error))
            continue
        by_size.setdefault(size, []).append(path)
        least = corruptions.LEAST_SIDE
        if min(size) < least:
            faults.append(f"{source / path}: {size[1]} by {size[0]} pixels; allowed: at least {least} a side")
        other = names.setdefault(path.with_suffix(".png"), path)
        if other != path:
            faults.append(f"{source / path}: {other} would be written under the same name, as PNG")
    if not found:
        raise DataError(f"{source}: no picture in it; read are {', '.join(pictures.SUFFIXES)}")
    if faults:
        more = [f"... and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
        raise DataError("\n".join(faults[:_LISTED] + more))
    return by_size


def _write(
    source: Path,
    paths: list[PurePosixPath],
    folder: Path,
    name: str,
    severity: int,
    written: Callable[[int], object],
) -> None:
    """Corrupt pictures of one size, so many at a time, and write them below `folder`."""
    height, width = pictures.read(source / paths[0]).shape[:2]
    together = max(1, min(_TOGETHER, len(paths), _PIXELS // (height * width)))
    for start in range(0, len(paths), together):
        # The last of them are filled up: another number would be compiled for anew.
        batch = [paths[min(start + i, len(paths) - 1)] for i in range(together)]
        images = np.stack([pictures.read(source / path) for path in batch])
        made = np.asarray(corruptions.corrupt(keys(batch, name, severity), images, name, severity))
        for path, image in zip(batch[: len(paths) - start], made, strict=False):
            place = folder / path.with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place, "PNG")
            written(1)


def keys(paths: list[PurePosixPath], name: str, severity: int) -> Key[Array, " B"]:
    """A picture's key: of the corruption, the severity and its name, whatever else is in the folder."""
    key = jax.random.fold_in(jax.random.key(corruptions.NAMES.index(name)), severity)
    numbers = np.array([zlib.crc32(os.fsencode(path)) for path in paths], np.uint32)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


if __name__ == "__main__":
    sys.exit(main())
