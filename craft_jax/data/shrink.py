"""Smaller images, by area means: a data set at a fraction of its cost."""

import hashlib

import numpy as np

from craft_jax.corruptions import LEAST_SIDE
from craft_jax.data.dataset import Source
from craft_jax.data.encoded import Encoded, Reader
from craft_jax.errors import DataError

_BLOCK = 2**22  # values converted to float64 at a time: 32 MiB


def shrunk(name: str, source: Source, size: int) -> Source:
    """The data set `name` with images of `size` x `size` pixels, 0 for its own.

    Published statistics are of the whole images: those of shrunk ones are to be computed.

    Raises:
      DataError: `size` is no integer, larger than the images or too small, or the images are not square.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise DataError(f"data.size must be an integer, not {size!r}")
    height, width = source.train_images.shape[1:3]
    if size == 0 or size == height == width:
        return source
    if height != width:
        raise DataError(
            f"data.size is {size}; the images of {name} are {height} by {width} pixels, and only square ones "
            "are shrunk; allowed: 0 (as they are)"
        )
    if not LEAST_SIDE <= size <= height:
        raise DataError(
            f"data.size is {size}; the images of {name} are {height} by {width} pixels; allowed: 0 (as they "
            f"are) or {LEAST_SIDE} to {height}: images are only shrunk, and corruptions need {LEAST_SIDE}"
        )
    images = {key: _shrunk(getattr(source, key), size) for key in ("train_images", "test_images")}
    return source._replace(**images, mean=None, std=None)


def _shrunk(images, size):
    if isinstance(images, Encoded):
        return images.through(lambda reader: _Shrunk(reader, size))
    return shrink(images, size)


class _Shrunk:
    """The `encoded.Reader` of another's images, shrunk."""

    def __init__(self, reader: Reader, size: int):
        self.key = hashlib.sha256(f"shrunk to {size}\n{reader.key}".encode()).hexdigest()
        self.shape, self._reader, self._size = (size, size, 3), reader, size

    def read(self, numbers):
        return shrink(self._reader.read(numbers), self._size)


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """(N, S, S, C) uint8 -> (N, size, size, C) uint8, the mean over each new pixel's area, rounded half up.

    Where `size` divides S these are means of blocks; else old pixels on a border count by the share that is
    inside. Sums are of integers below 2**53, which float64 holds exactly: every platform gets the same bytes.
    """
    side = images.shape[1]
    weights = _overlaps(side, size).astype(np.float64)
    result = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    step = max(1, _BLOCK // (images[0].size if len(images) else 1))
    for start in range(0, len(images), step):
        block = images[start : start + step].astype(np.float64)
        rows = weights @ block.reshape(*block.shape[:2], -1)
        sums = weights @ rows.reshape(len(block), size, *block.shape[2:])
        result[start : start + step] = (2 * sums.astype(np.int64) + side**2) // (2 * side**2)
    return result


def _overlaps(side, size):
    """(size, side): how much of old pixel j lies in new pixel i, in units that make a row sum to `side`."""
    old, new = np.arange(side) * size, np.arange(size)[:, None] * side
    return np.maximum(np.minimum(old + size, new + side) - np.maximum(old, new), 0)
