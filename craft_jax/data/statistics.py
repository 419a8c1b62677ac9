"""Numbers about images and labels: their fingerprint, and what networks normalise by."""

import hashlib
import math
from typing import Any

import numpy as np

_BLOCK = 1024  # images at a time: the copies are eight times as large


class Sums:
    """Sums per channel of uint8 images, met a block at a time.

    Of integers, so that every platform and every division into blocks gives the same numbers.
    """

    def __init__(self):
        self._count, self._sums, self._squares = 0, [0, 0, 0], [0, 0, 0]

    def add(self, images: np.ndarray) -> None:
        """Take in (N, H, W, 3) uint8 images."""
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK].reshape(-1, 3).astype(np.int64)
            self._count += len(block)
            for c in range(3):
                self._sums[c] += int(block[:, c].sum())
                self._squares[c] += int((block[:, c] ** 2).sum())

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, on the scale [0, 1].

        The deviation is at least 1/255, since models divide by it.
        """
        n, pairs = self._count, list(zip(self._sums, self._squares, strict=True))
        mean = tuple(s / (255 * n) for s, _ in pairs)
        return mean, tuple(max(math.sqrt(n * q - s * s) / n, 1.0) / 255 for s, q in pairs)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`Sums.mean_and_std` of (N, H, W, 3) uint8 images."""
    sums = Sums()
    sums.add(images)
    return sums.mean_and_std()


def described(array: Any) -> bytes:
    """What a fingerprint says of an array before its bytes: its dtype (little-endian) and shape."""
    return f"{array.dtype.newbyteorder('<').str} {array.shape}\n".encode()


def fingerprint(*arrays: np.ndarray) -> str:
    """sha256 in hex over each array's dtype, shape and bytes (little-endian, C order), in turn."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(described(array))
        digest.update(array.data)
    return digest.hexdigest()
