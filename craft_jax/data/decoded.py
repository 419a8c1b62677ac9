"""Pictures decoded once and kept: the next process maps them into memory.

They lie in $XDG_CACHE_HOME/craft_jax/images, or below ~/.cache: for each directory and size an array,
NAME.npy, and NAME.json, which says of which files it is (names, sizes, times) and carries its SHA-256. What
does not fit or is damaged is decoded again; delete it at any time.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import PIL
from tqdm import tqdm

from craft_jax import files, pictures
from craft_jax.data import kept as cache
from craft_jax.errors import CheckpointError, DataError

# What `pictures.read` does to a file: a change makes what was kept another's.
RULES = f"2, Pillow {PIL.__version__}"


class Middle(NamedTuple):
    """How some pictures are cropped: those from the number `first` on to a `share` (see `pictures.read`)."""

    first: int
    share: float

    def of(self, number: int) -> float:
        """The share of one picture."""
        return self.share if number >= self.first else 1.0


WHOLE = Middle(0, 1.0)


def images(
    root: Path, paths: Sequence[PurePosixPath], size: int, middle: Middle = WHOLE
) -> tuple[np.ndarray, dict[int, str]]:
    """The pictures at `size` x `size` pixels: (N, size, size, 3) uint8, read-only; and what was unreadable.

    Args:
      root: the directory, resolved.
      paths: of the pictures, relative to it.
      size: see `pictures.read`.
      middle: which are cropped to their middle.
    Returns:
      The images, zeros where one could not be read, and {its row: why}.
    Raises:
      DataError: they would not fit into this machine's memory.
    """
    needed = len(paths) * size * size * 3
    if needed > files.memory():
        raise DataError(
            f"data.size is {size}: {len(paths)} pictures would have {needed} bytes; this machine has "
            f"{files.memory()} of memory. --config.data.streaming=always leaves them in their files"
        )
    key, kept = key_of(root, paths, size, middle), _kept(root, size)
    if kept and (found := _read(kept, key)):
        return found
    made, unreadable = _decode(root, paths, size, middle)
    made.setflags(write=False)
    if kept:
        _write(kept, key, made, unreadable)
    return made, unreadable


def _kept(root, size):
    """Where they are kept, less the ending; None where there is no home."""
    return cache.place("images", hashlib.sha256(os.fsencode(f"{root}\n{size}")).hexdigest()[:16])


def key_of(root: Path, paths: Sequence[PurePosixPath], size: int, middle: Middle = WHOLE) -> str:
    """What the images are of: a change of any file's name, size or time changes it."""
    cropped = "" if middle.share == 1 else f"{middle.first} {middle.share}\n"
    digest = hashlib.sha256(os.fsencode(f"{RULES}\n{root}\n{size}\n{cropped}"))
    for path in paths:
        try:
            stat = (root / path).stat()
            digest.update(os.fsencode(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
        except OSError as error:  # a link that leads to nothing
            digest.update(os.fsencode(f"{path}\0{error.errno}\n"))
    return digest.hexdigest()


def _read(kept, key) -> tuple[np.ndarray, dict[int, str]] | None:
    """What was kept under this key; None where it was not, or is damaged."""
    try:
        record: Any = files.read_json(f"{kept}.json")
        if record["key"] != key:
            return None
        found = np.load(f"{kept}.npy", mmap_mode="r", allow_pickle=False)
        if _sha256(found) != record["images_sha256"]:
            return None
        return found, {int(row): why for row, why in record["unreadable"].items()}
    except (CheckpointError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(kept, key, made, unreadable):
    record = {"key": key, "images_sha256": _sha256(made), "unreadable": unreadable}
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(f"{kept}.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, made)
        files.write_json(f"{kept}.json", record)  # last: it says that the array is whole
    except (OSError, CheckpointError) as error:
        print(f"note: the decoded pictures are not kept for the next time: {error}", file=sys.stderr)


def _sha256(array):
    described = json.dumps([array.dtype.str, array.shape]).encode()
    return hashlib.sha256(described + hashlib.sha256(array.data).digest()).hexdigest()


def _decode(root, paths, size, middle):
    """`images`, by threads: Pillow lets go of Python's lock as it decodes and resizes."""
    made, unreadable = np.zeros((len(paths), size, size, 3), np.uint8), {}

    def one(row):
        try:
            made[row] = pictures.read(root / paths[row], size, size, middle.of(row))
            return None
        except DataError as error:
            return pictures.reason(error.__cause__)

    with (
        ThreadPoolExecutor() as threads,
        tqdm(total=len(paths), desc="decoding pictures", delay=1, leave=False, disable=None) as progress,
    ):
        for row, why in enumerate(threads.map(one, range(len(paths)))):
            progress.update()
            if why:
                unreadable[row] = why
    return made, unreadable
